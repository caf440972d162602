"""Which samples go into which shard: a pure function of their keys and sizes, so that any worker plans the same.

Keys begin with the hex digits of a content hash, so their order is already a fair shuffle of the sources:

    key      0…      3…      7…      b…      f…        sorted
    bucket   |---- 0 ----|---- 1 ----|---- 2 ----|     equal ranges of the hash; as many as the bytes ask for
    shard    |-0-|--1--|2|-3-|--4--|-5|--6--|-7--|     within a bucket, closed before max_bytes

Each bucket is planned on its own, by one worker; the shards of all buckets are then numbered in order.
"""

import re
from collections.abc import Iterable, Mapping

SHARDS_PER_BUCKET = 32  # at most one shard in so many is left part full
_PREFIX = 8  # hex digits of the key that place it
_TAR_BLOCK = 512
_GENERATION = re.compile(r"-g(\d{2,})-\d{5,}\.tar$")


def shard_name(prefix: str, index: int, generation: int = 0) -> str:
    """`train-00000.tar`; samples added by a later run are a generation of their own: `train-g01-00000.tar`."""
    later = f"g{generation:02d}-" if generation else ""
    return f"{prefix}-{later}{index:05d}.tar"


def generation_of(name: str) -> int:
    """The generation of a shard, from its name."""
    found = _GENERATION.search(name)
    return int(found[1]) if found else 0


def padded_bytes(*sizes: int) -> int:
    """Bytes that members of these sizes take in a tar: each has a header and is padded to 512."""
    return sum(_TAR_BLOCK + -(-size // _TAR_BLOCK) * _TAR_BLOCK for size in sizes)


def num_buckets(total_bytes: int, max_bytes: int) -> int:
    """How many ranges of the hash are planned apart: 1 up to `SHARDS_PER_BUCKET` full shards."""
    return max(1, total_bytes // (SHARDS_PER_BUCKET * max_bytes))


def bucket_of(key: str, buckets: int) -> int:
    """The bucket in [0, buckets) of a key; it never falls as the key rises.

    Raises:
        ValueError: the key does not begin with hex digits.
    """
    try:
        position = int(key[:_PREFIX].ljust(_PREFIX, "0"), 16)
    except ValueError:
        raise ValueError(f"shard key {key!r} must begin with {_PREFIX} hex digits of a hash") from None
    return position * buckets >> 4 * _PREFIX


def plan_bucket(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    """Keys by shard, sorted; a shard is closed before it would outgrow `max_bytes`, a larger sample stands alone."""
    shards: list[list[str]] = []
    room = 0
    for key in sorted(sizes):
        if not shards or sizes[key] > room:
            shards.append([])
            room = max_bytes
        shards[-1].append(key)
        room -= sizes[key]
    return shards


def plan_shards(sizes: Iterable[tuple[str, int]], max_bytes: int) -> list[list[str]]:
    """All shards of a whole set, as the buckets planned apart give them."""
    known = dict(sizes)
    buckets = num_buckets(sum(known.values()), max_bytes)
    grouped: dict[int, dict[str, int]] = {}
    for key, size in known.items():
        grouped.setdefault(bucket_of(key, buckets), {})[key] = size
    return [shard for bucket in sorted(grouped) for shard in plan_bucket(grouped[bucket], max_bytes)]
