"""Shot detectors on edited videos whose cuts are known: accuracy and speed in one table.

    python -m benchmarks.shot_detection --data ../shared/data [--detectors adaptive histogram transnetv2]

`DATA/cuts.csv` has a row for each transition: file, type (cut, dissolve, fade, uncertain), first_frame, last_frame.
A transition is found when a boundary meets it within one frame; two boundaries on one cut are one too many; what
meets an `uncertain` stretch does not count. Frames are decoded once, at 256 pixels, and the detectors timed on them.
"""

import argparse
import csv
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.settings import DETECTORS, ShotSettings
from curation.shots import make_detector
from media.decode import decode_frames

TOLERANCE = 1  # frames
Stretch = tuple[int, int]


@dataclass(frozen=True)
class Truth:
    """Transitions of one video as first and last frame."""

    hard: list[Stretch]
    gradual: list[Stretch]
    uncertain: list[Stretch]


@dataclass
class Tally:
    """What a detector found, over all videos."""

    hits: int = 0
    total: int = 0
    false: int = 0
    gradual_hits: int = 0
    gradual_total: int = 0
    num_frames: int = 0
    seconds: float = 0.0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.hits + self.false + self.total)

    def row(self, name: str) -> str:
        gradual = self.gradual_hits / max(self.gradual_total, 1)
        recall, precision = self.hits / self.total, self.hits / max(self.hits + self.false, 1)
        rate = self.num_frames / max(self.seconds, 1e-9)
        return f"{name:12} {self.f1:6.3f} {precision:9.3f} {recall:6.3f} {gradual:14.3f} {rate:12.0f}"


def read_truth(path: Path) -> dict[str, Truth]:
    truth: dict[str, Truth] = defaultdict(lambda: Truth([], [], []))
    with path.open() as stream:
        for row in csv.DictReader(stream):
            kind = {"cut": "hard", "uncertain": "uncertain"}.get(row["type"], "gradual")
            getattr(truth[row["file"]], kind).append((int(row["first_frame"]), int(row["last_frame"])))
    return dict(truth)


def score(found: list[Stretch], truth: Truth, tally: Tally) -> None:
    """Adds one video to the tally."""
    used: set[int] = set()
    for events, gradual in ((truth.hard, False), (truth.gradual, True)):
        for event in events:
            met = [i for i, boundary in enumerate(found) if i not in used and _meets(boundary, event, TOLERANCE)]
            tally.total += 1
            tally.hits += bool(met)
            tally.gradual_total += gradual
            tally.gradual_hits += gradual and bool(met)
            used.update(met if gradual else met[:1])
    rest = [boundary for i, boundary in enumerate(found) if i not in used]
    tally.false += sum(not any(_meets(boundary, event, TOLERANCE) for event in truth.uncertain) for boundary in rest)


def _meets(boundary: Stretch, event: Stretch, tolerance: int) -> bool:
    return boundary[0] <= event[1] + tolerance and boundary[1] >= event[0] - tolerance


def run(data: Path, detectors: list[str]) -> None:
    truth = read_truth(data / "cuts.csv")
    tallies = {name: Tally() for name in detectors}
    decoding = Tally()
    for name in sorted(truth):
        begin = time.perf_counter()
        frames = [frame.image for frame in decode_frames(data / name, max_side=256)]
        decoding.seconds += time.perf_counter() - begin
        decoding.num_frames += len(frames)
        for detector, tally in tallies.items():
            _detect(frames, detector, truth[name], tally)
    print(f"{'detector':12} {'F1':>6} {'precision':>9} {'recall':>6} {'gradual recall':>14} {'frames/s':>12}")
    for detector, tally in tallies.items():
        print(tally.row(detector))
    print(f"{'decoding':12} {'':38} {decoding.num_frames / decoding.seconds:12.0f}")


def _detect(frames: list[np.ndarray], name: str, truth: Truth, tally: Tally) -> None:
    detector = make_detector(ShotSettings(detector=name))  # type: ignore[arg-type]
    begin = time.perf_counter()
    for frame in frames:
        detector.push(frame)
    found = detector.finish()
    tally.seconds += time.perf_counter() - begin
    tally.num_frames += len(frames)
    score(found, truth, tally)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..", "shared", "data"))
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    arguments, _ = parser.parse_known_args()  # names of benchmarks may stand beside
    if not (arguments.data / "cuts.csv").is_file():
        print(f"not run: no cuts.csv in {arguments.data}; name its folder with --data")
        return
    run(arguments.data, arguments.detectors)


if __name__ == "__main__":
    main()
