"""A video stream's frames as they are stored, undecorated: with true, strictly increasing timestamps, within limits."""

import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
from av.container import InputContainer

from media.containers import time_base_of, video_stream
from media.settings import DecodeLimits
from schemas.states import Rejection

Seconds = Fraction | float | int


class RawReader:
    """Raw frames of the video stream with true, strictly increasing timestamps."""

    def __init__(self, container: InputContainer, limits: DecodeLimits, threads: int, notes: Counter[str]):
        self.container, self.limits, self.notes = container, limits, notes
        self.stream = video_stream(container)
        context = self.stream.codec_context
        if context is None:
            raise Rejection("undecodable", "there is no decoder for the video stream")
        context.thread_count = threads
        context.thread_type = "AUTO" if threads > 1 else "NONE"
        self.time_base = time_base_of(self.stream)
        self._frames: Iterator[av.VideoFrame] = self._decode()
        self._sought = False

    def seek(self, start: Fraction) -> None:
        """Goes to a key frame at or before `start`; to the beginning where no index says better.

        Containers index by decoding time, so the key frame found may be shown after `start`: then further back.
        """
        for back_s in (Fraction(1, 2), 4, 30):
            target = (start - back_s) / self.time_base
            if target <= (self.stream.start_time or 0):
                break
            try:
                self.container.seek(int(target), stream=self.stream, backward=True)
            except av.FFmpegError:
                break
            self._frames, self._sought = self._decode(), True
            first = next(self._frames, None)
            if first is not None and first.key_frame and (first.pts or 0) * self.time_base <= start:
                self._frames = chain([first], self._frames)
                return
        if self._sought:
            self._rewind()

    def _rewind(self) -> None:
        try:
            self.container.seek(self.stream.start_time or 0, stream=self.stream, backward=True)
        except av.FFmpegError as error:
            raise Rejection("unseekable", f"the container cannot be read from its start again: {error}") from error
        self._frames, self._sought = self._decode(), False

    def frames(self) -> Iterator[tuple[int, av.VideoFrame]]:
        last: int | None = None
        first, step, count = 0, 1, 0
        deadline, longest = time.monotonic() + self.limits.max_wall_s, float(self.limits.max_seconds / self.time_base)
        for frame in self._frames:
            pts = self._pts(frame, last, step)
            if last is not None and pts <= last:
                self.notes["unordered_pts"] += 1
                continue
            first = pts if last is None else first
            step, last, count = max(frame.duration or 1, 1), pts, count + 1
            self._check(frame, count, pts - first > longest, deadline)
            yield pts, frame
        if last is None and not self._sought:
            codec = self.stream.codec_context.name
            raise Rejection("undecodable", f"not one frame of the {codec} stream can be decoded")
        self._note_truncation(last, step)

    def _decode(self) -> Iterator[av.VideoFrame]:
        try:
            for packet in self.container.demux(self.stream):
                try:
                    yield from packet.decode()
                except av.FFmpegError:
                    self.notes["decode_errors"] += 1
        except av.FFmpegError:
            self.notes["read_errors"] += 1

    def _pts(self, frame: av.VideoFrame, last: int | None, step: int) -> int:
        if frame.pts is not None:
            return frame.pts
        self.notes["missing_pts"] += 1
        if frame.dts is not None and (last is None or frame.dts > last):
            return frame.dts
        return 0 if last is None else last + step

    def _check(self, frame: av.VideoFrame, count: int, too_long: bool, deadline: float) -> None:
        limits = self.limits
        if frame.width * frame.height > limits.max_pixels:
            raise Rejection("picture_too_large", f"{frame.width}x{frame.height} is over {limits.max_pixels} pixels")
        if count > limits.max_frames:
            raise Rejection("too_many_frames", f"more than {limits.max_frames} frames")
        if too_long:
            raise Rejection("too_long", f"longer than {limits.max_seconds:g} s")
        if time.monotonic() > deadline:
            raise Rejection("timed_out", f"decoding took more than {limits.max_wall_s:g} s")

    def _note_truncation(self, last: int | None, step: int) -> None:
        """Says so when the header promises more than a second, and a tenth, beyond the last frame."""
        duration, start = self.stream.duration, self.stream.start_time or 0
        if last is None or not duration:
            return
        missing = (start + duration - last - step) * self.time_base
        if missing > 1 and missing > duration * self.time_base / 10:
            self.notes["truncated"] += 1
