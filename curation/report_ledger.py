"""What the report needs of the ledger, gathered a row group at a time: memory does not grow with the rows.

Counts and lengths are exact. Of more than `MAX_VALUES` clips the histograms take every n-th: the ledger is sorted by a
hash, so that is a fair sample, and the same one for the same ledger.
"""

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.ledger_rows import Row
from curation.report_records import FailureGroup, Outcome, Values
from schemas.scores import SCORES

MAX_VALUES, MAX_FAILURES, MAX_NEAR = 1_000_000, 12, 6
SOURCE_COLUMNS = ["state", "stage", "reason", "uri", "detail", "duration_s", "num_clips"]
CLIP_COLUMNS = [
    "clip_id", "uri", "start_s", "end_s", "caption", "caption_source", "state", "stage", "reason", "score",
    "threshold", "duplicate_of", "detail", *(f"score_{score.name}" for score in SCORES),
]  # fmt: skip


def limit_order(limits: Mapping[str, Any]) -> list[str]:
    """Names of the limits that are on, in the order in which clips meet them."""
    names = (f"{side}_{score.name}" for score in SCORES for side in ("min", "max"))
    return [name for name in names if limits.get(name) is not None]


class Failures:
    """What failed, by stage and reason: how many, and the first of them by name."""

    def __init__(self, what: str):
        self._what = what
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)

    def add(self, table: pa.Table) -> None:
        failed = table.filter(pc.equal(table["state"], "failed")).select(["stage", "reason", "uri", "detail"])
        for row in failed.to_pylist():
            key = (row["stage"], row["reason"])
            self._counts[key] += 1
            insort(self._first[key], (row["uri"], row["detail"]))
            del self._first[key][MAX_FAILURES:]

    def groups(self) -> list[FailureGroup]:
        """The most frequent first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [FailureGroup(self._what, *key, count, tuple(self._first[key])) for key, count in ordered]


class SourceSums:
    """Inputs: states, why those that are not done are not, and how much video there is."""

    def __init__(self, groups: Iterable[pa.Table]):
        self.states: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.seconds, self.with_clips = 0.0, 0
        self.failures = Failures("input")
        for table in groups:
            states, reasons = table["state"].to_pylist(), table["reason"].to_pylist()
            self.states.update(states)
            self.lost.update(reason or state for state, reason in zip(states, reasons, strict=True) if state != "done")
            self.seconds += float(pc.sum(table["duration_s"]).as_py() or 0.0)
            self.with_clips += int(pc.sum(pc.greater(table["num_clips"], 0)).as_py() or 0)
            self.failures.add(table)

    @property
    def total(self) -> int:
        return sum(self.states.values())


class ClipSums:
    """Candidate clips: outcomes with their lengths, scores, failures, the clips nearest to each limit, some whole rows.

    Args:
        groups: row groups with `CLIP_COLUMNS`.
        total: how many rows they have together.
        limits: by name (`min_motion`), a number or None.
        wanted: ids of clips whose rows are kept.
    """

    def __init__(self, groups: Iterable[pa.Table], total: int, limits: Mapping[str, Any], wanted: Iterable[str]):
        self.counts: Counter[Outcome] = Counter()
        self.seconds: dict[Outcome, float] = defaultdict(float)
        self.failures = Failures("clip")
        self.rows: dict[str, Row] = {}
        self.nearest: dict[tuple[str, str], list[tuple[float, str]]] = {}
        self.every = max(1, -(-total // MAX_VALUES))
        self._wanted = pa.array(sorted(wanted), pa.string())
        self._limits = limits
        self._kept: dict[str, list[np.ndarray]] = defaultdict(list)
        self._rejected: dict[str, list[np.ndarray]] = defaultdict(list)
        self._seen = 0
        for table in groups:
            self._add(table)

    def _add(self, table: pa.Table) -> None:
        self._add_outcomes(table)
        self.failures.add(table)
        for row in table.filter(pc.is_in(table["clip_id"], value_set=self._wanted)).to_pylist():
            self.rows.setdefault(row["clip_id"], row)
        kept = pc.equal(table["state"], "kept").to_numpy(zero_copy_only=False)
        scores = {}
        for score in SCORES:
            column = table[f"score_{score.name}"].to_numpy(zero_copy_only=False).astype(np.float64)
            if np.isfinite(column).any():
                scores[score.name] = column
        self._add_values(scores, kept)
        self._add_nearest(table, scores, kept)
        self._seen += table.num_rows

    def _add_outcomes(self, table: pa.Table) -> None:
        lengths = pc.subtract(table["end_s"], table["start_s"])
        grouped = table.select(["state", "stage", "reason"]).append_column("length", lengths)
        sums = grouped.group_by(["state", "stage", "reason"], use_threads=False).aggregate(
            [("length", "sum"), ("length", "count")]
        )
        for row in sums.to_pylist():
            key = (row["state"], row["stage"], row["reason"])
            self.counts[key] += row["length_count"]
            self.seconds[key] += row["length_sum"]

    def _add_values(self, scores: Mapping[str, np.ndarray], kept: np.ndarray) -> None:
        taken = (np.arange(self._seen, self._seen + len(kept)) % self.every) == 0
        for name, column in scores.items():
            there = taken & np.isfinite(column)
            self._kept[name].append(column[there & kept])
            self._rejected[name].append(column[there & ~kept])

    def _add_nearest(self, table: pa.Table, scores: Mapping[str, np.ndarray], kept: np.ndarray) -> None:
        ids = table["clip_id"]
        for name in limit_order(self._limits):
            column = scores.get(name[4:])
            if column is None:
                continue
            upward = 1.0 if name.startswith("min_") else -1.0
            stopped = pc.equal(table["reason"], name).to_numpy(zero_copy_only=False) & ~kept
            for state, mask, rank in (("kept", kept, upward * column), ("filtered", stopped, -upward * column)):
                rows = np.flatnonzero(mask & np.isfinite(column))
                rows = rows[np.argsort(rank[rows], kind="stable")[:MAX_NEAR]]
                found = self.nearest.setdefault((state, name), [])
                found += [(float(rank[row]), ids[int(row)].as_py()) for row in rows]
                self.nearest[state, name] = sorted(found)[:MAX_NEAR]

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def values(self) -> tuple[list[Values], list[str]]:
        """(scores with their values, names of those that no clip has)."""
        values, unmeasured = [], []
        for score in SCORES:
            if score.name not in self._kept:
                unmeasured.append(score.name)
                continue
            low, high = (self._limits.get(f"{side}_{score.name}") for side in ("min", "max"))
            kept, rejected = np.concatenate(self._kept[score.name]), np.concatenate(self._rejected[score.name])
            if len(kept) + len(rejected):
                values.append(Values(score, kept, rejected, low, high))
        return values, unmeasured
