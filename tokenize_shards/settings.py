"""Settings of `reelmill tokenize`: the command line, the YAML and the validation in one. Imports nothing heavy."""

import math
from dataclasses import dataclass, field
from typing import Any

from media.bounds import check_at_least
from media.commandline import CommandLine
from media.engine_settings import EngineSettings
from media.settings import FetchSettings
from tokenize_shards.settings_parts import (
    MOTION_PIECE_S,
    AudioTokenSettings,
    MotionTokenSettings,
    StructureTokenSettings,
    TextSettings,
    VideoTokenSettings,
)


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
        check_at_least("shards.max_bytes", self.max_bytes, 10_240)


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
            check_at_least("quality.every", self.every, 1)


@dataclass(frozen=True)
class TokenizeSettings:
    """Turn the clips of a curated run, or captioned images, into token shards for training.

    Args:
        input: folder that `reelmill curate` wrote (with its run.json); or images with captions: a folder (captions in
            `x.txt` or `x.json` beside `x.jpg`), a manifest (CSV, JSON Lines, Parquet) with `path` or `url` and
            `caption`, or WebDataset tars. A path or an fsspec URL.
        output: folder for the token shards; a path or an fsspec URL.
        device: `cpu`, `cuda` or `cuda:N`; null: `cuda` where there is one.
        threads: CPU threads of one worker's models; the workers already use all cores. Part of the fingerprint.
        ffmpeg: another ffmpeg than the one in the imageio-ffmpeg wheel.
        fetch: limits of downloads, where the clips of a `reference` run or the images are elsewhere.
        limit: tokenize only this many clips (the first by id), to try a configuration.
        max_failures: more failed clips end the run with status 1: a count (≥ 1) or a share (< 1); null: unlimited.
        plan: say what would run, and run nothing.
        engine: where the job runs.
    """

    input: str
    output: str
    video: VideoTokenSettings = field(default_factory=VideoTokenSettings)
    audio: AudioTokenSettings = field(default_factory=AudioTokenSettings)
    text: TextSettings = field(default_factory=TextSettings)
    motion: MotionTokenSettings = field(default_factory=MotionTokenSettings)
    structure: StructureTokenSettings = field(default_factory=StructureTokenSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    shards: TokenShardSettings = field(default_factory=TokenShardSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    device: str | None = None
    threads: int = 1
    ffmpeg: str | None = None
    fetch: FetchSettings = field(default_factory=FetchSettings)
    limit: int | None = None
    max_failures: float | None = None
    plan: bool = False
    engine: EngineSettings = field(default_factory=EngineSettings)

    def __post_init__(self) -> None:
        if self.input == self.output:
            raise ValueError(f"input and output are both {self.input!r}; token shards need a folder of their own")
        check_at_least("threads", self.threads, 1)
        if self.limit is not None:
            check_at_least("limit", self.limit, 1)
        if self.max_failures is not None and (math.isnan(self.max_failures) or self.max_failures < 0):
            raise ValueError(f"max_failures is {self.max_failures}; it must be a count or a share, not below 0")

        self._check_motion()

    def _check_motion(self) -> None:
        if self.structure.enabled and self.video.independent:
            raise ValueError("structure.enabled wants windows of video; video.independent makes images of their frames")
        if self.motion.tokenizer is None:
            return
        shortest = min(self.video.lengths) / self.video.rate
        if shortest < MOTION_PIECE_S:
            raise ValueError(
                f"motion codes cover {MOTION_PIECE_S} s each, but a window lasts {float(shortest):g} s; set "
                "video.num_frames and video.fps to 4 s or more, for instance 33 at 8, or take --config video-lavit"
            )

    def token_settings(self) -> dict[str, dict[str, Any]]:
        """By modality, what decides the tokens of a clip besides the tokenizers' weights; for fingerprints."""
        video = self.video
        window = {"num_frames": video.lengths, "fps": str(video.rate), "stride": video.stride, "threads": self.threads}
        mirror = {"mirror": True} if video.mirror else {}
        made = {"precision": video.precision, "compile": video.compile, **mirror}
        return {
            "video": {**window, **made, "buckets": video.buckets, "independent": video.independent},
            "audio": window,
            "text": {"max_tokens": self.text.max_tokens, "threads": self.threads},
            "motion": {**window, **mirror},
            "structure": {**window, **made, "buckets": video.buckets},
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
        motion_tokenizer: likewise for the motion tokenizer.
        device: `cpu`, `cuda` or `cuda:N`; null: `cuda` where there is one.
    """

    path: str
    decode: str | None = None
    samples: int = 8
    source: str | None = None
    video_tokenizer: str | None = None
    audio_tokenizer: str | None = None
    motion_tokenizer: str | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        check_at_least("samples", self.samples, 1)


TOKENIZE = CommandLine(
    TokenizeSettings,
    "reelmill tokenize",
    "Curated clips, or captioned images, to token shards: video at one or more resolutions, sound, text, motion and\n"
    "structure. Flags that are not listed go to Apache Beam.",
    (
        "reelmill tokenize --input curated --output tokens",
        "reelmill tokenize --input curated --output tokens --config videopoet",
        "reelmill tokenize --input curated --output tokens --video.resolutions [64x64,128x128] --video.stride 8",
        "reelmill tokenize --input images --output image-tokens",
        "reelmill tokenize --input curated --output tokens --config video-lavit",
        "reelmill tokenize --input curated --output tokens --plan",
    ),
    allow_unknown=True,
    positional=("input",),
)
