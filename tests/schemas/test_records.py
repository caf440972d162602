"""Records: how a clip says more and more, its ledger row, its sidecar, and rejections between processes."""

import json
import pickle
from dataclasses import fields, replace

import pytest

from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.records import (
    Analysis,
    Caption,
    Clip,
    CutClip,
    Probe,
    Source,
    Span,
    Verdict,
    clip_row,
    clip_sidecar,
    failed,
    source_row,
)
from schemas.run import ClipShard, RunInfo
from schemas.states import ClipState, Rejection, SourceState

SPAN = Span(1001, 4004, 1, 30000, 3)
CLIP = Clip("c", "s", "a.mp4", "0" * 64, SPAN, 0, license="CC0", extra='{"camera": "north"}')
CUT = CutClip("c", "c.mp4", 10, "1" * 64, 3, 64, 48, 30000, 1001, 1600, 16000, "rotated:90")
PROBE = Probe("mp4", 10, "h264", "yuv420p", 64, 48, 30000, 1001, 1, 30000, 0, 1.0)


def test_spans_are_exact() -> None:
    assert SPAN.end - SPAN.start == SPAN.time_base * 3003
    assert SPAN.duration_s == pytest.approx(0.1001)


def test_a_clip_says_more_without_changing() -> None:
    scored = CLIP.with_scores(motion=1.0).with_scores(luma=0.5)
    kept = scored.with_verdict(Verdict(ClipState.KEPT))
    assert CLIP.scores == {} and CLIP.verdict is None
    assert kept.scores == {"motion": 1.0, "luma": 0.5} and kept.verdict is not None


def test_a_ledger_row_has_the_columns_of_its_schema() -> None:
    clip = replace(CLIP, caption=Caption("a cat", "manifest", "ok")).with_scores(motion=1.0)
    row = clip_row(clip.with_verdict(failed("cut", "ffmpeg_failed", "exit 1")), shard=None)
    assert row.keys() <= set(CLIPS_SCHEMA.names)
    assert (row["state"], row["stage"], row["reason"], row["score_motion"]) == ("failed", "cut", "ffmpeg_failed", 1.0)
    with pytest.raises(ValueError, match="clip c has no verdict"):
        clip_row(CLIP)


def test_the_sidecar_says_what_a_reader_of_the_shard_needs() -> None:
    kept = CLIP.with_verdict(Verdict(ClipState.KEPT))
    sidecar = json.loads(clip_sidecar(kept, CUT))
    assert clip_sidecar(kept, CUT) == clip_sidecar(kept, CUT)
    assert (sidecar["schema_version"], sidecar["clip_id"], sidecar["content_sha256"]) == (1, "c", "0" * 64)
    assert (sidecar["height"], sidecar["num_audio_samples"], sidecar["media_sha256"]) == (48, 1600, "1" * 64)
    assert sidecar["extra"] == {"camera": "north"}
    assert not {"state", "shard", "score"} & sidecar.keys()


@pytest.mark.parametrize(
    "analysis",
    [None, Analysis(Source("s", "a.mp4"), "0" * 64, PROBE, 30, 1, (CLIP,), ("deinterlaced",))],
    ids=["failed-before-probing", "analysed"],
)
def test_a_source_row_has_the_columns_of_its_schema(analysis: Analysis | None) -> None:
    row = source_row(Source("s", "a.mp4"), analysis, state=SourceState.DONE)
    assert [f.name for f in fields(row)] == SOURCES_SCHEMA.names
    assert row.num_clips == (1 if analysis else 0) and row.width == (64 if analysis else None)


def test_a_rejection_survives_the_way_between_processes() -> None:
    back = pickle.loads(pickle.dumps(Rejection("empty_file", "0 bytes")))
    assert (back.reason, back.detail, str(back)) == ("empty_file", "0 bytes", "empty_file: 0 bytes")
    assert str(Rejection("empty_file")) == "empty_file"


def test_run_json_round_trips() -> None:
    info = RunInfo("curate", {"a": 1}, {}, {}, {"caption": "run"}, {"sources.done": 1}, [ClipShard("x", 1, 2, "3")])
    data = json.loads(info.to_json())
    assert data["schema_version"] == 1
    assert data["shards"] == [{"name": "x", "num_bytes": 2, "num_clips": 1, "sha256": "3"}]
    assert RunInfo.from_json(info.to_json()) == info
