"""Shot detectors on edited videos whose cuts are known: accuracy, purity of the clips, and speed in one table.

    python -m benchmarks.shot_detection --data ../shared/data [--detectors adaptive histogram cascade]

`DATA/cuts.csv` has a row for each transition: file, type (cut, dissolve, fade, uncertain), first_frame, last_frame.
A transition is found when a boundary meets it within one frame; two boundaries on one cut are one too many; what
meets an `uncertain` stretch does not count. Clips are cut with the settings' own trims and a minimum of 0.5 s: one is
pure when no frame of it is of a transition and no cut lies inside; what is kept is the share of all frames outside of
transitions that lie in pure clips.

Speed is in frames for each second of CPU time, decoding and reducing the frames to 256 pixels included; above the
detectors stands decoding alone. Dense footage are the edited videos; sparse footage is joined, by ffmpeg at 640 × 360,
from the eight longest single-shot clips in DATA/clips_*.
"""

import argparse
import csv
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from benchmarks._shot_scores import Stretch, Tally, Truth, score_boundaries, score_clips
from curation.settings import DETECTORS, ClipSettings, ShotSettings
from curation.shots import find_shots, find_stretches, make_detector
from media.decode import decode_frames
from media.ffmpeg import run_ffmpeg

MAX_SIDE = 256
NUM_LONG = 8  # single-shot clips, the longest there are, that are joined as sparse footage
CLIPS = ClipSettings(min_duration_s=0.5)
BATCH = 16  # frames held at a time: few, so that they are still in the cache, as where each is used at once


@dataclass
class Speed:
    """CPU seconds over some frames."""

    num_frames: int = 0
    seconds: float = 0.0

    def add(self, num_frames: int, since: float) -> None:
        self.num_frames += num_frames
        self.seconds += time.process_time() - since

    def with_decoding(self, decoding: "Speed") -> float:
        """Frames a second, decoding included."""
        return self.num_frames / (self.seconds + decoding.seconds) if self.num_frames else float("nan")

    @property
    def rate(self) -> float:
        return self.num_frames / max(self.seconds, 1e-9)


@dataclass
class Footage:
    """What decoding some videos costs, and each detector beyond that."""

    plain: Speed = field(default_factory=Speed)
    reduced: Speed = field(default_factory=Speed)
    detectors: dict[str, Speed] = field(default_factory=lambda: defaultdict(Speed))


def read_truth(path: Path) -> dict[str, Truth]:
    truth: dict[str, Truth] = defaultdict(lambda: Truth([], [], []))
    with path.open() as stream:
        for row in csv.DictReader(stream):
            kind = {"cut": "hard", "uncertain": "uncertain"}.get(row["type"], "gradual")
            getattr(truth[row["file"]], kind).append((int(row["first_frame"]), int(row["last_frame"])))
    return dict(truth)


def decode_plain(path: Path, speed: Speed) -> None:
    """Decodes and throws away, on one thread."""
    begin, count = time.process_time(), 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            count += 1
    speed.add(count, begin)


def batches(path: Path, speed: Speed, times_s: list[float]) -> Iterator[list[np.ndarray]]:
    """The reduced frames, some hundred at a time, and their times."""
    frames = decode_frames(path, max_side=MAX_SIDE)
    while True:
        begin, batch = time.process_time(), []
        for frame in frames:
            batch.append(frame)
            if len(batch) == BATCH:
                break
        speed.add(len(batch), begin)
        if not batch:
            return
        times_s += [float(frame.time) for frame in batch]
        yield [frame.image for frame in batch]


def detect(path: Path, detectors: list[str], footage: Footage) -> tuple[dict[str, list[Stretch]], list[float]]:
    """The boundaries each detector finds in a video, and the times of its frames."""
    running = {name: make_detector(ShotSettings(detector=name)) for name in detectors}  # type: ignore[arg-type]
    times_s: list[float] = []
    decode_plain(path, footage.plain)
    for images in batches(path, footage.reduced, times_s):
        for name, detector in running.items():
            begin = time.process_time()
            for image in images:
                detector.push(image)
            footage.detectors[name].add(len(images), begin)
    found = {}
    for name, detector in running.items():
        begin = time.process_time()
        found[name] = detector.finish()
        footage.detectors[name].add(0, begin)
    return found, times_s


def measure_dense(data: Path, detectors: list[str]) -> tuple[dict[str, Tally], Footage]:
    truth = read_truth(data / "cuts.csv")
    tallies, footage = {name: Tally() for name in detectors}, Footage()
    for file in sorted(truth):
        found, times_s = detect(data / file, detectors, footage)
        for name, boundaries in found.items():
            missed, wrong = score_boundaries(boundaries, truth[file], tallies[name])
            if missed or wrong:
                print(f"  {name:11} {file}: missed {missed or 'none'}, false {wrong or 'none'}")
            score_clips(clips_of(boundaries, times_s), truth[file], len(times_s), tallies[name])
    return tallies, footage


def clips_of(boundaries: list[Stretch], times_s: list[float]) -> list[Stretch]:
    """Frames [first, last) of the clips that would be cut."""
    step = float(np.median(np.diff(times_s)))
    ticks = [round(time_s * 90_000) for time_s in times_s]
    stretches = find_stretches(
        find_shots(boundaries, times_s), ticks, ticks[-1] + round(step * 90_000), 1 / 90_000, CLIPS
    )
    ends = [*times_s, times_s[-1] + step]
    return [(s.first, s.last) for s in stretches if ends[s.last] - times_s[s.first] >= CLIPS.min_duration_s - 1e-6]


def measure_sparse(data: Path, detectors: list[str]) -> tuple[dict[str, int], float, Footage]:
    """Number of boundaries found, seconds of footage for each transition, and speeds."""
    footage = Footage()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "sparse.mp4"
        num_clips = join_long_clips(data, path)
        found, times_s = detect(path, detectors, footage)
    return {name: len(boundaries) for name, boundaries in found.items()}, times_s[-1] / (num_clips - 1), footage


def join_long_clips(data: Path, path: Path) -> int:
    """Writes the longest single-shot clips one after the other; returns how many."""
    clips = sorted(sorted(data.glob("clips_*/*")), key=_duration_s)[-NUM_LONG:]
    size = "scale=640:360:force_original_aspect_ratio=increase,crop=640:360,fps=25,setsar=1,format=yuv420p"
    chains = ";".join(f"[{index}:v:0]{size}[v{index}]" for index in range(len(clips)))
    joined = "".join(f"[v{index}]" for index in range(len(clips))) + f"concat=n={len(clips)}[v]"
    inputs = list(chain.from_iterable(("-i", str(clip)) for clip in clips))
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-threads", "1"]
    run_ffmpeg([*inputs, "-filter_complex", f"{chains};{joined}", "-map", "[v]", *encoder, str(path)])
    return len(clips)


def _duration_s(path: Path) -> float:
    with av.open(str(path)) as container:
        return (container.duration or 0) / 1e6


def run(data: Path, detectors: list[str]) -> None:
    tallies, dense = measure_dense(data, detectors)
    counts, every_s, sparse = measure_sparse(data, detectors)
    print(f"\n{'':12} {Tally.HEADER} {'dense f/s':>10} {'sparse f/s':>11} {'found':>6}")
    print(f"{'decoding':12} {'':{len(Tally.HEADER)}} {dense.plain.rate:10.0f} {sparse.plain.rate:11.0f}")
    print(f"{'to 256 px':12} {'':{len(Tally.HEADER)}} {dense.reduced.rate:10.0f} {sparse.reduced.rate:11.0f}")
    for name, tally in tallies.items():
        rates = [part.detectors[name].with_decoding(part.reduced) for part in (dense, sparse)]
        print(f"{name:12} {tally.row()} {rates[0]:10.0f} {rates[1]:11.0f} {counts[name]:6}")
    total = next(iter(tallies.values()))
    print(
        f"\ndense: {dense.reduced.num_frames} frames, {total.total} transitions, {total.gradual_total} of them gradual"
    )
    print(f"sparse: {sparse.reduced.num_frames} frames, a transition every {every_s:.0f} s; found: boundaries named")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..", "shared", "data"))
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    arguments, _ = parser.parse_known_args()  # names of benchmarks may stand beside
    if not (arguments.data / "cuts.csv").is_file():
        print(f"not run: no cuts.csv in {arguments.data}; name its folder with --data")
        return
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    run(arguments.data, arguments.detectors)


if __name__ == "__main__":
    main()
