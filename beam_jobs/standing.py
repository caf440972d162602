"""Generations of shards: what an earlier run has placed stays in its shard, what came in later gets shards of its own.

    clips-00000.tar …       generation 0: the first run
    clips-g01-00000.tar …   generation 1: what a later run, with the same settings, found besides

Which sample lies where is copied from the tables of the finished run to its units, before the first file changes. So a
run that is killed while it adds a generation goes on from what stood before it:

    .work/standing/index.json         the manifest that was copied, its settings, and the parts; written last
    .work/standing/<hash>-00000.parquet   key, shard

A run with other settings makes another data set, planned anew as if the folder were empty; so is one whose earlier run
wrote no shards. `ARRIVING` names the settings that say what comes in, and not what is made of it.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_jobs.products import Products
from beam_jobs.units import Units
from media import storage
from media.shard_plan import generation_of

ARRIVING = frozenset({"input", "exclude", "manifest", "fetch", "max_failures", "previews", "plan", "device", "threads"})
_FOLDER, _INDEX = "standing", "index.json"
NEW = "new"


@dataclass(frozen=True)
class Standing:
    """Where the samples of an earlier run lie; a plain value, so that it travels to the workers."""

    parts: tuple[str, ...] = ()  # Parquet files with columns key and shard
    generation: int = 0  # of samples that the parts do not name


NOTHING_STANDS = Standing()


@dataclass(frozen=True)
class _Index:
    """`index.json`."""

    manifest_sha256: str
    settings: dict[str, Any]
    parts: list[str]
    generation: int


def standing(files: Products, tables: str, key: str, settings: Mapping[str, Any]) -> Standing:
    """What an earlier run with these settings has placed, kept among the units; nothing where there is none.

    Call it before a file of the output folder changes.

    Args:
        tables: pattern of the Parquet files that say where samples lie, within the output folder.
        key: their column with the sample's key; that with the shard's name is `shard`, null for what lies in none.
        settings: of the run that is about to start, as its manifest will show them.
    """
    folder = storage.join(Units.of(files.output).root, _FOLDER)
    index = _read_index(folder)
    manifest = files.path(files.manifest)
    if storage.exists(manifest):
        data = storage.read_bytes(manifest)
        sha256 = hashlib.sha256(data).hexdigest()
        if index is None or index.manifest_sha256 != sha256:
            index = _copy(files, tables, key, folder, sha256, json.loads(data)["settings"])
    if index is None or not same_settings(index.settings, settings):
        return NOTHING_STANDS
    return Standing(tuple(storage.join(folder, name) for name in index.parts), index.generation)


def same_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two runs make the same of a video. A setting that only one of them knows is taken for its default."""
    now = json.loads(json.dumps(now))
    for name in before.keys() & now.keys() - ARRIVING:
        old, new = before[name], now[name]
        alike = same_settings(old, new) if isinstance(old, dict) and isinstance(new, dict) else old == new
        if not alike:
            return False
    return True


def _read_index(folder: str) -> _Index | None:
    try:
        return _Index(**json.loads(storage.read_bytes(storage.join(folder, _INDEX))))
    except FileNotFoundError:
        return None


def _copy(files: Products, tables: str, key: str, folder: str, sha256: str, settings: dict[str, Any]) -> _Index:
    """Copies where samples lie, part by part, and then says so."""
    where, _, pattern = tables.rpartition("/")
    names: list[str] = []
    newest = -1
    for path in storage.list_files(files.path(where) if where else files.output, pattern):
        table = pq.read_table(io.BytesIO(storage.read_bytes(path)), columns=[key, "shard"])
        table = table.filter(pc.is_valid(table["shard"])).rename_columns(["key", "shard"])
        if not table.num_rows:
            continue
        newest = max(newest, *(generation_of(shard) for shard in pc.unique(table["shard"]).to_pylist()))
        names.append(f"{sha256[:16]}-{len(names):05d}.parquet")
        storage.write_bytes_atomic(storage.join(folder, names[-1]), _parquet(table))
    index = _Index(sha256, settings, names, newest + 1)
    storage.write_bytes_atomic(storage.join(folder, _INDEX), json.dumps(asdict(index), sort_keys=True).encode())
    for path in storage.list_files(folder, "*.parquet"):
        if path.rpartition("/")[2] not in names:
            storage.remove(path)
    return index


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_standing(path: str) -> Iterator[tuple[str, str]]:
    """(key, shard) of the samples of one part."""
    table = pq.read_table(io.BytesIO(storage.read_bytes(path)))
    yield from zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True)


class Placed(NamedTuple):
    """Shards that stand, as (name, samples), and samples that are to get one."""

    standing: PCollection
    new: PCollection


class Place(beam.PTransform):
    """Samples → `Placed`.

    Args:
        key: of a sample, by which the tables know it.
        fits: whether a sample may stay in the shard of this name.
    """

    def __init__(self, standing: Standing, key: Callable[[Any], str], fits: Callable[[Any, str], bool]):
        super().__init__()
        self._parts, self._key, self._fits = list(standing.parts), key, fits

    def expand(self, samples: PCollection) -> Any:  # Placed
        shards = (
            samples.pipeline
            | "Standing" >> beam.Create(self._parts)
            | "Read" >> beam.FlatMap(read_standing).with_output_types(tuple[str, str])
        )
        keyed = samples | "ByKey" >> beam.Map(_keyed, self._key).with_output_types(tuple[str, Any])
        outputs = (
            {"sample": keyed, "shard": shards}
            | "Meet" >> beam.CoGroupByKey()
            | "Place" >> beam.FlatMap(_placed, self._fits).with_outputs(NEW, main="standing")
        )
        return Placed(outputs["standing"] | "ByShard" >> beam.GroupByKey(), outputs[NEW])


def _keyed(sample: Any, key: Callable[[Any], str]) -> tuple[str, Any]:
    return key(sample), sample


def _placed(met: tuple[str, Mapping[str, Iterable[Any]]], fits: Callable[[Any, str], bool]) -> Iterator[Any]:
    shard = next(iter(met[1]["shard"]), None)
    for sample in met[1]["sample"]:
        if shard is not None and fits(sample, shard):
            yield shard, sample
        else:
            yield TaggedOutput(NEW, sample)
