"""A run's ledger read a row group at a time: memory stays the same however many rows there are."""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from media import storage
from schemas.run import RunInfo

CLIPS, SOURCES = "clips", "sources"
_SMALL = 32 * 2**20  # files up to this many bytes are read at once; larger ones row group by row group

Row = dict[str, Any]


def read_run_info(run_dir: str) -> RunInfo:
    """What `run.json` says.

    Raises:
        FileNotFoundError: the folder holds no finished run.
    """
    path = storage.join(run_dir, "run.json")
    if not storage.exists(path):
        raise FileNotFoundError(
            f"{run_dir} holds no finished run: there is no run.json; give the --output folder of `reelmill curate`, "
            "and let an unfinished run finish first"
        )
    try:
        return RunInfo.from_json(storage.read_bytes(path).decode())
    except (KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not the manifest of a curated run ({error!r}); curate again") from None


def row_groups(
    run_dir: str, kind: str, columns: Sequence[str], between: tuple[str, str] | None = None
) -> Iterator[pa.Table]:
    """The rows of `ledger/<kind>-*.parquet`, one row group after the other.

    Args:
        between: only row groups whose first column, by which the ledger is sorted, may lie in [first, last].

    Raises:
        FileNotFoundError: there is no such ledger.
        ValueError: a file is not Parquet.
    """
    paths = storage.list_files(storage.join(run_dir, "ledger"), f"{kind}-*.parquet")
    if not paths:
        raise FileNotFoundError(f"{run_dir} has no ledger/{kind}-*.parquet; is it a folder of `reelmill curate`?")
    for path in paths:
        try:
            with _opened(path) as file:
                table = pq.ParquetFile(file)
                for index in range(table.num_row_groups):
                    if between is None or _may_hold(table.metadata.row_group(index), between):
                        yield table.read_row_group(index, columns=list(columns))
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a readable Parquet file: {error}; run `reelmill curate` again") from error


def rows_of(run_dir: str, kind: str, column: str, values: Iterable[str], columns: Sequence[str] | None = None) -> list:
    """The rows whose `column` is one of the values, in the ledger's order; all their columns where none are named."""
    wanted = pa.array(sorted(set(values)), pa.string())
    sorted_by = {CLIPS: "clip_id", SOURCES: "source_id"}.get(kind)
    between = (wanted[0].as_py(), wanted[-1].as_py()) if column == sorted_by and len(wanted) else None
    names = list(columns or column_names(run_dir, kind))
    read = [*names, *([] if column in names else [column])]
    found: list[Row] = []
    if len(wanted):
        for table in row_groups(run_dir, kind, read, between):
            hits = table.filter(pc.is_in(table[column], value_set=wanted))
            found += hits.select(names).to_pylist()
    return found


def rows_with_prefix(run_dir: str, kind: str, prefix: str, limit: int) -> list[Row]:
    """Up to `limit` rows whose id begins with the prefix."""
    column = f"{kind.removesuffix('s')}_id"
    found: list[Row] = []
    for table in row_groups(run_dir, kind, column_names(run_dir, kind), (prefix, prefix + "\uffff")):
        found += table.filter(pc.starts_with(table[column], prefix)).to_pylist()
        if len(found) >= limit:
            break
    return found[:limit]


def column_names(run_dir: str, kind: str) -> list[str]:
    """The columns that the ledger has."""
    path = storage.list_files(storage.join(run_dir, "ledger"), f"{kind}-*.parquet")[:1]
    if not path:
        raise FileNotFoundError(f"{run_dir} has no ledger/{kind}-*.parquet; is it a folder of `reelmill curate`?")
    with storage.open_read(path[0]) as file:
        return [str(name) for name in pq.read_schema(file).names]


def _opened(path: str) -> Any:
    """The file, open for reading in any order."""
    if storage.size(path) <= _SMALL:
        return io.BytesIO(storage.read_bytes(path))
    return storage.open_read(path)


def _may_hold(group: Any, between: tuple[str, str]) -> bool:
    """Whether the statistics of the first column leave room for a value in [first, last]."""
    statistics = group.column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(str(statistics.min) <= between[1] and str(statistics.max) >= between[0])
