"""Inputs on their way into a job: written to part files, read by the workers, grouped by address."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.record_json import from_json, to_json
from beam_jobs.units import Units
from media import storage
from schemas.identity import fingerprint
from schemas.records import Source

_PART = 50_000  # sources per part file: what one worker reads


def write_parts(units: Units, sources: Sequence[Source]) -> list[str]:
    """Writes the inputs as part files, so that a job's graph does not grow with them; returns the paths.

    Large files come first: a local runner deals its groups out like cards, one static share for each worker, and
    shares are then nearly equal.
    """
    ordered = sorted(sources, key=_size, reverse=True)
    paths = []
    for start in range(0, len(ordered), _PART):
        data = b"\n".join(to_json(source) for source in ordered[start : start + _PART])
        fp = fingerprint("inputs", data)
        units.put("inputs", fp, data, ".jsonl")
        paths.append(units.path("inputs", fp, ".jsonl"))
    return paths


def read_part(path: str) -> Iterable[Source]:
    """The inputs of a part file."""
    return [from_json(Source, line) for line in storage.read_bytes(path).splitlines()]


class ReadSources(beam.PTransform):
    """Part files → (address, its inputs): an address that several rows name is fetched once."""

    def __init__(self, paths: Sequence[str]):
        super().__init__()
        self._paths = list(paths)

    def expand(self, pcoll: PCollection) -> PCollection:
        return (
            pcoll
            | "Parts" >> beam.Create(self._paths)
            | "Read" >> beam.FlatMap(read_part)
            | "ByAddress" >> beam.Map(lambda source: (source.uri, source)).with_output_types(tuple[str, Source])
            | "Spread" >> beam.GroupByKey()
        )


def _size(source: Source) -> int:
    """Bytes of a local input; 0 for what is elsewhere or missing."""
    try:
        return Path(source.uri).stat().st_size if storage.is_local(source.uri) else 0
    except OSError:
        return 0
