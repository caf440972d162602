"""A run without what its tombstones bar: shards, previews and ledger rewritten, run.json taken away first and put last.

Every step looks at what is there and does what is missing, so that it may be stopped anywhere and begun again:

    tombstones → notes of run.json → run.json away → shards → previews → ledger → run.json → report → units, notes
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.ledger_counts import count_ledger
from beam_jobs.products import Products
from beam_jobs.units import Units
from curation.ledger_rows import CLIPS, SOURCES, Row, row_groups
from curation.removals import Removals, removed_clip_row, removed_source_row
from curation.report import build_report
from media import storage
from media.parquet import read_parquet, write_parquet
from media.tar import read_tar, write_tar
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.records import Source
from schemas.removals import RemovedRow
from schemas.run import ClipShard, RunInfo

NOTES = "removal.json"


@dataclass(frozen=True)
class Barred:
    """What of a run's ledger its tombstones bar."""

    sources: Mapping[str, RemovedRow]  # by source_id, the tombstone that bars it
    clips: Mapping[tuple[str, str], RemovedRow]  # by clip_id and source_id
    shards: frozenset[str]  # shards that hold some of them

    @property
    def clip_ids(self) -> frozenset[str]:
        return frozenset(clip_id for clip_id, _ in self.clips)


def barred_by(run_dir: str, removals: Removals) -> Barred:
    """What the tombstones bar, found in one pass over the ledger; rows that say so already are among it."""
    sources, content_of = _barred_sources(run_dir, removals)
    clips, shards = {}, set()
    for table in row_groups(run_dir, CLIPS, ["clip_id", "source_id", "start_s", "end_s", "shard"]):
        for row in table.to_pylist():
            content = content_of.get(row["source_id"])
            stone = removals.span(row["clip_id"], content, row["start_s"], row["end_s"])
            stone = stone or sources.get(row["source_id"])
            if stone is not None:
                clips[row["clip_id"], row["source_id"]] = stone
                shards.update([row["shard"]] if row["shard"] else [])
    return Barred(sources, clips, frozenset(shards))


def _barred_sources(run_dir: str, removals: Removals) -> tuple[dict[str, RemovedRow], dict[str, str]]:
    """(tombstone of each barred input, content of each input whose content some tombstone names)."""
    contents = {row.content_sha256 for row in removals.rows if row.content_sha256}
    sources, content_of = {}, {}
    columns = ["source_id", "occurrence", "uri", "start_s", "end_s", "content_sha256"]
    for table in row_groups(run_dir, SOURCES, columns):
        for row in table.to_pylist():
            source = Source(row["source_id"], row["uri"], row["occurrence"], row["start_s"], row["end_s"])
            stone = removals.source(source, row["content_sha256"])
            if stone is not None:
                sources[source.source_id] = stone
            if row["content_sha256"] in contents:
                content_of[source.source_id] = row["content_sha256"]
    return sources, content_of


class Notes:
    """What a takedown that was stopped needs to go on: the manifest that it took away, and the shards it has done."""

    def __init__(self, folder: str, manifest: str):
        self._path = storage.join(Units.of(folder).root, NOTES)
        self._manifest = storage.join(folder, manifest)
        self.text = ""
        self.shards: dict[str, dict[str, Any] | None] = {}
        if storage.exists(self._path):
            stored = json.loads(storage.read_bytes(self._path))
            self.text, self.shards = str(stored["text"]), dict(stored["shards"])
        if storage.exists(self._manifest):  # whatever was noted before is of an earlier manifest
            self.text, self.shards = storage.read_bytes(self._manifest).decode(), {}

    def write(self) -> None:
        stored = {"text": self.text, "shards": self.shards}
        storage.write_bytes_atomic(self._path, json.dumps(stored, sort_keys=True).encode())

    def done(self, shard: str, info: dict[str, Any] | None) -> None:
        """Notes a shard that is written anew, or (None) gone."""
        self.shards[shard] = info
        self.write()

    def clear(self) -> None:
        storage.remove(self._path)


def manifest_text(folder: str, manifest: str) -> str | None:
    """The manifest, or what a takedown that was stopped has noted of it; None where the folder holds neither."""
    return Notes(folder, manifest).text or None


def take_down(run_dir: str, removals: Removals) -> Barred:
    """Makes a run's files agree with its tombstones; returns what they bar.

    Raises:
        RuntimeError: the sums do not add up afterwards.
    """
    files, notes, barred = Products(run_dir, "run.json"), Notes(run_dir, "run.json"), barred_by(run_dir, removals)
    run = RunInfo.from_json(notes.text)
    notes.write()
    files.sweep()
    files.invalidate()
    for name in sorted(barred.shards):
        info = rewrite_shard(files, f"clips/{name}", barred.clip_ids)
        notes.done(name, info and asdict(ClipShard(name, info[2], info[0], info[1])))
    _rewrite_previews(files, barred.clip_ids)
    _rewrite_clips(files, barred)
    _rewrite_sources(files, barred)
    counts, hours = count_ledger(run_dir)
    shards = [ClipShard(**shard) for shard in _shards_now(run, notes)]
    files.commit(replace(run, counts=counts, hours=hours, shards=shards).to_json())
    build_report(run_dir)
    notes.clear()
    return barred


def _shards_now(run: RunInfo, notes: Notes) -> Iterator[dict[str, Any]]:
    for shard in run.shards:
        info = notes.shards.get(shard.name, asdict(shard))
        if info is not None:
            yield info


def rewrite_shard(files: Products, name: str, keys: Iterable[str]) -> tuple[int, str, int] | None:
    """Writes a shard without the samples of these keys: (bytes, sha256, samples left); None where none is left.

    A sample's key is what stands before the first dot of a member, up to a hyphen: `<clip_id>-0003.video.npy`.
    """
    gone, left = frozenset(keys), set()

    def members() -> Iterator[tuple[str, bytes]]:
        for member, data in read_tar(files.path(name)):
            key = member.rpartition("/")[2].partition(".")[0]
            if key.partition("-")[0] not in gone:
                left.add(key)
                yield member, data

    files.forget(name)
    if not storage.exists(files.path(name)):
        return None
    num_bytes, sha256 = write_tar(files.path(name), members())
    if not left:
        storage.remove(files.path(name))
        return None
    return num_bytes, sha256, len(left)


def _rewrite_previews(files: Products, clip_ids: frozenset[str]) -> None:
    for path in storage.list_files(files.path("previews"), "*.tar"):
        if any(name.partition(".")[0] in clip_ids for name, _ in read_tar(path)):
            rewrite_shard(files, "previews/" + path.rpartition("/")[2], clip_ids)


def _rewrite_clips(files: Products, barred: Barred) -> None:
    """Rows of barred inputs go, those of other barred clips say so."""
    for name in _parts(files, CLIPS):
        table = read_parquet(files.path(name))
        if not _holds(table["clip_id"], barred.clip_ids):
            continue
        rows = []
        for row in table.to_pylist():
            stone = barred.clips.get((row["clip_id"], row["source_id"]))
            if row["source_id"] not in barred.sources:
                rows.append(row if stone is None else removed_clip_row(row, stone))
        files.forget(name)
        write_parquet(files.path(name), rows, CLIPS_SCHEMA)


def _rewrite_sources(files: Products, barred: Barred) -> None:
    """Rows of barred inputs say so, and nothing else of what was found out about them."""
    for name in _parts(files, SOURCES):
        table = read_parquet(files.path(name))
        if not _holds(table["source_id"], barred.sources):
            continue
        rows = [_source_row(row, barred.sources.get(row["source_id"])) for row in table.to_pylist()]
        files.forget(name)
        write_parquet(files.path(name), rows, SOURCES_SCHEMA)


def _source_row(row: Row, stone: RemovedRow | None) -> Row:
    if stone is None:
        return row
    names = ("source_id", "uri", "occurrence", "start_s", "end_s", "license", "extra")
    source = Source(**{name: row[name] for name in names})
    return asdict(removed_source_row(source, stone))


def _parts(files: Products, kind: str) -> list[str]:
    paths = storage.list_files(files.path("ledger"), f"{kind}-*.parquet")
    return ["ledger/" + path.rpartition("/")[2] for path in paths]


def _holds(column: pa.ChunkedArray, values: Iterable[str]) -> bool:
    """Whether a column has one of the values."""
    return bool(pc.any(pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))).as_py())
