"""Watermarks and logos: edges that stay in place while the scene moves.

Averaged over frames, the gradients of a moving scene cancel and those of an overlay remain (Dekel et al. 2017, "On
the Effectiveness of Visible Watermarks", section 3.1). Where nothing moves this says nothing, and the probability
falls back to what is usual.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.measurements import Sampled

MAX_SEGMENT_SAMPLES = 80  # 10 s; a longer shot gives several pieces of evidence
MIN_SAMPLES = 4
EDGE = 5.0  # grey levels per pixel; weaker mean gradients are compression noise
STAYS, MOVES = 0.85, 0.5  # |mean gradient| ÷ mean |gradient| of what stays, and below which a pixel moves
_DENSITY_BOX = 15  # pixels; letters fill a box of this side with edges
VERSION = 1  # of the evidence and its weights; part of every fingerprint of an analysis

FEATURES = ("area", "moving", "density", "area_moving", "density_moving", "contrast")
# Logistic regression on synthetic overlays over clean clips: benchmarks/train_watermark.py
WEIGHTS = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
BIAS = 0.0


@dataclass(frozen=True)
class _Segment:
    """Evidence of a stretch of frames [first, last) without a cut."""

    first: int
    last: int
    probability: float


class _Gradients:
    """Running sums of gradients over sampled frames."""

    def __init__(self) -> None:
        self.count = 0
        self._x = self._y = self._size = np.zeros((1, 1), np.float32)

    def add(self, x: np.ndarray, y: np.ndarray, size: np.ndarray) -> None:
        if not self.count:
            self._x, self._y, self._size = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
        self.count += 1
        cv2.accumulate(x, self._x)
        cv2.accumulate(y, self._y)
        cv2.accumulate(size, self._size)

    def means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._x / self.count, self._y / self.count, self._size / self.count


class OverlayEvidence:
    """Takes the sampled frames of a source; afterwards gives the probability of an overlay in any stretch of it.

    Evidence is kept shot by shot, and once more for the whole source, where every shot has equal weight: what stays
    through several scenes is no part of any of them.
    """

    def __init__(self) -> None:
        self._segments: list[_Segment] = []
        self._shot, self._source = _Gradients(), _Gradients()
        self._first = self._frame = 0
        self._source_probability: float | None = None

    def push(self, taken: Sampled, frame: int) -> None:
        """Takes the next frame; what was not sampled only moves the end of the segment."""
        if taken.jump or self._shot.count >= MAX_SEGMENT_SAMPLES:
            self._close(frame)
        if taken.sampled:
            self._shot.add(*gradients(taken.gray))
        self._frame = frame + 1

    def finish(self) -> None:
        self._close(self._frame)
        if self._source.count > 1:
            self._source_probability = probability_of(features(*self._source.means()))

    def probability(self, first: int, last: int) -> float:
        """Probability in [0, 1] that an overlay lies over frames [first, last).

        The strongest evidence counts: of the shots that the stretch meets, or of the whole source.
        """
        found = [s.probability for s in self._segments if s.first < last and first < s.last]
        if self._source_probability is not None:
            found.append(self._source_probability)
        return max(found, default=probability_of(np.zeros(len(FEATURES))))

    def _close(self, frame: int) -> None:
        if self._shot.count >= MIN_SAMPLES:
            means = self._shot.means()
            self._segments.append(_Segment(self._first, frame, probability_of(features(*means))))
            self._source.add(*means)
        self._shot, self._first = _Gradients(), frame


def gradients(gray: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradient x, y and size of (H W) uint8, in grey levels per pixel, float32."""
    x = cv2.Sobel(gray, cv2.CV_32F, 1, 0, scale=1 / 8)
    y = cv2.Sobel(gray, cv2.CV_32F, 0, 1, scale=1 / 8)
    return x, y, cv2.magnitude(x, y)


def features(x: np.ndarray, y: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The numbers of `FEATURES` from mean gradients (H W): how much stays, how much moves, how dense what stays is."""
    mean = cv2.magnitude(x, y)
    stay = mean / (size + 1e-3)
    persistent = ((mean > EDGE) & (stay > STAYS)).astype(np.float32)
    textured = size > EDGE / 2
    moving = float(np.mean(stay[textured] < MOVES)) if textured.any() else 0.0
    density = cv2.blur(persistent, (_DENSITY_BOX, _DENSITY_BOX))
    peak = float(density.max())
    area = float(np.log10(persistent.mean() + 1e-4) + 4)  # 0 for none, 4 for all
    around = float(np.median(stay[textured])) if textured.any() else 1.0
    inside = float(stay[density > peak / 2].mean()) if peak > 0 else 0.0
    return np.array([area, moving, peak, area * moving, peak * moving, max(inside - around, 0.0)])


def probability_of(values: np.ndarray) -> float:
    """Logistic regression of the features, in [0, 1]."""
    return float(1 / (1 + np.exp(-(values @ WEIGHTS + BIAS))))
