"""Parquet tables with equal bytes for equal rows, on any file system."""

import io
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from media import storage

_ROW_GROUP = 10_000


def write_parquet(path: str | Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> None:
    """Writes the rows in the order given, whole or not at all; keys a row lacks are null.

    Raises:
        ValueError: a row has a key that the schema has not, or a value of another type.
    """
    known, sink, iterator = set(schema.names), io.BytesIO(), iter(rows)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(iterator, _ROW_GROUP)):
            for row in group:
                if unknown := sorted(row.keys() - known):
                    raise ValueError(f"row for {path} has unknown columns {unknown}; the schema has {schema.names}")
            try:
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(f"a row does not fit the schema of {path}: {error}") from error
    storage.write_bytes_atomic(path, sink.getvalue())


def read_parquet(pattern: str | Path, columns: list[str] | None = None) -> pa.Table:
    """One table of a file, of all `*.parquet` of a folder, or of all files that match a pattern, in name order.

    Raises:
        FileNotFoundError: nothing matches.
        ValueError: a file is not Parquet.
    """
    tables = []
    for path in _matching(str(pattern)):
        try:
            tables.append(pq.read_table(io.BytesIO(storage.read_bytes(path)), columns=columns))
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    return pa.concat_tables(tables, promote_options="default")


def _matching(pattern: str) -> list[str]:
    if pattern.endswith(".parquet") and storage.exists(pattern):
        return [pattern]
    folder, glob = pattern, "*.parquet"
    if any(letter in pattern.rsplit("/", 1)[-1] for letter in "*?["):
        folder, _, glob = pattern.rpartition("/")
    found = storage.list_files(folder or ".", glob)
    if not found:
        raise FileNotFoundError(f"no Parquet file matches {pattern!r}; name a file, a folder or a pattern")
    return found
