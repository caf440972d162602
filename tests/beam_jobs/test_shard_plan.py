import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.shard_groups import number_shards
from media.shard_plan import bucket_of, num_buckets, padded_bytes, plan_bucket, plan_shards

keys = st.lists(st.integers(0, 10**6), unique=True, max_size=60).map(
    lambda numbers: [hashlib.sha256(str(number).encode()).hexdigest()[:20] for number in numbers]
)


@pytest.mark.parametrize(
    ("sizes", "want"),
    [
        pytest.param({}, [], id="nothing"),
        pytest.param({"a": 10}, [["a"]], id="one"),
        pytest.param({"b": 4, "a": 6}, [["a", "b"]], id="exactly-full"),
        pytest.param({"a": 6, "b": 5}, [["a"], ["b"]], id="one-byte-too-many"),
        pytest.param({"a": 99, "b": 1, "c": 1}, [["a"], ["b", "c"]], id="too-large-stands-alone"),
    ],
)
def test_plan_bucket(sizes: dict[str, int], want: list[list[str]]) -> None:
    assert plan_bucket(sizes, 10) == want


@given(keys, st.integers(1, 200))
def test_every_key_is_in_one_shard_in_order(names: list[str], max_bytes: int) -> None:
    sizes = [(name, 1 + int(name[-2:], 16)) for name in names]
    shards = plan_shards(sizes, max_bytes)
    assert [key for shard in shards for key in shard] == sorted(names)
    known = dict(sizes)
    assert all(len(shard) == 1 or sum(known[key] for key in shard) <= max_bytes for shard in shards)
    assert plan_shards(reversed(sizes), max_bytes) == shards


@given(keys, st.integers(1, 9))
def test_buckets_rise_with_the_key(names: list[str], buckets: int) -> None:
    places = [bucket_of(name, buckets) for name in sorted(names)]
    assert places == sorted(places)
    assert all(0 <= place < buckets for place in places)


def test_buckets_follow_the_bytes() -> None:
    assert [num_buckets(total, 100) for total in (0, 100, 6399, 6400, 64000)] == [1, 1, 1, 2, 20]


@pytest.mark.parametrize(
    ("group", "generation", "names"),
    [
        (("train", 64, 1), 0, ["train-00000.tar", "train-00001.tar", "train-00002.tar"]),
        (("train", 64, 4), 0, ["train-00003.tar", "train-00004.tar"]),
        (("train", 128, 0), 2, ["train-g02-00005.tar"]),
        (("val", 64, 0), 0, ["val-00000.tar"]),
    ],
    ids=["first", "after another range", "after another kind", "another prefix"],
)
def test_shards_are_numbered_within_their_prefix(group: tuple, generation: int, names: list[str]) -> None:
    counts = {("train", 64, 4): 2, ("train", 64, 1): 3, ("train", 128, 0): 1, ("val", 64, 0): 1}
    shards = [[f"sample {number}"] for number in range(counts[group])]
    assert list(number_shards((group, shards), counts, generation)) == list(zip(names, shards, strict=True))


def test_padding() -> None:
    assert padded_bytes(0, 1, 512, 513) == 512 + 1024 + 1024 + 1536


def test_a_key_that_is_no_hash_is_refused() -> None:
    with pytest.raises(ValueError, match=r"clip-one.*hex digits"):
        bucket_of("clip-one", 4)
