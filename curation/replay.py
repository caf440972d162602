"""Thresholds replayed on the stored scores of a run: what other limits would have kept, without touching a video.

The limits are those of `curation.filters`, applied to columns instead of clips. Where the run would do more than
compare numbers, the replay says so instead of guessing:

    stopped before a score was taken that now has a limit     needs_scoring
    a copy of a clip that the new limits stop first           as if it had been stopped there itself
    passes now, was never compared with other clips           kept, and counted in `uncompared`
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.filters import CHEAP_SCORES, CHEAP_STAGES, Limit, limits
from curation.ledger_rows import CLIPS, row_groups
from curation.settings import FilterSettings
from schemas.run import RunInfo
from schemas.scores import SCORES
from schemas.states import ClipState

NEEDS_SCORING = "needs_scoring"
Outcome = tuple[str, str, str]
"""(state, stage, reason) of a row of the ledger."""

_KEPT: Outcome = (ClipState.KEPT, "", "")
_NEEDS: Outcome = (NEEDS_SCORING, "", "")
_BY_REASON = {f"{side}_{score.name}": score for score in SCORES for side in ("min", "max", "no")}
_STAYS = -2
_FIXED, _STOPPED, _COPY, _THROUGH, _UNCUT, _BROKEN = range(6)  # how far a clip got, as far as limits are concerned


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
    near: dict[str, tuple[list[Near], list[Near]]] = field(default_factory=dict)  # by reason: passing, missing


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


def replay(run_dir: str, run: RunInfo, before: FilterSettings, after: FilterSettings, examples: int) -> WhatIf:
    """What becomes of the run's clips under other limits.

    Args:
        before: the run's own limits.
        after: the limits to try.
        examples: clips to name on each side of each changed limit.

    Raises:
        FileNotFoundError: the run has no ledger.
    """
    changed = [limit for limit in limits(after) if limit.side != "no" and limit not in limits(before)]
    engine = _Replay(run, after, _stopped_originals(run_dir, after), changed, examples)
    for table in row_groups(run_dir, CLIPS, engine.columns):
        engine.add(table)
    return engine.result


def _stopped_originals(run_dir: str, filters: FilterSettings) -> pa.Array:
    """Ids of the clips with copies that miss a cheap limit now, so that they never meet their copies."""
    found = [
        pc.unique(table["duplicate_of"].filter(pc.equal(table["state"], ClipState.DUPLICATE)).drop_null())
        for table in row_groups(run_dir, CLIPS, ["state", "duplicate_of"])
    ]
    originals = pc.unique(pa.concat_arrays(found)) if found else pa.array([], pa.string())
    cheap = limits(filters, CHEAP_SCORES)
    names = list(dict.fromkeys(limit.score.name for limit in cheap))
    stopped = [pa.array([], pa.string())]
    if len(originals) and cheap:
        for table in row_groups(run_dir, CLIPS, ["clip_id", *(f"score_{name}" for name in names)]):
            table = table.filter(pc.is_in(table["clip_id"], value_set=originals))
            missed = first_missed(Columns.of(table, names), cheap, table.num_rows)
            stopped.append(table["clip_id"].filter(pa.array(missed >= 0)).combine_chunks())
    return pa.concat_arrays(stopped)


class _Replay:
    """Every verdict anew, a table at a time."""

    def __init__(
        self, run: RunInfo, filters: FilterSettings, stopped: pa.Array, changed: Sequence[Limit], examples: int
    ):
        self._cheap, self._all = limits(filters, CHEAP_SCORES), limits(filters)
        self._limited = list(dict.fromkeys(limit.score.name for limit in self._all))
        self._taken = _taken_later(run)
        caption = run.settings.get("caption") or {}
        self._recaptioned = bool(caption.get("replace")) and run.stages.get("caption") == "run"
        self._compares = run.stages.get("near_dedup") == "run"
        self._changed, self._examples = changed, examples
        self._stopped = stopped
        self.result = WhatIf(near={limit.reason: ([], []) for limit in changed})
        self.columns = [
            "clip_id", "state", "stage", "reason", "duplicate_of", "start_s", "end_s",
            *(f"score_{name}" for name in self._limited),
        ]  # fmt: skip

    def add(self, table: pa.Table) -> None:
        """Counts the rows of a table before and after."""
        outcomes, codes = _outcomes(table)
        classes = np.array([_class_of(outcome) for outcome in outcomes], dtype=int)[codes]
        scores = Columns.of(table, self._limited)
        new = self._decide(table, scores, classes)
        lengths = _microseconds(table)
        _count(self.result.before, outcomes, codes, lengths)
        names = [*(_filtered(limit) for limit in self._all), _KEPT, _NEEDS]
        stays = new == _STAYS
        _count(self.result.after, outcomes, codes[stays], lengths[stays])
        _count(self.result.after, names, new[~stays], lengths[~stays])
        was = np.array([outcome == _KEPT for outcome in outcomes], dtype=bool)[codes]
        now = (new == len(self._all)) | (stays & was)
        _add(self.result.gained, now & ~was, lengths)
        _add(self.result.lost, was & ~now, lengths)
        if self._compares:
            self.result.uncompared += int((now & np.isin(classes, (_STOPPED, _COPY))).sum())
        passing = now | (new == len(self._all) + 1)
        for limit in self._changed:
            self._note_near(table, scores, limit, passing, new == self._all.index(limit))

    def _decide(self, table: pa.Table, scores: Columns, classes: np.ndarray) -> np.ndarray:
        """(rows,) int: number of the limit that stops a clip, then that of kept, of needs_scoring, or `_STAYS`."""
        kept, needs, rows = len(self._all), len(self._all) + 1, table.num_rows
        early = np.isin(classes, (_STOPPED, _COPY))
        unknown = {
            name: early & (~scores.there[name] | (self._recaptioned and name == "caption_words"))
            for name in self._limited
            if name in self._taken
        }
        cheap = first_missed(scores, self._cheap, rows)
        missed = first_missed(scores, self._all, rows, unknown)
        full = np.where(cheap >= 0, self._renumber(cheap), missed)
        waiting = np.zeros(rows, dtype=bool)
        for mask in unknown.values():
            waiting |= mask
        new = np.where(full >= 0, full, np.where(waiting, needs, kept))
        copies_stay = (classes == _COPY) & (cheap < 0) & ~self._orphaned(table, classes)
        uncut_stay = (classes == _UNCUT) & (full < 0)
        broken_stay = (classes == _BROKEN) & (cheap < 0)  # a model failed on it: its scores say nothing
        new[(classes == _FIXED) | copies_stay | uncut_stay | broken_stay] = _STAYS
        return new

    def _renumber(self, cheap: np.ndarray) -> np.ndarray:
        """Numbers of cheap limits as those among all of them."""
        return np.array([*(self._all.index(limit) for limit in self._cheap), -1], dtype=int)[cheap]

    def _orphaned(self, table: pa.Table, classes: np.ndarray) -> np.ndarray:
        """Copies of clips that are now stopped before they meet."""
        if not len(self._stopped) or not (classes == _COPY).any():
            return np.zeros(table.num_rows, dtype=bool)
        hits = pc.is_in(table["duplicate_of"], value_set=self._stopped)
        return np.asarray(hits.to_numpy(zero_copy_only=False), dtype=bool)

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


def _taken_later(run: RunInfo) -> frozenset[str]:
    """Scores that a stage of this run takes after the cheap filters and the search for copies."""
    return frozenset(
        score.name for score in SCORES if score.stage not in CHEAP_STAGES and run.stages.get(score.stage) == "run"
    )


def _class_of(outcome: Outcome) -> int:
    state, stage, reason = outcome
    if state == ClipState.DUPLICATE:
        return _COPY
    if state == ClipState.FILTERED:
        score = _BY_REASON.get(reason)
        if score is None or score.stage != stage:  # too short to be a clip, taken down: no limit changes that
            return _FIXED
        return _STOPPED if stage in CHEAP_STAGES else _THROUGH
    if state == ClipState.FAILED:
        return _UNCUT if stage == "cut" else _BROKEN
    return _THROUGH


def _filtered(limit: Limit) -> Outcome:
    return (ClipState.FILTERED, limit.score.stage, limit.reason)


def _outcomes(table: pa.Table) -> tuple[list[Outcome], np.ndarray]:
    """The distinct outcomes of a table, and which of them each row has."""
    joined = pc.binary_join_element_wise(table["state"], table["stage"], table["reason"], "\x1f").combine_chunks()
    encoded = joined.dictionary_encode()
    distinct: list[Outcome] = []
    for text in encoded.dictionary.to_pylist():
        state, stage, reason = text.split("\x1f")
        distinct.append((state, stage, reason))
    return distinct, encoded.indices.to_numpy(zero_copy_only=False).astype(int)


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
