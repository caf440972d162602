"""How boundaries and clips are scored against known transitions."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

TOLERANCE = 1  # frames
Stretch = tuple[int, int]


@dataclass(frozen=True)
class Truth:
    """Transitions of one video as first and last frame: of a cut the first new frame, else the first and last mixed."""

    hard: list[Stretch]
    gradual: list[Stretch]
    uncertain: list[Stretch]


@dataclass
class Tally:
    """What a detector found, over all videos."""

    HEADER: ClassVar[str] = f"{'F1':>6} {'precision':>9} {'recall':>6} {'gradual':>7} {'pure':>6} {'kept':>6}"

    hits: int = 0
    total: int = 0
    false: int = 0
    gradual_hits: int = 0
    gradual_total: int = 0
    clips: int = 0
    pure_clips: int = 0
    clean_frames: int = 0
    kept_frames: int = 0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.hits + self.false + self.total)

    @property
    def gradual(self) -> float:
        """Share of the dissolves, fades and wipes that are found."""
        return self.gradual_hits / max(self.gradual_total, 1)

    @property
    def pure(self) -> float:
        """Share of the clips that hold frames of one shot only."""
        return self.pure_clips / max(self.clips, 1)

    @property
    def kept(self) -> float:
        """Share of the frames outside of transitions that are in pure clips."""
        return self.kept_frames / max(self.clean_frames, 1)

    def row(self) -> str:
        recall, precision = self.hits / self.total, self.hits / max(self.hits + self.false, 1)
        return f"{self.f1:6.3f} {precision:9.3f} {recall:6.3f} {self.gradual:7.3f} {self.pure:6.3f} {self.kept:6.3f}"


def score_boundaries(found: list[Stretch], truth: Truth, tally: Tally) -> tuple[list[Stretch], list[Stretch]]:
    """Adds the boundaries of one video to the tally; returns transitions missed and boundaries that are wrong."""
    used: set[int] = set()
    missed = []
    for events, gradual in ((truth.hard, False), (truth.gradual, True)):
        for event in events:
            met = [i for i, boundary in enumerate(found) if i not in used and _meets(boundary, event)]
            tally.total += 1
            tally.hits += bool(met)
            tally.gradual_total += gradual
            tally.gradual_hits += gradual and bool(met)
            used.update(met if gradual else met[:1])
            missed += [] if met else [event]
    rest = [boundary for i, boundary in enumerate(found) if i not in used]
    wrong = [boundary for boundary in rest if not any(_meets(boundary, event) for event in truth.uncertain)]
    tally.false += len(wrong)
    return missed, wrong


def score_clips(clips: list[Stretch], truth: Truth, num_frames: int, tally: Tally) -> list[Stretch]:
    """Adds the clips of one video, frames [first, last), to the tally; returns those that are not pure."""
    clean = np.ones(num_frames, bool)
    for first, last in truth.gradual:
        clean[first : last + 1] = False
    impure = []
    for first, last in clips:
        pure = bool(clean[first:last].all()) and not any(first < cut < last for cut, _ in truth.hard)
        tally.clips += 1
        tally.pure_clips += pure
        tally.kept_frames += (last - first) * pure
        impure += [] if pure else [(first, last)]
    tally.clean_frames += int(clean.sum())
    return impure


def _meets(boundary: Stretch, event: Stretch) -> bool:
    return boundary[0] <= event[1] + TOLERANCE and boundary[1] >= event[0] - TOLERANCE
