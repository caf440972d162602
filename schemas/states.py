"""The states in which every input and every candidate clip ends, and how a stage rejects one of them."""

from enum import StrEnum


class SourceState(StrEnum):
    """Every input ends in exactly one of these."""

    DONE = "done"
    DUPLICATE = "duplicate"
    FAILED = "failed"


class ClipState(StrEnum):
    """Every candidate clip ends in exactly one of these."""

    KEPT = "kept"
    FILTERED = "filtered"
    DUPLICATE = "duplicate"
    FAILED = "failed"


class RunStopped(RuntimeError):
    """What every input or clip would meet, so that the run stops instead of failing them one by one."""


class Rejection(Exception):
    """One input or clip cannot go on; a row in the ledger, never the end of the run.

    Args:
        reason: stable snake_case word, e.g. `empty_file`; what reports group by.
        detail: one sentence for a person; may name values and what to do.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason, detail)  # both in args, so that it survives pickling between workers
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason
