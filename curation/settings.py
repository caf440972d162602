"""The settings of `reelmill curate`: the command line, the YAML and the validation. Nothing heavy is imported here."""

from dataclasses import dataclass, field
from typing import Literal

from curation.settings_filters import DedupSettings, FilterSettings
from curation.settings_models import (
    AestheticSettings,
    CaptionSettings,
    ClipScoreSettings,
    NsfwSettings,
    SpeechSettings,
    TextSettings,
)
from media.bounds import check_between
from media.commandline import CommandLine
from media.engine_settings import EngineSettings
from media.settings import CutSettings, DecodeLimits, FetchSettings

DETECTORS = ("cascade", "adaptive", "content", "histogram", "hash", "threshold", "transnetv2")


@dataclass(frozen=True)
class ManifestSettings:
    """Names of the manifest's columns, and its form.

    Args:
        format: what the manifest is. `auto` goes by extension and columns and recognises the Panda-70M and WebVid CSVs.
        path_column: column with a path, relative to the manifest, or with a URL of any storage.
        url_column: column with a URL; used where the path is empty.
        caption_column: column with the caption.
        license_column: column with the licence.
        start_column: column with the start, in seconds, of the bounds within which shots are sought.
        end_column: column with the end, in seconds, of those bounds.
    """

    format: Literal["auto", "csv", "jsonl", "parquet", "panda70m", "webvid"] = "auto"
    path_column: str = "path"
    url_column: str = "url"
    caption_column: str = "caption"
    license_column: str = "license"
    start_column: str = "start_s"
    end_column: str = "end_s"


@dataclass(frozen=True)
class AnalysisSettings:
    """The one decode from which shots and measurements come.

    Args:
        max_side: longer side in pixels of the frames that are analysed; smaller sources are not enlarged. 64–1024.
        num_hashes: frames of a clip whose perceptual hash is kept. 1–16.
        threads: decoder threads of one source; 1 is best where every core already has a source.
    """

    max_side: int = 256
    num_hashes: int = 5
    threads: int = 1

    def __post_init__(self) -> None:
        check_between("analysis.max_side", self.max_side, 64, 1024)
        check_between("analysis.num_hashes", self.num_hashes, 1, 16)
        check_between("analysis.threads", self.threads, 1, 64)


@dataclass(frozen=True)
class ShotSettings:
    """How a source is split into shots.

    Args:
        detector: our own `cascade`, a small network, and TransNetV2 where that is not sure; PySceneDetect's `adaptive`,
            `content`, `histogram`, `hash` or `threshold` (fades to black); or `transnetv2` on every frame, 7 to 30
            times as dear.
        threshold: the detector's threshold in its own unit; null is its default (cascade 0.5, adaptive 3.0,
            content 27, histogram 0.05, hash 0.395, threshold 12, transnetv2 0.5).
        min_shot_s: two cuts closer than this, in seconds, count as one. 0 takes every cut.
    """

    detector: Literal["cascade", "adaptive", "content", "histogram", "hash", "threshold", "transnetv2"] = "cascade"
    threshold: float | None = None
    min_shot_s: float = 0.0

    def __post_init__(self) -> None:
        if self.detector not in DETECTORS:
            raise ValueError(f"shots.detector {self.detector!r} is not one of {', '.join(DETECTORS)}")
        if self.threshold is not None and self.threshold <= 0:
            raise ValueError(f"shots.threshold {self.threshold} must be positive; null gives the detector's default")
        if self.min_shot_s < 0:
            raise ValueError(f"shots.min_shot_s {self.min_shot_s} must be 0 or more seconds")


@dataclass(frozen=True)
class ClipSettings:
    """From shots to candidate clips, and how a kept clip is written.

    Args:
        min_duration_s: shortest candidate in seconds; a shot shorter after trimming is `filtered(shots, too_short)`.
        max_duration_s: longest candidate in seconds; longer shots are split into equal parts. null does not split.
        trim_frames: frames taken off at each end that meets a hard cut.
        trim_gradual_frames: frames taken off, beyond its own extent, next to a dissolve or fade.
        crop_letterbox: whether constant black bars are cut away from written clips and keyframes. The rectangle within
            them is recorded either way.
        mode: `encode` writes each kept clip as mp4; `reference` writes exact spans only.
        cut: the encoder.
    """

    min_duration_s: float = 1.0
    max_duration_s: float | None = 20.0
    trim_frames: int = 1
    trim_gradual_frames: int = 2
    crop_letterbox: bool = False
    mode: Literal["encode", "reference"] = "encode"
    cut: CutSettings = field(default_factory=CutSettings)

    def __post_init__(self) -> None:
        if self.min_duration_s < 0:
            raise ValueError(f"clips.min_duration_s {self.min_duration_s} must be 0 or more seconds")
        if self.max_duration_s is not None and self.max_duration_s < max(2 * self.min_duration_s, 0.1):
            raise ValueError(
                f"clips.max_duration_s {self.max_duration_s} must be at least twice clips.min_duration_s "
                f"({self.min_duration_s}), so that the parts of a split shot are long enough; or null not to split"
            )
        if self.mode not in ("encode", "reference"):
            raise ValueError(f"clips.mode {self.mode!r} is not one of encode, reference")
        check_between("clips.trim_frames", self.trim_frames, 0, 1000)
        check_between("clips.trim_gradual_frames", self.trim_gradual_frames, 0, 1000)


@dataclass(frozen=True)
class WatermarkSettings:
    """Overlays that stay while the scene moves.

    Args:
        enabled: whether the watermark score is taken.
        model: a classifier of single pictures in place of the shipped network: the weight file of LAION's, a folder
            that timm saved, or OWNER/NAME on the hub. It judges the keyframe, on the CPU.
    """

    enabled: bool = True
    model: str | None = None


@dataclass(frozen=True)
class ShardSettings:
    """The clip shards.

    Args:
        max_bytes: a shard is closed before it would grow beyond this many bytes; one larger clip has its own shard.
    """

    max_bytes: int = 512 * 2**20

    def __post_init__(self) -> None:
        if self.max_bytes < 2**16:
            raise ValueError(f"shards.max_bytes {self.max_bytes} is too small; use at least {2**16}")


@dataclass(frozen=True)
class CurateSettings:
    """Settings of a curation run.

    Args:
        input: manifest (CSV, JSON Lines, Parquet), folder, glob or single video.
        output: folder of the run; local or any fsspec filesystem.
        limit: how many inputs to take; null takes all.
        exclude: manifest, folder, glob or video of an evaluation set: clips that show the same, by content or by looks,
            are dropped as duplicates of it.
        max_failures: failed inputs and clips beyond which the run has failed: a number, or below 1 a share; null is
            unlimited.
        previews: small pictures kept per outcome for the report, or `all`.
        plan: say what would run, and run nothing.
        ffmpeg: an ffmpeg to use instead of the one in the imageio-ffmpeg wheel.
        seed: of whatever is drawn at random.
        manifest: names of the manifest's columns.
        fetch: limits of downloads.
        decode: limits of decoding.
        analysis: the one decode.
        shots: shot detection.
        clips: from shots to clips.
        filters: limits of the scores.
        dedup: duplicates.
        watermark: overlays.
        text: burnt-in text.
        speech: speech in the sound.
        aesthetic: LAION's aesthetic score.
        nsfw: adult content.
        caption: captions by a model.
        clip_score: OpenCLIP.
        shards: the clip shards.
        engine: where the job runs.
    """

    input: str
    output: str
    limit: int | None = None
    exclude: str | None = None
    max_failures: float | None = None
    previews: int | Literal["all"] = 24
    plan: bool = False
    ffmpeg: str | None = None
    seed: int = 0
    manifest: ManifestSettings = field(default_factory=ManifestSettings)
    fetch: FetchSettings = field(default_factory=FetchSettings)
    decode: DecodeLimits = field(default_factory=DecodeLimits)
    analysis: AnalysisSettings = field(default_factory=AnalysisSettings)
    shots: ShotSettings = field(default_factory=ShotSettings)
    clips: ClipSettings = field(default_factory=ClipSettings)
    filters: FilterSettings = field(default_factory=FilterSettings)
    dedup: DedupSettings = field(default_factory=DedupSettings)
    watermark: WatermarkSettings = field(default_factory=WatermarkSettings)
    text: TextSettings = field(default_factory=TextSettings)
    speech: SpeechSettings = field(default_factory=SpeechSettings)
    aesthetic: AestheticSettings = field(default_factory=AestheticSettings)
    nsfw: NsfwSettings = field(default_factory=NsfwSettings)
    caption: CaptionSettings = field(default_factory=CaptionSettings)
    clip_score: ClipScoreSettings = field(default_factory=ClipScoreSettings)
    shards: ShardSettings = field(default_factory=ShardSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)

    def __post_init__(self) -> None:
        if not self.input or not self.output:
            raise ValueError("input and output must be named: --input MANIFEST|DIR|GLOB --output DIR")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit} must be 1 or more; leave it out to take every input")
        if self.max_failures is not None and self.max_failures < 0:
            raise ValueError(f"max_failures {self.max_failures} must be 0 or more; leave it out for no limit")
        if isinstance(self.previews, int) and self.previews < 0:
            raise ValueError(f"previews {self.previews} must be 0 or more, or `all`")
        if self.clip_score.model is None and (self.dedup.semantic is not None or self._borrows_embedding):
            what = "aesthetic.head" if self._borrows_embedding else "dedup.semantic"
            raise ValueError(f"{what} needs the embedding of a CLIP model; name one, e.g. --clip_score.model ViT-B-32")

    @property
    def _borrows_embedding(self) -> bool:
        return self.aesthetic.head is not None and self.aesthetic.model is None


CURATE = CommandLine(
    CurateSettings,
    "reelmill curate",
    "Raw video to scored single-shot clips, with a ledger that accounts for every input. Flags that are not listed\n"
    "go to Apache Beam.",
    (
        "reelmill curate --input videos/ --output curated",
        "reelmill curate --input manifest.csv --output curated --filters.min_motion 0.5 --limit 10",
        "reelmill curate --input manifest.csv --output curated --config local --caption.model models/blip2",
        "reelmill curate --input manifest.csv --output curated --plan",
        "reelmill curate --input gs://bucket/manifest.parquet --output gs://bucket/curated --runner=DataflowRunner",
    ),
    allow_unknown=True,
    positional=("input",),
)
