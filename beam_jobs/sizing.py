"""`reelmill size`: what a thousand hours of video would cost on a cluster, from what a run of yours has cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from media import storage
from media.commandline import CommandLine

PER_HOURS = 1000
MODEL_STAGES = frozenset(
    {"embedding", "aesthetic_embedding", "aesthetic", "nsfw", "caption", "clip_score", "tokenize"}
)  # what a GPU does where there is one; all else is processor time


@dataclass(frozen=True)
class SizeSettings:
    """What a cluster needs, from the timings of a run.

    Args:
        run: folder that `reelmill curate` wrote.
        tokens: folder that `reelmill tokenize` wrote from it; null leaves tokens out.
        gpu: whether the model stages ran on a GPU.
        days: in how many days the work is to be done.
        hours: hours of source video to be worked on.
    """

    run: str
    tokens: str | None = None
    gpu: bool = False
    days: float = 1.0
    hours: float = 1000.0

    def __post_init__(self) -> None:
        if self.days <= 0 or self.hours <= 0:
            raise ValueError(f"days {self.days} and hours {self.hours} must be positive")


SIZE = CommandLine(
    SizeSettings,
    "reelmill size",
    "What a cluster needs for your video, from what a smaller run of yours has cost.",
    (
        "reelmill size --run curated",
        "reelmill size --run curated --tokens tokens --gpu --hours 20000 --days 7",
    ),
    positional=("run",),
)


@dataclass(frozen=True)
class StageCost:
    """One stage: how many items it had, and the hours that one worker is busy with it per thousand source hours."""

    stage: str
    items: int
    seconds_per_item: float
    hours: float
    on_gpu: bool


def main(argv: Sequence[str]) -> int:
    """Prints the table; returns the exit status.

    Raises:
        ValueError, FileNotFoundError: no run there, or one that says nothing of its cost.
    """
    settings, _ = SIZE.parse(argv)
    costs = costs_of(settings)
    Console(width=110).print(table(costs, settings))
    return 0


def costs_of(settings: SizeSettings) -> list[StageCost]:
    """What each stage costs, by the run's own timings.

    Raises:
        ValueError, FileNotFoundError: as for `main`.
    """
    source_hours = float(_read(settings.run, "run.json")["hours"].get("sources", 0))
    if source_hours <= 0:
        raise ValueError(f"{settings.run} has no hours of video in it; size needs a run that has read some")
    stages = dict(_read(settings.run, "timings.json")["stages"])
    if settings.tokens:
        written = _read(settings.tokens, "timings.json")["stages"]
        stages.update({"token shards" if name == "shards" else name: entry for name, entry in written.items()})
    costs = [_cost(name, entry, source_hours, settings.gpu) for name, entry in stages.items() if entry.get("items")]
    if not costs:
        raise ValueError(
            f"{settings.run}/timings.json tells of no work: the run found all of it finished; name a first run"
        )
    return costs


def _cost(stage: str, entry: Mapping[str, Any], source_hours: float, gpu: bool) -> StageCost:
    """Items that an earlier run had finished are reckoned at the price of those of this one."""
    fresh, reused = int(entry["items"]), int(entry.get("reused", 0))
    each = float(entry.get("seconds", 0.0)) / fresh
    hours = each * (fresh + reused) / 3600 / source_hours * PER_HOURS
    return StageCost(stage, fresh + reused, each, hours, gpu and stage in MODEL_STAGES)


def _read(folder: str, name: str) -> dict[str, Any]:
    path = storage.join(folder, name)
    try:
        return dict(json.loads(storage.read_bytes(path)))
    except FileNotFoundError:
        raise FileNotFoundError(f"no {name} in {folder}; name the folder of a finished run") from None


def table(costs: Sequence[StageCost], settings: SizeSettings) -> Table:
    """For a person: the stages, their sums, and how many workers do it in time."""
    shown = Table(title=f"worker-hours for {PER_HOURS:,} hours of source video", title_justify="left")
    for column in ("stage", "items", "seconds each", "vCPU-hours", "GPU-hours"):
        shown.add_column(column, justify="left" if column == "stage" else "right")
    for cost in costs:
        hours = f"{cost.hours:,.1f}"
        cells = ("", hours) if cost.on_gpu else (hours, "")
        shown.add_row(cost.stage, f"{cost.items:,}", f"{cost.seconds_per_item:.3f}", *cells)
    cpu, gpu = (sum(cost.hours for cost in costs if cost.on_gpu is on_gpu) for on_gpu in (False, True))
    shown.add_section()
    shown.add_row("all", "", "", f"{cpu:,.1f}", f"{gpu:,.1f}" if gpu else "")
    share = settings.hours / PER_HOURS / (24 * settings.days)
    shown.caption = (
        f"{settings.hours:,.0f} source hours in {settings.days:g} days, all workers busy: {cpu * share:,.1f} vCPUs"
        + (f" and {gpu * share:,.1f} GPUs" if gpu else "")
    )
    return shown
