"""The shard writer: bytes, atomicity, what a shard may hold, splits."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from media.tar import read_samples
from schemas.arrow import SAMPLES_SCHEMA
from schemas.shards import DatasetInfo, TokenSample, decode_sample
from tests.tokenize_shards.token_samples import TOKENIZERS, make_dataset, make_sample
from tokenize_shards.settings import SplitSettings
from tokenize_shards.writer import (
    dataset_counts,
    members_of,
    read_dataset,
    sample_bytes,
    sample_dict,
    split_of,
    vocabulary_sizes,
    write_shard,
)


def test_a_shard_is_described_by_what_was_written(tmp_path: Path) -> None:
    samples = [make_sample(n) for n in range(3)]
    written = write_shard(str(tmp_path), "train-00000.tar", "train", samples, TOKENIZERS)
    data = (tmp_path / "train-00000.tar").read_bytes()
    assert (written.info.num_samples, written.info.num_bytes) == (3, len(data))
    assert written.info.resolution == (32, 32)
    assert sum(map(sample_bytes, samples)) <= len(data)
    read = [decode_sample(key, members) for key, members in read_samples(tmp_path / "train-00000.tar")]
    assert [sample.key for sample in read] == [sample.key for sample in samples]
    assert all(np.array_equal(a.arrays["video"], b.arrays["video"]) for a, b in zip(read, samples, strict=True))
    row = written.rows[1]
    assert (row.key, row.num_video_tokens, row.num_audio_tokens, row.psnr_db) == (samples[1].key, 48, 28, None)
    assert set(sample_dict(row)) == set(SAMPLES_SCHEMA.names)
    assert written.quality.psnr_db == 21.0 and written.quality.num_measured == 2
    assert not list(tmp_path.glob(".*"))


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_shard(str(tmp_path / folder), "x.tar", "train", [make_sample(n) for n in range(3)], TOKENIZERS)
    assert (tmp_path / "a/x.tar").read_bytes() == (tmp_path / "b/x.tar").read_bytes()


def other_resolution(sample: TokenSample) -> TokenSample:
    return replace(sample, meta={**sample.meta, "resolution": [64, 32]})


def without_audio(sample: TokenSample) -> TokenSample:
    return replace(sample, arrays={name: a for name, a in sample.arrays.items() if name != "audio"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(other_resolution, "does not fit shard", id="aspect-buckets-never-share-a-shard"),
        pytest.param(without_audio, "does not fit shard", id="other-members"),
        pytest.param(lambda _: make_sample(0), "twice", id="one-key-twice"),
        pytest.param(lambda s: replace(s, key="a.b"), "may hold letters", id="key-with-a-dot"),
        pytest.param(lambda s: replace(s, arrays={"pose": np.zeros(1)}), "does not fit", id="unknown-member"),
    ],
)
def test_a_sample_that_does_not_fit_stops_the_shard_and_harms_nothing(tmp_path: Path, change, message: str) -> None:
    write_shard(str(tmp_path), "x.tar", "train", [make_sample(7)], TOKENIZERS)
    before = (tmp_path / "x.tar").read_bytes()
    with pytest.raises(ValueError, match=message):
        write_shard(str(tmp_path), "x.tar", "train", [make_sample(0), change(make_sample(1))], TOKENIZERS)
    assert (tmp_path / "x.tar").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_an_empty_shard_is_refused_and_not_left_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no samples"):
        write_shard(str(tmp_path), "x.tar", "train", [], TOKENIZERS)
    assert list(tmp_path.iterdir()) == []


def test_types_are_the_formats_own(tmp_path: Path) -> None:
    sample = make_sample(0)
    wrong = replace(sample, arrays={**sample.arrays, "video": sample.arrays["video"].astype(np.int64)})
    with pytest.raises(ValueError, match="is int64, the format wants uint32"):
        write_shard(str(tmp_path), "x.tar", "train", [wrong], TOKENIZERS)


def sidecar(content: str, split: str | None = None) -> dict:
    return {"source_id": "s", "content_sha256": content, "extra": {"part": split} if split else {}}


def test_the_split_goes_by_content_and_holds_its_share() -> None:
    settings = SplitSettings(val_fraction=0.1)
    splits = [split_of(sidecar(str(n)), settings) for n in range(2000)]
    assert 150 < Counter(splits)["val"] < 250
    assert splits == [split_of({**sidecar(str(n)), "source_id": f"{n}"}, settings) for n in range(2000)]
    assert {split_of(sidecar(str(n)), SplitSettings(val_fraction=0)) for n in range(50)} == {"train"}


def test_a_smaller_share_holds_out_a_subset_of_a_larger() -> None:
    small, large = SplitSettings(val_fraction=0.05), SplitSettings(val_fraction=0.2)
    for n in range(500):
        assert split_of(sidecar(str(n)), small) == "train" or split_of(sidecar(str(n)), large) == "val"


def test_a_manifest_column_can_decide_the_split() -> None:
    settings = SplitSettings(column="part")
    assert [split_of(sidecar("x", part), settings) for part in ("val", "train")] == ["val", "train"]
    assert split_of({**sidecar("x"), "extra": json.dumps({"part": "val"})}, settings) == "val"
    with pytest.raises(ValueError, match="source s has None"):
        split_of(sidecar("x"), settings)


def test_dataset_file_round_trips(tmp_path: Path) -> None:
    made = make_dataset(tmp_path, {"train": [2], "val": [1]})
    info = read_dataset(str(tmp_path))
    assert isinstance(info, DatasetInfo) and info.tokenizers == TOKENIZERS
    assert [shard.name for shard in info.shards] == ["train-00000.tar", "val-00000.tar"]
    assert info.counts == {"samples": len(made)}


def test_counts_and_vocabulary() -> None:
    samples = [make_sample(n) for n in range(4)]
    assert members_of(samples) == ["video", "audio", "text"]
    sizes = vocabulary_sizes(TOKENIZERS)
    assert (sizes["visual_offset"], sizes["audio_offset"], sizes["size"]) == (256, 262400, 266496)


def test_counts_add_up(tmp_path: Path) -> None:
    rows = write_shard(str(tmp_path), "x.tar", "val", [make_sample(n) for n in range(4)], TOKENIZERS).rows
    counts = dataset_counts(rows)
    assert (counts["samples"], counts["samples.val"], counts["clips"], counts["sources"]) == (4, 4, 4, 3)
    assert (counts["video_tokens"], counts["audio_tokens"]) == (4 * 48, 4 * 28)
