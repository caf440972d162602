"""Small pictures for the report: of some clips of every outcome, and of those on either side of each limit.

They are always the same ones for the same clips.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection
from PIL import Image

from beam_jobs.clip_shards import products
from beam_jobs.job import CurateJob
from curation.settings import FilterSettings
from media import storage
from media.shard_plan import bucket_of
from media.tar import write_tar
from schemas.identity import fingerprint
from schemas.records import Clip
from schemas.scores import SCORES
from schemas.states import ClipState

PREVIEWS = "previews"
MAX_SIDE = 256
PER_SIDE = 6
"""Clips shown on each side of a limit."""
_PER_TAR = 5_000
Picked = tuple[str, str]  # clip id, sha256 of its keyframe
Ranked = tuple[float, Picked]


def outcome_of(clip: Clip) -> str:
    """The outcome that a preview stands for: `filtered/shots/min_motion`."""
    verdict = clip.verdict
    return f"{verdict.state}/{verdict.stage}/{verdict.reason}" if verdict else ""


def near_limits(clip: Clip, filters: FilterSettings) -> Iterator[tuple[str, Ranked]]:
    """(`kept/min_motion` or `filtered/min_motion`, how near) for the limits that the clip tells something about.

    Of the clips that pass a lower limit the smallest values are the nearest, of those that miss it the greatest; so
    the limit itself need not be known.
    """
    verdict = clip.verdict
    if verdict is None:
        return
    if verdict.state is ClipState.FILTERED and verdict.score is not None:
        rank = -verdict.score if verdict.reason.startswith("min_") else verdict.score
        yield f"filtered/{verdict.reason}", (rank, _pick(clip))
    if verdict.state is ClipState.KEPT:
        for name in limit_names(filters):
            value = clip.scores.get(name[4:])
            if value is not None:
                yield f"kept/{name}", (value if name.startswith("min_") else -value, _pick(clip))


def limit_names(filters: FilterSettings) -> list[str]:
    """The limits that are on: `min_motion`, …"""
    names = (f"{side}_{score.name}" for score in SCORES for side in ("min", "max"))
    return [name for name in names if getattr(filters, name) is not None]


def thumbnail(jpeg: bytes) -> bytes:
    """The picture with its longer side at most `MAX_SIDE` pixels, as JPEG."""
    with Image.open(io.BytesIO(jpeg)) as image:
        small = image.convert("RGB")
        small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=80)
    return out.getvalue()


def write_previews(index: int, picked: Iterable[Picked], job: CurateJob) -> str:
    """Writes `previews/previews-<index>.tar`, unless the same is there; members are named by clip id."""
    name = f"{PREVIEWS}/previews-{index:05d}.tar"
    ordered = sorted(dict(picked).items())

    def members() -> Iterator[tuple[str, bytes]]:
        for clip_id, sha256 in ordered:
            jpeg = storage.read_bytes(job.units.path("keyframe", sha256, ".jpg"))
            yield f"{clip_id}.jpg", thumbnail(jpeg)

    def write(path: str) -> dict[str, Any]:
        write_tar(path, members())
        return {}

    products(job).produce(name, fingerprint(ordered, MAX_SIDE), write)
    return name


class WritePreviews(beam.PTransform):
    """Clips with their verdicts → names of the preview files."""

    def __init__(self, job: CurateJob):
        super().__init__()
        self._job = job

    def expand(self, clips: PCollection) -> PCollection:
        seen = clips | "Seen" >> beam.Filter(lambda clip: bool(clip.keyframe_sha256))
        outcomes = seen | "Pick" >> _Pick(self._job.settings.previews)
        borderline = seen | "Borderline" >> _Borderline(self._job.settings.filters)
        picked = (outcomes, borderline) | "Both" >> beam.Flatten() | "Once" >> beam.Distinct()
        tars = (
            picked
            | "Count" >> beam.combiners.Count.Globally()
            | "Tars" >> beam.Map(lambda count: 1 + count // _PER_TAR)
        )
        return (
            picked
            | "ByHash"
            >> beam.Map(lambda pick, count: (bucket_of(pick[0], count), pick), AsSingleton(tars)).with_output_types(
                tuple[int, Picked]
            )
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.Map(_written, self._job)
        )


class _Pick(beam.PTransform):
    """The clips of each outcome with the smallest ids, which are hashes: a fair sample that no worker count changes."""

    def __init__(self, per_outcome: int | str):
        super().__init__()
        self._per_outcome = per_outcome

    def expand(self, clips: PCollection) -> PCollection:
        if self._per_outcome == "all":
            return clips | "All" >> beam.Map(_pick)
        return (
            clips
            | "ByOutcome"
            >> beam.Map(lambda clip: (outcome_of(clip), _pick(clip))).with_output_types(tuple[str, Picked])
            | "Smallest" >> beam.combiners.Top.SmallestPerKey(int(self._per_outcome))
            | "Each" >> beam.FlatMapTuple(lambda _, picked: picked)
        )


class _Borderline(beam.PTransform):
    """The clips nearest to each limit, on both sides."""

    def __init__(self, filters: FilterSettings):
        super().__init__()
        self._filters = filters

    def expand(self, clips: PCollection) -> PCollection:
        return (
            clips
            | "Near" >> beam.FlatMap(near_limits, self._filters).with_output_types(tuple[str, Ranked])
            | "Nearest" >> beam.combiners.Top.SmallestPerKey(PER_SIDE)
            | "Each" >> beam.FlatMapTuple(lambda _, ranked: [pick for _, pick in ranked])
        )


def _pick(clip: Clip) -> Picked:
    return clip.clip_id, clip.keyframe_sha256


def _written(group: tuple[int, Iterable[Picked]], job: CurateJob) -> str:
    return write_previews(group[0], group[1], job)
