"""The shard reader: same samples as other readers see, refusals, order, resume."""

import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from media import storage
from media.tar import write_tar
from schemas.shard_index import read_index
from schemas.shards import TokenSample, npy_bytes
from tests.tokenize_shards.token_samples import TOKENIZERS, make_dataset
from training.batches import BatchLoader, BatchPlan, BatchSettings
from training.shard_file import Shard
from training.shards import ShardDataset


def same(a: TokenSample, b: TokenSample) -> bool:
    return (
        a.key == b.key
        and a.arrays.keys() == b.arrays.keys()
        and all(x.dtype == b.arrays[name].dtype and np.array_equal(x, b.arrays[name]) for name, x in a.arrays.items())
    )


def test_reads_what_was_written(tmp_path: Path) -> None:
    made = make_dataset(tmp_path, {"train": [3, 4], "val": [2]})
    dataset = ShardDataset(tmp_path)
    assert len(dataset) == 7
    assert all(same(a, b) for a, b in zip(dataset, made[:7], strict=True))
    assert all(same(dataset[i], made[i]) for i in (6, 0, 3))
    assert dataset[2].meta["caption"] == made[2].meta["caption"]
    assert dataset.empty_caption is not None and dataset.empty_caption.shape == (2, 6)
    assert [s.key for s in ShardDataset(tmp_path, "val")] == [s.key for s in made[7:]]
    assert len(ShardDataset(tmp_path, "all")) == 9
    dataset.verify()


def test_reads_only_the_members_asked_for(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [2]})
    sample = ShardDataset(tmp_path, members=["video"], meta=False)[1]
    assert list(sample.arrays) == ["video"] and sample.meta == {}


def test_another_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [2]})
    ShardDataset(tmp_path, expected={"video": "a" * 64, "audio": TOKENIZERS["audio"]})
    with pytest.raises(ValueError, match=r"made by 'magvit2-test' a{12}, the model wants 'other' d{12}"):
        ShardDataset(tmp_path, expected={"video": replace(TOKENIZERS["video"], name="other", fingerprint="d" * 64)})
    with pytest.raises(ValueError, match="has no motion tokens"):
        ShardDataset(tmp_path, expected={"motion": "e" * 64})


def test_bad_input_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no dataset\.json in .*reelmill tokenize"):
        ShardDataset(tmp_path)
    make_dataset(tmp_path, {"train": [2]})
    with pytest.raises(ValueError, match=r"no samples of split 'val'.*splits there: train"):
        ShardDataset(tmp_path, "val")
    text = (tmp_path / "dataset.json").read_text()
    (tmp_path / "dataset.json").write_text(text.replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(ValueError, match="schema version 99"):
        ShardDataset(tmp_path)
    (tmp_path / "dataset.json").write_text(text[:100])
    with pytest.raises(ValueError, match="not a valid data set"):
        ShardDataset(tmp_path)
    (tmp_path / "dataset.json").write_text(text)
    (tmp_path / "train-00000.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"train-00000\.tar is missing"):
        ShardDataset(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda data: data[:-2000], "cut short or was replaced", id="truncated"),
        pytest.param(lambda data: b"x" * len(data), "no shard that Reelmill wrote", id="not-a-tar"),
        pytest.param(lambda data: data.replace(b"'<u4'", b"'|O8'", 1), "is damaged", id="object-dtype"),
        pytest.param(lambda data: data.replace(b"(3, 4, 4)", b"(9, 9, 9)"), "is damaged", id="wrong-shape"),
    ],
)  # fmt: skip
def test_damaged_shards_are_refused(tmp_path: Path, damage, message: str) -> None:
    make_dataset(tmp_path, {"train": [2]})
    shard = tmp_path / "train-00000.tar"
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(ValueError, match=message):
        list(ShardDataset(tmp_path))


def test_a_tar_cut_inside_a_member_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [2]})
    shard = tmp_path / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:900])
    with pytest.raises(ValueError, match="cut short after"):
        len(Shard(shard))


def without_index(shard: Path) -> bytes:
    """The shard as plain tools would have written it."""
    data = shard.read_bytes()
    found = read_index(data[-64:], len(data), str(shard))
    assert found is not None
    return data[: found[0]]


def test_the_index_says_what_walking_the_tar_says(tmp_path: Path) -> None:
    made = make_dataset(tmp_path, {"train": [5]})
    shard = tmp_path / "train-00000.tar"
    (tmp_path / "plain.tar").write_bytes(without_index(shard))
    with_index, plain = Shard(shard).index, Shard(tmp_path / "plain.tar").index
    assert np.array_equal(with_index.table, plain.table)
    assert (with_index.names, with_index.arrays, with_index.forms) == (plain.names, plain.arrays, plain.forms)
    positions, members = np.array([4, 0, 0]), ("video", "text", "no-such")
    assert Shard(shard).shapes(positions, members) == [
        tuple(made[n].arrays[name].shape if name in made[n].arrays else (0,) for name in members) for n in positions
    ]
    with tarfile.open(shard) as tar:
        assert len(tar.getnames()) == 5 * len(plain.names)


def forged(data: bytes, change: Callable[[np.ndarray], None]) -> bytes:
    """The shard with another table in its index."""
    start, samples, members = read_index(data[-64:], len(data), "") or (0, 0, 0)
    table = np.frombuffer(data, "<u4", samples * members * 2, start).reshape(samples, members, 2).copy()
    change(table)
    return data[:start] + table.tobytes() + data[start + table.nbytes :]


def longer(table: np.ndarray) -> None:
    table[0, -1, 0] += 1024  # the JSON of the first sample, whose size nothing else tells


def other_form(table: np.ndarray) -> None:
    table[1, 0, 1] = 77


def swapped(table: np.ndarray) -> None:
    table[0, 0, 1] = table[0, -1, 1]


@pytest.mark.parametrize("change", [longer, other_form, swapped])
def test_an_index_of_another_shard_is_refused(tmp_path: Path, change: Callable[[np.ndarray], None]) -> None:
    make_dataset(tmp_path, {"train": [3]})
    shard = tmp_path / "train-00000.tar"
    shard.write_bytes(forged(shard.read_bytes(), change))
    with pytest.raises(ValueError, match=r"damaged|no shard that Reelmill wrote"):
        list(ShardDataset(tmp_path))


def test_an_index_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [2]})
    shard = tmp_path / "train-00000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:-32] + np.array([2**40, 4], "<u8").tobytes() + data[-16:])
    with pytest.raises(ValueError, match="damaged: its index speaks of 1099511627776 samples"):
        list(ShardDataset(tmp_path))


def test_numbers_that_json_does_not_know_are_read(tmp_path: Path) -> None:
    array = npy_bytes(np.zeros((1, 2, 2), np.uint32))
    write_tar(tmp_path / "x.tar", [("a.video.npy", array), ("a.json", b'{"x": NaN, "y": [1, "\xc3\xa4"]}')])
    meta = Shard(tmp_path / "x.tar").sample(0).meta
    assert np.isnan(meta["x"]) and meta["y"] == [1, "\u00e4"]


def test_verify_finds_a_flipped_bit(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [2]})
    shard = tmp_path / "train-00000.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: sha256"):
        ShardDataset(tmp_path).verify()


def test_data_sets_must_fit_together(tmp_path: Path) -> None:
    make_dataset(tmp_path / "a", {"train": [2]})
    make_dataset(tmp_path / "b", {"train": [2]}, first=50, fps=(4, 1))
    make_dataset(tmp_path / "c", {"train": [3]}, first=70)
    with pytest.raises(ValueError, match="fps is"):
        ShardDataset([tmp_path / "a", tmp_path / "b"])
    both = ShardDataset([tmp_path / "a", tmp_path / "c"])
    assert len(both) == 5 and both.dataset_ranges == [(0, 2), (2, 5)]


def batches(loader: BatchLoader, count: int) -> list[list[str]]:
    return [[sample.key for sample in batch] for batch in itertools.islice(loader, count)]


def test_an_epoch_has_every_sample_once_and_batches_of_one_shape(tmp_path: Path) -> None:
    made = make_dataset(tmp_path, {"train": [7, 9, 4]})
    loader = BatchLoader(ShardDataset(tmp_path), BatchSettings(batch_size=3, shards_at_once=2), epochs=1)
    seen: list[str] = []
    for batch in loader:
        assert len({(s.arrays["video"].shape, s.arrays["audio"].shape) for s in batch}) == 1
        seen += [sample.key for sample in batch]
    assert Counter(seen) == Counter(sample.key for sample in made)


def test_order_depends_on_seed_and_epoch_alone(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [7, 9, 4]})
    dataset = ShardDataset(tmp_path)
    runs = [(0, 0), (0, 0), (0, 1), (1, 0)]
    plans = [(BatchPlan(dataset, BatchSettings(batch_size=2, seed=seed)), epoch) for seed, epoch in runs]
    orders = [list(plan.epoch_batches(epoch)) for plan, epoch in plans]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]


@pytest.mark.parametrize("stop", [1, 5, 9, 14], ids=lambda n: f"after-{n}")
@pytest.mark.parametrize("workers", [0, 1], ids=["here", "worker"])
def test_resume_gives_the_samples_of_an_undisturbed_run(tmp_path: Path, stop: int, workers: int) -> None:
    make_dataset(tmp_path, {"train": [7, 9, 4]})
    settings = BatchSettings(batch_size=2, seed=3)
    whole = batches(BatchLoader(ShardDataset(tmp_path), settings), 30)
    first = BatchLoader(ShardDataset(tmp_path), settings, num_workers=workers)
    assert batches(first, stop) == whole[:stop]
    state = json.loads(json.dumps(first.state_dict()))
    second = BatchLoader(ShardDataset(tmp_path), settings)
    second.load_state_dict(state)
    assert batches(second, 30 - stop) == whole[stop:]


def test_resume_refuses_other_data(tmp_path: Path) -> None:
    make_dataset(tmp_path / "a", {"train": [4]})
    make_dataset(tmp_path / "b", {"train": [4]}, first=40)
    state = BatchLoader(ShardDataset(tmp_path / "a"), BatchSettings()).state_dict()
    with pytest.raises(ValueError, match="cannot resume"):
        BatchLoader(ShardDataset(tmp_path / "b"), BatchSettings()).load_state_dict(state)


def test_ranks_share_an_epoch_without_overlap(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [16, 16]})
    dataset = ShardDataset(tmp_path)
    settings = BatchSettings(batch_size=2, drop_last=True)
    plans = [list(BatchPlan(dataset, settings, rank, 2).epoch_batches(0)) for rank in range(2)]
    assert len(plans[0]) == len(plans[1])
    flat = [index for plan in plans for batch in plan for index in batch]
    assert len(flat) == len(set(flat))
    for a, b in zip(*plans, strict=True):
        assert dataset.shapes(a, ("video",)) == dataset.shapes(b, ("video",))


def test_weights_repeat_and_thin_out_data_sets(tmp_path: Path) -> None:
    make_dataset(tmp_path / "a", {"train": [10]})
    make_dataset(tmp_path / "b", {"train": [10]}, first=40)
    dataset = ShardDataset([tmp_path / "a", tmp_path / "b"])
    plan = BatchPlan(dataset, BatchSettings(batch_size=1, weights=(2.0, 0.5)))
    indices = Counter(index < 10 for batch in plan.epoch_batches(0) for index in batch)
    assert indices == {True: 20, False: 5}
    with pytest.raises(ValueError, match="1 weights for 2 data sets"):
        BatchPlan(dataset, BatchSettings(weights=(1.0,)))


def test_an_epoch_without_a_full_batch_says_so(tmp_path: Path) -> None:
    make_dataset(tmp_path, {"train": [2]})
    loader = BatchLoader(ShardDataset(tmp_path), BatchSettings(batch_size=5, drop_last=True))
    with pytest.raises(ValueError, match="lower batch_size"):
        next(iter(loader))


def test_remote_shards_are_copied_once(tmp_path: Path) -> None:
    made = make_dataset(tmp_path / "a", {"train": [3]})
    for file in sorted((tmp_path / "a").iterdir()):
        storage.write_bytes_atomic(f"memory://shards/{file.name}", file.read_bytes())
    with pytest.raises(ValueError, match="not on this machine"):
        ShardDataset("memory://shards")
    for _ in range(2):
        dataset = ShardDataset("memory://shards", cache=tmp_path / "cache")
        assert [sample.key for sample in dataset] == [sample.key for sample in made]
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("members", "message"),
    [
        pytest.param(["a.json", "a.video.npy", "b.json"], "'b' of .* lacks members", id="last-lacks-one"),
        pytest.param(["a.json", "b.json", "b.video.npy", "c.json"], "'b' of .* has a member video", id="one-too-many"),
        pytest.param(["a.json", "a.video.npy", "b.video.npy", "b.json"], "'b' of .* has a member", id="other-order"),
        pytest.param([], "lacks members", id="empty"),
    ],
)
def test_samples_of_a_shard_must_be_alike(tmp_path: Path, members: list[str], message: str) -> None:
    array = npy_bytes(np.zeros((1, 2, 2), np.uint32))
    write_tar(tmp_path / "x.tar", [(name, b"{}" if name.endswith("json") else array) for name in members])
    with pytest.raises(ValueError, match=message):
        len(Shard(tmp_path / "x.tar"))


def test_many_shards_are_not_all_held_open(tmp_path: Path) -> None:
    made = make_dataset(tmp_path, {"train": [2, 2, 2, 2]})
    dataset = ShardDataset(tmp_path, max_open=2)
    kept = dataset[0].arrays["video"]
    assert [sample.key for sample in dataset] == [sample.key for sample in made]
    assert sum(shard.is_open for shard in dataset.shards) == 2
    assert np.array_equal(kept, made[0].arrays["video"]), "an array outlives its shard's mapping"
