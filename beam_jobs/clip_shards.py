"""Kept clips into WebDataset shards, each written by one worker; `beam_jobs.shard_groups` says which lies where."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_jobs.analyze import read_keyframe
from beam_jobs.cut import read_media
from beam_jobs.flow import KeptClip
from beam_jobs.job import CurateJob
from beam_jobs.metrics import StageMetrics
from beam_jobs.products import Products
from beam_jobs.shard_groups import IntoShards, Kind, NamedShard, Sharding
from beam_jobs.standing import Standing, standing
from media.shard_plan import padded_bytes
from media.tar import write_tar
from schemas.identity import fingerprint
from schemas.records import clip_row
from schemas.run import ClipShard

CLIPS = "clips"
ROWS = "rows"


def products(job: CurateJob) -> Products:
    """The files of a curation run."""
    return Products(job.settings.output, "run.json")


def standing_clips(job: CurateJob) -> Standing:
    """Which clips lie in which shard since an earlier run."""
    return standing(products(job), "ledger/clips-*.parquet", "clip_id", job.shown)


def shard_bytes(clip: KeptClip) -> int:
    """Bytes that a kept clip takes in its shard."""
    return padded_bytes(clip.cut.num_bytes if clip.cut else 0, clip.keyframe_bytes, len(clip.sidecar))


def sharding(max_bytes: int) -> Sharding:
    """Any clip may lie in any shard."""
    return Sharding(_clip_id, shard_bytes, _kind, max_bytes)


def _clip_id(clip: KeptClip) -> str:
    return clip.clip.clip_id


def _kind(clip: KeptClip) -> Kind:
    return (CLIPS,)


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
        written = (
            clips
            | "IntoShards" >> IntoShards(sharding(self._job.settings.shards.max_bytes), self._standing)
            | "Write" >> beam.ParDo(_WriteFn(self._job)).with_outputs(ROWS, main="shards")
        )
        return written["shards"], written[ROWS]
