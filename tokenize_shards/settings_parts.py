"""Settings of the modalities of a sample: pictures, sound, text, motion, structure. Imports nothing heavy."""

import itertools
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from media.bounds import check_at_least, check_positive

MOTION_PIECE_S = 4
"""Seconds that one set of motion codes covers (Video-LaVIT: 24 frames at 6 fps)."""
Precision = Literal["float32", "bfloat16", "float16"]
_SIZE = re.compile(r"^(\d+)x(\d+)$")


def parse_resolution(text: str) -> tuple[int, int]:
    """(height, width) of "HxW" in pixels.

    Raises:
        ValueError: the text is not of that form, or a side is zero.
    """
    match = _SIZE.match(str(text).strip())
    if not match or int(match[1]) < 1 or int(match[2]) < 1:
        raise ValueError(f"resolution {text!r} is not HEIGHTxWIDTH in pixels; write it like 128x128 or 224x128")
    return int(match[1]), int(match[2])


def size_text(size: tuple[int, int]) -> str:
    """ "HxW" of (height, width)."""
    return f"{size[0]}x{size[1]}"


@dataclass(frozen=True)
class VideoTokenSettings:
    """Windows of video and their tokenizer.

    Args:
        tokenizer: built-in name, folder (config.json and model.safetensors) or hub id of the video tokenizer.
        resolutions: HEIGHTxWIDTH in pixels, lowest first. Those of one aspect ratio form a bucket: a clip goes to the
            bucket nearest in shape to its picture and is tokenized at each of the bucket's resolutions.
        num_frames: frames per window; must be 1 + k·(the tokenizer's temporal stride). A list, such as [17,41], gives
            windows of each length; those of one length have shards of their own.
        fps: frames per second within a window; each is the frame nearest to its time.
        stride: frames from the start of one window to the next; null: one window, without overlap.
        mirror: left and right changed, in the pictures and as words of the captions; as a second data set beside the
            first, where clips are few.
        independent: tokenize each frame as an image of its own. With `fps` 0.25 these are Video-LaVIT's keyframes,
            one for every 4 s, between which `motion` tells what happens.
        batch_size: windows encoded at once, padded to this number so that bytes do not depend on the batch; null: 1
            on the CPU, 8 on a GPU. Part of the fingerprint.
        precision: of the matrix work of the encoder: float32, bfloat16 or float16; null: float32 on the CPU, bfloat16
            on a GPU. Part of the fingerprint.
        compile: let torch.compile build the encoder; worth its minutes on a GPU and many clips. Part of the
            fingerprint.
    """

    tokenizer: str = "magvit2-tiny"
    resolutions: list[str] = field(default_factory=lambda: ["128x128"])
    num_frames: int | list[int] = 17
    fps: float = 8.0
    stride: int | None = None
    mirror: bool = False
    independent: bool = False
    batch_size: int | None = None
    precision: Precision | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if not self.resolutions:
            raise ValueError("video.resolutions is empty; name at least one, for instance 128x128")
        sizes = [parse_resolution(text) for text in self.resolutions]
        if len(set(sizes)) < len(sizes):
            raise ValueError(f"video.resolutions names a size twice: {', '.join(self.resolutions)}")
        for low, high in (pair for chain in self.buckets for pair in itertools.pairwise(chain)):
            if low > high:
                raise ValueError(
                    "video.resolutions must go from low to high within one aspect ratio: "
                    f"{size_text(low)} stands before {size_text(high)}"
                )
        if not self.lengths or len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"video.num_frames is {self.num_frames}; name at least one length, and none twice")
        for length in self.lengths:
            check_at_least("video.num_frames", length, 1)
        check_positive("video.fps", self.fps)
        if self.stride is not None:
            check_at_least("video.stride", self.stride, 1)
        if self.batch_size is not None:
            check_at_least("video.batch_size", self.batch_size, 1)

    @property
    def buckets(self) -> list[list[tuple[int, int]]]:
        """The resolutions (height, width) grouped by aspect ratio, in the order given."""
        groups: dict[Fraction, list[tuple[int, int]]] = {}
        for text in self.resolutions:
            height, width = parse_resolution(text)
            groups.setdefault(Fraction(height, width), []).append((height, width))
        return list(groups.values())

    @property
    def rate(self) -> Fraction:
        """Frames per second, exact: 7.5 is 15/2 and 29.97 is 2997/100."""
        return Fraction(str(self.fps))

    @property
    def lengths(self) -> list[int]:
        """Frames per window, of each kind of window, in the order given."""
        return [self.num_frames] if isinstance(self.num_frames, int) else list(self.num_frames)


@dataclass(frozen=True)
class AudioTokenSettings:
    """The sound beneath each window.

    Args:
        tokenizer: built-in name, folder or hub id of the audio tokenizer; null: shards without audio.
    """

    tokenizer: str | None = "soundstream-tiny"


@dataclass(frozen=True)
class TextSettings:
    """The frozen text encoder.

    Args:
        encoder: `minilm` (ships in a package), or a folder or hub id of a T5 or other encoder; null: shards without
            text.
        max_tokens: longest caption in tokens; the rest is cut off.
    """

    encoder: str | None = "minilm"
    max_tokens: int = 64

    def __post_init__(self) -> None:
        check_at_least("text.max_tokens", self.max_tokens, 1)


@dataclass(frozen=True)
class MotionTokenSettings:
    """What moves in each window, as the codes of a motion tokenizer: 135 for every 4 s.

    Args:
        tokenizer: built-in name (`motion-tiny`), folder or hub id of the motion tokenizer; null: shards without motion.
    """

    tokenizer: str | None = None


@dataclass(frozen=True)
class StructureTokenSettings:
    """Flow and depth of each window as codes of the video tokenizer, at the lowest resolution: what stylisation keeps.

    Args:
        enabled: whether shards have them.
        flow: TorchScript file of a flow network such as RAFT; null: OpenCV's dense inverse search.
        depth: folder or hub id of a depth-estimation model of transformers (MiDaS, Depth Anything); null: flow alone.
    """

    enabled: bool = False
    flow: str | None = None
    depth: str | None = None

    def __post_init__(self) -> None:
        if not self.enabled and (self.flow or self.depth):
            raise ValueError("structure.flow and structure.depth say nothing without --structure.enabled true")
