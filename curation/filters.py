"""Verdicts: a pure function of a clip's stored scores and the thresholds."""

from dataclasses import dataclass

from curation.settings import FilterSettings
from schemas.records import Clip, Verdict
from schemas.scores import SCORES, Score
from schemas.states import ClipState

CHEAP_STAGES = frozenset({"shots", "audio", "watermark", "text"})  # known after the one decode
JUDGE_STAGES = frozenset({"aesthetic", "nsfw"})  # known before clips are compared by meaning, and captioned
CHEAP_SCORES = tuple(score for score in SCORES if score.stage in CHEAP_STAGES)
JUDGE_SCORES = tuple(score for score in SCORES if score.stage in JUDGE_STAGES)
EARLY_SCORES = CHEAP_SCORES + JUDGE_SCORES
LAST_SCORES = tuple(score for score in SCORES if score not in EARLY_SCORES)


@dataclass(frozen=True)
class Limit:
    """One end of what a score may be. Of a row of them, the first that a clip misses is its verdict.

    Limits are inclusive: a score equal to its limit passes. A NaN passes no limit.
    """

    score: Score
    side: str  # "min", "max", or "no": there must be a value at all
    value: float = 0.0

    @property
    def reason(self) -> str:
        return f"{self.side}_{self.score.name}"


def limits(filters: FilterSettings, scores: tuple[Score, ...] = SCORES) -> tuple[Limit, ...]:
    """The limits that are on, in the order in which clips meet them: that of `schemas.scores`.

    Raises:
        ValueError: one is a quantile; `curation.quantiles` makes numbers of those.
    """
    found: list[Limit] = []
    for score in scores:
        ends = [(side, getattr(filters, f"{side}_{score.name}")) for side in ("min", "max")]
        on = [Limit(score, side, value) for side, value in ends if value is not None]
        if on and filters.missing == "reject":
            found.append(Limit(score, "no"))
        found += on
    quantile = next((limit for limit in found if isinstance(limit.value, str)), None)
    if quantile is not None:
        raise ValueError(f"filters.{quantile.reason} is {quantile.value}, which no number was found for yet")
    return tuple(found)


def limited(filters: FilterSettings, scores: tuple[Score, ...]) -> bool:
    """Whether any limit of these scores is on."""
    return any(getattr(filters, f"{side}_{score.name}") is not None for score in scores for side in ("min", "max"))


def verdict(clip: Clip, filters: FilterSettings, scores: tuple[Score, ...] = SCORES) -> Verdict | None:
    """The first limit that the clip's scores miss; None where it passes them all."""
    return _first(clip, limits(filters, scores))


def cheap_verdict(clip: Clip, filters: FilterSettings) -> Verdict | None:
    """`verdict` over the scores that need no large model, so that such models never see what would not be kept."""
    return verdict(clip, filters, CHEAP_SCORES)


def _first(clip: Clip, ordered: tuple[Limit, ...]) -> Verdict | None:
    for limit in ordered:
        value = clip.scores.get(limit.score.name)
        if value is None:
            if limit.side == "no":
                return Verdict(ClipState.FILTERED, limit.score.stage, limit.reason)
        elif (limit.side == "min" and not value >= limit.value) or (limit.side == "max" and not value <= limit.value):
            return Verdict(ClipState.FILTERED, limit.score.stage, limit.reason, value, limit.value)
    return None
