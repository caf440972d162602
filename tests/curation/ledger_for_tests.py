"""Ledgers of a few rows, made from clips without any video."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from media.parquet import write_parquet
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.identity import source_id
from schemas.records import Clip, Source, Span, Verdict, clip_row, source_row
from schemas.run import RunInfo
from schemas.states import ClipState, SourceState

CONTENT = "ab" * 32
KEPT = Verdict(ClipState.KEPT)
URI = "videos/a.mp4"


def filtered(stage: str, reason: str, score: float | None = None, threshold: float | None = None) -> Verdict:
    return Verdict(ClipState.FILTERED, stage, reason, score, threshold)


def copy_of(clip_id: str) -> Verdict:
    return Verdict(ClipState.DUPLICATE, "dedup", "near_duplicate", duplicate_of=clip_id)


def make_clip(clip_id: str, verdict: Verdict | None = KEPT, **scores: float) -> Clip:
    """A clip of one second; its id is padded to the length of ids."""
    span = Span(0, 24, 1, 24, 24)
    return Clip(padded(clip_id), source_id(URI), URI, CONTENT, span, 0, scores=scores, verdict=verdict)


def padded(clip_id: str) -> str:
    return clip_id.ljust(20, "0")


def write_ledger(
    folder: Path,
    clips: Iterable[Clip],
    settings: Mapping[str, Any] | None = None,
    stages: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> RunInfo:
    """Ledger and `run.json` of a run of one source with these clips."""
    listed = sorted(clips, key=lambda clip: clip.clip_id)
    rows = [clip_row(clip, "clips-00000.tar" if clip.verdict == KEPT else None) for clip in listed]
    source = source_row(Source(source_id(URI), URI), None, state=SourceState.DONE, content_sha256=CONTENT)
    write_parquet(folder / "ledger" / "clips-00000.parquet", rows, CLIPS_SCHEMA)
    write_parquet(
        folder / "ledger" / "sources-00000.parquet", [source.__dict__ | {"num_clips": len(rows)}], SOURCES_SCHEMA
    )
    info = RunInfo(
        "curate",
        dict(settings or {"filters": {"min_motion": 0.4}}),
        {},
        {},
        dict(stages or {"near_dedup": "run"}),
        {},
        [],
        thresholds=dict(thresholds or {}),
    )
    (folder / "run.json").write_text(info.to_json())
    return info
