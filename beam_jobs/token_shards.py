"""Token samples into shards, by split, aspect bucket and length; each written by one worker.

`beam_jobs.shard_groups` says which sample lies where.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_jobs.metrics import StageMetrics
from beam_jobs.products import Products
from beam_jobs.shard_groups import IntoShards, Kind, NamedShard, Sharding
from beam_jobs.standing import Standing, standing
from beam_jobs.tokens import SampleRef, TokenizeJob, unpack_samples
from media import storage
from schemas.identity import fingerprint
from schemas.shards import ShardInfo, TokenSample
from tokenize_shards.quality import ShardQuality
from tokenize_shards.writer import DATASET_FILE, WrittenShard, write_shard

ROWS = "rows"
QUALITY = "quality"


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


def sharding(max_bytes: int) -> Sharding:
    """Samples of one shard share split, lowest resolution and frames of the window."""
    return Sharding(_key, _num_bytes, _kind, max_bytes)


def _key(sample: SampleRef) -> str:
    return sample.key


def _num_bytes(sample: SampleRef) -> int:
    return sample.num_bytes


def _kind(sample: SampleRef) -> Kind:
    return (sample.split, *sample.resolution, sample.num_frames)


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

    def process(self, element: NamedShard) -> Iterator[Any]:
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
        written = (
            samples
            | "IntoShards" >> IntoShards(sharding(self._job.settings.shards.max_bytes), self._standing)
            | "Write" >> beam.ParDo(_WriteFn(self._job)).with_outputs(ROWS, QUALITY, main="shards")
        )
        return TokenShards(written["shards"], written[QUALITY], written[ROWS])
