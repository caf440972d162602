"""`croissant.json`: the data-set card of a curated run, in the vocabulary of Croissant 1.0 (mlcommons.org).

It says what `run.json` says, to programs that have never heard of Reelmill: where the shards and the ledger are, by
sha256, and what every column means. Equal runs give equal bytes.
"""

import hashlib
import json
import re
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.ledger_rows import CLIPS, SOURCES, read_run_info, row_groups
from media import storage
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.run import RunInfo

CARD = "croissant.json"
UNKNOWN_LICENSE = "not stated"
MAX_LICENSES = 100

Node = dict[str, Any]

_CONTEXT: Node = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.float64(): "sc:Float", pa.bool_(): "sc:Boolean"}
_MEMBERS = {"mp4": "video/mp4", "jpg": "image/jpeg", "json": "application/json"}


def build_card(run_dir: str, run: RunInfo | None = None) -> str:
    """Writes `croissant.json` into the folder of a finished run and returns its path.

    Args:
        run: what `run.json` will say of it, where it is not there yet.

    Raises:
        FileNotFoundError: the folder holds no finished run.
    """
    run = run or read_run_info(run_dir)
    path = storage.join(run_dir, CARD)
    text = json.dumps(card(run, _ledger_files(run_dir), licenses(run_dir)), indent=2, ensure_ascii=False)
    storage.write_bytes_atomic(path, (text + "\n").encode())
    return path


def card(run: RunInfo, ledger: dict[str, tuple[int, str]], license_names: list[str]) -> Node:
    """The card as JSON-LD.

    Args:
        ledger: (bytes, sha256) of the ledger's files, by path within the run.
        license_names: licences of the kept clips as the manifest gave them; `not stated` for clips without one.
    """
    shards = [
        _file(
            f"clips/{shard.name}", shard.num_bytes, shard.sha256, "application/x-tar", f"{shard.num_clips} kept clips"
        )
        for shard in run.shards
    ]
    tables = [
        _file(name, size, sha256, "application/x-parquet", "part of the ledger")
        for name, (size, sha256) in sorted(ledger.items())
    ]
    members = [_members(extension, mime, run) for extension, mime in _MEMBERS.items()] if run.shards else []
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name_of(run),
        "description": describe(run),
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": license_names or [UNKNOWN_LICENSE],
        "version": _version(run),
        "distribution": [*shards, *members, *tables],
        "recordSet": _record_sets(sorted(ledger)),
    }


def name_of(run: RunInfo) -> str:
    """A name made of the input's: `multishot`."""
    given = PurePosixPath(str(run.settings.get("input") or "").partition("?")[0])
    return re.sub(r"[^A-Za-z0-9_-]+", "-", given.stem).strip("-") or "curated-clips"


def describe(run: RunInfo) -> str:
    """What the data set is, in a few sentences."""
    counts = run.counts
    kept, hours = counts.get("clips.kept", 0), run.hours.get("kept", 0.0)
    text = (
        f"{kept:,} single-shot video clips ({hours:.4g} hours) kept of {counts.get('clips', 0):,} candidates from "
        f"{counts.get('sources', 0):,} videos, curated by Reelmill {run.versions.get('reelmill', '')}".rstrip()
    )
    limits = [
        f"{name} {value:g}"
        for name, value in sorted((run.settings.get("filters") or {}).items())
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    text += f". Limits: {', '.join(limits)}." if limits else ". No limit was set on any score."
    return text + " The ledger has one row for every input and every candidate clip, rejected ones with their reason."


def licenses(run_dir: str) -> list[str]:
    """Licences of the kept clips, sorted; at most `MAX_LICENSES`."""
    found: set[str] = set()
    for table in row_groups(run_dir, CLIPS, ["state", "license"]):
        kept = table.filter(pc.equal(table["state"], "kept"))
        found.update(name or UNKNOWN_LICENSE for name in pc.unique(kept["license"]).to_pylist())
    names = sorted(found)
    return names if len(names) <= MAX_LICENSES else [*names[:MAX_LICENSES], f"and {len(names) - MAX_LICENSES} more"]


def _version(run: RunInfo) -> str:
    """Differs where the data differs: a build number made of the shards' hashes, as semantic versioning allows."""
    digest = hashlib.sha256("".join(shard.sha256 for shard in run.shards).encode()).hexdigest()[:12]
    return f"1.0.0+{digest}"


def _ledger_files(run_dir: str) -> dict[str, tuple[int, str]]:
    files = {}
    for kind in (CLIPS, SOURCES):
        for path in storage.list_files(storage.join(run_dir, "ledger"), f"{kind}-*.parquet"):
            data = storage.read_bytes(path)
            files["ledger/" + path.rpartition("/")[2]] = (len(data), hashlib.sha256(data).hexdigest())
    return files


def _file(name: str, num_bytes: int, sha256: str, mime: str, description: str) -> Node:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": description,
        "contentUrl": name,
        "contentSize": f"{num_bytes} B",
        "encodingFormat": mime,
        "sha256": sha256,
    }


def _members(extension: str, mime: str, run: RunInfo) -> Node:
    """The files of one kind within the shards."""
    return {
        "@type": "cr:FileSet",
        "@id": f"clips-{extension}",
        "name": f"clips-{extension}",
        "containedIn": [{"@id": f"clips/{shard.name}"} for shard in run.shards],
        "encodingFormat": mime,
        "includes": f"*.{extension}",
    }


def _record_sets(files: list[str]) -> list[Node]:
    """One record set for each part of the ledger: a field takes its values from one file."""
    sets = []
    for kind, schema in ((CLIPS, CLIPS_SCHEMA), (SOURCES, SOURCES_SCHEMA)):
        parts = [name for name in files if name.startswith(f"ledger/{kind}-")]
        for part in parts:
            name = kind if len(parts) == 1 else PurePosixPath(part).stem
            sets.append(_record_set(name, kind, part, schema))
    return sets


def _record_set(name: str, kind: str, part: str, schema: pa.Schema) -> Node:
    what = "every candidate clip" if kind == CLIPS else "every input"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"One row for {what}, with its state and, where it was not kept, the reason.",
        "field": [_field(name, column, part) for column in schema],
    }


def _field(record_set: str, column: pa.Field, part: str) -> Node:
    doc = (column.metadata or {}).get(b"doc", b"").decode()
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column.name}",
        "name": f"{record_set}/{column.name}",
        **({"description": doc} if doc else {}),
        "dataType": _TYPES[column.type],
        "source": {"fileObject": {"@id": part}, "extract": {"column": column.name}},
    }
