"""The same shards and rows through other people's readers."""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from media.parquet import write_parquet
from schemas.arrow import SAMPLES_SCHEMA
from tests.tokenize_shards.token_samples import TOKENIZERS, make_dataset, make_sample
from tokenize_shards.writer import sample_dict, write_shard


def test_webdataset_reads_the_same(tmp_path: Path) -> None:
    import webdataset as wds

    made = make_dataset(tmp_path, {"train": [5]})
    read = list(wds.WebDataset(str(tmp_path / "train-00000.tar"), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in read] == [sample.key for sample in made]
    for theirs, ours in zip(read, made, strict=True):
        assert all(np.array_equal(theirs[f"{name}.npy"], array) for name, array in ours.arrays.items())
        assert theirs["json"]["caption"] == ours.meta["caption"]


def test_hugging_face_datasets_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    made = make_dataset(tmp_path / "tokens", {"train": [3, 3]})
    files = {"train": str(tmp_path / "tokens" / "train-*.tar")}
    read = list(datasets.load_dataset("webdataset", data_files=files, split="train", streaming=True))
    assert [sample["__key__"] for sample in read] == [sample.key for sample in made]
    for theirs, ours in zip(read, made, strict=True):
        assert np.array_equal(np.asarray(theirs["video.npy"]), ours.arrays["video"])
        assert theirs["json"]["caption"] == ours.meta["caption"]


def test_plain_tar_reads_the_same(tmp_path: Path) -> None:
    made = make_dataset(tmp_path, {"train": [2]})
    with tarfile.open(tmp_path / "train-00000.tar") as tar:
        names = tar.getnames()
    assert names[:4] == [f"{made[0].key}.{member}" for member in ("video.npy", "audio.npy", "text.npy", "json")]


def test_duckdb_reads_the_rows(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    rows = write_shard(str(tmp_path), "x.tar", "train", [make_sample(n) for n in range(4)], TOKENIZERS).rows
    write_parquet(tmp_path / "samples-00000.parquet", map(sample_dict, rows), SAMPLES_SCHEMA)
    query = f"SELECT shard, count(*), avg(psnr_db) FROM '{tmp_path}/samples-*.parquet' GROUP BY shard"
    assert duckdb.sql(query).fetchall() == [("x.tar", 4, 21.0)]
