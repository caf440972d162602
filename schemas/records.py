"""The records of curation: what flows through the job, and the rows of its ledger."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from schemas.states import ClipState, SourceState


@dataclass(frozen=True)
class Source:
    """One input, as the manifest gives it."""

    source_id: str
    uri: str
    occurrence: int = 0  # 0 for the first row with this id; later ones are duplicates of it
    start_s: float | None = None
    end_s: float | None = None
    caption: str | None = None
    license: str | None = None
    extra: str = "{}"  # further manifest columns, a JSON object; they travel with the clip


@dataclass(frozen=True)
class Probe:
    """What the container and its first frames say; sizes are as displayed (after rotation)."""

    container: str
    num_bytes: int
    video_codec: str
    pixel_format: str
    width: int
    height: int
    fps_num: int  # average frame rate; 0/1 where the container has none
    fps_den: int
    time_base_num: int
    time_base_den: int
    start_pts: int
    duration_s: float | None  # None where the header has none
    rotation: int = 0  # degrees clockwise that were applied for display: 0, 90, 180, 270
    interlaced: bool = False
    hdr: str | None = None  # "pq", "hlg" or None
    color_space: str | None = None
    has_alpha: bool = False
    audio_codec: str | None = None
    audio_sample_rate_hz: int | None = None
    audio_channels: int | None = None
    audio_offset_s: float | None = None  # first audio sample minus first video frame


@dataclass(frozen=True)
class Span:
    """A half-open stretch [start_pts, end_pts) of a video stream, in ticks of its time base."""

    start_pts: int
    end_pts: int
    time_base_num: int
    time_base_den: int
    num_frames: int

    @property
    def time_base(self) -> Fraction:
        return Fraction(self.time_base_num, self.time_base_den)

    @property
    def start(self) -> Fraction:
        """Seconds, exact."""
        return self.start_pts * self.time_base

    @property
    def end(self) -> Fraction:
        """Seconds, exact."""
        return self.end_pts * self.time_base

    @property
    def duration_s(self) -> float:
        return float(self.end - self.start)


@dataclass(frozen=True)
class Caption:
    """A caption and how it came about."""

    text: str
    source: str  # "manifest", "sidecar" or the model's name
    outcome: str  # "ok", "empty", "truncated", "failed"


@dataclass(frozen=True)
class Verdict:
    """How a clip ended. `score` and `threshold` say which number met which limit."""

    state: ClipState
    stage: str = ""
    reason: str = ""
    score: float | None = None
    threshold: float | None = None
    duplicate_of: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Crop:
    """A rectangle of the displayed picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Still:
    """A picture of a clip besides its keyframe, full size as displayed."""

    place: str  # where in the clip, as a fraction of its length: "1/6"
    sha256: str = ""  # of the JPEG, where that is stored apart
    jpeg: bytes = field(repr=False, default=b"")


@dataclass(frozen=True)
class Clip:
    """A candidate clip on its way: each stage returns a copy that says more.

    Once it has a verdict, later stages let it pass.
    """

    clip_id: str
    source_id: str
    uri: str
    content_sha256: str
    span: Span
    shot_index: int
    keyframe_jpeg: bytes = field(repr=False, default=b"")  # centre frame, full size as displayed, quality 90
    keyframe_sha256: str = ""  # of that picture, where it is stored apart and the clip goes on without it
    stills: tuple[Still, ...] = ()  # further pictures, in order of time, where a model wants more than one
    crop: Crop | None = None  # the picture within its black bars, where it has such
    phash: tuple[int, ...] = ()  # 64-bit perceptual hashes: frames spread evenly over the clip, then motion there
    scores: Mapping[str, float] = field(default_factory=dict)
    caption: Caption | None = None
    license: str | None = None
    extra: str = "{}"
    verdict: Verdict | None = None

    def with_scores(self, **scores: float) -> "Clip":
        return replace(self, scores={**self.scores, **scores})

    def with_verdict(self, verdict: Verdict) -> "Clip":
        return replace(self, verdict=verdict)


@dataclass(frozen=True)
class Analysis:
    """What one decode of a source says."""

    source: Source
    content_sha256: str
    probe: Probe
    num_frames: int
    num_shots: int
    clips: tuple[Clip, ...]
    notes: tuple[str, ...] = ()  # e.g. "decode_errors:3", "deinterlaced", "tone_mapped:pq"


@dataclass(frozen=True)
class CutClip:
    """A clip's own media file, as it was written and verified."""

    clip_id: str
    path: str
    num_bytes: int
    sha256: str
    num_frames: int
    width: int
    height: int
    fps_num: int
    fps_den: int
    num_audio_samples: int
    audio_sample_rate_hz: int | None
    done: str = ""  # what was made normal: "rotated:90,tone_mapped:pq"


@dataclass(frozen=True)
class SourceRow:
    """A row of `ledger/sources-*.parquet`; its fields are the Arrow schema."""

    source_id: str
    occurrence: int
    uri: str
    state: SourceState
    stage: str
    reason: str
    detail: str
    duplicate_of: str | None
    start_s: float | None
    end_s: float | None
    content_sha256: str | None
    container: str | None
    num_bytes: int | None
    video_codec: str | None
    width: int | None
    height: int | None
    fps_num: int | None
    fps_den: int | None
    duration_s: float | None
    rotation: int | None
    interlaced: bool | None
    hdr: str | None
    audio_codec: str | None
    audio_sample_rate_hz: int | None
    audio_offset_s: float | None
    num_frames: int | None
    num_shots: int | None
    num_clips: int
    notes: str
    license: str | None
    extra: str


@dataclass(frozen=True)
class ClipRow:
    """A row of `ledger/clips-*.parquet`, followed there by one `score_<name>` column for each of `schemas.scores`."""

    clip_id: str
    source_id: str
    uri: str
    start_pts: int
    end_pts: int
    time_base_num: int
    time_base_den: int
    start_s: float
    end_s: float
    num_frames: int
    shot_index: int
    crop_top: int | None  # the picture within its black bars, in pixels of the displayed picture
    crop_left: int | None
    crop_height: int | None
    crop_width: int | None
    caption: str | None
    caption_source: str | None
    caption_outcome: str | None
    state: ClipState
    stage: str
    reason: str
    score: float | None
    threshold: float | None
    duplicate_of: str | None
    detail: str
    license: str | None
    extra: str
    shard: str | None  # where a kept clip lies; None for the others and in reference mode
    media_sha256: str | None
    media_done: str | None  # what cutting made normal


def failed(stage: str, reason: str, detail: str = "") -> Verdict:
    return Verdict(ClipState.FAILED, stage, reason, detail=detail)


def source_row(
    source: Source,
    analysis: Analysis | None,
    *,
    state: SourceState,
    stage: str = "",
    reason: str = "",
    detail: str = "",
    duplicate_of: str | None = None,
    content_sha256: str | None = None,
) -> SourceRow:
    """The ledger row of an input, whether or not it got as far as an analysis."""
    probe: Any = analysis.probe if analysis else None
    return SourceRow(
        source_id=source.source_id, occurrence=source.occurrence, uri=source.uri, state=state, stage=stage,
        reason=reason, detail=detail, duplicate_of=duplicate_of, start_s=source.start_s, end_s=source.end_s,
        content_sha256=analysis.content_sha256 if analysis else content_sha256,
        **{name: getattr(probe, name, None) for name in _PROBE_COLUMNS},
        num_frames=analysis.num_frames if analysis else None,
        num_shots=analysis.num_shots if analysis else None,
        num_clips=len(analysis.clips) if analysis else 0,
        notes=",".join(analysis.notes) if analysis else "",
        license=source.license, extra=source.extra,
    )  # fmt: skip


_PROBE_COLUMNS = (
    "container", "num_bytes", "video_codec", "width", "height", "fps_num", "fps_den", "duration_s", "rotation",
    "interlaced", "hdr", "audio_codec", "audio_sample_rate_hz", "audio_offset_s",
)  # fmt: skip


def clip_row(clip: Clip, shard: str | None = None, cut: CutClip | None = None) -> dict[str, Any]:
    """The ledger row of a clip with its verdict, as a dict whose keys are the Arrow columns."""
    if clip.verdict is None:
        raise ValueError(f"clip {clip.clip_id} has no verdict; a ledger row needs one")
    span, caption, verdict = clip.span, clip.caption, clip.verdict
    row = ClipRow(
        clip_id=clip.clip_id, source_id=clip.source_id, uri=clip.uri, start_pts=span.start_pts, end_pts=span.end_pts,
        time_base_num=span.time_base_num, time_base_den=span.time_base_den, start_s=float(span.start),
        end_s=float(span.end), num_frames=span.num_frames, shot_index=clip.shot_index,
        **{f"crop_{side}": getattr(clip.crop, side, None) for side in ("top", "left", "height", "width")},
        caption=caption.text if caption else None, caption_source=caption.source if caption else None,
        caption_outcome=caption.outcome if caption else None, state=verdict.state, stage=verdict.stage,
        reason=verdict.reason, score=verdict.score, threshold=verdict.threshold, duplicate_of=verdict.duplicate_of,
        detail=verdict.detail, license=clip.license, extra=clip.extra, shard=shard,
        media_sha256=cut.sha256 if cut else None, media_done=cut.done if cut else None,
    )  # fmt: skip
    return {**row.__dict__, **{f"score_{name}": value for name, value in clip.scores.items()}}


def clip_sidecar(clip: Clip, cut: CutClip) -> bytes:
    """`KEY.json` of a clip shard: what a reader of the shard alone needs to know. Deterministic bytes."""
    row = clip_row(clip, cut=cut)
    for column in ("state", "stage", "reason", "score", "threshold", "duplicate_of", "detail", "shard"):
        row.pop(column)  # it is kept; where it lies is known to whoever reads it
    row["extra"] = json.loads(clip.extra)
    media = {
        name: getattr(cut, name)
        for name in ("width", "height", "fps_num", "fps_den", "num_audio_samples", "audio_sample_rate_hz")
    }
    media["content_sha256"] = clip.content_sha256  # of the source: what a split into train and val goes by
    return json.dumps({"schema_version": 1, **row, **media}, sort_keys=True, ensure_ascii=False).encode()
