"""Kept clips into WebDataset shards: planned by hash ranges, numbered in order, each written by one worker.

Clips that an earlier run placed stay where they are; `beam_jobs.standing` says which, and when all is planned anew.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsSingleton, PCollection, TaggedOutput

from beam_jobs.analyze import read_keyframe
from beam_jobs.cut import read_media
from beam_jobs.flow import KeptClip
from beam_jobs.job import CurateJob
from beam_jobs.metrics import StageMetrics
from beam_jobs.products import Products
from beam_jobs.standing import Place, Placed, Standing, standing
from media.shard_plan import bucket_of, first_indices, num_buckets, padded_bytes, plan_bucket, shard_name
from media.tar import write_tar
from schemas.identity import fingerprint
from schemas.records import clip_row
from schemas.run import ClipShard

CLIPS = "clips"
ROWS = "rows"
NamedShard = tuple[str, list[KeptClip]]


def products(job: CurateJob) -> Products:
    """The files of a curation run."""
    return Products(job.settings.output, "run.json")


def standing_clips(job: CurateJob) -> Standing:
    """Which clips lie in which shard since an earlier run."""
    return standing(products(job), "ledger/clips-*.parquet", "clip_id", job.shown)


def shard_bytes(clip: KeptClip) -> int:
    """Bytes that a kept clip takes in its shard."""
    return padded_bytes(clip.cut.num_bytes if clip.cut else 0, clip.keyframe_bytes, len(clip.sidecar))


def plan_clips(bucket: int, clips: Iterable[KeptClip], max_bytes: int) -> tuple[int, list[list[KeptClip]]]:
    """(bucket, its shards in order)."""
    by_id = {clip.clip.clip_id: clip for clip in clips}
    plan = plan_bucket({key: shard_bytes(clip) for key, clip in by_id.items()}, max_bytes)
    return bucket, [[by_id[key] for key in shard] for shard in plan]


def number_shards(
    planned: tuple[int, list[list[KeptClip]]], shards_by_bucket: Mapping[int, int], generation: int
) -> Iterator[NamedShard]:
    """(name, clips) of each shard of a bucket: numbered over all buckets of a generation."""
    bucket, shards = planned
    first = first_indices(shards_by_bucket)[bucket]
    yield from ((shard_name(CLIPS, first + index, generation), shard) for index, shard in enumerate(shards))


def write_clip_shard(name: str, clips: Sequence[KeptClip], job: CurateJob) -> ClipShard:
    """Writes `clips/<name>`, unless the same is there: KEY.mp4 KEY.jpg KEY.json of each clip in turn."""

    def members() -> Iterator[tuple[str, bytes]]:
        for clip in clips:
            key = clip.clip.clip_id
            yield f"{key}.mp4", read_media(job, clip.cut_fp)
            yield f"{key}.jpg", read_keyframe(job.units, clip.clip)
            yield f"{key}.json", clip.sidecar

    def write(path: str) -> dict[str, Any]:
        num_bytes, sha256 = write_tar(path, members())
        return asdict(ClipShard(name, len(clips), num_bytes, sha256))

    fp = fingerprint([(clip.clip.clip_id, clip.cut_fp, clip.clip.keyframe_sha256, clip.sidecar) for clip in clips])
    return ClipShard(**products(job).produce(f"{CLIPS}/{name}", fp, write))


class _WriteFn(beam.DoFn):
    def __init__(self, job: CurateJob):
        self._job, self._metrics = job, StageMetrics("shards")

    def process(self, element: NamedShard) -> Iterator[Any]:
        name, clips = element
        with self._metrics.busy():
            shard = write_clip_shard(name, clips, self._job)
        self._metrics.done()
        yield shard
        for clip in clips:
            yield TaggedOutput(ROWS, clip_row(clip.clip, shard.name, clip.cut))


class WriteClipShards(beam.PTransform):
    """Kept clips → (finished shards, ledger rows that say in which shard each clip lies)."""

    def __init__(self, job: CurateJob, standing: Standing):
        super().__init__()
        self._job, self._standing = job, standing

    def expand(self, clips: PCollection) -> Any:
        max_bytes, generation = self._job.settings.shards.max_bytes, self._standing.generation
        shards = []
        if self._standing.parts:
            placed: Placed = clips | "Place" >> Place(self._standing, _clip_id, _fits)
            shards.append(placed.standing | "InOrder" >> beam.MapTuple(_in_order))
            clips = placed.new
        buckets = (
            clips
            | "Sizes" >> beam.Map(shard_bytes)
            | "Total" >> beam.CombineGlobally(sum)
            | "Buckets" >> beam.Map(num_buckets, max_bytes)
        )
        planned = (
            clips
            | "ByHash" >> beam.Map(_keyed, AsSingleton(buckets)).with_output_types(tuple[int, KeptClip])
            | "Group" >> beam.GroupByKey()
            | "Plan" >> beam.Map(_planned, max_bytes)
        )
        counts = planned | "Count" >> beam.MapTuple(lambda bucket, shards: (bucket, len(shards)))
        shards.append(planned | "Number" >> beam.FlatMap(number_shards, AsDict(counts), generation))
        written = (
            shards
            | "Shards" >> beam.Flatten()
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(_WriteFn(self._job)).with_outputs(ROWS, main="shards")
        )
        return written["shards"], written[ROWS]


def _clip_id(clip: KeptClip) -> str:
    return clip.clip.clip_id


def _fits(clip: KeptClip, name: str) -> bool:
    return True  # any clip may lie in any shard


def _in_order(name: str, clips: Iterable[KeptClip]) -> NamedShard:
    return name, sorted(clips, key=_clip_id)


def _keyed(clip: KeptClip, buckets: int) -> tuple[int, KeptClip]:
    return bucket_of(clip.clip.clip_id, buckets), clip


def _planned(group: tuple[int, Iterable[KeptClip]], max_bytes: int) -> tuple[int, list[list[KeptClip]]]:
    return plan_clips(group[0], group[1], max_bytes)
