"""Samples → (name, samples in order) of each shard: what stands stays, the rest is planned by ranges of the hash.

Samples are sized by kind, grouped by kind and range of the hash, each group planned by one worker, and the shards of a
generation numbered over the groups in order, apart for each prefix.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsDict, PCollection

from beam_jobs.standing import Place, Placed, Standing
from media.shard_plan import bucket_of, num_buckets, plan_bucket, shard_name

Kind = tuple[Any, ...]
"""The prefix of the shards' names, then what else samples of one shard share."""
Group = tuple[Any, ...]
"""A kind and a range of the hash: what is planned together."""
NamedShard = tuple[str, list[Any]]
Planned = tuple[Group, list[list[Any]]]


@dataclass(frozen=True)
class Sharding:
    """How samples are laid into shards.

    Args:
        key: of a sample; begins with hex digits of a hash.
        num_bytes: that a sample takes in its shard.
        kind: what samples of one shard share, after the prefix of the shard's name.
        max_bytes: that a shard may have.
    """

    key: Callable[[Any], str]
    num_bytes: Callable[[Any], int]
    kind: Callable[[Any], Kind]
    max_bytes: int

    def sized(self, sample: Any) -> tuple[Kind, int]:
        return self.kind(sample), self.num_bytes(sample)

    def grouped(self, sample: Any, bytes_by_kind: Mapping[Kind, int]) -> tuple[Group, Any]:
        """(group, sample)."""
        kind = self.kind(sample)
        buckets = num_buckets(bytes_by_kind[kind], self.max_bytes)
        return (*kind, bucket_of(self.key(sample), buckets)), sample

    def plan(self, group: Group, samples: Iterable[Any]) -> Planned:
        """(group, its shards in order)."""
        by_key = {self.key(sample): sample for sample in samples}
        sizes = {key: self.num_bytes(sample) for key, sample in by_key.items()}
        return group, [[by_key[key] for key in shard] for shard in plan_bucket(sizes, self.max_bytes)]

    def fits(self, sample: Any, name: str) -> bool:
        """Whether a sample may stay in the shard of this name."""
        return name.partition("-")[0] == self.kind(sample)[0]

    def in_order(self, name: str, samples: Iterable[Any]) -> NamedShard:
        return name, sorted(samples, key=self.key)


def number_shards(planned: Planned, shards_by_group: Mapping[Group, int], generation: int) -> Iterator[NamedShard]:
    """(name, samples) of each shard: numbered within prefix and generation, over the groups in order."""
    group, shards = planned
    before = sum(count for other, count in shards_by_group.items() if other[0] == group[0] and other < group)
    yield from ((shard_name(group[0], before + index, generation), shard) for index, shard in enumerate(shards))


class IntoShards(beam.PTransform):
    """Samples → `NamedShard`s, one after another on any worker."""

    def __init__(self, sharding: Sharding, standing: Standing):
        super().__init__()
        self._sharding, self._standing = sharding, standing

    def expand(self, samples: PCollection) -> PCollection:
        sharding, shards = self._sharding, []
        if self._standing.parts:
            placed: Placed = samples | "Place" >> Place(self._standing, sharding.key, sharding.fits)
            shards.append(placed.standing | "InOrder" >> beam.MapTuple(sharding.in_order))
            samples = placed.new
        sizes = (
            samples
            | "Sizes" >> beam.Map(sharding.sized).with_output_types(tuple[Kind, int])
            | "Total" >> beam.CombinePerKey(sum)
        )
        planned = (
            samples
            | "ByGroup" >> beam.Map(sharding.grouped, AsDict(sizes)).with_output_types(tuple[Group, Any])
            | "Group" >> beam.GroupByKey()
            | "Plan" >> beam.MapTuple(sharding.plan)
        )
        counts = planned | "Count" >> beam.MapTuple(lambda group, shards: (group, len(shards)))
        shards.append(planned | "Number" >> beam.FlatMap(number_shards, AsDict(counts), self._standing.generation))
        return shards | "Shards" >> beam.Flatten() | "Spread" >> beam.Reshuffle()
