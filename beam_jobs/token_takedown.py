"""A token data set without the samples of barred clips: shards, tables and QA rewritten, dataset.json put last."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.products import Products
from beam_jobs.purge import purge_tokens
from beam_jobs.takedown import Notes
from beam_jobs.tokenize_job import QUALITY_FILE, quarantined, write_quality
from beam_jobs.tokenize_pipeline import SAMPLES, count_clip, count_sample
from beam_jobs.tokens import TOKENIZED, TokenizedClip
from curation.ledger_rows import CLIPS, row_groups
from curation.removals import Removals
from media import storage
from media.parquet import read_parquet, write_parquet
from media.tar import read_samples
from schemas.arrow import SAMPLES_SCHEMA, TOKENIZED_SCHEMA
from schemas.shards import DatasetInfo, ShardInfo, TokenizedRow, TokenSample, decode_sample
from schemas.states import ClipState
from tokenize_shards.quality import ShardQuality
from tokenize_shards.writer import DATASET_FILE, write_shard


def take_down_tokens(folder: str, clip_ids: frozenset[str], removals: Removals, run_dir: str) -> int:
    """Makes a data set's files agree with the tombstones of the run it was made from; returns how many samples went.

    Args:
        clip_ids: the run's barred clips.
        removals: its tombstones.
        run_dir: its folder, where nothing barred is left.
    """
    files, notes = Products(folder, DATASET_FILE), Notes(folder, DATASET_FILE)
    info = DatasetInfo.from_json(notes.text)
    gone, sources = _ids(clip_ids, removals)
    left, affected, count = _look(folder, gone, sources)
    files.sweep()
    if affected or notes.shards:
        notes.write()
        files.invalidate()
    for name in affected:
        files.forget(name)
        if left.get(name):
            notes.done(name, _rewrite(folder, name, info, gone, sources))
        else:
            storage.remove(files.path(name))
            notes.done(name, None)
    gone |= _ledger_ids(folder, sources)
    _rewrite_tables(files, f"{SAMPLES}-*.parquet", SAMPLES_SCHEMA, gone, sources)
    _rewrite_tables(files, "ledger/clips-*.parquet", TOKENIZED_SCHEMA, gone, sources)
    info = replace(info, curated=_curated(folder, run_dir) or info.curated)
    files.commit(_manifest(files, info, notes).to_json())
    purge_tokens(folder, gone)
    notes.clear()
    return count


def count_samples(folder: str, clip_ids: frozenset[str], removals: Removals) -> int:
    """How many samples `take_down_tokens` would take."""
    return _look(folder, *_ids(clip_ids, removals))[2]


def _ids(clip_ids: frozenset[str], removals: Removals) -> tuple[frozenset[str], frozenset[str]]:
    """Ids of the clips and of the whole inputs that are to go."""
    sources = frozenset(row.removed_id for row in removals.rows if row.kind == "source")
    return clip_ids | {row.removed_id for row in removals.rows if row.kind == "clip"}, sources


def _look(folder: str, gone: frozenset[str], sources: frozenset[str]) -> tuple[dict[str, int], list[str], int]:
    """(samples that stay by shard, shards with samples that go, how many go)."""
    table = read_parquet(storage.join(folder, f"{SAMPLES}-*.parquet"), columns=["shard", "clip_id", "source_id"])
    barred = _barred(table, gone, sources)
    affected = sorted(pc.unique(table["shard"].filter(barred)).to_pylist())
    stay = pc.value_counts(table["shard"].filter(pc.invert(barred)).combine_chunks()).to_pylist()
    return {each["values"]: each["counts"] for each in stay}, affected, int(pc.sum(barred).as_py() or 0)


def _barred(table: pa.Table, gone: Iterable[str], sources: Iterable[str]) -> pa.ChunkedArray:
    clips = pc.is_in(table["clip_id"], value_set=pa.array(sorted(gone), pa.string()))
    return pc.or_(clips, pc.is_in(table["source_id"], value_set=pa.array(sorted(sources), pa.string())))


def _rewrite(
    folder: str, name: str, info: DatasetInfo, gone: frozenset[str], sources: frozenset[str]
) -> dict[str, Any]:
    """Writes a shard without what is barred, as the job would have written it."""

    def samples() -> Iterator[TokenSample]:
        for key, members in read_samples(storage.join(folder, name)):
            sample = decode_sample(key, members)
            if sample.meta["clip_id"] not in gone and sample.meta["source_id"] not in sources:
                meta = {what: value for what, value in sample.meta.items() if what not in ("key", "schema_version")}
                yield TokenSample(key, sample.arrays, meta)

    written = write_shard(folder, name, name.partition("-")[0], samples(), info.tokenizers)
    return {"info": asdict(written.info), "quality": asdict(written.quality)}


def _ledger_ids(folder: str, sources: frozenset[str]) -> frozenset[str]:
    """Ids of the clips of barred inputs, those without samples included."""
    table = read_parquet(storage.join(folder, "ledger", "clips-*.parquet"), columns=["clip_id", "source_id"])
    return frozenset(table["clip_id"].filter(_barred(table, (), sources)).to_pylist())


def _rewrite_tables(
    files: Products, pattern: str, schema: pa.Schema, gone: frozenset[str], sources: frozenset[str]
) -> None:
    """Rewrites the parts of a table that hold rows of what is barred."""
    folder, _, glob = pattern.rpartition("/")
    for path in storage.list_files(files.path(folder) if folder else files.output, glob):
        table = read_parquet(path)
        barred = _barred(table, gone, sources)
        if pc.any(barred).as_py():
            name = path.rpartition("/")[2]
            files.invalidate()
            files.forget(f"{folder}/{name}" if folder else name)
            write_parquet(path, table.filter(pc.invert(barred)).to_pylist(), schema)


def _curated(folder: str, run_dir: str) -> str | None:
    """Fingerprint of the run as it is now, where it still has all clips of the data set."""
    ids = read_parquet(storage.join(folder, "ledger", "clips-*.parquet"), columns=["clip_id"])["clip_id"]
    found = 0
    for table in row_groups(run_dir, CLIPS, ["clip_id", "state"]):
        kept = table["clip_id"].filter(pc.equal(table["state"], ClipState.KEPT))
        found += int(pc.sum(pc.is_in(kept, value_set=ids.combine_chunks())).as_py() or 0)
    if found < len(ids):
        return None
    return hashlib.sha256(storage.read_bytes(storage.join(run_dir, "run.json"))).hexdigest()


def _manifest(files: Products, info: DatasetInfo, notes: Notes) -> DatasetInfo:
    """`dataset.json` of what is left; writes `quality.json` too."""
    quality = _quality(files, notes)
    barred = quarantined(quality, (info.settings.get("quality") or {}).get("min_psnr_db"))
    write_quality(files, quality, barred)
    shards = []
    for shard in info.shards:
        entry = notes.shards.get(shard.name, {"info": asdict(shard)})
        if entry is not None and shard.name not in barred:
            shards.append(ShardInfo(**{**entry["info"], "resolution": tuple(entry["info"]["resolution"])}))
    return replace(info, shards=shards, counts=_counts(files.output))


def _quality(files: Products, notes: Notes) -> dict[str, ShardQuality]:
    stored = json.loads(storage.read_bytes(files.path(QUALITY_FILE)))["shards"]  # the job writes it before the manifest
    quality = {}
    for name, entry in stored.items():
        note = notes.shards.get(name, {"quality": entry})
        if note is not None:
            fields = {what: value for what, value in note["quality"].items() if what != "quarantined"}
            quality[name] = ShardQuality(**fields)
    return quality


def _counts(folder: str) -> dict[str, int]:
    """The sums of the data set, from its tables, as the job counts them."""
    counts: dict[str, int] = {}
    sources = set()
    for row in read_parquet(storage.join(folder, "ledger", "clips-*.parquet")).to_pylist():
        clip = TokenizedClip(TokenizedRow(**row))
        sources.update([row["source_id"]] if row["state"] == TOKENIZED else [])
        for name, number in count_clip(clip):
            counts[name] = counts.get(name, 0) + number
    for row in read_parquet(storage.join(folder, f"{SAMPLES}-*.parquet")).to_pylist():
        for name, number in count_sample(row):
            counts[name] = counts.get(name, 0) + number
    return {**counts, **({"sources": len(sources)} if sources else {})}
