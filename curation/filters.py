"""Verdicts: a pure function of a clip's stored scores and the thresholds."""

from curation.settings import FilterSettings
from schemas.records import Clip, Verdict
from schemas.scores import SCORES, Score
from schemas.states import ClipState

CHEAP_STAGES = frozenset({"shots", "watermark"})  # known after the one decode, before any large model runs


def verdict(clip: Clip, filters: FilterSettings) -> Verdict | None:
    """The first limit that the clip's scores miss, in the order of `schemas.scores`; None where it passes them all.

    Limits are inclusive: a score equal to its limit passes. A NaN passes no limit.
    """
    return _first(clip, filters, SCORES, filters.missing == "reject")


def cheap_verdict(clip: Clip, filters: FilterSettings) -> Verdict | None:
    """`verdict` over the scores that need no large model, so that such models never see what would not be kept."""
    cheap = tuple(score for score in SCORES if score.stage in CHEAP_STAGES)
    return _first(clip, filters, cheap, filters.missing == "reject")


def _first(clip: Clip, filters: FilterSettings, scores: tuple[Score, ...], reject_missing: bool) -> Verdict | None:
    for score in scores:
        low, high = getattr(filters, f"min_{score.name}"), getattr(filters, f"max_{score.name}")
        if low is None and high is None:
            continue
        value = clip.scores.get(score.name)
        if value is None:
            if reject_missing:
                return Verdict(ClipState.FILTERED, score.stage, f"no_{score.name}")
            continue
        if low is not None and not value >= low:
            return Verdict(ClipState.FILTERED, score.stage, f"min_{score.name}", value, low)
        if high is not None and not value <= high:
            return Verdict(ClipState.FILTERED, score.stage, f"max_{score.name}", value, high)
    return None
