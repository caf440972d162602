"""Tombstones: what was taken out of a run on request and must not come back."""

from dataclasses import dataclass

REMOVED_STAGE, TAKEDOWN = "removed", "takedown"
"""Stage and reason, in the ledger, of what a tombstone stopped."""


@dataclass(frozen=True)
class RemovedRow:
    """A row of `ledger/removed-*.parquet`; its fields are the Arrow schema."""

    kind: str  # "source" or "clip"
    removed_id: str  # its source_id or clip_id
    uri: str
    content_sha256: str | None  # of the source's bytes; None where it was never fetched
    start_s: float | None  # a source's bounds as its row gives them, or a clip's half-open span
    end_s: float | None
    phash: str | None  # perceptual hashes of a clip, hex words with commas, by which copies under other names are known
    reason: str  # why, in the words of whoever asked for it
