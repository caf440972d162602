"""Filters: each limit, its boundary, what is missing, and purity."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.filters import cheap_verdict, verdict
from curation.settings import CurateSettings, FilterSettings
from schemas.records import Clip, Span
from schemas.scores import SCORE_NAMES, SCORES
from schemas.states import ClipState


def make_clip(**scores: float) -> Clip:
    return Clip("c", "s", "a.mp4", "0" * 64, Span(0, 24, 1, 24, 24), 0, scores=scores)


def test_every_score_has_a_lower_and_an_upper_limit():
    names = {entry.name for entry in fields(FilterSettings)} - {"missing"}
    assert names == {f"{side}_{name}" for side in ("min", "max") for name in SCORE_NAMES}


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.name)
def test_limits_are_inclusive_and_named(score):
    clip = make_clip(**{score.name: 0.5})
    assert verdict(clip, FilterSettings(**{f"min_{score.name}": 0.5})) is None
    assert verdict(clip, FilterSettings(**{f"max_{score.name}": 0.5})) is None
    low = verdict(clip, FilterSettings(**{f"min_{score.name}": 0.75}))
    assert (low.state, low.stage, low.reason) == (ClipState.FILTERED, score.stage, f"min_{score.name}")
    assert (low.score, low.threshold) == (0.5, 0.75)
    high = verdict(clip, FilterSettings(**{f"max_{score.name}": 0.25}))
    assert (high.reason, high.score, high.threshold) == (f"max_{score.name}", 0.5, 0.25)


def test_a_missing_score_passes_unless_told_otherwise():
    assert verdict(make_clip(), FilterSettings(min_clip_score=0.2)) is None
    assert verdict(make_clip(), FilterSettings(min_clip_score=0.2, missing="reject")).reason == "no_clip_score"


def test_nan_passes_no_limit():
    assert verdict(make_clip(motion=float("nan")), FilterSettings(min_motion=0.0)).reason == "min_motion"


def test_the_cheap_verdict_does_not_look_at_models():
    filters = FilterSettings(min_clip_score=0.2, min_motion=1.0, missing="reject")
    assert cheap_verdict(make_clip(motion=2.0), filters) is None
    assert cheap_verdict(make_clip(motion=0.5), filters).reason == "min_motion"


@given(st.dictionaries(st.sampled_from(SCORE_NAMES), st.floats(-10, 10)), st.floats(-5, 0), st.floats(0, 5))
def test_a_wider_limit_never_rejects_more(scores, low, high):
    wide = FilterSettings(min_motion=low - 1, max_motion=high + 1)
    if verdict(make_clip(**scores), FilterSettings(min_motion=low, max_motion=high)) is None:
        assert verdict(make_clip(**scores), wide) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: FilterSettings(min_luma=0.9, max_luma=0.1), "min_luma 0.9 is above"),
        (lambda: CurateSettings("a", "b", limit=0), "limit 0"),
        (lambda: CurateSettings("", "b"), "--input"),
        (lambda: CurateSettings("a", "b", max_failures=-1), "max_failures -1"),
    ],
    ids=["crossed", "limit", "no-input", "max-failures"],
)
def test_contradictions_are_refused_with_the_value(settings, message):
    with pytest.raises(ValueError, match=message):
        settings()
