"""What has to be done to a stream's pictures before they are what a viewer sees: turn, deinterlace, tone-map.

One description serves the decoder (PyAV) and the cutter (the ffmpeg program), so both see the same pictures.

Colours: pictures become RGB by the matrix and range their frames are tagged with; untagged ones by BT.601 in
limited range, which is swscale's rule and therefore that of ffmpeg, PyAV and decord alike. HDR (PQ, HLG) is
tone-mapped to BT.709 by `media.tone_map`.
"""

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from media import tone_map
from schemas.states import Rejection

MAX_SIDE = 65_500  # pixels, of a JPEG by libjpeg
_HDR = {16: "pq", 18: "hlg"}  # AVColorTransferCharacteristic
_MIN_ASPECT_ERROR = Fraction(2, 100)  # below this, pixels count as square: rounding of sizes makes such ratios

Filter = tuple[str, dict[str, str]]
"""A libavfilter filter and its options, unescaped."""

_ORIENTATIONS: dict[str, tuple[Filter, ...]] = {  # ffmpeg filters that turn the stored picture into the displayed one
    "": (),
    "clock": (("transpose", {"dir": "clock"}),),
    "cclock": (("transpose", {"dir": "cclock"}),),
    "clock_flip": (("transpose", {"dir": "clock_flip"}),),
    "cclock_flip": (("transpose", {"dir": "cclock_flip"}),),
    "half": (("hflip", {}), ("vflip", {})),
    "hflip": (("hflip", {}),),
    "vflip": (("vflip", {}),),
}
_DEGREES = {"clock": 90, "clock_flip": 90, "half": 180, "cclock": 270, "cclock_flip": 270}


@dataclass(frozen=True)
class Normalization:
    """How the pictures of one stream are stored, hence what makes them normal."""

    coded_width: int
    coded_height: int
    orientation: str = ""  # a key of _ORIENTATIONS
    pixel_aspect: Fraction = Fraction(1)  # width of a pixel / its height
    deinterlace: bool = False
    hdr: str | None = None
    has_alpha: bool = False

    @property
    def rotation(self) -> int:
        """Degrees clockwise from stored to displayed: 0, 90, 180, 270."""
        return _DEGREES.get(self.orientation, 0)

    @property
    def transposed(self) -> bool:
        return self.rotation in (90, 270)

    @property
    def stored_size(self) -> tuple[int, int]:
        """(height, width) with square pixels, before rotation. Pixels are only ever added."""
        height, width = self.coded_height, self.coded_width
        if self.pixel_aspect > 1:
            return height, round(width * self.pixel_aspect)
        return round(height / self.pixel_aspect), width

    @property
    def display_size(self) -> tuple[int, int]:
        """(height, width) as a viewer sees it."""
        height, width = self.stored_size
        return (width, height) if self.transposed else (height, width)

    @property
    def needs_filters(self) -> bool:
        """Whether a filter graph is needed, rather than a plain conversion."""
        return self.deinterlace or self.hdr is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is made normal, e.g. ("rotated:90", "tone_mapped:pq")."""
        notes = [
            f"rotated:{self.rotation}" if self.rotation else "",
            "mirrored" if self.orientation.endswith("flip") else "",
            f"square_pixels:{self.pixel_aspect.numerator}/{self.pixel_aspect.denominator}"
            if self.pixel_aspect != 1
            else "",
            "deinterlaced" if self.deinterlace else "",
            f"tone_mapped:{self.hdr}" if self.hdr else "",
            "alpha_dropped" if self.has_alpha else "",
        ]
        return tuple(note for note in notes if note)

    def orient(self, image: np.ndarray) -> np.ndarray:
        """The stored picture (H W C) as displayed."""
        turned = {
            "": lambda x: x,
            "clock": lambda x: np.rot90(x, -1),
            "cclock": lambda x: np.rot90(x, 1),
            "clock_flip": lambda x: np.rot90(x, 2).swapaxes(0, 1),
            "cclock_flip": lambda x: x.swapaxes(0, 1),
            "half": lambda x: x[::-1, ::-1],
            "hflip": lambda x: x[:, ::-1],
            "vflip": lambda x: x[::-1],
        }[self.orientation](image)
        return np.ascontiguousarray(turned)

    def deinterlace_filters(self) -> list[Filter]:
        """One picture for each frame; frames not flagged as interlaced stay as they are."""
        return [("bwdif", {"mode": "send_frame", "deint": "interlaced"})] if self.deinterlace else []

    def size_filters(self, height: int, width: int, flags: str) -> list[Filter]:
        """To a stored size of `height`×`width`; HDR becomes BT.709 R'G'B' in standard range."""
        scale = {"w": str(width), "h": str(height), "flags": flags}
        square = ("setsar", {"sar": "1"})
        if self.hdr is None:
            return [("scale", scale), square]
        return [
            ("scale", {**scale, "in_color_matrix": "bt2020nc"}),
            ("format", {"pix_fmts": "gbrp16le"}),
            ("lut3d", {"file": str(tone_map.cube_file(self.hdr)), "interp": "tetrahedral"}),
            ("setparams", {"color_primaries": "bt709", "color_trc": "bt709"}),
            square,
        ]

    def orientation_filters(self) -> list[Filter]:
        return list(_ORIENTATIONS[self.orientation])


def normalization_of(frame: av.VideoFrame, stream: av.VideoStream) -> Normalization:
    """What a stream needs, from its header and its first frame.

    Raises:
        Rejection: `picture_too_large`, a side that no JPEG can have.
    """
    found = Normalization(
        coded_width=frame.width,
        coded_height=frame.height,
        orientation=_orientation(frame),
        pixel_aspect=_pixel_aspect(stream),
        deinterlace=bool(frame.interlaced_frame),
        hdr=_HDR.get(int(frame.color_trc)),
        has_alpha=any(component.is_alpha for component in frame.format.components),
    )
    height, width = found.stored_size
    if max(height, width) > MAX_SIDE:
        raise Rejection("picture_too_large", f"{width}x{height} has a side over {MAX_SIDE}")
    return found


def _pixel_aspect(stream: av.VideoStream) -> Fraction:
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if aspect <= 0 or not Fraction(1, 8) < aspect < 8 or abs(aspect - 1) < _MIN_ASPECT_ERROR:
        return Fraction(1)
    return Fraction(aspect)


def _orientation(frame: av.VideoFrame) -> str:
    """The display matrix as a name. Angles that are no quarter turns are ignored, as players do."""
    items: Any = frame.side_data
    data = next((bytes(item) for item in items if item.type.name == "DISPLAYMATRIX"), None)
    if data is None or len(data) < 36:
        return ""
    matrix = struct.unpack("<9i", data[:36])
    return orientation_of_matrix(matrix)


def orientation_of_matrix(matrix: tuple[int, ...]) -> str:
    """Name of a 3×3 display matrix, row by row in 16.16 fixed point, by the rules of the ffmpeg program."""
    a, b, _, c, d = matrix[:5]
    if abs(a) > abs(b) and abs(d) > abs(c):
        return {(False, False): "", (True, True): "half", (True, False): "hflip", (False, True): "vflip"}[a < 0, d < 0]
    if abs(b) > abs(a) and abs(c) > abs(d):
        if b > 0:
            return "clock" if c < 0 else "cclock_flip"
        return "cclock" if c > 0 else "clock_flip"
    return ""
