"""Thresholds replayed on a ledger: each fate a clip can have, agreement with the filters, what lies near a limit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.fates import Columns, first_missed
from curation.filters import CHEAP_SCORES, cheap_verdict, limits, verdict
from curation.replay import replay
from curation.settings import FilterSettings
from schemas.records import Clip, Verdict, failed
from schemas.scores import SCORE_NAMES
from schemas.states import ClipState
from tests.curation.ledger_for_tests import KEPT, copy_of, filtered, make_clip, padded, write_ledger

SLOW = filtered("shots", "min_motion", 0.3, 0.4)
DULL = filtered("clip_score", "min_clip_score", 0.1, 0.2)
ALIKE = Verdict(ClipState.DUPLICATE, "dedup", "semantic_duplicate", 0.97, 0.95, padded("2"))
BARRED = Verdict(ClipState.DUPLICATE, "exclude", "near_duplicate", 1.0, 8.0, "evaluated")
MODELS = {"near_dedup": "run", "caption": "run", "clip_score": "run"}
OWN = FilterSettings(min_motion=0.4, min_clip_score=0.2)


def outcomes(result: dict) -> dict[str, int]:
    return {"/".join(part for part in outcome if part): tally.clips for outcome, tally in result.items()}


scores = st.one_of(st.none(), st.just(float("nan")), st.floats(-1, 1).map(lambda value: round(value, 1)))
bounds = st.one_of(st.none(), st.floats(-1, 1).map(lambda value: round(value, 1)))


@st.composite
def filter_settings(draw: st.DrawFn) -> FilterSettings:
    chosen = {}
    for name in draw(st.lists(st.sampled_from(SCORE_NAMES), max_size=4, unique=True)):
        ends = sorted(draw(st.tuples(st.floats(-1, 1), st.floats(-1, 1))))
        for side, end in zip(("min", "max"), ends, strict=True):
            if draw(st.booleans()):
                chosen[f"{side}_{name}"] = round(end, 1)
    return FilterSettings(**chosen, missing=draw(st.sampled_from(["keep", "reject"])))


@settings(deadline=None, max_examples=60)
@given(filter_settings(), st.lists(st.fixed_dictionaries(dict.fromkeys(SCORE_NAMES, scores)), min_size=1, max_size=5))
def test_columns_and_clips_are_judged_alike(filters: FilterSettings, rows: list[dict[str, float | None]]) -> None:
    table = pa.table({f"score_{name}": pa.array([row[name] for row in rows], pa.float64()) for name in SCORE_NAMES})
    columns = Columns.of(table, SCORE_NAMES)
    clips = [make_clip("0", **{name: value for name, value in row.items() if value is not None}) for row in rows]
    for judge, ordered in ((verdict, limits(filters)), (cheap_verdict, limits(filters, CHEAP_SCORES))):
        found = first_missed(columns, ordered, len(rows))
        named = [ordered[index].reason if index >= 0 else None for index in found]
        expected = [judge(clip, filters) for clip in clips]
        assert named == [each.reason if each else None for each in expected]


@pytest.mark.parametrize(
    ("clip", "limit", "expected"),
    [
        pytest.param(make_clip("1", KEPT, motion=0.5), {"min_motion": 0.6}, "filtered/shots/min_motion", id="lost"),
        pytest.param(make_clip("1", KEPT, motion=0.5), {"min_motion": 0.5}, "kept", id="inclusive"),
        pytest.param(make_clip("1", SLOW, motion=0.3), {"min_motion": 0.35}, "filtered/shots/min_motion", id="out"),
        pytest.param(make_clip("1", SLOW, motion=0.3), {"min_motion": 0.2}, "kept", id="gained"),
        pytest.param(
            make_clip("1", SLOW, motion=0.3), {"min_motion": 0.2, "min_clip_score": 0.2}, "needs_scoring", id="unscored"
        ),
        pytest.param(
            make_clip("1", SLOW, motion=0.3, luma=0.1), {"min_motion": 0.2, "min_luma": 0.3, "min_clip_score": 0.2},
            "filtered/shots/min_luma", id="stopped-by-a-known-score",
        ),
        pytest.param(
            make_clip("1", SLOW, motion=0.3), {"min_clip_score": 0.2, "missing": "reject"}, "needs_scoring",
            id="what-is-not-taken-is-not-missing",
        ),
        pytest.param(
            make_clip("1", KEPT, motion=0.5), {"min_clip_score": 0.2, "missing": "reject"},
            "filtered/clip_score/no_clip_score", id="what-was-not-there-is-missing",
        ),
        pytest.param(make_clip("1", DULL, motion=1, clip_score=0.1), {"min_clip_score": 0.05}, "kept", id="scored"),
        pytest.param(
            make_clip("1", filtered("shots", "too_short", 0.5, 1.0), motion=1), {"min_motion": None},
            "filtered/shots/too_short", id="too-short-stays",
        ),
        pytest.param(make_clip("1", copy_of(padded("2"))), {}, "duplicate/dedup/near_duplicate", id="copy-stays"),
        pytest.param(
            make_clip("1", copy_of(padded("2")), motion=0.1), {"min_motion": 0.2}, "filtered/shots/min_motion",
            id="copy",
        ),
        pytest.param(make_clip("1", failed("cut", "x"), motion=1), {}, "failed/cut/x", id="uncut-stays"),
        pytest.param(
            make_clip("1", failed("cut", "x"), motion=1), {"min_motion": 2}, "filtered/shots/min_motion", id="uncut-out"
        ),
        pytest.param(
            make_clip("1", failed("caption", "x"), motion=1), {"min_clip_score": 0.2, "missing": "reject"},
            "failed/caption/x", id="broken-stays",
        ),
        pytest.param(make_clip("1", ALIKE, motion=1, nsfw=0.1), {}, "duplicate/dedup/semantic_duplicate", id="alike"),
        pytest.param(
            make_clip("1", ALIKE, motion=1, nsfw=0.9), {"max_nsfw": 0.5}, "filtered/nsfw/max_nsfw", id="alike-judged"
        ),
        pytest.param(
            make_clip("1", filtered("nsfw", "max_nsfw", 0.9, 0.5), motion=1, nsfw=0.9), {"min_clip_score": 0.2},
            "needs_scoring", id="judged-and-not-scored",
        ),
        pytest.param(
            make_clip("1", BARRED, motion=0.1), {"min_motion": 0.6}, "duplicate/exclude/near_duplicate", id="barred"
        ),
        pytest.param(make_clip("1", failed("keyframe", "x")), {"min_motion": 9}, "failed/keyframe/x", id="no-picture"),
    ],
)  # fmt: skip
def test_each_fate(tmp_path: Path, clip: Clip, limit: dict, expected: str) -> None:
    run = write_ledger(tmp_path, [clip], stages=MODELS)
    result = replay(str(tmp_path), run, OWN, FilterSettings(**limit), 3)
    assert outcomes(result.after) == {expected: 1}


@pytest.mark.parametrize(
    ("stages", "expected"), [(MODELS, "needs_scoring"), ({"near_dedup": "run"}, "kept")], ids=["models", "no-models"]
)
def test_a_copy_whose_original_goes_is_judged_anew(tmp_path: Path, stages: dict, expected: str) -> None:
    clips = [make_clip("1", copy_of(padded("2")), motion=0.9), make_clip("2", KEPT, motion=0.5)]
    run = write_ledger(tmp_path, clips, stages=stages)
    result = replay(str(tmp_path), run, OWN, FilterSettings(min_motion=0.6, min_clip_score=0.2), 3)
    assert outcomes(result.after) == {expected: 1, "filtered/shots/min_motion": 1}
    assert result.uncompared == (expected == "kept")


def test_a_caption_that_would_be_replaced_is_not_known(tmp_path: Path) -> None:
    clips = [make_clip("1", SLOW, motion=0.3, caption_words=9.0)]
    own = {"filters": {}, "caption": {"replace": True}}
    run = write_ledger(tmp_path, clips, settings=own, stages=MODELS)
    result = replay(str(tmp_path), run, OWN, FilterSettings(max_caption_words=5), 3)
    assert outcomes(result.after) == {"needs_scoring": 1}


def test_what_is_gained_lost_and_near_is_told(tmp_path: Path) -> None:
    motions = {"1": 0.1, "2": 0.25, "3": 0.3, "4": 0.5, "5": 0.9}
    clips = [
        make_clip(name, SLOW if value < 0.4 else KEPT, motion=value, luma=value) for name, value in motions.items()
    ]
    run = write_ledger(tmp_path, clips)
    result = replay(str(tmp_path), run, OWN, FilterSettings(min_motion=0.2, max_luma=0.8), 2)
    assert (result.gained.clips, result.lost.clips, result.uncompared) == (2, 1, 2)
    assert result.gained.hours == pytest.approx(2 / 3600)
    passing, missing = result.near["min_motion"]
    assert [near.clip_id for near in passing] == [padded("2"), padded("3")]
    assert [near.clip_id for near in missing] == [padded("1")]
    assert [near.value for near in result.near["max_luma"][1]] == [0.9]


def test_the_own_limits_change_nothing(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    clips = []
    for index in range(200):
        motion = float(generator.uniform(0, 1))
        missed: Verdict | None = verdict(make_clip("0", motion=motion), OWN)
        clips.append(make_clip(f"{index:08x}", missed or KEPT, motion=motion))
    run = write_ledger(tmp_path, clips)
    result = replay(str(tmp_path), run, OWN, OWN, 3)
    assert result.before == result.after
    assert not result.near and not result.gained.clips and not result.lost.clips
