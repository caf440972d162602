"""Tables keep their rows, their schema and their bytes."""

from pathlib import Path

import pyarrow as pa
import pytest

from media.parquet import read_parquet, write_parquet

SCHEMA = pa.schema([pa.field("name", pa.string(), nullable=False), pa.field("score", pa.float64())], {"v": "1"})


def test_rows_and_schema_come_back(tmp_path: Path) -> None:
    rows = [{"name": "a", "score": 0.5}, {"name": "b"}]
    write_parquet(tmp_path / "t.parquet", iter(rows), SCHEMA)
    table = read_parquet(tmp_path / "t.parquet")
    assert table.to_pylist() == [{"name": "a", "score": 0.5}, {"name": "b", "score": None}]
    assert table.schema.metadata[b"v"] == b"1"


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_parquet(tmp_path / name, ({"name": str(i), "score": i / 3} for i in range(25_000)), SCHEMA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("pattern", ["", "/part-*.parquet"])
def test_folders_and_patterns_are_read_in_name_order(tmp_path: Path, pattern: str) -> None:
    for index in (1, 0):
        write_parquet(tmp_path / f"part-{index}.parquet", [{"name": str(index)}], SCHEMA)
    assert read_parquet(f"{tmp_path}{pattern}")["name"].to_pylist() == ["0", "1"]


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    write_parquet(tmp_path / "t.parquet", [], SCHEMA)
    assert read_parquet(tmp_path).num_rows == 0


@pytest.mark.parametrize("row", [{"name": "a", "other": 1}, {"name": 3.5}], ids=["unknown column", "wrong type"])
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, row: dict) -> None:
    with pytest.raises(ValueError, match="schema"):
        write_parquet(tmp_path / "t.parquet", [row], SCHEMA)
    assert not (tmp_path / "t.parquet").exists()


def test_what_is_missing_or_no_parquet_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no Parquet file"):
        read_parquet(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"not parquet")
    with pytest.raises(ValueError, match=r"x\.parquet"):
        read_parquet(tmp_path / "x.parquet")
