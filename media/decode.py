"""Frames by true time: exact timestamps in order, upright, progressive, in standard range, at the size asked for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from media.containers import open_container
from media.normalize import Normalization, normalization_of
from media.raw_frames import RawReader, Seconds
from media.settings import DecodeLimits


@dataclass(frozen=True)
class Frame:
    """One picture with its exact time, `pts * time_base` seconds on the stream's own timeline."""

    index: int  # among the frames yielded, from 0
    pts: int
    time_base: Fraction
    image: np.ndarray  # H W 3, uint8, RGB
    key: bool  # whether decoding can start here

    @property
    def time(self) -> Fraction:
        """Seconds, exact."""
        return self.pts * self.time_base


def decode_frames(
    path: str | Path,
    *,
    max_side: int | None = None,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    limits: DecodeLimits | None = None,
    threads: int = 1,
    notes: Counter[str] | None = None,
) -> Iterator[Frame]:
    """Yields the frames with `start_s` ≤ time < `end_s`, in order of presentation.

    Frames that do not come later than the one before are left out. A damaged file yields what can be decoded.

    Args:
        max_side: reduces pictures so that their longer side, as displayed, is at most this; None keeps the size.
        start_s: seconds on the stream's own timeline (where the first frame need not be at 0).
        threads: of the decoder; the frames are the same for any number.
        notes: counts what was met: `decode_errors`, `unordered_pts`, `missing_pts`, `size_changes`, `truncated`,
            and what was made normal, e.g. `rotated:90`.

    Raises:
        Rejection: as `probe`, and `undecodable` (not one frame), `picture_too_large`, `too_many_frames`, `too_long`,
            `timed_out`.
    """
    notes = Counter() if notes is None else notes
    with open_container(path) as container:
        reader = RawReader(container, limits or DecodeLimits(), threads, notes)
        start = None if start_s is None else Fraction(start_s)
        if start is not None:
            reader.seek(start)
        pictures = _Pictures(max_side, notes)
        index, bounded = 0, start is not None or end_s is not None
        for pts, raw in reader.frames():
            when = pts * reader.time_base if bounded else Fraction(0)  # fractions cost as much as a small picture
            if end_s is not None and when >= end_s:
                break
            for done_pts, key, image in pictures.push(pts, raw, reader.stream, wanted=start is None or when >= start):
                yield Frame(index, done_pts, reader.time_base, image, key)
                index += 1
        for done_pts, key, image in pictures.flush():
            yield Frame(index, done_pts, reader.time_base, image, key)
            index += 1


class _Pictures:
    """Raw frames in, RGB pictures out; the first frame decides size and filters for all."""

    def __init__(self, max_side: int | None, notes: Counter[str]):
        self.max_side, self.notes = max_side, notes
        self.normal: Normalization | None = None
        self.size = (0, 0)  # stored (height, width) of what comes out
        self._graph: _FilterGraph | None = None
        self._reducer, self._reformatter = VideoReformatter(), VideoReformatter()
        self._wanted: dict[int, bool] = {}

    def push(
        self, pts: int, frame: av.VideoFrame, stream: av.VideoStream, wanted: bool
    ) -> Iterator[tuple[int, bool, np.ndarray]]:
        """Yields (pts, key, image) of the wanted frames that are ready; filters may hold a frame back."""
        normal = self._normal_of(frame, stream)
        if (frame.height, frame.width) != (normal.coded_height, normal.coded_width):
            self.notes["size_changes"] += 1
        if normal.needs_filters:
            self._graph = self._graph or _FilterGraph(normal, self.size)
            self._wanted[pts] = wanted
            yield from self._take(self._graph.push(pts, frame))
        elif wanted:
            yield pts, frame.key_frame, normal.orient(self._convert(frame))

    def flush(self) -> Iterator[tuple[int, bool, np.ndarray]]:
        if self._graph is not None:
            yield from self._take(self._graph.flush())

    def _take(self, done: Iterator[tuple[int, bool, np.ndarray]]) -> Iterator[tuple[int, bool, np.ndarray]]:
        for pts, key, image in done:
            if self.normal is not None and self._wanted.pop(pts, False):
                yield pts, key, self.normal.orient(image)

    def _normal_of(self, frame: av.VideoFrame, stream: av.VideoStream) -> Normalization:
        if self.normal is None:
            self.normal = normalization_of(frame, stream)
            self.size = reduced_size(*self.normal.stored_size, self.max_side)
            self.notes.update(self.normal.notes)
        return self.normal

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        height, width = self.size
        if (frame.height, frame.width) == (height, width):
            return frame.to_ndarray(format="rgb24")
        method = Interpolation.AREA if frame.height >= height else Interpolation.BICUBIC
        if method == Interpolation.AREA and frame.format.name == "yuv420p":  # in two steps at half the cost of one
            frame = self._reducer.reformat(frame, width, height, "yuv420p", interpolation=method, threads=1)
        small = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=method, threads=1)
        return small.to_ndarray()


def reduced_size(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """(height, width) with the longer side at most `max_side`, never enlarged, never below 1."""
    longer = max(height, width)
    if max_side is None or longer <= max_side:
        return height, width
    return max(1, round(height * max_side / longer)), max(1, round(width * max_side / longer))


class _FilterGraph:
    """Deinterlacing and tone mapping through libavfilter, which may hold a frame back to see its neighbours."""

    def __init__(self, normal: Normalization, size: tuple[int, int]):
        self.normal, self.size = normal, size
        self._graph: Any = None
        self._shape: tuple[int, int, str] | None = None
        self._pts: list[tuple[int, bool]] = []  # of frames inside, in order

    def push(self, pts: int, frame: av.VideoFrame) -> Iterator[tuple[int, bool, np.ndarray]]:
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is None or shape != self._shape:
            yield from self.flush()
            self._build(frame)
            self._shape = shape
        self._pts.append((pts, frame.key_frame))
        frame.pts = pts
        self._graph.push(frame)
        yield from self._pull()

    def flush(self) -> Iterator[tuple[int, bool, np.ndarray]]:
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph = None

    def _pull(self) -> Iterator[tuple[int, bool, np.ndarray]]:
        while True:
            try:
                out = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            pts, key = self._pts.pop(0)  # one out for each in, in order
            yield pts, key, out.to_ndarray()

    def _build(self, frame: av.VideoFrame) -> None:
        graph = av.filter.Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base, name="in"
        )
        height, width = self.size
        filters = [
            *self.normal.deinterlace_filters(),
            *self.normal.size_filters(height, width, "area" if height <= frame.height else "bicubic"),
            ("format", {"pix_fmts": "rgb24"}),
        ]
        last = source
        for name, options in filters:
            node = graph.add(name, **options)
            last.link_to(node)
            last = node
        last.link_to(graph.add("buffersink"))
        graph.configure()
        self._graph = graph
