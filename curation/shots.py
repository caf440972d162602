"""Shot boundaries from the frames of one decode, and candidate clips from shot boundaries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detector import SceneDetector
from scenedetect.detectors import (
    AdaptiveDetector,
    ContentDetector,
    HashDetector,
    HistogramDetector,
    ThresholdDetector,
)

from curation.cascade import CascadeDetector
from curation.settings import ClipSettings, ShotSettings
from curation.transnet import TransNetDetector
from schemas.records import Span

RUN_GAP = 2  # frames; cuts this close are one gradual transition: no editor cuts twice in 80 ms
_FPS = 25.0  # PySceneDetect counts frames here; its minimum lengths in seconds are not used


@dataclass(frozen=True, order=True)
class Boundary:
    """Where one shot ends and the next begins, in frame indices of the decode.

    Frames [first, last) belong to neither shot. At a hard cut first == last: the first frame of the new shot.
    """

    first: int
    last: int

    @property
    def hard(self) -> bool:
        return self.first == self.last


@dataclass(frozen=True)
class Stretch:
    """Frames [first, last) of the decode that could become a clip."""

    first: int
    last: int
    shot_index: int


class ShotDetector(Protocol):
    """Takes the frames of a decode one by one, holds few of them, and names the boundaries at the end."""

    def push(self, image: np.ndarray) -> None:
        """Takes the next frame, (H W 3) uint8 RGB."""

    def finish(self) -> list[tuple[int, int]]:
        """The boundaries (first, last) in order, frames [first, last) belonging to no shot."""


class SceneDetectDetector:
    """One of PySceneDetect's detectors, fed frame by frame. Cuts in a row are one gradual transition."""

    def __init__(self, detector: SceneDetector):
        self._detector = detector
        self._cuts: list[int] = []
        self._num_frames = 0

    def push(self, image: np.ndarray) -> None:
        timecode = FrameTimecode(self._num_frames, _FPS)
        found = self._detector.process_frame(timecode, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._cuts += [cut.frame_num for cut in found]
        self._num_frames += 1

    def finish(self) -> list[tuple[int, int]]:
        if self._num_frames:
            found = self._detector.post_process(FrameTimecode(self._num_frames - 1, _FPS))
            self._cuts += [cut.frame_num for cut in found]
        return merge_runs([cut for cut in self._cuts if 0 < cut < self._num_frames])


class FadeDetector:
    """Fades through black by PySceneDetect's ThresholdDetector; the boundary is all of the dark frames."""

    def __init__(self, threshold: float):
        self._detector = ThresholdDetector(threshold=threshold, min_scene_len=0)
        self._boundaries: list[tuple[int, int]] = []
        self._num_frames = 0

    def push(self, image: np.ndarray) -> None:
        dark_since = self._detector.last_fade["frame"]
        if self._detector.process_frame(FrameTimecode(self._num_frames, _FPS), image):
            self._boundaries.append((dark_since.frame_num, self._num_frames))
        self._num_frames += 1

    def finish(self) -> list[tuple[int, int]]:
        return self._boundaries


def merge_runs(cuts: Sequence[int], gap: int = RUN_GAP) -> list[tuple[int, int]]:
    """Boundaries from the indices of cuts: each cut that is at most `gap` frames after another joins it.

    cuts      10            50 51 52 54          90
    boundary  (10, 10)      (50, 54)             (90, 90)
    """
    merged: list[tuple[int, int]] = []
    for cut in sorted(set(cuts)):
        if merged and cut - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], cut)
        else:
            merged.append((cut, cut))
    return merged


_DETECTORS: dict[str, tuple[float, Callable[[float], ShotDetector]]] = {
    "cascade": (0.5, CascadeDetector),
    "adaptive": (3.0, lambda t: SceneDetectDetector(AdaptiveDetector(adaptive_threshold=t, min_scene_len=0))),
    "content": (27.0, lambda t: SceneDetectDetector(ContentDetector(threshold=t, min_scene_len=0))),
    "histogram": (0.05, lambda t: SceneDetectDetector(HistogramDetector(threshold=t, min_scene_len=0))),
    "hash": (0.395, lambda t: SceneDetectDetector(HashDetector(threshold=t, min_scene_len=0))),
    "threshold": (12.0, FadeDetector),
    "transnetv2": (0.5, TransNetDetector),
}


def make_detector(settings: ShotSettings) -> ShotDetector:
    """The detector the settings name, with its own default threshold where they name none."""
    default, make = _DETECTORS[settings.detector]
    return make(default if settings.threshold is None else settings.threshold)


def detector_fingerprint(settings: ShotSettings) -> str:
    """What besides the settings fixes the boundaries: the detector's version, or the sha256 of its weights."""
    if settings.detector in ("cascade", "transnetv2"):
        return (CascadeDetector if settings.detector == "cascade" else TransNetDetector).fingerprint()
    import scenedetect

    return f"scenedetect-{scenedetect.__version__}"


def find_shots(
    boundaries: Sequence[tuple[int, int]], times_s: Sequence[float], min_shot_s: float = 0.0
) -> list[Boundary]:
    """Clean boundaries: in order, none overlapping, those less than `min_shot_s` apart joined.

    Args:
        boundaries: (first, last) as a detector gives them.
        times_s: presentation time of each frame in seconds.
        min_shot_s: a shot shorter than this between two boundaries becomes part of the transition.
    """
    found: list[Boundary] = []
    for first, last in sorted(boundaries):
        if first >= len(times_s):
            continue
        last = min(last, len(times_s))
        near = bool(found) and (
            first <= found[-1].last or times_s[first] - times_s[min(found[-1].last, len(times_s) - 1)] < min_shot_s
        )
        if near:
            found[-1] = Boundary(found[-1].first, max(found[-1].last, last))
        else:
            found.append(Boundary(first, last))
    return found


def find_stretches(
    boundaries: Sequence[Boundary], pts: Sequence[int], end_pts: int, time_base: float, settings: ClipSettings
) -> list[Stretch]:
    """Single-shot stretches, trimmed at their boundaries and split at `max_duration_s`, whatever their length.

    Args:
        boundaries: as `find_shots` gives them.
        pts: presentation timestamp of each frame, strictly increasing.
        end_pts: end of the last frame.
        time_base: seconds per tick.
        settings: trims and the longest clip.

    Returns:
        Stretches in order; a shot that trimming leaves empty has none.
    """
    edges = [Boundary(0, 0), *boundaries, Boundary(len(pts), len(pts))]
    ticks = np.array([*pts, end_pts], dtype=np.int64)
    stretches: list[Stretch] = []
    for shot_index, (before, after) in enumerate(pairwise(edges)):
        first = before.last + (_trim(before, settings) if shot_index else 0)
        last = after.first - (_trim(after, settings) if shot_index < len(boundaries) else 0)
        if first < last:
            bounds = _split(ticks, first, last, time_base, settings.max_duration_s)
            stretches += [Stretch(a, b, shot_index) for a, b in pairwise(bounds)]
    return stretches


def _trim(boundary: Boundary, settings: ClipSettings) -> int:
    return settings.trim_frames if boundary.hard else settings.trim_gradual_frames


def _split(ticks: np.ndarray, first: int, last: int, time_base: float, max_s: float | None) -> list[int]:
    """Frame indices first … last that divide a stretch into the fewest equal parts, none longer than `max_s`.

    Only a single frame that is longer than that is a part of its own. Where frames are so long that no equal parts
    will do, each part is as long as it may be.
    """
    if max_s is None:
        return [first, last]
    start, end = int(ticks[first]), int(ticks[last])
    fewest = max(1, int(np.ceil((end - start) * time_base / max_s)))
    for num_parts in (fewest, fewest + 1):
        ideal = [start + (end - start) * part / num_parts for part in range(1, num_parts)]
        inner = [int(np.searchsorted(ticks[first:last], tick)) + first for tick in ideal]
        bounds = sorted({first, *inner, last})
        if max(ticks[b] - ticks[a] for a, b in pairwise(bounds)) * time_base <= max_s:
            return bounds
    bounds = [first]
    for index in range(first + 1, last):
        if (ticks[index + 1] - ticks[bounds[-1]]) * time_base > max_s:
            bounds.append(index)
    return [*bounds, last]


def to_span(stretch: Stretch, pts: Sequence[int], end_pts: int, time_base_num: int, time_base_den: int) -> Span:
    """The stretch as exact half-open time: up to the timestamp of the frame that follows, or the end of the last."""
    end = pts[stretch.last] if stretch.last < len(pts) else end_pts
    return Span(int(pts[stretch.first]), int(end), time_base_num, time_base_den, stretch.last - stretch.first)
