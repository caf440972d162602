"""The ledger: one row for every input and every candidate clip, sorted, in parts that one worker can hold."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.products import Products
from media.parquet import write_parquet
from media.shard_plan import bucket_of
from schemas.identity import fingerprint
from schemas.records import SourceRow

LEDGER = "ledger"
CLIPS_LEDGER, SOURCES_LEDGER = f"{LEDGER}/clips", f"{LEDGER}/sources"
ROWS_PER_PART = 200_000

Row = dict[str, Any]


def part_name(prefix: str, index: int) -> str:
    """`ledger/clips-00000.parquet` for the prefix `ledger/clips`."""
    return f"{prefix}-{index:05d}.parquet"


def write_part(products: Products, name: str, rows: Iterable[Row], schema: pa.Schema, order: tuple[str, ...]) -> str:
    """Writes one part, its rows sorted by these columns, unless the same is there; returns its name."""
    ordered = sorted(rows, key=lambda row: tuple(row[column] for column in order))

    def write(path: str) -> dict[str, Any]:
        write_parquet(path, ordered, schema)
        return {}

    products.produce(name, fingerprint(ordered, schema.to_string()), write)
    return name


def source_dict(row: SourceRow) -> Row:
    """The row keyed by its Parquet columns."""
    return asdict(row)


class _PartFn(beam.DoFn):
    def __init__(self, products: Products, prefix: str, schema: pa.Schema, order: tuple[str, ...]):
        self._products, self._prefix, self._schema, self._order = products, prefix, schema, order

    def process(self, element: tuple[int, Iterable[Row]]) -> Iterable[str]:
        index, rows = element
        yield write_part(self._products, part_name(self._prefix, index), rows, self._schema, self._order)


class WriteLedger(beam.PTransform):
    """Rows → names of the ledger's parts.

    Args:
        prefix: of the files' names, within the output folder.
        order: columns to sort by; the first begins with the hex digits of a hash and decides the part.
    """

    def __init__(self, products: Products, prefix: str, schema: pa.Schema, order: tuple[str, ...]):
        super().__init__()
        self._products, self._prefix, self._schema, self._order = products, prefix, schema, order

    def expand(self, rows: PCollection) -> PCollection:
        parts = (
            rows
            | "Count" >> beam.combiners.Count.Globally()
            | "Parts" >> beam.Map(lambda count: 1 + count // ROWS_PER_PART)
        )
        keyed = rows | "ByHash" >> beam.Map(_keyed, AsSingleton(parts), self._order[0]).with_output_types(
            tuple[int, dict[str, Any]]
        )
        return (
            keyed
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_PartFn(self._products, self._prefix, self._schema, self._order))
        )


def _keyed(row: Row, parts: int, column: str) -> tuple[int, Row]:
    return bucket_of(row[column], parts), row
