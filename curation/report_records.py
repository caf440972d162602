"""What the template of the report is given."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from schemas.run import RunInfo
from schemas.scores import Score

Outcome = tuple[str, str, str]
"""(state, stage, reason) of a row of the ledger."""


@dataclass(frozen=True)
class Picture:
    """A preview and what is written under it."""

    image: str  # data: URI
    title: str
    note: str
    caption: str = ""
    facts: str = ""
    scores: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class OutcomeRow:
    """How many clips ended in one way, and some of them."""

    state: str
    stage: str
    reason: str
    count: int
    seconds: float
    share: float  # of all candidates, in [0, 1]
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Bar:
    """One level of a funnel."""

    label: str
    count: int
    share: float  # of the funnel's first level, in [0, 1]
    lost: str = ""


@dataclass(frozen=True)
class FailureGroup:
    """Inputs or clips that failed for one reason."""

    what: str  # "input" or "clip"
    stage: str
    reason: str
    count: int
    examples: tuple[tuple[str, str], ...]  # (uri, detail)


@dataclass(frozen=True)
class Values:
    """One score over the clips that have it."""

    score: Score
    kept: np.ndarray
    rejected: np.ndarray
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Borderline:
    """The clips nearest to one limit."""

    name: str  # `min_motion`
    limit: float | None  # None: a quantile that came to no number
    passed: tuple[Picture, ...]  # kept, the nearest first
    missed: tuple[Picture, ...]  # stopped by this limit, the nearest first


@dataclass(frozen=True)
class StageRow:
    """Whether a stage ran, how long it took, and how fast it was."""

    name: str
    status: str
    ran: bool
    seconds: float | None = None
    rate: str = ""
    reused: int = 0  # items that an earlier run had finished


@dataclass(frozen=True)
class ReportData:
    """All of the report."""

    run: RunInfo
    num_sources: int
    sources: Counter[str]  # by state
    num_clips: int
    clips: Counter[str]  # by state
    seconds: dict[str, float]  # of "sources", "candidates", "kept"
    source_funnel: list[Bar]
    clip_funnel: list[Bar]
    outcomes: list[OutcomeRow]
    kept: tuple[Picture, ...]
    values: list[Values]
    sampled_every: int  # the values are those of every n-th clip
    unmeasured: list[str]
    failures: list[FailureGroup]
    borderline: list[Borderline] = field(default_factory=list)
    stages: list[StageRow] = field(default_factory=list)
