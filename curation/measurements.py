"""What is measured on the frames of the one decode, held as a few numbers for each frame."""

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from curation.phash import borders, motion_hash, phash, reduced

SAMPLE_S = 0.125  # seconds between the frames that are hashed
JUMP, JUMP_RATIO = 12.0, 3.0  # grey levels, and times the change before: then it is a new scene, hashed at once
SAME = 0.05  # grey levels; coding noise below this does not make a repeated frame a new one
REFERENCE_FPS = 24


@dataclass(frozen=True)
class Sample:
    """A frame that was hashed."""

    frame: int  # index in the decode
    phash: int
    small: np.ndarray  # 32 × 32, uint8
    border: tuple[float, float, float, float]  # black top, bottom, left, right as shares of height and width


@dataclass(frozen=True)
class Sampled:
    """What `Measurements.push` says of the frame it took."""

    gray: np.ndarray  # H W, uint8
    sampled: bool
    jump: bool  # whether the picture is so unlike the one before that a new scene may begin


class Measurements:
    """Takes frames in order; afterwards gives the scores of any stretch of them.

    Holds 20 bytes for each frame and 1.3 kB for each sample: 40 MB for an hour at 30 fps.
    """

    def __init__(self) -> None:
        self.pts: list[int] = []
        self.samples: list[Sample] = []
        self._change: list[float] = []
        self._sharpness: list[float] = []
        self._luma: list[float] = []
        self._luma_std: list[float] = []
        self._last: np.ndarray | None = None
        self._last_sample: int | None = None  # its timestamp

    def push(self, image: np.ndarray, pts: int, time_base: Fraction) -> Sampled:
        """Measures the next frame, (H W 3) uint8 RGB."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        change = 0.0 if self._last is None else float(cv2.norm(gray, self._last, cv2.NORM_L1)) / gray.size
        jump = change > JUMP and change > JUMP_RATIO * self._change[-1]
        mean, std = cv2.meanStdDev(gray)
        edges = cv2.Laplacian(gray, cv2.CV_16S)
        edge_mean = cv2.sumElems(edges)[0] / gray.size
        self._change.append(change)
        self._luma.append(float(mean[0, 0]) / 255)
        self._luma_std.append(float(std[0, 0]) / 255)
        self._sharpness.append(cv2.norm(edges, cv2.NORM_L2SQR) / gray.size - edge_mean**2)
        sampled = self._is_sample(pts, time_base, jump)
        if sampled:
            border = borders(gray)
            height, width = gray.shape
            shares = (border[0] / height, border[1] / height, border[2] / width, border[3] / width)
            small = reduced(gray, border)
            self.samples.append(Sample(len(self.pts), phash(small), small, shares))
        self.pts.append(pts)
        self._last = gray
        return Sampled(gray, sampled, jump)

    def _is_sample(self, pts: int, time_base: Fraction, jump: bool) -> bool:
        last = self._last_sample
        due = last is None or jump or (pts - last) * time_base.numerator >= SAMPLE_S * time_base.denominator
        if due:
            self._last_sample = pts
        return due

    def scores(self, first: int, last: int, duration_s: float) -> dict[str, float]:
        """Scores of frames [first, last), as `schemas.scores` defines them. At least one frame."""
        inner = slice(first + 1, last)  # changes within the stretch
        changes = np.asarray(self._change[inner], dtype=np.float64)
        per_frame_s = duration_s / (last - first)
        elapsed_s = per_frame_s * len(changes)
        return {
            "motion": float(changes.sum() / (elapsed_s * REFERENCE_FPS)) if elapsed_s > 0 else 0.0,
            "sharpness": float(np.median(self._sharpness[first:last])),
            "luma": float(np.mean(self._luma[first:last])),
            "luma_std": float(np.median(self._luma_std[first:last])),
            "freeze": float(np.mean(changes < SAME)) if len(changes) else 0.0,
            "letterbox": self._letterbox(first, last),
        }

    def hashes(self, first: int, last: int, count: int) -> tuple[int, ...]:
        """`count` hashes of frames spread evenly over [first, last), then as many of what moves there.

        None where no frame in the stretch was hashed.
        """
        inside = self._inside(first, last)
        if not inside:
            return ()
        start, end = self.pts[first], self.pts[last - 1]
        wanted = [start + (end - start) * (k + 0.5) / count for k in range(count)]
        samples = [self._nearest(inside, tick) for tick in wanted]
        mean = np.asarray(np.mean([sample.small for sample in inside], axis=0, dtype=np.float64))
        return tuple(s.phash for s in samples) + tuple(motion_hash(s.small, mean) for s in samples)

    def _nearest(self, samples: list[Sample], tick: float) -> Sample:
        return min(samples, key=lambda sample: abs(self.pts[sample.frame] - tick))

    def border(self, first: int, last: int) -> tuple[float, float, float, float]:
        """Black top, bottom, left and right that all samples in [first, last) have, as shares of height and width."""
        inside = self._inside(first, last)
        if not inside:
            return 0.0, 0.0, 0.0, 0.0
        top, bottom, left, right = np.min([sample.border for sample in inside], axis=0)
        return float(top), float(bottom), float(left), float(right)

    def _letterbox(self, first: int, last: int) -> float:
        """Share of the picture outside its border."""
        top, bottom, left, right = self.border(first, last)
        return 1 - (1 - top - bottom) * (1 - left - right)

    def _inside(self, first: int, last: int) -> list[Sample]:
        low = _lower(self.samples, first)
        return self.samples[low : _lower(self.samples, last)]


def _lower(samples: list[Sample], frame: int) -> int:
    """Index of the first sample at or after a frame."""
    return bisect_left(samples, frame, key=lambda sample: sample.frame)
