"""From what a person names to tombstones: the inputs and clips meant, and what the ledger knows as copies of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from beam_jobs.record_json import from_json
from beam_jobs.units import Units
from curation.fates import Fate, fate_of
from curation.find import find, nearest_ids
from curation.ledger_rows import CLIPS, SOURCES, Row, rows_of
from curation.manifest import MANIFEST_SUFFIXES, manifest_rows
from curation.removals import Removals, hash_words
from media import storage
from schemas.identity import fingerprint, source_id
from schemas.records import Analysis, Clip, Source
from schemas.removals import RemovedRow
from schemas.run import RunInfo

_ID_COLUMNS = {"clip_id": CLIPS, "source_id": SOURCES}


class Tombstones:
    """Makes the tombstones of one run.

    Args:
        run_dir: its folder.
        run: its manifest.
        reason: why, in the words of whoever asks.
        copies: whether what the ledger knows as copies goes as well, both ways.
    """

    def __init__(self, run_dir: str, run: RunInfo, reason: str, copies: bool):
        self.run_dir, self.reason, self.copies = run_dir, reason, copies
        self._looks = Looks(run_dir, run)

    def of(self, target: str, known: Removals) -> list[RemovedRow]:
        """New tombstones for an id, the beginning of one, a path, a URL, or a manifest of them.

        Args:
            known: the tombstones that stand already; what they name is not looked for again.

        Raises:
            ValueError: something that is named is not in the run, or not unique; nothing was touched.
        """
        if is_manifest(target):
            kinds, addresses = self._of_manifest(target, known)
        else:
            kinds, addresses = self._of_name(target, known), []
        rows = [*self._of_sources(kinds.get(SOURCES, [])), *self._of_clips(kinds.get(CLIPS, []))]
        standing = {(row.kind, row.removed_id) for row in known.rows}
        return [row for row in [*rows, *addresses] if (row.kind, row.removed_id) not in standing]

    def _of_name(self, target: str, known: Removals) -> dict[str, list[Row]]:
        if any(row.removed_id.startswith(target) or row.uri == target for row in known.rows):
            return {}
        kind, rows = find(self.run_dir, target)
        return {kind: rows}

    def _of_manifest(self, path: str, known: Removals) -> tuple[dict[str, list[Row]], list[RemovedRow]]:
        """(rows of the ledger by kind, tombstones of addresses that this run has never seen)."""
        ids, addresses = read_targets(path)
        gone = {row.removed_id for row in known.rows}
        found: dict[str, list[Row]] = {CLIPS: [], SOURCES: []}
        for name in sorted(ids[None]):
            if name not in gone:
                kind, rows = find(self.run_dir, name)
                found[kind] += rows
        for column, kind in _ID_COLUMNS.items():
            wanted = ids[kind] - gone
            rows = rows_of(self.run_dir, kind, column, wanted)
            if missing := sorted(wanted - {row[column] for row in rows}):
                near = nearest_ids(self.run_dir, missing[0])
                raise ValueError(
                    f"{path} names {len(missing)} {column} that the run does not have, such as {missing[0]!r}"
                    f"{f' (near: {near[0]})' if near else ''}; nothing was removed. Correct the rows or drop them"
                )
            found[kind] += rows
        seen = rows_of(self.run_dir, SOURCES, "uri", addresses)
        found[SOURCES] += seen
        unseen = sorted(addresses - {row["uri"] for row in seen} - {row.uri for row in known.rows})
        bare = [RemovedRow("source", source_id(uri), uri, None, None, None, None, self.reason) for uri in unseen]
        return found, bare

    def _of_sources(self, rows: Sequence[Row]) -> Iterator[RemovedRow]:
        """These inputs, those with equal content within the same bounds, and all their clips."""
        asked = [self._source_row(row) for row in rows]
        yield from asked
        contents = {row["content_sha256"] for row in rows if row["content_sha256"]}
        barred = Removals(tuple(asked))
        same = []
        for row in rows_of(self.run_dir, SOURCES, "content_sha256", contents):
            if barred.source(_source(row), row["content_sha256"]) is not None:
                same.append(row)
                yield self._source_row(row)
        ids = {row["source_id"] for row in [*rows, *same]}
        yield from self._of_clips(rows_of(self.run_dir, CLIPS, "source_id", ids))

    def _source_row(self, row: Row) -> RemovedRow:
        return RemovedRow(
            "source",
            row["source_id"],
            row["uri"],
            row["content_sha256"],
            row["start_s"],
            row["end_s"],
            None,
            self.reason,
        )

    def _of_clips(self, rows: Sequence[Row]) -> Iterator[RemovedRow]:
        """These clips, and the rest of the groups of copies that they belong to."""
        contents = self._contents(rows)
        yield from (self._clip_row(row, contents, looks=self.copies) for row in rows)
        if not self.copies:
            return
        asked = {row["clip_id"] for row in rows}
        originals = {row["duplicate_of"] if _is_copy(row) else row["clip_id"] for row in rows}
        copies = filter(_is_copy, rows_of(self.run_dir, CLIPS, "duplicate_of", originals))
        group = [*rows_of(self.run_dir, CLIPS, "clip_id", originals), *copies]
        others = [row for row in group if row["clip_id"] not in asked]
        contents = self._contents(others)
        yield from (self._clip_row(row, contents, looks=False) for row in others)

    def _contents(self, rows: Iterable[Row]) -> dict[str, str | None]:
        """Hash of the content of each clip's source."""
        ids = {row["source_id"] for row in rows}
        found = rows_of(self.run_dir, SOURCES, "source_id", ids, ["source_id", "content_sha256"])
        return {row["source_id"]: row["content_sha256"] for row in found}

    def _clip_row(self, row: Row, contents: dict[str, str | None], looks: bool) -> RemovedRow:
        sha256 = contents.get(row["source_id"])
        phash = self._looks.of(row["clip_id"], sha256) if looks else None
        return RemovedRow("clip", row["clip_id"], row["uri"], sha256, row["start_s"], row["end_s"], phash, self.reason)


def _is_copy(row: Row) -> bool:
    """Whether it shows the same pictures as another: what only means the same is somebody else's."""
    return fate_of((row["state"], row["stage"], row["reason"])) is Fate.COPY


class Looks:
    """Perceptual hashes of clips, from the analyses of a run that are still among its units."""

    def __init__(self, run_dir: str, run: RunInfo):
        self._run_dir, self._units, self._stage = run_dir, Units.of(run_dir), run.fingerprints.get("analyze")
        self._read: set[str] = set()
        self._words: dict[str, str | None] = {}

    def of(self, clip_id: str, content_sha256: str | None) -> str | None:
        """The hashes as a tombstone holds them; None where they are not known any more."""
        if content_sha256 is not None and content_sha256 not in self._read:
            self._read.add(content_sha256)
            rows = rows_of(self._run_dir, SOURCES, "content_sha256", [content_sha256], ["start_s", "end_s"])
            for bounds in sorted({(row["start_s"], row["end_s"]) for row in rows}, key=str):
                for clip in self._clips(content_sha256, *bounds):
                    self._words[clip.clip_id] = hash_words(clip.phash)
        return self._words.get(clip_id)

    def _clips(self, sha256: str, start_s: float | None, end_s: float | None) -> tuple[Clip, ...]:
        data = self._units.get("analyze", fingerprint("analyze", self._stage, sha256, start_s, end_s))
        if data is None or json.loads(data).get("rejected"):
            return ()
        return from_json(Analysis, data).clips


def _source(row: Row) -> Source:
    return Source(row["source_id"], row["uri"], row["occurrence"], row["start_s"], row["end_s"])


def is_manifest(target: str) -> bool:
    """Whether the target is a file that lists what is to go."""
    return PurePosixPath(target).suffix.lower() in {*MANIFEST_SUFFIXES, ".txt"} and storage.exists(target)


def read_targets(path: str) -> tuple[dict[str | None, set[str]], set[str]]:
    """(ids by the ledger they are of, None where that is not said; full addresses) of a manifest.

    Raises:
        ValueError: a row names nothing.
    """
    ids: dict[str | None, set[str]] = {CLIPS: set(), SOURCES: set(), None: set()}
    addresses: set[str] = set()
    if PurePosixPath(path).suffix.lower() == ".txt":
        lines = storage.read_bytes(path).decode().splitlines()
        ids[None] = {line.strip() for line in lines if line.strip()}
        return ids, addresses
    for number, (row, address) in enumerate(manifest_rows(path), 1):
        named = {kind: str(row[column]).strip() for column, kind in _ID_COLUMNS.items() if row.get(column)}
        for kind, name in named.items():
            ids[kind].add(name)
        if address and not named:
            addresses.add(address)
        if not address and not named:
            raise ValueError(f"{path}, row {number} has no clip_id, source_id, path or url; nothing was removed")
    return ids, addresses
