"""What a tokenization run reads: clips of shards, spans of sources (`clips.mode: reference`), or captioned images."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from apache_beam import PTransform

from beam_jobs.analyze import FetchingJob
from schemas.records import Verdict

Media = tuple[str | bytes, Fraction | None]
"""A file or its bytes, and where in it the clip begins in seconds of its timeline; None: at its first frame."""


@dataclass(frozen=True)
class Item:
    """One clip or image to tokenize.

    Attributes:
        key: of its samples, before the number of the window.
        sidecar: what its samples are made from besides the pixels; with the settings it names the unit of work.
        raw: the same as bytes.
        open: its media; Rejection where it cannot be had.
        failure: why there is nothing to open.
    """

    key: str
    sidecar: dict[str, Any]
    raw: bytes = field(repr=False)
    open: Callable[[], Media]
    failure: Verdict | None = None


class Element(Protocol):
    """One or several items that are read together, as they travel through the pipeline."""

    def items(self, job: FetchingJob) -> Iterable[Item]:
        """The items, one after another: what one opens is gone when the next is asked for."""
        ...

    @property
    def count(self) -> int:
        """How many items there are."""
        ...


class Inputs(Protocol):
    """All that a run reads; a plain value."""

    @property
    def num_items(self) -> int:
        """How many there are, as far as it is known before they are read."""
        ...

    @property
    def identity(self) -> str:
        """Fingerprint, for `dataset.json`."""
        ...

    def read(self) -> PTransform:
        """Pipeline → `Element`s, dealt out evenly."""
        ...
