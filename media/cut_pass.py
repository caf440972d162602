"""The clips of one source in one pass: decoded once, each encoded in this process as its frames come by.

Only for what is written as it is stored, by x264 and FFmpeg's AAC. The bytes of a clip do not depend on which others
are cut beside it: where a decoder has met damage on its way, the clip is read again from the key frame before it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Self

import av

from media.clip_file import write_clip
from media.containers import open_container
from media.cut_plan import CutPlan
from media.cut_program import Sound
from media.raw_frames import RawReader
from media.settings import CutSettings, DecodeLimits
from schemas.records import Clip, Span
from schemas.states import Rejection

_NEAR_S = 5  # up to this far ahead decoding goes on: a key frame that saves work would have to lie within
_DAMAGE = frozenset(("decode_errors", "read_errors", "unordered_pts", "missing_pts"))


def can_encode_here(settings: CutSettings, sound: Sound | None) -> bool:
    """Whether these are the encoders this module drives."""
    if (settings.codec, settings.audio_codec, settings.fps) != ("libx264", "aac", None):
        return False
    return sound is None or sound.rate in (av.Codec("aac", "w").audio_rates or ())


class CutPass:
    """Reads one source from its first clip to its last."""

    def __init__(self, plan: CutPlan):
        self._plan, self._stack = plan, ExitStack()
        self._notes: Counter[str] = Counter()
        self._reader: RawReader | None = None
        self._ahead: Iterator[tuple[int, av.VideoFrame]] = iter(())
        self._position = 0  # no frame before this timestamp is still to come
        self._damaged = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def write(self, clip: Clip, sound: Sound | None, target: Path) -> None:
        """Writes the clip; where its pictures are not what the plan says, what is written is not whole.

        Raises:
            Rejection: the source cannot be read, or the clip cannot be encoded.
        """
        goes_on = self._goes_on(clip.span)
        try:
            self._write(clip, sound, target, anew=not goes_on)
            if goes_on and self._damaged:
                self._write(clip, sound, target, anew=True)
        except av.FFmpegError as error:
            self._damaged = True
            raise Rejection("ffmpeg_failed", f"encoding failed: {error}") from error

    def _goes_on(self, span: Span) -> bool:
        if self._reader is None or self._damaged:
            return False
        return self._position <= span.start_pts <= self._position + _NEAR_S / self._reader.time_base

    def _write(self, clip: Clip, sound: Sound | None, target: Path, anew: bool) -> None:
        if anew:
            self._open(clip.span.start)
        if self._reader is None or self._reader.time_base != clip.span.time_base:
            raise Rejection("ffmpeg_failed", "the stream does not have the span's time base")
        frames = self._frames(clip.span)
        first = next(frames, None)
        if first is None:
            raise Rejection("frame_count_mismatch", "the span holds no frame")
        rate = self._reader.stream.average_rate or Fraction(1) / clip.span.time_base
        write_clip(target, first[1], chain([first], frames), clip.span, sound, self._plan.settings, Fraction(rate))

    def _open(self, start: Fraction) -> None:
        self._stack.close()
        self._notes.clear()
        self._damaged = False
        self._reader = None
        container = self._stack.enter_context(open_container(self._plan.path))
        self._reader = RawReader(container, DecodeLimits(), 1, self._notes)
        self._reader.seek(start)
        self._ahead = self._reader.frames()

    def _frames(self, span: Span) -> Iterator[tuple[int, av.VideoFrame]]:
        """(timestamp, frame) of the frames within the span; the one after it waits for the next clip."""
        for pts, frame in self._ahead:
            self._damaged = self._damaged or frame.is_corrupt or not _DAMAGE.isdisjoint(self._notes)
            self._position = pts
            if pts >= span.end_pts:
                self._ahead = chain([(pts, frame)], self._ahead)
                return
            if pts >= span.start_pts:
                if (frame.height, frame.width, frame.format.name) != (*self._plan.size, "yuv420p"):
                    raise Rejection("ffmpeg_failed", "the pictures change within the stream")
                yield pts, frame
