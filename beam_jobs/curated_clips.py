"""The clips of a curated run, wherever its shards lie: found by reading headers only, then read one by one."""

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.analyze import FetchingJob
from beam_jobs.token_inputs import Item, Media
from media import storage
from schemas.run import RunInfo

_KEY = re.compile(r"^[A-Za-z0-9_-]+$")


@dataclass(frozen=True)
class ClipRef:
    """Where one clip's media and sidecar lie within a shard: (first byte, number of bytes)."""

    key: str
    shard: str
    media: tuple[int, int]
    sidecar: tuple[int, int]
    count: int = 1

    def items(self, job: FetchingJob) -> Iterator[Item]:
        """The clip."""
        with storage.open_read(self.shard) as file:
            raw = read_at(file, *self.sidecar)
        yield Item(self.key, dict(json.loads(raw)), raw, self._media)

    def _media(self) -> Media:
        with storage.open_read(self.shard) as file:
            return read_at(file, *self.media), None


def read_run(folder: str) -> RunInfo:
    """What `run.json` says of a curated run.

    Raises:
        FileNotFoundError: there is none, so the folder is no finished run.
        ValueError: it is of no use for tokenizing.
    """
    path = storage.join(folder, "run.json")
    if not storage.exists(path):
        raise no_run(folder)
    try:
        run = RunInfo.from_json(storage.read_bytes(path).decode())
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not the manifest of a curated run ({error!r}); curate again") from None
    if not run.counts.get("clips.kept"):
        raise ValueError(f"{folder} has no clips: the run kept none; curate with wider filters")
    return run


def no_run(folder: str) -> FileNotFoundError:
    """The error for a folder that cannot be tokenized."""
    return FileNotFoundError(
        f"no run.json in {folder}: it is no folder that `reelmill curate` has finished; run that command again, "
        "it goes on where it stopped, or name another folder, or images, with --input"
    )


def shards_to_read(run: RunInfo, folder: str, limit: int | None) -> list[tuple[str, int]]:
    """(path, how many of its clips to take) of the shards in order, which is that of the clips' ids."""
    left = limit if limit is not None else sum(shard.num_clips for shard in run.shards)
    wanted = []
    for shard in run.shards:
        take = min(shard.num_clips, left)
        if take:
            wanted.append((storage.join(folder, "clips", shard.name), take))
        left -= take
    return wanted


def list_clips(path: str, take: int) -> Iterator[ClipRef]:
    """The first `take` clips of a shard, from its tar headers.

    Raises:
        ValueError: the shard is damaged, or holds fewer clips.
    """
    places: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with storage.open_read(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                key, _, member = info.name.partition(".")
                if not info.isfile() or not _KEY.match(key):
                    raise ValueError(f"{path} has an unexpected member {info.name!r}; curate again")
                places.setdefault(key, {})[member] = (info.offset_data, info.size)
                if len(places) > take:
                    break
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}; run `reelmill curate` again") from error
    keys = sorted(places)[:take]
    if len(keys) < take:
        raise ValueError(f"{path} holds {len(keys)} clips, run.json says {take}; run `reelmill curate` again")
    for key in keys:
        yield ClipRef(key, path, places[key]["mp4"], places[key]["json"])


def read_at(file: Any, start: int, size: int) -> bytes:
    """So many bytes of an open file from there on; ValueError where it ends before."""
    file.seek(start)
    data = bytes(file.read(size))
    if len(data) < size:
        raise ValueError(f"{file} ends before byte {start + size}; run `reelmill curate` again")
    return data


class ReadClips(beam.PTransform):
    """Shards → references to their clips, dealt out evenly: none of them is in memory yet."""

    def __init__(self, shards: Sequence[tuple[str, int]]):
        super().__init__()
        self._shards = list(shards)

    def expand(self, pcoll: PCollection) -> PCollection:
        return (
            pcoll
            | "Shards" >> beam.Create(self._shards)
            | "SpreadShards" >> beam.Reshuffle()
            | "List" >> beam.FlatMapTuple(list_clips)
            | "ByKey" >> beam.Map(lambda ref: (ref.key, ref)).with_output_types(tuple[str, ClipRef])
            | "Spread" >> beam.GroupByKey()
            | "Each" >> beam.FlatMapTuple(lambda _, refs: refs)
        )


@dataclass(frozen=True)
class CuratedClips:
    """The clips in the shards of a curated run; an `Inputs`.

    Attributes:
        shards: (path, how many of its clips to take) in order.
        identity: fingerprint of the run.
    """

    shards: tuple[tuple[str, int], ...]
    identity: str

    @property
    def num_items(self) -> int:
        """How many clips there are."""
        return sum(take for _, take in self.shards)

    def read(self) -> beam.PTransform:
        """Pipeline → `ClipRef`s."""
        return ReadClips(self.shards)
