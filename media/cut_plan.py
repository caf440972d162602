"""What all clips of one source share when they are cut: how its pictures are stored, hence what makes them normal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer

from media.containers import audio_stream, open_container, video_stream
from media.decode import reduced_size
from media.normalize import Normalization, normalization_of
from media.settings import CutSettings
from schemas.records import Clip, Crop
from schemas.states import Rejection

_FULL_RANGE = 2  # AVColorRange


@dataclass(frozen=True)
class CutPlan:
    """How one source is cut."""

    path: str
    stream_index: int
    normal: Normalization
    size: tuple[int, int]  # stored (height, width) after scaling
    shown: tuple[int, int]  # displayed (height, width) of those
    crop: bool  # whether black bars are cut away
    has_audio: bool
    settings: CutSettings
    ffmpeg: str
    as_stored: bool  # whether its pictures can be encoded as they come out of the decoder

    @property
    def done(self) -> list[str]:
        """What is made normal in every clip."""
        notes = list(self.normal.notes)
        if self.size != self.normal.stored_size:
            notes.append(f"scaled:{self.shown[1]}x{self.shown[0]}")
        return notes

    def window(self, clip: Clip) -> Crop:
        """The part of the scaled picture that is written: the clip's crop or all of it, with even sides."""
        (height, width), crop = self.shown, clip.crop
        if crop is None or not self.crop:
            return Crop(0, 0, height // 2 * 2, width // 2 * 2)
        full_height, full_width = self.normal.display_size
        top, bottom = _even(crop.top, crop.top + crop.height, Fraction(height, full_height))
        left, right = _even(crop.left, crop.left + crop.width, Fraction(width, full_width))
        return Crop(top, left, bottom - top, right - left)

    def is_whole(self, window: Crop) -> bool:
        """Whether nothing of the picture is left out."""
        return (window.height, window.width) == self.shown


def _even(first: int, last: int, scale: Fraction) -> tuple[int, int]:
    """A stretch of pixels after scaling: the even ones within."""
    return math.ceil(first * scale / 2) * 2, math.floor(last * scale / 2) * 2


def plan_of(path: str, settings: CutSettings, ffmpeg: str, crop: bool) -> CutPlan:
    """The plan for a source, from its header and its first frame.

    Raises:
        Rejection: it cannot be opened, or not one frame can be decoded.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        first = next(_frames(container, stream), None)
        if first is None:
            raise Rejection("undecodable", "not one frame can be decoded")
        normal = normalization_of(first, stream)
        index, has_audio = stream.index, audio_stream(container) is not None
    size = _scaled_size(normal, settings.max_side)
    shown = (size[1], size[0]) if normal.transposed else size
    as_stored = size == (first.height, first.width) and _is_plain(first, normal)
    return CutPlan(path, index, normal, size, shown, crop, has_audio, settings, ffmpeg, as_stored)


def _is_plain(first: av.VideoFrame, normal: Normalization) -> bool:
    limited = int(first.color_range) != _FULL_RANGE
    return limited and first.format.name == "yuv420p" and not normal.notes and not normal.orientation


def _frames(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _scaled_size(normal: Normalization, max_side: int | None) -> tuple[int, int]:
    """(height, width) before rotation; even along each axis that is scaled anyway."""
    coded = (normal.coded_height, normal.coded_width)
    target = reduced_size(*normal.stored_size, max_side)
    height, width = (
        old if new == old else max(2, round(Fraction(new, 2)) * 2) for new, old in zip(target, coded, strict=True)
    )
    return height, width
