"""How far each clip of a finished run got, as far as limits are concerned, from columns of its ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.exclusion import EXCLUDE_STAGE
from curation.filters import (
    CHEAP_SCORES,
    CHEAP_STAGES,
    JUDGE_SCORES,
    JUDGE_STAGES,
    LAST_SCORES,
    Limit,
    limits,
)
from curation.ledger_rows import CLIPS, row_groups
from curation.settings import FilterSettings
from schemas.run import RunInfo
from schemas.scores import SCORES, Score
from schemas.states import ClipState

ORDERED_SCORES = CHEAP_SCORES + JUDGE_SCORES + LAST_SCORES
"""Scores in the order in which a run looks at their limits."""

Outcome = tuple[str, str, str]
"""(state, stage, reason) of a row of the ledger."""

_BY_REASON = {f"{side}_{score.name}": score for score in SCORES for side in ("min", "max", "no")}


class Fate(IntEnum):
    """How far a clip got."""

    FIXED = 0  # too short, without a picture, taken down, in an evaluation set: no limit changes that
    STOPPED = 1  # by a limit, before clips are compared by meaning
    COPY = 2  # of a clip that looks the same
    ALIKE = 3  # of a clip that means the same
    UNJUDGED = 4  # an early model failed on it
    UNSCORED = 5  # a late model failed on it
    THROUGH = 6  # to the last filters
    UNCUT = 7  # past them, and then it could not be cut


def fate_of(outcome: Outcome) -> Fate:
    """The fate that an outcome speaks of."""
    state, stage, reason = outcome
    if state == ClipState.DUPLICATE:
        return Fate.FIXED if stage == EXCLUDE_STAGE else Fate.ALIKE if reason == "semantic_duplicate" else Fate.COPY
    if state == ClipState.FILTERED:
        score = _BY_REASON.get(reason)
        if score is None or score.stage != stage:
            return Fate.FIXED
        return Fate.STOPPED if stage in CHEAP_STAGES | JUDGE_STAGES else Fate.THROUGH
    if state == ClipState.FAILED:
        late = {"cut": Fate.UNCUT, "caption": Fate.UNSCORED, "clip_score": Fate.UNSCORED, "keyframe": Fate.FIXED}
        return late.get(stage, Fate.UNJUDGED)
    return Fate.THROUGH


@dataclass(frozen=True)
class Columns:
    """Scores as columns: values (NaN where there is none) and whether there is one."""

    values: Mapping[str, np.ndarray]
    there: Mapping[str, np.ndarray]

    @staticmethod
    def of(table: pa.Table, names: Sequence[str]) -> "Columns":
        columns = {name: table[f"score_{name}"] for name in names}
        return Columns(
            {name: column.to_numpy(zero_copy_only=False).astype(np.float64) for name, column in columns.items()},
            {name: column.is_valid().to_numpy(zero_copy_only=False).astype(bool) for name, column in columns.items()},
        )


def first_missed(
    scores: Columns, ordered: Sequence[Limit], num_rows: int, unknown: Mapping[str, np.ndarray] | None = None
) -> np.ndarray:
    """(num_rows,) int: which limit each clip misses first, -1 where none. `curation.filters.verdict`, by columns.

    Args:
        unknown: by score, the rows whose value is still to be taken: no limit of that score stops them.
    """
    missed = np.full(num_rows, -1)
    for index, limit in enumerate(ordered):
        values, there = scores.values[limit.score.name], scores.there[limit.score.name]
        if limit.side == "no":
            misses = ~there
        else:  # a NaN passes neither
            passes = values >= limit.value if limit.side == "min" else values <= limit.value
            misses = there & ~passes
        if unknown and limit.score.name in unknown:
            misses &= ~unknown[limit.score.name]
        missed[(missed < 0) & misses] = index
    return missed


def outcomes_of(table: pa.Table) -> tuple[list[Outcome], np.ndarray]:
    """The distinct outcomes of a table, and which of them each row has."""
    joined = pc.binary_join_element_wise(table["state"], table["stage"], table["reason"], "\x1f").combine_chunks()
    encoded = joined.dictionary_encode()
    distinct: list[Outcome] = []
    for text in encoded.dictionary.to_pylist():
        state, stage, reason = text.split("\x1f")
        distinct.append((state, stage, reason))
    return distinct, encoded.indices.to_numpy(zero_copy_only=False).astype(int)


def taken_later(run: RunInfo) -> frozenset[str]:
    """Scores that a stage of this run takes after the cheap filters and the search for copies."""
    return frozenset(
        score.name for score in SCORES if score.stage not in CHEAP_STAGES and run.stages.get(score.stage) == "run"
    )


def stopped_originals(run_dir: str, filters: FilterSettings, scores: tuple[Score, ...]) -> pa.Array:
    """Ids of the clips with copies that miss a limit of these scores now, so that they never meet their copies."""
    ordered = limits(filters, scores)
    if not ordered:
        return pa.array([], pa.string())
    found = [
        pc.unique(table["duplicate_of"].filter(pc.equal(table["state"], ClipState.DUPLICATE)).drop_null())
        for table in row_groups(run_dir, CLIPS, ["state", "duplicate_of"])
    ]
    originals = pc.unique(pa.concat_arrays(found)) if found else pa.array([], pa.string())
    names = list(dict.fromkeys(limit.score.name for limit in ordered))
    stopped = [pa.array([], pa.string())]
    if len(originals):
        for table in row_groups(run_dir, CLIPS, ["clip_id", *(f"score_{name}" for name in names)]):
            table = table.filter(pc.is_in(table["clip_id"], value_set=originals))
            missed = first_missed(Columns.of(table, names), ordered, table.num_rows)
            stopped.append(table["clip_id"].filter(pa.array(missed >= 0)).combine_chunks())
    return pa.concat_arrays(stopped)
