"""Settings of `reelmill tokenize`: the command line, the YAML and the validation in one. Imports nothing heavy."""

import itertools
import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from media.commandline import CommandLine

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


@dataclass(frozen=True)
class VideoTokenSettings:
    """Windows of video and their tokenizer.

    Args:
        tokenizer: built-in name, folder (config.json and model.safetensors) or hub id of the video tokenizer.
        resolutions: HEIGHTxWIDTH in pixels, lowest first. Those of one aspect ratio form a bucket: a clip goes to the
            bucket nearest in shape to its picture and is tokenized at each of the bucket's resolutions.
        num_frames: frames per window; must be 1 + k·(the tokenizer's temporal stride).
        fps: frames per second within a window; each is the frame nearest to its time.
        stride: frames from the start of one window to the next; null: one window, without overlap.
        batch_size: windows encoded at once, padded to this number so that bytes do not depend on the batch; null: 1
            on the CPU, 8 on a GPU. Part of the fingerprint.
    """

    tokenizer: str = "magvit2-tiny"
    resolutions: list[str] = field(default_factory=lambda: ["128x128"])
    num_frames: int = 17
    fps: float = 8.0
    stride: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if not self.resolutions:
            raise ValueError("video.resolutions is empty; name at least one, for instance 128x128")
        sizes = [parse_resolution(text) for text in self.resolutions]
        if len(set(sizes)) < len(sizes):
            raise ValueError(f"video.resolutions names a size twice: {', '.join(self.resolutions)}")
        for low, high in (pair for chain in self.buckets for pair in itertools.pairwise(chain)):
            if low > high:
                raise ValueError(
                    f"video.resolutions must go from low to high within one aspect ratio: {_size(low)} stands before "
                    f"{_size(high)}"
                )
        _at_least("video.num_frames", self.num_frames, 1)
        _positive("video.fps", self.fps)
        if self.stride is not None:
            _at_least("video.stride", self.stride, 1)
        if self.batch_size is not None:
            _at_least("video.batch_size", self.batch_size, 1)

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
    def window_s(self) -> Fraction:
        """Seconds that one window covers: 17 frames at 8 fps are 2.125 s."""
        return self.num_frames / self.rate

    @property
    def stride_s(self) -> Fraction:
        """Seconds from the start of one window to the next."""
        return (self.stride or self.num_frames) / self.rate


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
        _at_least("text.max_tokens", self.max_tokens, 1)


@dataclass(frozen=True)
class SplitSettings:
    """Which samples are for training and which for validation. All clips of one source video go together.

    Args:
        val_fraction: share of the source videos held out for validation, in [0, 1): by a hash of their content.
        column: a manifest column that says `train` or `val` for each source and then decides instead of the hash.
    """

    val_fraction: float = 0.1
    column: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"split.val_fraction is {self.val_fraction}; it must lie in [0, 1)")


@dataclass(frozen=True)
class TokenShardSettings:
    """Size of the shards.

    Args:
        max_bytes: a shard is closed before it would grow beyond this; one sample is never split.
    """

    max_bytes: int = 1_000_000_000

    def __post_init__(self) -> None:
        _at_least("shards.max_bytes", self.max_bytes, 10_240)


@dataclass(frozen=True)
class QualitySettings:
    """Token QA: how well a deterministic sample survives the round trip through the tokenizers.

    Args:
        every: one window in this many, chosen by a hash of its key, is decoded again and measured; null: none.
        min_psnr_db: a shard whose measured windows have a lower mean PSNR in dB is quarantined; null: none is.
    """

    every: int | None = 50
    min_psnr_db: float | None = None

    def __post_init__(self) -> None:
        if self.every is not None:
            _at_least("quality.every", self.every, 1)


@dataclass(frozen=True)
class TokenizeSettings:
    """Turn the clips of a curated run into token shards for training.

    Args:
        input: folder that `reelmill curate` wrote (with its run.json); a path or an fsspec URL.
        output: folder for the token shards; a path or an fsspec URL.
        device: `cpu`, `cuda` or `cuda:N`; null: `cuda` where there is one.
        threads: CPU threads of one worker's models; the workers already use all cores. Part of the fingerprint.
        ffmpeg: another ffmpeg than the one in the imageio-ffmpeg wheel.
        limit: tokenize only this many clips (the first by id), to try a configuration.
        max_failures: more failed clips end the run with status 1: a count (≥ 1) or a share (< 1); null: unlimited.
        plan: say what would run, and run nothing.
    """

    input: str
    output: str
    video: VideoTokenSettings = field(default_factory=VideoTokenSettings)
    audio: AudioTokenSettings = field(default_factory=AudioTokenSettings)
    text: TextSettings = field(default_factory=TextSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    shards: TokenShardSettings = field(default_factory=TokenShardSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    device: str | None = None
    threads: int = 1
    ffmpeg: str | None = None
    limit: int | None = None
    max_failures: float | None = None
    plan: bool = False

    def __post_init__(self) -> None:
        if self.input == self.output:
            raise ValueError(f"input and output are both {self.input!r}; token shards need a folder of their own")
        _at_least("threads", self.threads, 1)
        if self.limit is not None:
            _at_least("limit", self.limit, 1)
        if self.max_failures is not None and (math.isnan(self.max_failures) or self.max_failures < 0):
            raise ValueError(f"max_failures is {self.max_failures}; it must be a count or a share, not below 0")

    def token_settings(self) -> dict[str, dict[str, Any]]:
        """By modality, what decides the tokens of a clip besides the tokenizers' weights; for fingerprints."""
        video = self.video
        window = {"num_frames": video.num_frames, "fps": str(video.rate), "stride": video.stride or video.num_frames}
        return {
            "video": {**window, "buckets": video.buckets, "threads": self.threads},
            "audio": {**window, "threads": self.threads},
            "text": {"max_tokens": self.text.max_tokens, "threads": self.threads},
        }


@dataclass(frozen=True)
class InspectSettings:
    """What is in a shard, a folder of token shards or a curated run; decodes samples back to media.

    Args:
        path: a shard (.tar), a folder of token shards, or a folder that `reelmill curate` wrote.
        decode: folder for decoded samples (mp4, wav) and a contact sheet of them; null: only the table.
        samples: rows shown, and samples decoded.
        source: the curated folder the tokens were made from: originals then stand above their reconstructions; null:
            reconstructions only.
        video_tokenizer: where the video tokenizer lies now, if not where dataset.json says.
        audio_tokenizer: likewise for the audio tokenizer.
        device: `cpu`, `cuda` or `cuda:N`; null: `cuda` where there is one.
    """

    path: str
    decode: str | None = None
    samples: int = 8
    source: str | None = None
    video_tokenizer: str | None = None
    audio_tokenizer: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        _at_least("samples", self.samples, 1)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _at_least(name: str, value: int, low: int) -> None:
    if value < low:
        raise ValueError(f"{name} is {value}; it must be {low} or more")


def _positive(name: str, value: float) -> None:
    if not value > 0 or math.isinf(value):
        raise ValueError(f"{name} is {value}; it must be above 0")


TOKENIZE = CommandLine(
    TokenizeSettings,
    "reelmill tokenize",
    "Curated clips to token shards: video at one or more resolutions, sound and text. Flags that are not listed go to\n"
    "Apache Beam.",
    (
        "reelmill tokenize --input curated --output tokens",
        "reelmill tokenize --input curated --output tokens --config videopoet",
        "reelmill tokenize --input curated --output tokens --video.resolutions [64x64,128x128] --video.stride 8",
        "reelmill tokenize --input curated --output tokens --plan",
    ),
    allow_unknown=True,
    positional=("input",),
)
