"""Thresholds replayed on the stored scores of a run: what other limits would have kept, without touching a video.

The limits are those of `curation.filters`, applied to columns instead of clips. Where the run would do more than
compare numbers, the replay says so instead of guessing:

    stopped before a score was taken that now has a limit     needs_scoring
    a copy of a clip that the new limits stop first           as if it had been stopped there itself
    passes now, was never compared with other clips           kept, and counted in `uncompared`
    a quantile                                                of the clips that have the score, as far as they get now
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.candidates import CAPTION_SCORES
from curation.fates import (
    ORDERED_SCORES,
    Columns,
    Fate,
    Outcome,
    fate_of,
    first_missed,
    outcomes_of,
    stopped_originals,
    taken_later,
)
from curation.filters import CHEAP_SCORES, EARLY_SCORES, JUDGE_SCORES, LAST_SCORES, Limit, limits
from curation.ledger_rows import CLIPS, row_groups
from curation.quantiles import quantiles, resolve, score_of, with_thresholds
from curation.settings import FilterSettings
from schemas.run import RunInfo
from schemas.scores import Score
from schemas.states import ClipState

NEEDS_SCORING = "needs_scoring"

_KEPT: Outcome = (ClipState.KEPT, "", "")
_NEEDS: Outcome = (NEEDS_SCORING, "", "")
_STAYS = -2
_EARLY_ENDS = (Fate.STOPPED, Fate.COPY, Fate.ALIKE)


@dataclass
class Tally:
    """Clips and their length."""

    clips: int = 0
    microseconds: int = 0

    @property
    def hours(self) -> float:
        return self.microseconds / 3.6e9


@dataclass(frozen=True, order=True)
class Near:
    """A clip near a limit, by its distance from it."""

    distance: float
    clip_id: str
    value: float


@dataclass
class WhatIf:
    """A run's clips under its own limits and under others."""

    before: dict[Outcome, Tally] = field(default_factory=dict)
    after: dict[Outcome, Tally] = field(default_factory=dict)
    gained: Tally = field(default_factory=Tally)  # kept only with the new limits
    lost: Tally = field(default_factory=Tally)  # kept only with the old ones
    uncompared: int = 0  # of those gained, never compared with other clips: some may turn out to be copies
    thresholds: dict[str, float] = field(default_factory=dict)  # numbers that quantiles come to now
    near: dict[str, tuple[list[Near], list[Near]]] = field(default_factory=dict)  # by reason: passing, missing


def replay(run_dir: str, run: RunInfo, before: FilterSettings, after: FilterSettings, examples: int) -> WhatIf:
    """What becomes of the run's clips under other limits.

    Args:
        before: the run's own limits.
        after: the limits to try.
        examples: clips to name on each side of each changed limit.

    Raises:
        FileNotFoundError: the run has no ledger.
    """
    thresholds = replayed_thresholds(run_dir, run, after)
    before, after = with_thresholds(before, run.thresholds), with_thresholds(after, thresholds)
    changed = [limit for limit in limits(after) if limit.side != "no" and limit not in limits(before)]
    engine = _Replay(_Judge(run_dir, run, after), run, changed, examples)
    for table in row_groups(run_dir, CLIPS, engine.columns):
        engine.add(table)
    engine.result.thresholds = thresholds
    return engine.result


def replayed_thresholds(run_dir: str, run: RunInfo, filters: FilterSettings) -> dict[str, float]:
    """What the quantiles among the limits come to, each of the clips that the limits of earlier phases leave."""
    numbers: dict[str, float] = {}
    for phase in _PHASES:
        wanted = sorted({score_of(name) for name in quantiles(filters, phase.scores)})
        if not wanted:
            continue
        judge = _Judge(run_dir, run, with_thresholds(filters, numbers), phase.before)
        columns = dict.fromkeys((*judge.columns, *(f"score_{name}" for name in wanted)))
        values: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        for table in row_groups(run_dir, CLIPS, list(columns)):
            reached, taken = judge.reached(table, phase), Columns.of(table, wanted)
            for name in wanted:
                values[name].append(taken.values[name][reached & taken.there[name]])
        numbers |= resolve(filters, phase.scores, {name: np.concatenate(parts) for name, parts in values.items()})
    return numbers


@dataclass(frozen=True)
class _Phase:
    """Limits that clips meet at one time."""

    before: tuple[Score, ...]  # those whose limits they have passed by then
    scores: tuple[Score, ...]
    copies: tuple[Fate, ...]  # copies that are gone by then
    ended: tuple[Fate, ...]  # others that are gone by then


_PHASES = (
    _Phase((), CHEAP_SCORES, (), (Fate.FIXED,)),
    _Phase(CHEAP_SCORES, JUDGE_SCORES, (Fate.COPY,), (Fate.FIXED, Fate.UNJUDGED)),
    _Phase(EARLY_SCORES, LAST_SCORES, (Fate.COPY, Fate.ALIKE), (Fate.FIXED, Fate.UNJUDGED, Fate.UNSCORED)),
)


class _Judge:
    """Verdicts anew, by columns.

    Args:
        filters: with numbers for the limits of these scores.
        scores: those whose limits count.
    """

    def __init__(self, run_dir: str, run: RunInfo, filters: FilterSettings, scores: tuple[Score, ...] = ORDERED_SCORES):
        self.limits = limits(filters, scores)
        self._num_cheap = sum(limit.score in CHEAP_SCORES for limit in self.limits)
        self._num_early = sum(limit.score in EARLY_SCORES for limit in self.limits)
        self._limited = list(dict.fromkeys(limit.score.name for limit in self.limits))
        self._taken = taken_later(run)
        caption = run.settings.get("caption") or {}
        self._recaptioned = bool(caption.get("replace")) and run.stages.get("caption") == "run"
        early = tuple(score for score in EARLY_SCORES if score in scores)
        cheap = tuple(score for score in early if score in CHEAP_SCORES)
        self._gone = {
            Fate.COPY: stopped_originals(run_dir, filters, cheap),
            Fate.ALIKE: stopped_originals(run_dir, filters, early),
        }
        names = ("clip_id", "state", "stage", "reason", "duplicate_of", "start_s", "end_s")
        self.columns = [*names, *(f"score_{name}" for name in self._limited)]

    def scores(self, table: pa.Table) -> Columns:
        return Columns.of(table, self._limited)

    def decide(self, table: pa.Table, scores: Columns, fates: np.ndarray) -> np.ndarray:
        """(rows,) int: number of the limit that stops a clip, then that of kept, of needs_scoring, or `_STAYS`."""
        kept, needs, rows = len(self.limits), len(self.limits) + 1, table.num_rows
        unknown = self._unknown(scores, fates)
        missed = first_missed(scores, self.limits, rows, unknown)
        waiting = np.zeros(rows, dtype=bool)
        for mask in unknown.values():
            waiting |= mask
        new = np.where(missed >= 0, missed, np.where(waiting, needs, kept))
        new[(fates == Fate.FIXED) | self._stays(table, fates, missed)] = _STAYS
        return new

    def reached(self, table: pa.Table, phase: "_Phase") -> np.ndarray:
        """(rows,) bool: which clips come to the limits of a phase; the judge's own are those before them."""
        fates, scores = fates_of(*outcomes_of(table)), self.scores(table)
        missed = first_missed(scores, self.limits, table.num_rows, self._unknown(scores, fates))
        copies = self._stays(table, fates, missed) & np.isin(fates, phase.copies)
        return (missed < 0) & ~copies & ~np.isin(fates, phase.ended)

    def _unknown(self, scores: Columns, fates: np.ndarray) -> dict[str, np.ndarray]:
        """By score, the rows whose value is still to be taken."""
        early = np.isin(fates, _EARLY_ENDS)
        return {
            name: early & (~scores.there[name] | (self._recaptioned and name in CAPTION_SCORES))
            for name in self._limited
            if name in self._taken
        }

    def _stays(self, table: pa.Table, fates: np.ndarray, missed: np.ndarray) -> np.ndarray:
        """(rows,) bool: those whose outcome no limit they would meet before it changes."""
        passes_cheap = (missed < 0) | (missed >= self._num_cheap)
        passes_early = (missed < 0) | (missed >= self._num_early)
        copies = (fates == Fate.COPY) & passes_cheap & ~self._orphaned(table, fates, Fate.COPY)
        alike = (fates == Fate.ALIKE) & passes_early & ~self._orphaned(table, fates, Fate.ALIKE)
        broken = (fates == Fate.UNJUDGED) & passes_cheap | (fates == Fate.UNSCORED) & passes_early
        return copies | alike | broken | (fates == Fate.UNCUT) & (missed < 0)

    def _orphaned(self, table: pa.Table, fates: np.ndarray, fate: Fate) -> np.ndarray:
        """Copies of clips that are now stopped before they meet."""
        gone = self._gone[fate]
        if not len(gone) or not (fates == fate).any():
            return np.zeros(table.num_rows, dtype=bool)
        hits = pc.is_in(table["duplicate_of"], value_set=gone)
        return np.asarray(hits.to_numpy(zero_copy_only=False), dtype=bool)


class _Replay:
    """Adds up what becomes of clips, a table at a time."""

    def __init__(self, judge: _Judge, run: RunInfo, changed: Sequence[Limit], examples: int):
        self._judge, self._changed, self._examples = judge, changed, examples
        self._compares = "run" in (run.stages.get("near_dedup"), run.stages.get("semantic_dedup"))
        self.columns = judge.columns
        self.result = WhatIf(near={limit.reason: ([], []) for limit in changed})

    def add(self, table: pa.Table) -> None:
        """Counts the rows of a table before and after."""
        all_limits = self._judge.limits
        outcomes, codes = outcomes_of(table)
        fates = fates_of(outcomes, codes)
        scores = self._judge.scores(table)
        new = self._judge.decide(table, scores, fates)
        lengths = _microseconds(table)
        _count(self.result.before, outcomes, codes, lengths)
        names = [*(_filtered(limit) for limit in all_limits), _KEPT, _NEEDS]
        stays = new == _STAYS
        _count(self.result.after, outcomes, codes[stays], lengths[stays])
        _count(self.result.after, names, new[~stays], lengths[~stays])
        was = np.array([outcome == _KEPT for outcome in outcomes], dtype=bool)[codes]
        now = (new == len(all_limits)) | (stays & was)
        _add(self.result.gained, now & ~was, lengths)
        _add(self.result.lost, was & ~now, lengths)
        if self._compares:
            self.result.uncompared += int((now & np.isin(fates, _EARLY_ENDS)).sum())
        passing = now | (new == len(all_limits) + 1)
        for limit in self._changed:
            self._note_near(table, scores, limit, passing, new == all_limits.index(limit))

    def _note_near(
        self, table: pa.Table, scores: Columns, limit: Limit, passing: np.ndarray, missing: np.ndarray
    ) -> None:
        """Keeps the clips nearest to a limit: those it alone stops, and those that pass."""
        values, there = scores.values[limit.score.name], scores.there[limit.score.name]
        for side, mask in zip(self.result.near[limit.reason], (passing, missing), strict=True):
            rows = np.flatnonzero(mask & there & np.isfinite(values))
            distances = np.abs(values[rows] - limit.value)
            if len(rows) > self._examples:
                rows = rows[distances <= np.partition(distances, self._examples)[self._examples]]
            ids = table["clip_id"].take(pa.array(rows, pa.int64())).to_pylist()
            side += [
                Near(abs(float(values[row]) - limit.value), clip_id, float(values[row]))
                for row, clip_id in zip(rows, ids, strict=True)
            ]
            side[:] = sorted(side)[: self._examples]


def fates_of(outcomes: Sequence[Outcome], codes: np.ndarray) -> np.ndarray:
    """(rows,) the fate of each row, from its outcome."""
    return np.array([fate_of(outcome) for outcome in outcomes], dtype=int)[codes]


def _filtered(limit: Limit) -> Outcome:
    return (ClipState.FILTERED, limit.score.stage, limit.reason)


def _microseconds(table: pa.Table) -> np.ndarray:
    """Length of each clip, whole, so that any order adds up to the same."""
    length = pc.subtract(table["end_s"], table["start_s"]).to_numpy(zero_copy_only=False)
    return np.asarray(np.rint(length * 1e6), dtype=np.int64)


def _count(tallies: dict[Outcome, Tally], names: Sequence[Outcome], codes: np.ndarray, lengths: np.ndarray) -> None:
    clips = np.bincount(codes, minlength=len(names))
    microseconds = np.bincount(codes, weights=lengths, minlength=len(names))  # exact below 2^53
    for name, count, length in _rows(names, clips, microseconds):
        tally = tallies.setdefault(name, Tally())
        tally.clips += count
        tally.microseconds += length


def _rows(names: Sequence[Outcome], clips: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[Outcome, int, int]]:
    for name, count, length in zip(names, clips, lengths, strict=True):
        if count:
            yield name, int(count), int(length)


def _add(tally: Tally, mask: np.ndarray, lengths: np.ndarray) -> None:
    tally.clips += int(mask.sum())
    tally.microseconds += int(lengths[mask].sum())
