"""What came of a run: exact sums from the workers, and the proof that nothing was lost or counted twice."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.flow import SourceResult
from beam_jobs.units import Units
from media import storage
from schemas.records import Clip, Span
from schemas.run import ClipShard
from schemas.states import ClipState, SourceState

Count = tuple[str, int]
_OUTCOME = "outcome"


def count_source(result: SourceResult) -> list[Count]:
    """What one input adds to the sums; times are whole microseconds, so that any order adds up to the same."""
    counts = [("sources", 1), (f"sources.{result.state}", 1), ("clips.candidates", len(result.clips()))]
    if result.state is not SourceState.DONE:
        counts.append((f"sources.{result.state}:{result.stage}/{result.reason}", 1))
    if result.analysis and result.state is SourceState.DONE and result.analysis.probe.duration_s:
        counts.append(("us.sources", round(result.analysis.probe.duration_s * 1_000_000)))
    return counts


def count_clip(clip: Clip) -> list[Count]:
    """What one clip with its verdict adds to the sums."""
    verdict = clip.verdict
    if verdict is None:
        raise ValueError(f"clip {clip.clip_id} reached the ledger without a verdict")
    length = ("us.candidates", _microseconds(clip.span))
    counts = [("clips", 1), (f"clips.{verdict.state}", 1), length]
    if verdict.state is ClipState.KEPT:
        return [*counts, ("us.kept", _microseconds(clip.span))]
    return [*counts, (f"clips.{verdict.state}:{verdict.stage}/{verdict.reason}", 1)]


def _microseconds(span: Span) -> int:
    return round(Fraction(span.end - span.start) * 1_000_000)


class WriteSums(beam.PTransform):
    """(name, number) → one small JSON file of sums among the units, which the command reads when the job is done."""

    def __init__(self, units: Units, name: str):
        super().__init__()
        self._path = outcome_path(units, name)

    def expand(self, counts: PCollection) -> PCollection:
        return (
            counts
            | "Sum" >> beam.CombinePerKey(sum)
            | "Collect" >> beam.combiners.ToDict()
            | "Write" >> beam.Map(_write_json, self._path)
        )


class WriteList(beam.PTransform):
    """Records with a name, or names alone → one small JSON file with all of them, sorted by name."""

    def __init__(self, units: Units, name: str):
        super().__init__()
        self._path = outcome_path(units, name)

    def expand(self, records: PCollection) -> PCollection:
        return (
            records
            | "Plain" >> beam.Map(_named)
            | "Collect" >> beam.combiners.ToList()
            | "Sort" >> beam.Map(_by_name)
            | "Write" >> beam.Map(_write_json, self._path)
        )


def outcome_path(units: Units, name: str) -> str:
    return storage.join(units.root, _OUTCOME, f"{name}.json")


def read_outcome(units: Units, name: str) -> Any:
    """What the workers wrote.

    Raises:
        RuntimeError: they wrote nothing, so the job did not come to its end.
    """
    try:
        return json.loads(storage.read_bytes(outcome_path(units, name)))
    except FileNotFoundError:
        raise RuntimeError(
            f"the job ended without its {name}: run the same command again, it goes on where it stopped"
        ) from None


def clear_outcome(units: Units) -> None:
    """Forgets what an earlier run came to."""
    storage.remove(storage.join(units.root, _OUTCOME))


def read_names(units: Units, name: str) -> list[str]:
    return [str(entry["name"]) for entry in read_outcome(units, name)]


def read_shards(units: Units) -> list[ClipShard]:
    return [ClipShard(**shard) for shard in read_outcome(units, "shards")]


def check_conservation(counts: Mapping[str, int], num_inputs: int) -> None:
    """Every input and every candidate clip has ended in exactly one state.

    Raises:
        RuntimeError: they have not; names the sums.
    """
    sources = [counts.get(f"sources.{state}", 0) for state in SourceState]
    clips = [counts.get(f"clips.{state}", 0) for state in ClipState]
    if sum(sources) != num_inputs:
        raise RuntimeError(
            f"{num_inputs} inputs went in, but done + duplicate + failed = {_sum(sources)}; this is a bug, please "
            "report it"
        )
    candidates = counts.get("clips.candidates", 0)
    if sum(clips) != candidates:
        raise RuntimeError(
            f"{candidates} candidate clips were found, but kept + filtered + duplicate + failed = {_sum(clips)}; "
            "this is a bug, please report it"
        )


def too_many_failures(num_failed: int, num_total: int, limit: float | None) -> bool:
    """Whether there are more failures than allowed: a count, or below 1 a share of all."""
    if limit is None:
        return False
    return num_failed > (limit if limit >= 1 or limit == 0 else limit * num_total)


def _sum(numbers: Iterable[int]) -> str:
    listed = list(numbers)
    return f"{' + '.join(str(number) for number in listed)} = {sum(listed)}"


def _named(record: Any) -> dict[str, Any]:
    return {"name": record} if isinstance(record, str) else asdict(record)


def _by_name(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: str(record["name"]))


def _write_json(value: Any, path: str) -> str:
    storage.write_bytes_atomic(path, json.dumps(value, sort_keys=True).encode())
    return path


def plural(count: int, noun: str) -> str:
    """`1 clip`, `2 clips`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
