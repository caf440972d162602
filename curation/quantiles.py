"""Limits that are quantiles of the run: exact order statistics of the clips that come as far as the limit.

    filters.min_clip_score: q0.2     of n values the ⌊0.2 n⌋ lowest are dropped, and those equal to them stay
    filters.max_motion: q0.9         of n values the ⌈0.9 n⌉ lowest pass, and those equal to them

NaN is no value. Where nothing has a value there is no limit.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from curation.settings_filters import FilterSettings, quantile_share
from schemas.run import RunInfo
from schemas.scores import SCORES, Score

Numbers = Mapping[str, float]
"""Numbers that quantiles came to, by the limit's name, e.g. `min_clip_score`."""


def quantiles(filters: FilterSettings, scores: Sequence[Score] = SCORES) -> dict[str, Fraction]:
    """The limits that are quantiles, by name, in the order of the scores."""
    names = [f"{side}_{score.name}" for score in scores for side in ("min", "max")]
    values = [(name, getattr(filters, name)) for name in names]
    return {name: quantile_share(value) for name, value in values if isinstance(value, str)}


def score_of(limit: str) -> str:
    """The score that a limit is about."""
    return limit.partition("_")[2]


def threshold(values: np.ndarray, limit: str, share: Fraction) -> float | None:
    """The number that a quantile comes to.

    Args:
        values: (n,) values of the score, in any order.
        limit: `min_…` or `max_…`.
        share: in (0, 1), exact: 0.1 × 30 must be 3.
    """
    values = np.sort(values[~np.isnan(values)])
    if not len(values):
        return None
    position = math.floor(share * len(values)) if limit.startswith("min_") else math.ceil(share * len(values)) - 1
    return float(values[position])


def resolve(filters: FilterSettings, scores: Sequence[Score], values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What the quantiles among the limits of these scores come to.

    Args:
        values: by score, the values of the clips that come as far as these limits.
    """
    found = {
        name: threshold(np.asarray(values.get(score_of(name), ()), np.float64), name, share)
        for name, share in quantiles(filters, scores).items()
    }
    return {name: value for name, value in found.items() if value is not None}


def with_thresholds(filters: FilterSettings, thresholds: Numbers) -> FilterSettings:
    """The limits with numbers for quantiles; a quantile without a number is off."""
    numbers: dict[str, Any] = {name: thresholds.get(name) for name in quantiles(filters)}
    return replace(filters, **numbers)


def run_limits(run: RunInfo) -> dict[str, float]:
    """The limits that a run's clips met, as numbers; those that were off are left out."""
    stored = run.settings.get("filters") or {}
    given = {name: run.thresholds.get(name) if isinstance(value, str) else value for name, value in stored.items()}
    return {name: value for name, value in given.items() if name != "missing" and value is not None}
