"""Takedowns: what tombstones bar, as a pure function of them, and how they are kept in the ledger.

A tombstone bars more than the id it names, because ids change with settings and names with moves:

    a source     by its id, by its address, and by its content within its bounds
    a clip       by its id, by its content where spans overlap, and by its looks where its hashes are known
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from curation.duplicates import band_keys, mean_distance
from curation.filters import CHEAP_STAGES
from media import storage
from media.parquet import read_parquet, write_parquet
from schemas.arrow import REMOVED_SCHEMA
from schemas.records import Clip, Source, SourceRow, Verdict, source_row
from schemas.removals import REMOVED_STAGE, TAKEDOWN, RemovedRow
from schemas.scores import SCORES
from schemas.states import ClipState, SourceState

_FILE = "ledger/removed-00000.parquet"
_LATER_SCORES = frozenset(score.name for score in SCORES if score.stage not in CHEAP_STAGES)
_CLIP_BLANKS = (
    "caption", "caption_source", "caption_outcome", "score", "threshold", "duplicate_of", "shard", "media_sha256",
    "media_done", *(f"score_{name}" for name in sorted(_LATER_SCORES)),
)  # fmt: skip


@dataclass(frozen=True)
class Removals:
    """The tombstones of a run; a plain value that travels to the workers.

    Args:
        near_distance: bits up to which a clip looks like a removed one; None compares no looks.
    """

    rows: tuple[RemovedRow, ...] = ()
    near_distance: float | None = None

    def __bool__(self) -> bool:
        return bool(self.rows)

    def source(self, source: Source, content_sha256: str | None = None) -> RemovedRow | None:
        """The tombstone that bars an input: before it is fetched, and once more when its content is known."""
        found = self._sources_by_id.get(source.source_id)
        if found is not None:
            return found
        same = [*self._sources_by_uri[source.uri]] if source.uri in self._sources_by_uri else []
        if content_sha256 is not None:
            same += [row for row in self._by_content.get(content_sha256, ()) if row.kind == "source"]
        return next((row for row in same if _contains(row, source.start_s, source.end_s)), None)

    def clip(self, clip: Clip) -> RemovedRow | None:
        """The tombstone that bars a clip."""
        found = self.span(clip.clip_id, clip.content_sha256, float(clip.span.start), float(clip.span.end))
        return found or self._alike(clip.phash)

    def span(self, clip_id: str, content_sha256: str | None, start_s: float, end_s: float) -> RemovedRow | None:
        """The tombstone that bars a clip by its id, or by what it shows of some content."""
        found = self._clips_by_id.get(clip_id)
        if found is not None or content_sha256 is None:
            return found
        return next((row for row in self._by_content.get(content_sha256, ()) if _overlaps(row, start_s, end_s)), None)

    def _alike(self, phash: tuple[int, ...]) -> RemovedRow | None:
        if self.near_distance is None or not phash:
            return None
        rivals = {
            row.removed_id: (row, hashes) for key in band_keys(phash) for row, hashes in self._by_band.get(key, ())
        }
        near = [row for row, hashes in rivals.values() if mean_distance(phash, hashes) <= self.near_distance]
        return min(near, key=lambda row: row.removed_id, default=None)

    @cached_property
    def _sources_by_id(self) -> dict[str, RemovedRow]:
        return {row.removed_id: row for row in self.rows if row.kind == "source"}

    @cached_property
    def _clips_by_id(self) -> dict[str, RemovedRow]:
        return {row.removed_id: row for row in self.rows if row.kind == "clip"}

    @cached_property
    def _sources_by_uri(self) -> dict[str, list[RemovedRow]]:
        found: dict[str, list[RemovedRow]] = {}
        for row in self.rows:
            if row.kind == "source":
                found.setdefault(row.uri, []).append(row)
        return found

    @cached_property
    def _by_content(self) -> dict[str, list[RemovedRow]]:
        found: dict[str, list[RemovedRow]] = {}
        for row in self.rows:
            if row.content_sha256:
                found.setdefault(row.content_sha256, []).append(row)
        return found

    @cached_property
    def _by_band(self) -> dict[str, list[tuple[RemovedRow, tuple[int, ...]]]]:
        found: dict[str, list[tuple[RemovedRow, tuple[int, ...]]]] = defaultdict(list)
        for row in self.rows:
            hashes = hashes_of(row.phash)
            for key in dict.fromkeys(band_keys(hashes)):
                found[key].append((row, hashes))
        return dict(found)


def _contains(row: RemovedRow, start_s: float | None, end_s: float | None) -> bool:
    """Whether bounds lie within those that were removed; no bounds are the whole."""
    after_start = (row.start_s or 0.0) <= (start_s or 0.0)
    return after_start and (row.end_s is None or (end_s is not None and end_s <= row.end_s))


def _overlaps(row: RemovedRow, start_s: float, end_s: float) -> bool:
    """Whether a half-open span shows anything of what was removed."""
    end = float("inf") if row.end_s is None else row.end_s
    return max(start_s, row.start_s or 0.0) < min(end_s, end)


def hash_words(phash: Iterable[int]) -> str | None:
    """Perceptual hashes as a tombstone holds them."""
    return ",".join(f"{value:016x}" for value in phash) or None


def hashes_of(words: str | None) -> tuple[int, ...]:
    """Inverse of `hash_words`."""
    return tuple(int(word, 16) for word in words.split(",")) if words else ()


# --- what the ledger says of what is barred ---------------------------------------------------------------------------


def removed_clip(clip: Clip, row: RemovedRow) -> Clip:
    """The clip with its verdict, without what was found out about it later or shows it."""
    scores = {name: value for name, value in clip.scores.items() if name not in _LATER_SCORES}
    verdict = Verdict(ClipState.FILTERED, REMOVED_STAGE, TAKEDOWN, detail=removal_detail(row))
    return replace(clip, scores=scores, caption=None, keyframe_jpeg=b"", keyframe_sha256="", stills=(), verdict=verdict)


def removed_clip_row(ledger_row: Mapping[str, Any], row: RemovedRow) -> dict[str, Any]:
    """The ledger row of `removed_clip`, from that of the clip."""
    blank = {name: None for name in _CLIP_BLANKS if name in ledger_row}
    ended = {
        "state": str(ClipState.FILTERED),
        "stage": REMOVED_STAGE,
        "reason": TAKEDOWN,
        "detail": removal_detail(row),
    }
    return {**ledger_row, **blank, **ended}


def removed_source_row(source: Source, row: RemovedRow) -> SourceRow:
    """The ledger row of a barred input: done with, and nothing of it looked at."""
    detail = removal_detail(row)
    return source_row(source, None, state=SourceState.DONE, stage=REMOVED_STAGE, reason=TAKEDOWN, detail=detail)


def removal_detail(row: RemovedRow) -> str:
    return f"by the tombstone of {row.kind} {row.removed_id}"


# --- on disk ----------------------------------------------------------------------------------------------------------


def read_removals(run_dir: str, near_distance: float | None = None) -> Removals:
    """The tombstones of a run; none where nothing was ever removed."""
    if not removal_files(run_dir):
        return Removals((), near_distance)
    table = read_parquet(storage.join(run_dir, "ledger", "removed-*.parquet"))
    return Removals(tuple(RemovedRow(**row) for row in table.to_pylist()), near_distance)


def removal_files(run_dir: str) -> list[str]:
    """Paths of the tombstones' files, within the run."""
    paths = storage.list_files(storage.join(run_dir, "ledger"), "removed-*.parquet")
    return ["ledger/" + path.rpartition("/")[2] for path in paths]


def write_removals(run_dir: str, rows: Iterable[RemovedRow]) -> None:
    """Writes all tombstones of a run, one for each id, sorted; whole or not at all."""
    by_id = {(row.kind, row.removed_id): row for row in rows}
    ordered = [asdict(by_id[key]) for key in sorted(by_id)]
    write_parquet(storage.join(run_dir, _FILE), ordered, REMOVED_SCHEMA)
