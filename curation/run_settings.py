"""Settings of the commands that look at a finished run or change it. Nothing heavy is imported here."""

from dataclasses import dataclass, field

from curation.settings import FilterSettings
from media.commandline import CommandLine


@dataclass(frozen=True)
class RetuneSettings:
    """Settings of a what-if.

    Args:
        run: output folder of `reelmill curate`; local or any fsspec filesystem.
        filters: limits to try. What is left out is as it was in the run; null turns a limit off.
        examples: clips shown on each side of each changed limit, nearest first. 0–1000.
        apply: curates again into the same folder with these limits; only what is missing is done.
        input: with apply, where the run's input lies now; null is where it lay.
        json: prints the result as JSON.
    """

    run: str
    filters: FilterSettings = field(default_factory=FilterSettings)
    examples: int = 5
    apply: bool = False
    input: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.examples <= 1000:
            raise ValueError(f"examples {self.examples} is out of range; use 0–1000")
        if self.input is not None and not self.apply:
            raise ValueError(f"input {self.input} is of use only with --apply: a what-if reads no video")


@dataclass(frozen=True)
class ExplainSettings:
    """Settings of a history.

    Args:
        run: output folder of `reelmill curate`; local or any fsspec filesystem.
        id: id of a source or clip, or the beginning of one that no other has; or an input's path or URL.
        tokens: token data set made from the run, to say where the clip's samples lie.
        json: prints the history as JSON.
    """

    run: str
    id: str
    tokens: str | None = None
    json: bool = False


@dataclass(frozen=True)
class RemoveSettings:
    """Settings of a takedown.

    Args:
        run: output folder of `reelmill curate`; local or any fsspec filesystem.
        target: id of a source or clip (or its beginning), an input's path or URL, or a manifest of them: CSV, JSON
            Lines or Parquet with a column clip_id, source_id, path or url, or a text file with one id per line. A path
            or URL takes every input of that address, and bars it where the run has never seen it.
        tokens: token data sets made from the run; give --tokens once for each.
        reason: why, in a few words; it is kept with the tombstone.
        copies: also what the ledger knows as copies of these clips, and the clips that these are copies of.
        dry_run: say what would go, and touch nothing.
    """

    run: str
    target: str
    tokens: list[str] = field(default_factory=list)
    reason: str = "takedown"
    copies: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not self.target:
            raise ValueError("target is empty; name an id, a path, a URL or a manifest")


RETUNE = CommandLine(
    RetuneSettings,
    "reelmill retune",
    "What other limits would have kept: they are replayed on the stored scores, and no video is touched.\n"
    "With --apply, flags that are not listed go to Apache Beam.",
    (
        "reelmill retune --run curated --filters.min_motion 0.2",
        "reelmill retune --run curated --filters.min_motion null --filters.max_watermark 0.6 --examples 10",
        "reelmill retune --run curated --filters.min_motion 0.2 --apply",
    ),
    allow_unknown=True,
    positional=("run",),
)
EXPLAIN = CommandLine(
    ExplainSettings,
    "reelmill explain",
    "The whole history of one source or clip.",
    (
        "reelmill explain --run curated 02ffbfa5",
        "reelmill explain --run curated videos/a.mp4",
        "reelmill explain --run curated 02ffbfa5 --tokens tokens",
    ),
    positional=("id",),
)
REMOVE = CommandLine(
    RemoveSettings,
    "reelmill remove",
    "Takes clips or whole inputs out of a run and of the token data sets made from it, and keeps a tombstone, so that\n"
    "a later run does not bring them back. It may be stopped at any moment: run it again and it ends.",
    (
        "reelmill remove --run curated 02ffbfa5 --tokens tokens",
        "reelmill remove --run curated takedowns.csv --tokens tokens --tokens tokens-large",
        "reelmill remove --run curated https://example.org/a.mp4 --dry_run",
    ),
    positional=("target",),
)
