"""Finished units that show what was taken down: keyframes, cuts, captions, tokens. They go when all else is done."""

import json
import re
from collections.abc import Iterable, Iterator

from beam_jobs.record_json import from_json
from beam_jobs.units import Units
from curation.removals import Removals
from curation.settings_models import MAX_FRAMES
from curation.stills import all_sha256, pictures_at
from media import storage
from schemas.identity import fingerprint
from schemas.records import Analysis

_CONTENT = re.compile(rb'"content_sha256":"([0-9a-f]{64})"')
_PICTURE = re.compile(rb'"(?:keyframe_)?sha256":"([0-9a-f]{64})"')
_SHOWN_PICTURES = ("caption", "embedding", "aesthetic_embedding", "nsfw")  # stages whose units are made from them


def purge_run(run_dir: str, removals: Removals, clip_ids: Iterable[str], fingerprints: dict[str, str]) -> int:
    """Removes the units of barred inputs and clips, of these and of earlier settings; returns how many.

    A picture that a clip which stays shares to the byte (a black frame, a title) is no secret and stays.
    """
    units = Units.of(run_dir)
    gone, paths = set(clip_ids), list[str]()
    pictures: set[str] = set()
    seen: set[tuple[str, ...]] = set()  # what a model may have been shown of a clip
    for path, analysis in _analyses_of(units, {row.content_sha256 for row in removals.rows}):
        whole = removals.source(analysis.source, analysis.content_sha256) is not None
        barred = [clip for clip in analysis.clips if whole or removals.clip(clip) is not None]
        gone.update(clip.clip_id for clip in barred)
        pictures |= all_sha256(barred)
        seen |= {pictures_at(clip, frames) for clip in barred for frames in range(1, MAX_FRAMES + 1)}
        if whole:
            paths.append(path)
    paths += _cuts_of(units, gone)
    free = pictures - _still_used(units, pictures, removals) if pictures else pictures
    paths += [units.path("keyframe", sha256, ".jpg") for sha256 in sorted(free)]
    paths += [
        units.path(stage, fingerprint(stage, fingerprints[stage], *shown))
        for stage in _SHOWN_PICTURES
        if stage in fingerprints
        for shown in sorted(seen)
        if free.issuperset(shown) and shown
    ]
    return _remove(paths)


def purge_tokens(folder: str, clip_ids: frozenset[str]) -> int:
    """Removes the units with tokens of these clips; returns how many."""
    units = Units.of(folder)
    paths = []
    for path in storage.list_files(units.root, "tokens/*/*"):
        with storage.open_read(path) as file:
            head = json.loads(file.readline())
        if isinstance(head, list) and any(str(key).partition("-")[0] in clip_ids for key, _ in head):
            paths.append(path)
    return _remove(paths)


def _analyses_of(units: Units, contents: set[str | None]) -> Iterator[tuple[str, Analysis]]:
    """(path, analysis) of every finished analysis of some content, whatever its settings."""
    for path in storage.list_files(units.root, "analyze/*/*"):
        data = storage.read_bytes(path)
        found = _CONTENT.search(data)
        if found and found[1].decode() in contents:
            yield path, from_json(Analysis, data)


def _still_used(units: Units, pictures: set[str], removals: Removals) -> set[str]:
    """Those of the pictures that a clip which is not barred has too."""
    used: set[str] = set()
    for path in storage.list_files(units.root, "analyze/*/*"):
        data = storage.read_bytes(path)
        if not {match.decode() for match in _PICTURE.findall(data)} & pictures:
            continue
        analysis = from_json(Analysis, data)
        if removals.source(analysis.source, analysis.content_sha256) is None:
            used |= all_sha256(clip for clip in analysis.clips if removals.clip(clip) is None)
    return used & pictures


def _cuts_of(units: Units, clip_ids: set[str]) -> Iterator[str]:
    """Records and media of the cuts of these clips; the record first, so that no record is without its media."""
    for path in storage.list_files(units.root, "cut/*/*"):
        if not path.endswith(".mp4") and json.loads(storage.read_bytes(path)).get("clip_id") in clip_ids:
            yield from (path, f"{path}.mp4")


def _remove(paths: Iterable[str]) -> int:
    count = 0
    for path in paths:
        if storage.exists(path):
            storage.remove(path)
            count += 1
    return count
