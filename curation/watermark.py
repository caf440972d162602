"""Watermarks and logos: drawn edges that stay in place, most clearly while the scene moves.

Averaged over frames, the gradients of a moving scene cancel and those of an overlay remain (Dekel et al. 2017, "On
the Effectiveness of Visible Watermarks", section 3.1). A camera that stands leaves the scene's gradients as well; a
small network judges from both how still a place is and how drawn it looks (`overlay_network`).
"""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.measurements import Sampled
from curation.overlay_network import probability

MAX_SEGMENT_SAMPLES = 80  # 10 s; a longer shot gives several pieces of evidence
MIN_SAMPLES = 4  # fewer say nothing of what stays

Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]  # mean x, mean y, mean size; each (H W) float32


@dataclass(frozen=True)
class _Segment:
    """Evidence of a stretch of frames [first, last) without a cut."""

    first: int
    last: int
    probability: float


class _Sums:
    """Running sums of gradients."""

    def __init__(self) -> None:
        self.count = 0
        self._planes: list[np.ndarray] = []

    def add(self, planes: Gradients) -> None:
        if not self.count:
            self._planes = [np.zeros_like(plane) for plane in planes]
        self.count += 1
        for total, plane in zip(self._planes, planes, strict=True):
            cv2.accumulate(plane, total)

    def means(self) -> Gradients:
        x, y, size = (total / self.count for total in self._planes)
        return x, y, size


class OverlayEvidence:
    """Takes the sampled frames of a source; afterwards gives the probability of an overlay in any stretch of it.

    Evidence is kept shot by shot, and once more for the whole source, where every shot has equal weight: what stays
    through several scenes is no part of any of them. Held are three sums of two pictures, and a number for each shot.
    """

    def __init__(self) -> None:
        self._segments: list[_Segment] = []
        self._shot, self._source = _Sums(), _Sums()
        self._first = self._frame = 0
        self._of_source: float | None = None

    def push(self, taken: Sampled, frame: int) -> None:
        """Takes the next frame; one that was not sampled only moves the end of the shot."""
        if taken.jump or self._shot.count >= MAX_SEGMENT_SAMPLES:
            self._close(frame)
        if taken.sampled:
            self._shot.add(gradients(taken.gray))
        self._frame = frame + 1

    def finish(self) -> None:
        """Ends the last shot; the evidence is complete."""
        self._close(self._frame)
        if self._source.count > 1:
            self._of_source = probability(*self._source.means())

    def probability(self, first: int, last: int) -> float | None:
        """Probability in [0, 1] that an overlay lies over frames [first, last); None where there is no evidence.

        The strongest evidence counts: of the shots that the stretch meets, or of the whole source.
        """
        found = [s.probability for s in self._segments if s.first < last and first < s.last]
        if self._of_source is not None:
            found.append(self._of_source)
        return max(found, default=None)

    def _close(self, frame: int) -> None:
        if self._shot.count >= MIN_SAMPLES:
            means = self._shot.means()
            self._segments.append(_Segment(self._first, frame, probability(*means)))
            self._source.add(means)
        self._shot, self._first = _Sums(), frame


def gradients(gray: np.ndarray) -> Gradients:
    """Gradient x, y and its size of (H W) uint8, in grey levels per pixel, float32.

    The size by numpy: the last bits of OpenCV's depend on where in memory the arrays lie.
    """
    x = cv2.Sobel(gray, cv2.CV_32F, 1, 0, scale=1 / 8)
    y = cv2.Sobel(gray, cv2.CV_32F, 0, 1, scale=1 / 8)
    return x, y, np.sqrt(x * x + y * y)
