"""Whether a run stands already as it would be made: then nothing is started, not even Beam.

The last thing a run writes is a note among its units that says what it was made from and which files it left. A run of
the same command finds it, looks at its inputs (size and time of change, as the unit of a fetch does) and at its files
(size, and the bytes of the manifest), and is done. Where a failure may pass, such as a server that was down, there is
no note, because there is something to do.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fsspec.core import url_to_fs

from beam_jobs.isolation import PASSING
from beam_jobs.record_json import to_json
from beam_jobs.units import WORK, Units
from media import storage
from schemas.identity import fingerprint
from schemas.records import Source

_NOTE = "unchanged.json"
_PACKAGES = ("beam_jobs", "curation", "media", "schemas", "tokenize_shards")
_SETTLED_STAGES = frozenset({"analyze", "keyframe", "cut", "tokenize"})
_SETTLED_FETCHES = frozenset({"not_found", "not_media", "too_large"})  # of a local file that has not changed


@dataclass(frozen=True)
class Finished:
    """What a run came to.

    Args:
        key: fingerprint of all it was made from.
        status: exit status.
        summary: what became of all, for a person; where it lies is not in it.
    """

    key: str
    status: int
    summary: str


def key_of(made_from: Iterable[object], sources: Iterable[Source] = ()) -> str:
    """Fingerprint of a run: its code, whatever the caller says shapes it, and its inputs as they are now."""
    digest = hashlib.sha256(fingerprint(_code(), *made_from).encode())
    for source in sources:
        digest.update(to_json(source) + repr(file_state(source.uri)).encode())
    return digest.hexdigest()


def file_state(uri: str) -> tuple[int, ...]:
    """Size and time of change of a local file; nothing for what is elsewhere or missing."""
    if not storage.is_local(uri):
        return ()
    try:
        state = Path(uri.removeprefix("file://")).stat()
    except OSError:
        return ()
    return state.st_size, state.st_mtime_ns


def settled(counts: Mapping[str, int], all_local: bool) -> bool:
    """Whether running again could not change what came of any input or clip.

    Args:
        counts: sums of the run, with a name such as `sources.failed:fetch/not_found` for each reason.
        all_local: whether every input is a file of this machine.
    """
    reasons = [name.partition(":")[2].split("/") for name in counts if ".failed:" in name]
    return all(
        (stage in _SETTLED_STAGES and reason not in PASSING)
        or (stage == "fetch" and all_local and reason in _SETTLED_FETCHES)
        for stage, reason in reasons
    )


def remember(output: str, manifest: str, finished: Finished) -> None:
    """Notes that the run in this folder is whole."""
    note = {
        "key": finished.key, "status": finished.status, "summary": finished.summary,
        "manifest_sha256": _sha256(storage.join(output, manifest)), "files": _files(output),
    }  # fmt: skip
    storage.write_bytes_atomic(_path(output), json.dumps(note, sort_keys=True).encode())


def forget(output: str) -> None:
    """Takes the note away, before the first file changes."""
    storage.remove(_path(output))


def unchanged(output: str, manifest: str, key: str) -> Finished | None:
    """What the run in this folder came to, where it is the run of this key and its files are all there."""
    try:
        note = json.loads(storage.read_bytes(_path(output)))
        if note["key"] != key or note["manifest_sha256"] != _sha256(storage.join(output, manifest)):
            return None
    except FileNotFoundError:
        return None
    files = _files(output)
    if any(files.get(name) != size for name, size in note["files"].items()):
        return None
    return Finished(key, int(note["status"]), str(note["summary"]))


def _path(output: str) -> str:
    return storage.join(Units.of(output).root, _NOTE)


def _files(output: str) -> dict[str, int]:
    """Bytes of every file of a run by its name; `.work` and the timings are no part of what it made."""
    filesystem, root = url_to_fs(output)
    root = root.rstrip("/")
    found = {}
    for entry in filesystem.ls(root, detail=True):
        name = entry["name"].rstrip("/").rpartition("/")[2]
        if name in (WORK, "timings.json"):
            continue
        folder = entry["type"] == "directory"
        below = filesystem.find(entry["name"], detail=True) if folder else {entry["name"]: entry}
        found.update({path.removeprefix(f"{root}/"): int(info["size"]) for path, info in below.items()})
    return found


def _sha256(path: str) -> str:
    return hashlib.sha256(storage.read_bytes(path)).hexdigest()


@cache
def _code() -> str:
    """Hash of all our code and of what lies beside it: whatever a change may change, the run is then made again."""
    digest, top = hashlib.sha256(), Path(__file__).parents[1]
    for package in _PACKAGES:
        for path in sorted((top / package).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".html", ".css", ".js", ".jinja", ".j2", ".yaml", ".json"):
                digest.update(f"{path.relative_to(top).as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()
