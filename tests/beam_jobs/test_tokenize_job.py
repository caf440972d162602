import json
import shutil
from pathlib import Path

import pytest
import webdataset

from beam_jobs.tokenize_job import main
from beam_jobs.unchanged import forget
from media.parquet import read_parquet
from media.tar import read_samples
from schemas.shards import DatasetInfo, decode_sample
from tests.beam_jobs.conftest import Tokenize
from tests.beam_jobs.runs import ledger, timings, tree


@pytest.fixture
def copy_of_tokens(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "set"))


def dataset(folder: Path) -> DatasetInfo:
    return DatasetInfo.from_json((folder / "dataset.json").read_text())


def test_every_clip_ends_in_one_state(tokens: Path, curated: Path) -> None:
    kept = {row["clip_id"] for row in ledger(curated, "clips") if row["state"] == "kept"}
    rows = {row["clip_id"]: row for row in ledger(tokens, "clips")}
    assert rows.keys() == kept
    assert {row["state"] for row in rows.values()} <= {"tokenized", "filtered"}
    assert all(row["reason"] == "too_short" for row in rows.values() if row["state"] == "filtered")
    assert sum(row["num_samples"] for row in rows.values()) == dataset(tokens).counts["samples"]


def test_samples_have_the_shapes_of_the_format(tokens: Path) -> None:
    found = 0
    for shard in dataset(tokens).shards:
        for key, members in read_samples(tokens / shard.name):
            sample = decode_sample(key, members)
            assert sample.arrays["video"].shape == (5, 4, 4)
            assert sample.arrays["video_64x64"].shape == (5, 8, 8)
            assert sample.arrays["audio"].shape in ((4, 106), (4, 0))
            assert sample.arrays["text"].shape[1] == 16
            found += 1
    assert found == dataset(tokens).counts["samples"] > 0


def test_the_shards_open_in_webdataset(tokens: Path) -> None:
    shards = [str(tokens / shard.name) for shard in dataset(tokens).shards]
    keys = [sample["__key__"] for sample in webdataset.WebDataset(shards, shardshuffle=False, empty_check=False)]
    assert len(keys) == dataset(tokens).counts["samples"]


def test_one_source_is_never_in_both_splits(tokens: Path) -> None:
    rows = read_parquet(str(tokens / "samples-*.parquet")).to_pylist()
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["source_id"], set()).add(row["split"])
        assert row["shard"].startswith(row["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_again_and_nothing_is_even_begun(
    tokenize: Tokenize, copy_of_tokens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = (copy_of_tokens / "timings.json").stat().st_mtime_ns
    assert tokenize(copy_of_tokens) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (copy_of_tokens / "timings.json").stat().st_mtime_ns == began


def test_again_and_no_byte_differs(tokenize: Tokenize, copy_of_tokens: Path) -> None:
    forget(str(copy_of_tokens))  # else nothing would be begun
    before = tree(copy_of_tokens)
    assert tokenize(copy_of_tokens) == 0
    assert tree(copy_of_tokens) == before
    assert "items" not in timings(copy_of_tokens)["tokenize"]


def test_another_shard_size_tokenizes_nothing_anew(tokenize: Tokenize, copy_of_tokens: Path) -> None:
    before = tree(copy_of_tokens)
    assert tokenize(copy_of_tokens, "--shards.max_bytes", "10240") == 0
    assert "items" not in timings(copy_of_tokens)["tokenize"]
    assert len(dataset(copy_of_tokens).shards) > len([name for name in before if name.endswith(".tar")])
    assert tokenize(copy_of_tokens) == 0
    assert tree(copy_of_tokens) == before


def test_limit_takes_the_first_clips(tokenize: Tokenize, curated: Path, tmp_path: Path) -> None:
    tokenize(tmp_path / "one", "--limit", "1")
    first = min(row["clip_id"] for row in ledger(curated, "clips") if row["state"] == "kept")
    assert [row["clip_id"] for row in ledger(tmp_path / "one", "clips")] == [first]


def test_a_shard_below_the_wanted_quality_is_quarantined(
    tokenize: Tokenize, copy_of_tokens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tokenize(copy_of_tokens, "--quality.every", "1", "--quality.min_psnr_db", "90") == 1
    assert "quarantined: " in capsys.readouterr().out
    assert dataset(copy_of_tokens).shards == []
    assert json.loads((copy_of_tokens / "quality.json").read_text())["all"]["num_measured"] > 0


def test_a_folder_that_is_no_finished_run_is_refused(model_flags: list[str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run\.json in .*reelmill curate"):
        main(["--input", str(tmp_path), "--output", str(tmp_path / "out"), *model_flags])


def test_a_run_without_clips_is_refused(curated: Path, model_flags: list[str], tmp_path: Path) -> None:
    run = json.loads((curated / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**run, "shards": []}))
    with pytest.raises(ValueError, match="neither clip shards nor a ledger"):
        main(["--input", str(tmp_path), "--output", str(tmp_path / "out"), *model_flags])
