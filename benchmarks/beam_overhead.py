"""What Beam costs: `reelmill curate` beside the same functions in a plain `multiprocessing` loop.

    python -m benchmarks.beam_overhead --data VIDEOS MORE_VIDEOS --counts 100 300 900 --workers 1 2

Prints wall and processor seconds and memory for each number of files, the ratios between them, and the cost of each
stage from `timings.json`. One worker is pinned to one core. Without `--data` it makes small videos of its own.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._process_tree import Cost, measure
from media.ffmpeg import run_ffmpeg

FLAGS = ("--shots.detector", "adaptive", "--clips.min_duration_s", "0.5")
_SUFFIXES = {".mp4", ".mov", ".webm", ".mkv"}


def make_videos(folder: Path, count: int) -> list[Path]:
    """Small videos of two shots each, no two alike."""
    folder.mkdir(parents=True)
    paths = []
    for index in range(count):
        path = folder / f"{index:04d}.mp4"
        shots = [f"mandelbrot=size=192x108:rate=25:start_scale={1 + index % 97 / 40:.3f}:start_x={-0.7 - index / 2000}",
                 f"gradients=size=192x108:rate=25:seed={index}:speed=0.1:nb_colors={3 + index % 5}"]  # fmt: skip
        inputs = [part for shot in shots for part in ("-f", "lavfi", "-t", "2", "-i", shot)]
        joined = "[0:v]format=yuv420p,setsar=1[a];[1:v]format=yuv420p,setsar=1[b];[a][b]concat=n=2[v]"
        run_ffmpeg([*inputs, "-filter_complex", joined, "-map", "[v]", "-c:v", "libx264", "-preset", "ultrafast",
                    "-threads", "1", str(path)])  # fmt: skip
        paths.append(path)
    return paths


def write_manifest(paths: Iterable[Path], target: Path) -> None:
    target.write_text("path\n" + "".join(f"{path.resolve()}\n" for path in paths))


def run(kind: str, manifest: Path, output: Path, workers: int) -> Cost:
    """One run of a kind: `beam`, our command; or `plain`, the loop."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    module = ["reelmill", "curate"] if kind == "beam" else ["benchmarks._plain_loop"]
    command = [sys.executable, "-m", *module, "--input", str(manifest), "--output", str(output), *FLAGS]
    command.append(f"--direct_num_workers={workers}")
    if kind == "beam" and workers > 1:
        command.append("--direct_running_mode=multi_processing")
    allowed = sorted(os.sched_getaffinity(0))
    return measure(command, environment, allowed[:1] if workers == 1 else None)


def stage_seconds(output: Path) -> dict[str, float]:
    """Seconds of work by stage, added up over the workers."""
    stages = json.loads((output / "timings.json").read_text())["stages"]
    return {name: entry["seconds"] for name, entry in stages.items() if entry.get("seconds")}


def compare(paths: Sequence[Path], counts: Sequence[int], workers: Sequence[int], kinds: Sequence[str]) -> None:
    """Runs all of it and prints the tables."""
    costs: dict[tuple[int, int, str], Cost] = {}
    stages: dict[int, dict[str, float]] = {}
    print("| files | workers | how | wall s | CPU s | CPU ms per file | MB, largest process | MB, main process |")
    print("|---|---|---|---|---|---|---|---|")
    for count in counts:
        for number in workers:
            for kind in kinds:
                with TemporaryDirectory(prefix="reelmill-bench-") as scratch:
                    chosen = [paths[position * len(paths) // count] for position in range(count)]  # evenly spread
                    write_manifest(chosen, Path(scratch, "manifest.csv"))
                    cost = run(kind, Path(scratch, "manifest.csv"), Path(scratch, "run"), number)
                    if kind == "beam" and number == workers[0]:
                        stages[count] = stage_seconds(Path(scratch, "run"))
                costs[count, number, kind] = cost
                print(
                    f"| {count} | {number} | {kind} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | "
                    f"{1000 * cost.cpu_s / count:.0f} | {cost.peak_mb:.0f} | {cost.main_peak_mb:.0f} |", flush=True,
                )  # fmt: skip
    print_ratios(costs, counts, workers, kinds)
    print_stages(stages)


def print_ratios(
    costs: dict[tuple[int, int, str], Cost], counts: Sequence[int], workers: Sequence[int], kinds: Sequence[str]
) -> None:
    """Beam beside the loop, and two workers beside one."""
    print("\n| ratio |  |\n|---|---|")
    for count in counts:
        if len(kinds) == 2:
            for number in workers:
                beam, plain = costs[count, number, "beam"], costs[count, number, "plain"]
                print(f"| CPU, Beam to the loop, {count} files, {number} workers | {beam.cpu_s / plain.cpu_s:.2f} |")
        if len(workers) > 1:
            for kind in kinds:
                one, more = costs[count, workers[0], kind], costs[count, workers[-1], kind]
                name = f"speed, {workers[-1]} workers to {workers[0]} on one core, {count} files, {kind}"
                print(f"| {name} | {one.wall_s / more.wall_s:.2f} |")
    if len(counts) > 1:
        for number in workers:
            first, last = costs[counts[0], number, "beam"], costs[counts[-1], number, "beam"]
            name = f"memory, {counts[-1]} files to {counts[0]}, {number} workers"
            print(f"| {name}, largest process | {last.peak_mb / first.peak_mb:.2f} |")


def print_stages(stages: dict[int, dict[str, float]]) -> None:
    """Milliseconds per file of each stage."""
    if not stages:
        return
    print(f"\n| stage, ms per file | {' | '.join(f'{count} files' for count in stages)} |")
    print("|---|" + "---|" * len(stages))
    for name in sorted({name for found in stages.values() for name in found}):
        row = [f"{1000 * found.get(name, 0) / count:.1f}" for count, found in stages.items()]
        print(f"| {name} | {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", help="folders of videos; without it, small ones are made")
    parser.add_argument("--counts", type=int, nargs="+", default=[30, 90])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kinds", nargs="+", default=["plain", "beam"], choices=["plain", "beam"])
    chosen = parser.parse_known_args()[0]  # names of benchmarks may stand beside
    with TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        if chosen.data:
            every = (path for folder in chosen.data for path in sorted(folder.rglob("*")))
            paths = [path for path in every if path.suffix.lower() in _SUFFIXES]
        else:
            paths = make_videos(Path(scratch, "videos"), max(chosen.counts))
        if len(paths) < max(chosen.counts):
            print(f"there are only {len(paths)} videos; the larger counts are cut to that\n")
        counts = sorted({min(count, len(paths)) for count in chosen.counts})
        compare(paths, counts, chosen.workers, chosen.kinds)


if __name__ == "__main__":
    main()
