"""Curating edited videos end to end beside splitting them with PySceneDetect: seconds of work for a second of footage.

    python -m benchmarks.split_video --data ../shared/data/multishot

`reelmill curate` (no caption model) measures, deduplicates and judges, and writes shards, ledger and report; its peer,
`scenedetect detect-adaptive split-video`, finds cuts and writes a file for each scene. Both encode with the same x264
settings and may use every core: PySceneDetect one video after another, and once more as many at a time as there are
cores. All runs are with file caches warm, and with bytecode as an installed package has it.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import av

from benchmarks._process_tree import Cost, measure
from media.cut_program import aac_options
from media.ffmpeg import ffmpeg_path
from media.settings import X264_EXACT, CutSettings

MIN_DURATION_S = 0.5  # PySceneDetect's own minimum is 0.6 s between cuts
_SUFFIXES = {".mp4", ".mov", ".webm", ".mkv"}


def split_arguments(cut: CutSettings) -> str:
    """ffmpeg's arguments in split-video: the encoder of our own cuts."""
    exact = " ".join(f"-{name} {value}" for name, value in X264_EXACT.items())
    video = f"-c:v {cut.codec} -preset {cut.preset} -crf {cut.crf} -pix_fmt yuv420p {exact}"
    sound = " ".join(f"-{name} {value}" for name, value in aac_options(cut).items())
    return f"-map 0:v:0 -map 0:a? {video} -c:a {cut.audio_codec} -b:a {cut.audio_bitrate_kbps}k {sound}"


def split_all(videos: list[Path], output: Path, at_a_time: int, environment: dict[str, str]) -> Cost:
    """PySceneDetect over all videos, so many at a time."""
    program = Path(sys.executable).with_name("scenedetect")
    command = f"{program} -q -i {{}} -o {shlex.quote(str(output))} detect-adaptive split-video -q"
    command += f" -a {shlex.quote(split_arguments(CutSettings()))}"
    names = " ".join(shlex.quote(str(video)) for video in videos)
    loop = f"printf '%s\\n' {names} | xargs -P {at_a_time} -I {{}} {command}"
    return measure(["sh", "-c", loop], environment)


def curate_all(videos: Path, output: Path, environment: dict[str, str]) -> Cost:
    command = [sys.executable, "-m", "reelmill", "curate", "--input", str(videos), "--output", str(output)]
    return measure([*command, "--clips.min_duration_s", str(MIN_DURATION_S)], environment)


def with_bytecode() -> dict[str, str]:
    """An environment in which our modules are compiled beforehand, as those of an installed package are."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    imports = "import beam_jobs.curate_run, beam_jobs.media_tasks, beam_jobs.worker, scenedetect._cli"
    subprocess.run([sys.executable, "-c", imports], env=environment, check=True)
    return environment


def written_s(folder: Path) -> float:
    """Seconds of video in the files of a folder."""
    total = 0.0
    for path in folder.glob("*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            total += float((stream.duration or 0) * (stream.time_base or 0))
    return total


def kept_s(run: Path) -> float:
    """Seconds of the clips that a run of `reelmill curate` wrote."""
    return float(json.loads((run / "run.json").read_text())["hours"]["kept"]) * 3600


def row(name: str, cost: Cost, footage_s: float, base: tuple[float, float] | None) -> tuple[float, float]:
    """Prints a line; returns wall and processor seconds for a second of footage."""
    wall, cpu = cost.wall_s / footage_s, cost.cpu_s / footage_s
    ratios = f"{base[0] / wall:6.2f} ×{base[1] / cpu:6.2f} ×" if base else f"{'':16}"
    print(
        f"{name:28} {cost.wall_s:8.1f} {cost.cpu_s:8.1f} {footage_s:10.1f} {wall:10.4f} {cpu:10.4f} {ratios}",
        flush=True,
    )
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..", "shared", "data", "multishot"))
    arguments, _ = parser.parse_known_args()  # names of benchmarks may stand beside
    videos = sorted(path for path in arguments.data.glob("*") if path.suffix in _SUFFIXES)
    if not videos:
        print(f"not run: no videos in {arguments.data}; name a folder with --data")
        return
    cores = len(os.sched_getaffinity(0))
    print(f"{len(videos)} videos, {cores} cores")
    print(
        f"{'':28} {'wall s':>8} {'cpu s':>8} {'written s':>10} {'wall/s':>10} {'cpu/s':>10} {'× wall':>7} {'× cpu':>7}"
    )
    with TemporaryDirectory() as scratch:
        (tools := Path(scratch) / "bin").mkdir()
        (tools / "ffmpeg").symlink_to(ffmpeg_path())
        environment = with_bytecode()
        environment["PATH"] = f"{tools}{os.pathsep}{environment['PATH']}"
        base = None
        for at_a_time in sorted({1, cores}):
            output = Path(scratch) / f"split-{at_a_time}"
            cost = split_all(videos, output, at_a_time, environment)
            found = row(f"scenedetect, {at_a_time} at a time", cost, written_s(output), base)
            base = base or found
        run = Path(scratch) / "run"
        row("reelmill curate", curate_all(arguments.data, run, environment), kept_s(run), base)


if __name__ == "__main__":
    main()
