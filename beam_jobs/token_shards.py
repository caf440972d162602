"""Token samples into shards: by split, aspect bucket and length, planned by hash ranges, each written by one worker.

Samples that an earlier run placed stay where they are; `beam_jobs.standing` says which, and when all is planned anew.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsDict, PCollection, TaggedOutput

from beam_jobs.metrics import StageMetrics
from beam_jobs.products import Products
from beam_jobs.standing import Place, Placed, Standing, standing
from beam_jobs.tokens import SampleRef, TokenizeJob, unpack_samples
from media import storage
from media.shard_plan import bucket_of, num_buckets, plan_bucket, shard_name
from schemas.identity import fingerprint
from schemas.shards import ShardInfo, TokenSample
from tokenize_shards.quality import ShardQuality
from tokenize_shards.writer import DATASET_FILE, WrittenShard, write_shard

ROWS = "rows"
QUALITY = "quality"
Group = tuple[str, int, int, int, int]  # split, height, width, frames, bucket of the hash


@dataclass(frozen=True)
class QualityNote:
    """Token QA of one shard, by its name."""

    name: str
    quality: dict[str, Any]


def products(job: TokenizeJob) -> Products:
    """The files of a token data set."""
    return Products(job.settings.output, DATASET_FILE)


def standing_samples(job: TokenizeJob) -> Standing:
    """Which samples lie in which shard since an earlier run."""
    return standing(products(job), "samples-*.parquet", "key", job.shown)


def kind_of(sample: SampleRef) -> str:
    """What samples of one shard share: `train/128x224/17`: split, lowest resolution, frames of the window."""
    return f"{sample.split}/{sample.resolution[0]}x{sample.resolution[1]}/{sample.num_frames}"


def group_of(sample: SampleRef, bytes_by_kind: Mapping[str, int], max_bytes: int) -> Group:
    """The group whose shards are planned together."""
    buckets = num_buckets(bytes_by_kind[kind_of(sample)], max_bytes)
    return (sample.split, *sample.resolution, sample.num_frames, bucket_of(sample.key, buckets))


def plan_samples(group: Group, samples: Iterable[SampleRef], max_bytes: int) -> tuple[Group, list[list[SampleRef]]]:
    """(group, its shards in order)."""
    by_key = {sample.key: sample for sample in samples}
    plan = plan_bucket({key: sample.num_bytes for key, sample in by_key.items()}, max_bytes)
    return group, [[by_key[key] for key in shard] for shard in plan]


def number_shards(
    planned: tuple[Group, list[list[SampleRef]]], shards_by_group: Mapping[Group, int], generation: int
) -> Iterator[tuple[str, list[SampleRef]]]:
    """(name, samples) of each shard: numbered within split and generation, over the groups in order."""
    group, shards = planned
    before = sum(count for other, count in shards_by_group.items() if other[0] == group[0] and other < group)
    yield from ((shard_name(group[0], before + index, generation), shard) for index, shard in enumerate(shards))


def write_token_shard(name: str, samples: Sequence[SampleRef], job: TokenizeJob) -> WrittenShard:
    """Writes one shard, unless the same is there."""

    def write(path: str) -> dict[str, Any]:
        folder, _, _ = path.rpartition("/")
        written = write_shard(folder, name, samples[0].split, read_samples(samples, job), job.tokenizers)
        return {
            "info": asdict(written.info),
            "rows": [asdict(row) for row in written.rows],
            "quality": asdict(written.quality),
        }

    fp = fingerprint(name, [(sample.key, sample.unit) for sample in samples])
    return _written(products(job).produce(name, fp, write))


def _written(info: dict[str, Any]) -> WrittenShard:
    from schemas.shards import SampleRow

    shard = {**info["info"], "resolution": tuple(info["info"]["resolution"])}
    rows = [SampleRow(**row) for row in info["rows"]]
    return WrittenShard(ShardInfo(**shard), rows, ShardQuality(**info["quality"]))


def read_samples(samples: Sequence[SampleRef], job: TokenizeJob) -> Iterator[TokenSample]:
    """The samples in order; those of one clip follow each other, so its unit is read once."""
    unit, by_key = "", {}
    for ref in samples:
        if ref.unit != unit:
            unit = ref.unit
            by_key = {
                sample.key: sample for sample in unpack_samples(storage.read_bytes(job.units.path("tokens", unit)))
            }
        yield by_key[ref.key]


class _WriteFn(beam.DoFn):
    def __init__(self, job: TokenizeJob):
        self._job, self._metrics = job, StageMetrics("shards")

    def process(self, element: tuple[str, list[SampleRef]]) -> Iterator[Any]:
        with self._metrics.busy():
            written = write_token_shard(*element, self._job)
        self._metrics.done()
        yield written.info
        yield TaggedOutput(QUALITY, QualityNote(written.info.name, asdict(written.quality)))
        for row in written.rows:
            yield TaggedOutput(ROWS, asdict(row))


@dataclass(frozen=True)
class TokenShards:
    """What writing gives: `ShardInfo`s, QA notes, and rows of `samples-*.parquet`."""

    shards: PCollection
    quality: PCollection
    rows: PCollection


class WriteTokenShards(beam.PTransform):
    """Samples → finished shards, their QA, and a row for each sample."""

    def __init__(self, job: TokenizeJob, standing: Standing):
        super().__init__()
        self._job, self._standing = job, standing

    def expand(self, samples: PCollection) -> Any:  # TokenShards
        max_bytes, generation = self._job.settings.shards.max_bytes, self._standing.generation
        shards = []
        if self._standing.parts:
            placed: Placed = samples | "Place" >> Place(self._standing, _key, _fits)
            shards.append(placed.standing | "InOrder" >> beam.MapTuple(_in_order))
            samples = placed.new
        sizes = (
            samples
            | "Sizes" >> beam.Map(lambda sample: (kind_of(sample), sample.num_bytes)).with_output_types(tuple[str, int])
            | "Total" >> beam.CombinePerKey(sum)
        )
        planned = (
            samples
            | "ByGroup" >> beam.Map(_keyed, AsDict(sizes), max_bytes).with_output_types(tuple[Group, SampleRef])
            | "Group" >> beam.GroupByKey()
            | "Plan" >> beam.Map(_planned, max_bytes)
        )
        counts = planned | "Count" >> beam.MapTuple(lambda group, shards: (group, len(shards)))
        shards.append(planned | "Number" >> beam.FlatMap(number_shards, AsDict(counts), generation))
        written = (
            shards
            | "Shards" >> beam.Flatten()
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(_WriteFn(self._job)).with_outputs(ROWS, QUALITY, main="shards")
        )
        return TokenShards(written["shards"], written[QUALITY], written[ROWS])


def _key(sample: SampleRef) -> str:
    return sample.key


def _fits(sample: SampleRef, name: str) -> bool:
    return name.partition("-")[0] == sample.split


def _in_order(name: str, samples: Iterable[SampleRef]) -> tuple[str, list[SampleRef]]:
    return name, sorted(samples, key=_key)


def _keyed(sample: SampleRef, bytes_by_kind: Mapping[str, int], max_bytes: int) -> tuple[Group, SampleRef]:
    return group_of(sample, bytes_by_kind, max_bytes), sample


def _planned(group: tuple[Group, Iterable[SampleRef]], max_bytes: int) -> tuple[Group, list[list[SampleRef]]]:
    return plan_samples(group[0], group[1], max_bytes)
