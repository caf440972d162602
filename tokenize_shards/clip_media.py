"""A clip at hand: its pictures and its sound by time, its windows, and the sizes to tokenize at."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from media.audio import read_audio
from media.windows import FrameReader
from tokenize_shards.windows import Window


@dataclass(frozen=True)
class ClipMedia:
    """Where a clip's pictures and sound come from, and what of them is tokenized.

    Attributes:
        origin: seconds on the file's timeline at which the clip begins.
        end: likewise its end; None where the clip is all of the file.
        sizes: (height, width), lowest first.
        path: its file, or the source that holds it; None where `picture` is all there is.
        picture: an image (H W 3) uint8.
        crop: the part of the picture that counts: (top, left, height, width) in pixels; None for all of it.
        mirrored: left and right are changed.
    """

    key: str
    windows: Sequence[Window]
    sizes: Sequence[tuple[int, int]]
    sidecar: Mapping[str, Any]
    origin: Fraction = Fraction(0)
    end: Fraction | None = None
    path: Path | None = None
    has_sound: bool = False
    picture: np.ndarray | None = field(default=None, repr=False)
    crop: tuple[int, int, int, int] | None = None
    mirrored: bool = False

    def sample_key(self, window: Window) -> str:
        return f"{self.key}-{window.index:04d}"

    def frames(self, window: Window, rate: Fraction, num_frames: int, start_s: Fraction = Fraction(0)) -> np.ndarray:
        """The frames (T H W 3) uint8 nearest to k/rate from `start_s` within the window on, at full size.

        None of them lies outside the clip: the next shot's first frame may be nearer to a time, and is not taken.

        Raises:
            Rejection: as `media.windows.FrameReader.frames_at`.
        """
        frames = self._upright(window, rate, num_frames, start_s)
        return np.ascontiguousarray(frames[:, :, ::-1]) if self.mirrored else frames

    def _upright(self, window: Window, rate: Fraction, num_frames: int, start_s: Fraction) -> np.ndarray:
        if self.picture is not None:
            return np.repeat(self.picture[None], num_frames, axis=0)
        first = self.origin + window.start_s + start_s
        frames = self._reader.frames_at(self._within([first + k / rate for k in range(num_frames)]))
        if self.crop is None:
            return frames
        top, left, height, width = self.crop
        return frames[:, top : top + height, left : left + width]

    def samples(self, window: Window, duration_s: Fraction, rate_hz: int) -> np.ndarray:
        """The sound (T,) in [-1, 1] of so many seconds of the window; none without sound, or for a still."""
        if window.still or not self.has_sound or self.path is None:
            return np.zeros(0, np.float32)
        return read_audio(self.path, self.origin + window.start_s, int(duration_s * rate_hz), rate_hz)

    def content(self) -> dict[str, Any]:
        """What identifies the media and its windows; `clip_id` is a hash of the source's content and the span."""
        return {
            "clip_id": self.sidecar["clip_id"],
            "media_sha256": self.sidecar.get("media_sha256"),
            "key": self.key,  # decides which windows are measured
            "windows": [[str(window.start_s), window.num_frames] for window in self.windows],
            "sizes": [list(size) for size in self.sizes],
            "crop": self.crop,
        }

    @cached_property
    def _reader(self) -> FrameReader:
        if self.path is None:
            raise RuntimeError(f"clip {self.key} has neither file nor picture")
        return FrameReader(self.path)

    def _within(self, times: Sequence[Fraction]) -> list[Fraction]:
        """The times of the nearest frames that belong to the clip."""
        if self.end is None:
            return list(times)
        index = self._reader.index
        first = bisect_left(index.pts, self.origin / index.time_base)
        last = max(first, bisect_left(index.pts, self.end / index.time_base) - 1)
        return [index.pts[min(max(index.nearest(time), first), last)] * index.time_base for time in times]


def batches(windows: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Windows in order, at most `size` of one length at a time."""
    start = 0
    while start < len(windows):
        batch = [window for window in windows[start : start + size] if window.num_frames == windows[start].num_frames]
        yield batch
        start += len(batch)
