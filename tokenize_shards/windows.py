"""A clip in windows: where each begins, how far the clip reaches, and which aspect bucket it belongs to.

clip      |-----------------------------------------|        5.2 s
windows   |--- 0: 17 frames ---|--- 1: 17 frames ---| rest   2.125 s each at 8 fps; the rest is dropped
frames    0   1/8   2/8 … 16/8   17/8 …                      the frame nearest to each time
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from schemas.states import Rejection
from tokenize_shards.settings import VideoTokenSettings


@dataclass(frozen=True)
class Window:
    """A stretch of a clip that becomes one sample."""

    index: int
    start_s: Fraction  # from the clip's first frame
    num_frames: int
    still: bool = False  # all of a clip that is one picture and lasts no time


def clip_duration(sidecar: Mapping[str, Any]) -> Fraction:
    """Exact seconds from the clip's first frame to its end, of a `KEY.json` or a row of the ledger."""
    time_base = Fraction(int(sidecar["time_base_num"]), int(sidecar["time_base_den"]))
    return (int(sidecar["end_pts"]) - int(sidecar["start_pts"])) * time_base


def plan_windows(duration_s: Fraction, num_frames: int, settings: VideoTokenSettings) -> list[Window]:
    """Windows of a clip in order, all within it: those of one length after those of another, numbered through.

    A clip of one frame is a still: one window of one frame.

    Args:
        num_frames: frames that the clip has at its own rate.

    Raises:
        Rejection: `too_short`, for a clip that is shorter than the shortest window.
    """
    if num_frames == 1:
        return [Window(0, Fraction(0), 1, still=True)]
    places = [(start_s, length) for length in settings.lengths for start_s in _starts(duration_s, length, settings)]
    if not places:
        shortest = min(settings.lengths)
        raise Rejection(
            "too_short",
            f"{float(duration_s):.3f} s is less than one window: {shortest} frames at {settings.fps:g} fps "
            f"take {float(shortest / settings.rate):g} s",
        )
    return [Window(index, start_s, length) for index, (start_s, length) in enumerate(places)]


def _starts(duration_s: Fraction, length: int, settings: VideoTokenSettings) -> list[Fraction]:
    """Where the windows of one length begin; none where not even one fits."""
    window_s, stride_s = length / settings.rate, (settings.stride or length) / settings.rate
    count = 1 + math.floor((duration_s - window_s) / stride_s) if duration_s >= window_s else 0
    return [index * stride_s for index in range(count)]


def choose_bucket(height: int, width: int, buckets: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int]]:
    """The resolutions, lowest first, of the bucket whose aspect ratio is nearest to the picture's (as a ratio).

    Of two equally near the first wins.
    """

    shape = math.log(height / width)
    distances = [abs(math.log(bucket[0][0] / bucket[0][1]) - shape) for bucket in buckets]
    return list(buckets[distances.index(min(distances))])
