"""The clips of a curated run that wrote spans only: read where they lie, from the sources.

What is tokenized is the frames of the span itself, so the visual codes are those of a lossless cut, bit for bit, and
better than those of a lossy one.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.analyze import FetchingJob, SourceMedia
from beam_jobs.ledger import CLIPS_LEDGER, SOURCES_LEDGER
from beam_jobs.token_inputs import Item, Media
from media import storage
from media.parquet import read_parquet
from schemas.run import RunInfo
from schemas.states import ClipState, Rejection

Row = dict[str, Any]
_SPAN = ("start_pts", "end_pts", "time_base_num", "time_base_den", "num_frames")
_SIDECAR = ("clip_id", "source_id", *_SPAN, "caption", "license")
_CROP = ("crop_top", "crop_left", "crop_height", "crop_width")
_COLUMNS = ("uri", "state", "extra", *_SIDECAR, *_CROP)


@dataclass(frozen=True)
class SourceSpans:
    """The kept spans of one source; an `Element`.

    Attributes:
        sidecars: JSON of each span, by the clips' ids.
    """

    uri: str
    content_sha256: str
    sidecars: tuple[bytes, ...]

    @property
    def count(self) -> int:
        """How many spans there are."""
        return len(self.sidecars)

    def items(self, job: FetchingJob) -> Iterator[Item]:
        """The spans; the source is fetched when the first of them is opened."""
        with SourceMedia(self.uri, job) as media:
            for raw in self.sidecars:
                sidecar = json.loads(raw)
                start = sidecar["start_pts"] * Fraction(sidecar["time_base_num"], sidecar["time_base_den"])
                yield Item(sidecar["clip_id"], sidecar, raw, _Opener(media, self.content_sha256, start))


@dataclass(frozen=True)
class _Opener:
    media: SourceMedia
    content_sha256: str
    start_s: Fraction

    def __call__(self) -> Media:
        if self.media.content_sha256() != self.content_sha256:
            raise Rejection("source_changed", "the file is not the one that was curated; curate again")
        return str(self.media.local(self.content_sha256).path), self.start_s


def kept_rows(path: str, wanted: frozenset[str] | None, crop: bool) -> Iterator[tuple[str, Row]]:
    """(source_id, row) of the kept clips in a part of the ledger.

    Args:
        wanted: only these clips; None takes all.
        crop: whether black bars are left out, where the run found some.
    """
    for row in read_parquet(path, list(_COLUMNS)).to_pylist():
        if row["state"] == ClipState.KEPT and (wanted is None or row["clip_id"] in wanted):
            if not crop:
                row = {**row, **dict.fromkeys(_CROP)}
            yield row["source_id"], row


def source_hashes(path: str) -> Iterator[tuple[str, str]]:
    """(source_id, hash of its bytes) of the inputs in a part of the ledger that have one."""
    for row in read_parquet(path, ["source_id", "content_sha256"]).to_pylist():
        if row["content_sha256"]:
            yield row["source_id"], row["content_sha256"]


def join_spans(group: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[SourceSpans]:
    """The spans of one source with its hash; ValueError where the ledger does not know it."""
    source_id, found = group
    rows = sorted(found["clips"], key=lambda row: row["clip_id"])
    hashes = set(found["sources"])
    if not rows:
        return
    if len(hashes) != 1:
        raise ValueError(f"the ledger has {len(hashes)} contents of source {source_id}; run `reelmill curate` again")
    (sha256,) = hashes
    yield SourceSpans(rows[0]["uri"], sha256, tuple(_sidecar(row, sha256) for row in rows))


def _sidecar(row: Row, sha256: str) -> bytes:
    """What `KEY.json` of a clip shard would say of the span, as far as tokens depend on it."""
    sidecar = {name: row[name] for name in _SIDECAR}
    sidecar |= {"extra": json.loads(row["extra"] or "{}"), "content_sha256": sha256, "media_sha256": sha256}
    if row["crop_top"] is not None:
        sidecar["crop"] = [row[name] for name in _CROP]
    return json.dumps(sidecar, sort_keys=True, ensure_ascii=False).encode()


class ReadSpans(beam.PTransform):
    """Ledger → `SourceSpans`."""

    def __init__(self, folder: str, wanted: frozenset[str] | None, crop: bool):
        super().__init__()
        self._folder, self._wanted, self._crop = folder, wanted, crop

    def expand(self, pcoll: PCollection) -> PCollection:
        clips = (
            pcoll
            | "ClipParts" >> beam.Create(_parts(self._folder, CLIPS_LEDGER))
            | "Kept" >> beam.FlatMap(kept_rows, self._wanted, self._crop)
        )
        sources = (
            pcoll
            | "SourceParts" >> beam.Create(_parts(self._folder, SOURCES_LEDGER))
            | "Hashes" >> beam.FlatMap(source_hashes)
        )
        return (
            {"clips": clips, "sources": sources} | "Join" >> beam.CoGroupByKey() | "Spans" >> beam.FlatMap(join_spans)
        )


def _parts(folder: str, ledger: str) -> list[str]:
    name, _, stem = ledger.partition("/")
    return storage.list_files(storage.join(folder, name), f"{stem}-*.parquet")


@dataclass(frozen=True)
class CuratedSpans:
    """The kept clips of a curated run in reference mode; an `Inputs`.

    Attributes:
        folder: of the run.
        wanted: ids of the clips to take; None takes all.
        crop: whether black bars are left out.
        num_items: how many clips there are.
        identity: fingerprint of the run.
    """

    folder: str
    wanted: frozenset[str] | None
    crop: bool
    num_items: int
    identity: str

    def read(self) -> beam.PTransform:
        """Pipeline → `SourceSpans`."""
        return ReadSpans(self.folder, self.wanted, self.crop)


def curated_spans(run: RunInfo, folder: str, limit: int | None, identity: str) -> CuratedSpans:
    """The spans of a run, at most `limit` of them, the first by id.

    Raises:
        ValueError: it has no ledger.
    """
    if not _parts(folder, CLIPS_LEDGER):
        raise ValueError(f"{folder} has neither clip shards nor a ledger of spans; run `reelmill curate` again")
    wanted = None if limit is None else frozenset(sorted(_kept_ids(_parts(folder, CLIPS_LEDGER)))[:limit])
    count = run.counts["clips.kept"] if wanted is None else len(wanted)
    crop = bool(run.settings.get("clips", {}).get("crop_letterbox", False))
    return CuratedSpans(folder, wanted, crop, count, identity)


def _kept_ids(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        for row in read_parquet(path, ["clip_id", "state"]).to_pylist():
            if row["state"] == ClipState.KEPT:
                yield row["clip_id"]
