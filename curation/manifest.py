"""Inputs of a run: from a manifest (CSV, JSON Lines, Parquet), a folder, a glob or a single video."""

import ast
import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow.parquet as pq

from curation.settings import CurateSettings, ManifestSettings
from schemas.identity import source_id
from schemas.records import Source

MANIFEST_SUFFIXES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
NOT_MEDIA = frozenset({*MANIFEST_SUFFIXES, ".json", ".txt", ".md", ".yaml", ".yml", ".html", ".srt", ".vtt"})
_WEBVID = {"videoid", "contentUrl", "name"}
_PANDA = {"url", "timestamp", "caption"}

Row = dict[str, Any]


def read_sources(settings: CurateSettings) -> list[Source]:
    """Every input in order, at most `settings.limit`; a repeated one has the next `occurrence`.

    A folder gives all its regular files, at any depth and sorted by path, whatever their extension, save hidden files
    and those of `NOT_MEDIA` (manifests and sidecars): a file that is no video is an input that fails, not one that
    vanishes. A glob gives what it matches, by the same rule. Beside `x.mp4`, `x.txt` is its caption and `x.json` an
    object whose `caption` and `license` count and whose other keys travel with the clips.

    Raises:
        FileNotFoundError: no such manifest, folder or file, or a glob that matches nothing.
        ValueError: a column or a number is wrong; names the row, what was found and the fix.
    """
    form = _form(settings.input, settings.manifest)
    if form == "files":
        sources: Iterator[Source] = (
            _source(name, _sidecar(name), ManifestSettings()) for name in _files(settings.input)
        )
    else:
        sources = _from_manifest(settings.input, form, settings.manifest)
    taken: list[Source] = []
    seen: dict[str, int] = {}
    for source in sources:
        if settings.limit is not None and len(taken) >= settings.limit:
            break
        taken.append(replace(source, occurrence=seen.get(source.source_id, 0)))
        seen[source.source_id] = seen.get(source.source_id, 0) + 1
    if not taken:
        raise ValueError(f"input {settings.input} has no rows or files; a run needs at least one")
    return taken


def _form(path: str, manifest: ManifestSettings) -> str:
    """`files`, or the manifest's form."""
    if manifest.format != "auto":
        return manifest.format
    filesystem, plain = fsspec.url_to_fs(path)
    if not filesystem.isfile(plain):
        return "files"
    return MANIFEST_SUFFIXES.get(PurePosixPath(path).suffix.lower(), "files")


# --- folders, globs, single files -----------------------------------------------------------------------------------


def _files(path: str) -> Iterator[str]:
    """Each file of a folder or glob as `path` spells it, sorted; a single file is itself."""
    filesystem, plain = fsspec.url_to_fs(path)
    if filesystem.isfile(plain):
        yield path
        return
    if filesystem.isdir(plain):
        given, root, found = path.rstrip("/") + "/", plain.rstrip("/") + "/", filesystem.find(plain)
    else:
        given, root = ("", plain.removesuffix(path)) if plain.endswith(path) else (path.removesuffix(plain), "")
        found = [name for name in filesystem.glob(plain) if filesystem.isfile(name)]
        if not found:
            raise FileNotFoundError(
                f"input {path} is not there: no such manifest, folder or file, and as a glob it matches nothing"
            )
    for name in sorted(found):
        inner = name.removeprefix(root)
        if PurePosixPath(inner).suffix.lower() not in NOT_MEDIA and not any(
            part.startswith(".") for part in inner.split("/")
        ):
            yield given + inner


def _sidecar(path: str) -> Row:
    """What `x.json` and `x.txt` beside `x.mp4` say; the text is the caption where both have one."""
    stem = path[: len(path) - len(PurePosixPath(path).suffix)]
    row: Row = {}
    filesystem, plain = fsspec.url_to_fs(stem)
    if filesystem.isfile(plain + ".json"):
        text = filesystem.cat_file(plain + ".json").decode("utf-8", errors="replace")
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"sidecar {stem}.json is not JSON ({error}); correct it or take it away") from error
        row = dict(data) if isinstance(data, dict) else {"caption": str(data)}
    if filesystem.isfile(plain + ".txt"):
        row["caption"] = filesystem.cat_file(plain + ".txt").decode("utf-8", errors="replace").strip()
    return row


# --- manifests --------------------------------------------------------------------------------------------------------


def _from_manifest(path: str, form: str, manifest: ManifestSettings) -> Iterator[Source]:
    filesystem, plain = fsspec.url_to_fs(path)
    if not filesystem.isfile(plain):
        raise FileNotFoundError(f"manifest {path} is not there; check --input")
    numbered = _RECORDS[form if form in _RECORDS else "csv"](filesystem, plain)
    for number, row in numbered:
        where = f"{path}, row {number}"
        known = _known_form(row) if form == "csv" and manifest.format == "auto" else form
        if known == "panda70m":
            yield from _panda70m(row, where)
        elif known == "webvid":
            yield _webvid(row)
        else:
            yield _from_row(row, path, manifest, where)


def manifest_rows(path: str) -> Iterator[tuple[Row, str | None]]:
    """Each row of a CSV, JSON Lines or Parquet file as it is, and the address that its `path` or `url` gives in full.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of that form.
    """
    filesystem, plain = fsspec.url_to_fs(path)
    if not filesystem.isfile(plain):
        raise FileNotFoundError(f"manifest {path} is not there")
    form = MANIFEST_SUFFIXES.get(PurePosixPath(path).suffix.lower(), "csv")
    for _, row in _RECORDS[form](filesystem, plain):
        address = _beside(path, str(row["path"])) if row.get("path") else row.get("url")
        yield row, _absolute(str(address)) if address else None


def _known_form(row: Row) -> str:
    columns = set(row)
    if columns >= _PANDA and str(row["timestamp"]).lstrip().startswith("["):
        return "panda70m"
    return "webvid" if columns >= _WEBVID else "csv"


def _csv_rows(filesystem: Any, plain: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(2**24)  # Panda-70M keeps all captions of a video in one cell
    with filesystem.open(plain, "rb") as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="")
        reader = csv.DictReader(text, dialect=csv.excel_tab if plain.endswith(".tsv") else csv.excel)
        for row in reader:
            yield reader.line_num, {key: value for key, value in row.items() if key is not None}


def _jsonl_rows(filesystem: Any, plain: str) -> Iterator[tuple[int, Row]]:
    with filesystem.open(plain, "rb") as stream:
        for number, line in enumerate(io.TextIOWrapper(stream, encoding="utf-8-sig"), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{plain}, row {number} is not JSON ({error}); one object per line is read") from error
            if not isinstance(row, dict):
                raise ValueError(f"{plain}, row {number} is a {type(row).__name__}; one object per line is read")
            yield number, row


def _parquet_rows(filesystem: Any, plain: str) -> Iterator[tuple[int, Row]]:
    with filesystem.open(plain, "rb") as stream:
        try:
            table = pq.ParquetFile(stream)
        except (OSError, ValueError) as error:
            raise ValueError(f"{plain} is not Parquet ({error}); give --manifest.format its true form") from error
        number = 0
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row


_RECORDS = {"csv": _csv_rows, "jsonl": _jsonl_rows, "parquet": _parquet_rows}


def _from_row(row: Row, manifest_path: str, manifest: ManifestSettings, where: str) -> Source:
    path, url = row.get(manifest.path_column), row.get(manifest.url_column)
    if manifest.path_column not in row and manifest.url_column not in row:
        raise ValueError(
            f"{where} has neither a column {manifest.path_column!r} nor {manifest.url_column!r}; its columns are "
            f"{', '.join(map(repr, row))}. Name the right one with --manifest.path_column or --manifest.url_column"
        )
    if not path and not url:
        raise ValueError(
            f"{where} has no {manifest.path_column} and no {manifest.url_column}; fill one or drop the row"
        )
    if path:
        uri = _beside(manifest_path, str(path))
        sidecar = {} if "://" in uri else _sidecar(uri)  # two requests per row would be too dear on an object store
        row = {**sidecar, **{key: value for key, value in row.items() if value not in (None, "")}}
    else:
        uri = str(url)
    return _source(uri, row, manifest, where)


def _beside(manifest_path: str, path: str) -> str:
    """The path as it can be opened: a relative one starts at the manifest."""
    if "://" in path or path.startswith("/") or (len(path) > 2 and path[1:3] == ":\\"):
        return path
    folder = manifest_path.rsplit("/", 1)[0] if "/" in manifest_path else "."
    return str(PurePosixPath(folder) / path) if "://" not in folder else f"{folder}/{path}"


def _panda70m(row: Row, where: str) -> Iterator[Source]:
    """One input for each of the [start, end] pairs, with its caption (snap-research/Panda-70M)."""
    try:
        spans, captions = ast.literal_eval(str(row["timestamp"])), ast.literal_eval(str(row["caption"]))
        pairs = [
            (_clock(start), _clock(end), str(caption)) for (start, end), caption in zip(spans, captions, strict=True)
        ]
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(
            f"{where}: timestamp and caption are not two lists of equal length ({error}); expected the Panda-70M form "
            "[['0:00:01.000', '0:00:09.000'], …] and ['a caption', …]"
        ) from error
    extra = {key: value for key, value in row.items() if key not in {"url", "timestamp", "caption"}}
    for start_s, end_s, caption in pairs:
        values = {**extra, "caption": caption, "start_s": start_s, "end_s": end_s}
        yield _source(str(row["url"]), values, ManifestSettings(), where)


def _clock(text: str) -> float:
    """Seconds of `h:mm:ss.mmm`."""
    total = 0.0
    for part in str(text).split(":"):
        total = 60 * total + float(part)
    return round(total, 6)


def _webvid(row: Row) -> Source:
    """WebVid: `contentUrl` is fetched, `name` is the caption; `duration` is ISO 8601 and only travels along."""
    extra = {key: value for key, value in row.items() if key not in {"contentUrl", "name"}}
    return _source(str(row["contentUrl"]), {**extra, "caption": row["name"]}, ManifestSettings())


# --- one source -------------------------------------------------------------------------------------------------------


def _source(uri: str, row: Mapping[str, Any], manifest: ManifestSettings, where: str = "") -> Source:
    start_s = _seconds(row.get(manifest.start_column), manifest.start_column, where)
    end_s = _seconds(row.get(manifest.end_column), manifest.end_column, where)
    if end_s is not None and end_s <= (start_s or 0.0):
        raise ValueError(
            f"{where}: {manifest.end_column} {end_s:g} is not after {manifest.start_column} {start_s or 0.0:g}; "
            "correct the row or drop it"
        )
    used = set(_columns(manifest))
    extra = {str(key): value for key, value in row.items() if key not in used and value not in (None, "")}
    return Source(
        source_id=source_id(uri, start_s, end_s), uri=_absolute(uri), start_s=start_s, end_s=end_s,
        caption=_text(row.get(manifest.caption_column)), license=_text(row.get(manifest.license_column)),
        extra=json.dumps(extra, sort_keys=True, ensure_ascii=False, default=str),
    )  # fmt: skip


def _absolute(uri: str) -> str:
    """Local paths in full, because workers may run in another folder; URLs as they are. The id keeps what was given."""
    return uri if "://" in uri else str(Path(uri).absolute())


def _columns(manifest: ManifestSettings) -> tuple[str, ...]:
    return (
        manifest.path_column, manifest.url_column, manifest.caption_column, manifest.license_column,
        manifest.start_column, manifest.end_column,
    )  # fmt: skip


def _text(value: Any) -> str | None:
    text = "" if value is None else str(value).strip()
    return text or None


def _seconds(value: Any, column: str, where: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(
            f"{where}: {column} {value!r} is not a number of seconds, 0 or more; correct it or leave it empty"
        )
    return seconds
