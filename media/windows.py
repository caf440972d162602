"""Frames and windows by random access: the frame nearest to a time, and T frames k/fps apart at a model's size.

Streams whose pictures are stored as they are shown (8-bit 4:2:0, upright, square pixels, progressive, SDR), in
containers with an index, are read by decord, all others by PyAV; decord's RGB equals PyAV's bit for bit on the
former. Which frame a time means is decided once, by the exact timestamps of the packets, never by index ÷ rate.
"""

import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from media.containers import open_container, time_base_of, video_stream
from media.decode import Frame, decode_frames
from media.decord_module import decord
from media.normalize import Normalization, normalization_of
from media.raw_frames import Seconds
from schemas.states import Rejection

log = logging.getLogger(__name__)
decord.logging.set_level(decord.logging.QUIET)

_PLAIN_FORMATS = ("yuv420p", "yuvj420p")
_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")  # in others decord lands beside the frame asked for
_DECORD_SLACK_S = 0.002  # it keeps timestamps as 32-bit floats


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a stream in order of presentation, from its packets alone."""

    pts: tuple[int, ...]
    time_base: Fraction
    normal: Normalization
    plain: bool  # whether decord's pictures are right for this stream

    def nearest(self, time_s: Seconds) -> int:
        """Position of the frame nearest to the time; of two equally near, the earlier."""
        ticks = Fraction(time_s) / self.time_base
        after = bisect_left(self.pts, ticks)
        if after == 0:
            return 0
        if after == len(self.pts):
            return after - 1
        return after if self.pts[after] - ticks < ticks - self.pts[after - 1] else after - 1


def frame_index(path: str | Path) -> FrameIndex:
    """The exact timestamps of a stream's frames, read without decoding more than the first.

    Raises:
        Rejection: as `media.probe.probe`.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        first: av.VideoFrame | None = None
        pts: list[int] = []
        whole = len(container.streams.video) == 1 and container.format.name in _INDEXED
        try:
            for packet in container.demux(stream):
                if first is None:
                    first = _first_frame(packet)
                if packet.size == 0 or packet.is_discard:
                    continue
                whole = whole and packet.pts is not None and not packet.is_corrupt
                if packet.pts is not None:
                    pts.append(packet.pts)
        except av.FFmpegError:
            whole = False
        if first is None or not pts:
            raise Rejection("undecodable", "not one frame can be decoded")
        normal = normalization_of(first, stream)
        plain = whole and len(set(pts)) == len(pts) and _is_plain(first, normal)
        return FrameIndex(tuple(sorted(set(pts))), time_base_of(stream), normal, plain)


def _first_frame(packet: av.Packet) -> av.VideoFrame | None:
    try:
        return next(iter(packet.decode()), None)
    except av.FFmpegError:
        return None


def _is_plain(frame: av.VideoFrame, normal: Normalization) -> bool:
    even = frame.width % 2 == 0 and frame.height % 2 == 0
    return even and frame.format.name in _PLAIN_FORMATS and not normal.notes and not normal.orientation


class FrameReader:
    """Random access to one file's frames; opening it reads all packet headers once.

    Args:
        threads: of the decoder.
        use_decord: False reads everything by PyAV; do so for files in which decoding met errors, since what a
            decoder shows around damage depends on where it started.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, use_decord: bool = True):
        self.path, self.threads = str(path), threads
        self.index = frame_index(path)
        self._decord = self._open_decord() if use_decord and self.index.plain else None

    def _open_decord(self) -> "decord.VideoReader | None":
        try:
            reader = decord.VideoReader(self.path, num_threads=self.threads)
        except (decord.DECORDError, RuntimeError, UnicodeError) as error:
            log.info("decord refuses %s: %s", self.path, str(error).splitlines()[0][:200])
            return None
        return reader if len(reader) == len(self.index.pts) else None

    def frames_at(self, times: Sequence[Seconds]) -> np.ndarray:
        """The frames nearest to the times, (T H W 3) uint8 RGB at full size as displayed.

        Raises:
            Rejection: `undecodable` where a frame cannot be had.
        """
        positions = [self.index.nearest(time) for time in times]
        images = self._by_decord(positions)
        if images is None:
            images = self._by_pyav(times)
        return images

    def _by_decord(self, positions: list[int]) -> np.ndarray | None:
        """The frames at these positions; None where decord fails or its timestamps are not the file's."""
        if self._decord is None:
            return None
        index, unique = self.index, sorted(set(positions))
        wanted = np.array([float(index.pts[i] * index.time_base) for i in unique])
        try:
            found = np.asarray(self._decord.get_frame_timestamp(unique))[:, 0].astype(float)
            offset = float(index.pts[0] * index.time_base)  # decord counts from the first frame
            slack = _DECORD_SLACK_S + np.abs(wanted) * 1e-6
            if min(np.max(np.abs(found - wanted) - slack), np.max(np.abs(found + offset - wanted) - slack)) > 0:
                return None
            images = self._decord.get_batch(unique).asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            log.info("decord fails in %s: %s", self.path, str(error).splitlines()[0][:200])
            return None
        return images[[unique.index(position) for position in positions]]

    def _by_pyav(self, times: Sequence[Seconds]) -> np.ndarray:
        """The same frames by decoding from the key frame before the first to the last."""
        index = self.index
        exact = [Fraction(time) for time in times]
        first = index.pts[max(0, index.nearest(min(exact)) - 2)] * index.time_base
        last = index.pts[min(len(index.pts) - 1, index.nearest(max(exact)) + 2)] * index.time_base
        best: list[Frame | None] = [None] * len(exact)
        for frame in _decode_around(self.path, first, last, self.threads):
            for i, time in enumerate(exact):
                old = best[i]
                if old is None or abs(frame.time - time) < abs(old.time - time):
                    best[i] = frame
        images = [frame.image for frame in best if frame is not None]
        if len(images) < len(exact):
            raise Rejection("undecodable", f"no frame can be decoded near {float(exact[0]):.3f} s")
        return np.stack(images)


def _decode_around(path: str, first: Fraction, last: Fraction, threads: int) -> list[Frame]:
    """Frames from `first` to `last`, both included; where damage left none, the last one before."""
    end = last + Fraction(1, 10**9)
    frames = list(decode_frames(path, start_s=first, end_s=end, threads=threads))
    return frames or list(deque(decode_frames(path, end_s=end, threads=threads), maxlen=1))


def read_frame(path: str | Path, time_s: Seconds) -> np.ndarray:
    """The frame nearest to `time_s` on the stream's own timeline, (H W 3) uint8 RGB, full size as displayed."""
    return FrameReader(path).frames_at([time_s])[0]


def read_window(
    path: str | Path, start_s: Seconds, num_frames: int, fps: Fraction | int, height: int, width: int
) -> np.ndarray:
    """The frames nearest to start + k/fps, k < num_frames: (T H W 3) uint8 RGB, short side resized, centre cropped.

        k/fps      0        1        2        3
        frames   |  0 |  1 |  2 |  3 |  4 |  5 |      takes 0, 2, 3, 5 (of two equally near, the earlier)

    Raises:
        Rejection: as `media.decode.decode_frames`.
    """
    times = [Fraction(start_s) + Fraction(k) / Fraction(fps) for k in range(num_frames)]
    return resize_and_crop(FrameReader(path).frames_at(times), height, width)


def num_windows(duration_s: Seconds, num_frames: int, fps: Fraction | int) -> int:
    """How many windows of `num_frames` fit without overlap; the remainder is dropped.

    A window of T frames lasts T/fps seconds, the last frame's own duration included.
    """
    if num_frames < 1 or Fraction(fps) <= 0:
        raise ValueError(f"a window needs num_frames ≥ 1 and fps > 0, not {num_frames} and {fps}")
    return max(0, int(Fraction(duration_s) * Fraction(fps) / num_frames))


def resize_and_crop(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames (T H W 3, uint8) scaled to cover `height`×`width` and cropped at the centre.

    Shrinking averages over areas, so nothing aliases; enlarging is bicubic.
    """
    if frames.ndim != 4 or frames.dtype != np.uint8:
        raise ValueError(f"frames are T H W 3 of uint8, not {frames.shape} of {frames.dtype}")
    old_height, old_width = frames.shape[1:3]
    scale = max(Fraction(height, old_height), Fraction(width, old_width))
    new_height, new_width = max(height, round(old_height * scale)), max(width, round(old_width * scale))
    top, left = (new_height - height) // 2, (new_width - width) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    out = np.empty((len(frames), height, width, 3), np.uint8)
    for index, frame in enumerate(frames):
        sized = frame
        if (new_height, new_width) != (old_height, old_width):
            sized = cv2.resize(frame, (new_width, new_height), interpolation=method)
        out[index] = sized[top : top + height, left : left + width]
    return out
