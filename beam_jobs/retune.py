"""`reelmill retune`: what other limits would have kept; with `--apply`, the run made again with them."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from curation.fates import Outcome
from curation.ledger_rows import CLIPS, read_run_info, rows_of
from curation.replay import NEEDS_SCORING, Near, Tally, WhatIf, replay
from curation.run_settings import RETUNE, RetuneSettings
from curation.settings import FilterSettings
from media.commandline import REDACTED
from schemas.run import RunInfo

Change = tuple[str, Any, Any]
"""Key of a limit, its value in the run, its value now."""


def main(argv: Sequence[str]) -> int:
    """Runs `reelmill retune` and returns its exit status.

    Raises:
        ValueError, FileNotFoundError: wrong usage.
    """
    settings, _ = RETUNE.parse(argv)
    run = read_run_info(settings.run)
    before = run_filters(run)
    settings, flags = _over(run, argv)
    if flags and not settings.apply:
        raise ValueError(f"unknown option {flags[0]}; flags of Apache Beam go with --apply only")
    result = replay(settings.run, run, before, settings.filters, settings.examples)
    found = changes(before, settings.filters)
    details = _details(settings.run, result)
    if settings.json:
        print(json.dumps(as_json(found, result, details), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        show(found, result, details, Console(width=110, highlight=False))
    return apply(settings, run, flags) if settings.apply else 0


def run_filters(run: RunInfo) -> FilterSettings:
    """The run's own limits.

    Raises:
        ValueError: another Reelmill wrote them, with limits that this one does not know.
    """
    stored = run.settings.get("filters") or {}
    unknown = sorted(set(stored) - {entry.name for entry in fields(FilterSettings)})
    if unknown:
        raise ValueError(f"the run has limits this Reelmill does not know ({', '.join(unknown)}); use the one it is of")
    return FilterSettings(**stored)


def _over(run: RunInfo, argv: Sequence[str]) -> tuple[RetuneSettings, list[str]]:
    """The command line read once more, over the limits of the run."""
    return _with_config({"filters": run.settings.get("filters") or {}}, argv, RETUNE)


def _with_config(values: dict[str, Any], argv: Sequence[str], line: Any) -> tuple[Any, list[str]]:
    """What a command line says over some values: those of a file that is read before its flags."""
    with tempfile.TemporaryDirectory(prefix="reelmill-") as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(yaml.safe_dump(values, allow_unicode=True))
        settings, flags = line.parse(["--config", str(path), *argv])
    return settings, flags


def changes(before: FilterSettings, after: FilterSettings) -> list[Change]:
    """What differs, in the order of the settings."""
    return [
        (f"filters.{entry.name}", getattr(before, entry.name), getattr(after, entry.name))
        for entry in fields(FilterSettings)
        if getattr(before, entry.name) != getattr(after, entry.name)
    ]


def apply(settings: RetuneSettings, run: RunInfo, flags: Sequence[str]) -> int:
    """Curates again into the same folder, with the run's own settings and the new limits.

    Raises:
        ValueError: a setting was redacted in run.json, so that it has to be given again.
    """
    from beam_jobs import curate  # Beam is imported only where it runs
    from curation.settings import CURATE

    limits = {entry.name: getattr(settings.filters, entry.name) for entry in fields(FilterSettings)}
    values = {**run.settings, "filters": limits, "output": settings.run}
    if settings.input is not None:
        values["input"] = settings.input
    for key in ("input", "ffmpeg"):
        if REDACTED in str(values.get(key)):
            raise ValueError(f"{key} held a secret, so run.json has it redacted; give it again with --input, or curate")
    chosen, _ = _with_config(values, (), CURATE)
    return curate.curate(chosen, flags)


def _details(run_dir: str, result: WhatIf) -> dict[str, dict[str, Any]]:
    """Where the clips near a limit come from, by id."""
    ids = {near.clip_id for sides in result.near.values() for side in sides for near in side}
    columns = ["clip_id", "uri", "start_s", "end_s", "state", "stage", "reason"]
    return {row["clip_id"]: row for row in rows_of(run_dir, CLIPS, "clip_id", ids, columns)}


# --- what a person sees -----------------------------------------------------------------------------------------------


def show(found: Sequence[Change], result: WhatIf, details: dict[str, dict[str, Any]], console: Console) -> None:
    """The what-if as tables."""
    for key, old, new in found:
        number = result.thresholds.get(key.removeprefix("filters."))
        console.print(f"{key}: {_value(old)} → {_value(new)}{'' if number is None else f' = {number:.6g}'}")
    if not found:
        console.print("no limit differs from the run's; try for instance --filters.min_motion 0.2")
    table = Table(title="clips (hours)", title_justify="left")
    for column in ("outcome", "before", "after", "difference"):
        table.add_column(column, justify="left" if column == "outcome" else "right")
    for outcome in sorted({*result.before, *result.after}, key=_rank):
        old, new = result.before.get(outcome, Tally()), result.after.get(outcome, Tally())
        difference = f"{new.clips - old.clips:+,}" if new.clips != old.clips else ""
        table.add_row(_name(outcome), _tally(old), _tally(new), difference)
    console.print(table)
    for reason, (passing, missing) in result.near.items():
        _show_near(reason, passing, missing, details, console)
    console.print(summary(result))


def _show_near(
    reason: str, passing: Sequence[Near], missing: Sequence[Near], details: dict[str, dict[str, Any]], console: Console
) -> None:
    table = Table(title=f"nearest to {reason}", title_justify="left")
    for column in ("", "clip", "score", "in the run", "where"):
        table.add_column(column, overflow="fold" if column == "where" else "ellipsis", no_wrap=column != "where")
    for side, nears in (("passes", passing), ("misses", missing)):
        for near in nears:
            row = details[near.clip_id]
            where = f"{row['uri'].rpartition('/')[2]} {row['start_s']:.2f}–{row['end_s']:.2f} s"
            table.add_row(side, near.clip_id, f"{near.value:.4g}", row["reason"] or row["state"], where)
    if passing or missing:
        console.print(table)


def summary(result: WhatIf) -> str:
    """The last line: `kept 127 → 119 clips, 0.10 → 0.09 h: 0 gained, 8 lost`."""
    old, new = _kept(result.before), _kept(result.after)
    text = (
        f"kept {old.clips:,} → {new.clips:,} clips, {old.hours:.2f} → {new.hours:.2f} h: {result.gained.clips:,} "
        f"gained, {result.lost.clips:,} lost"
    )
    waiting = sum(tally.clips for outcome, tally in result.after.items() if outcome[0] == NEEDS_SCORING)
    if waiting:
        text += f"; {waiting:,} more need scores that were not taken (--apply takes them)"
    if result.uncompared:
        text += f"; {result.uncompared:,} of those gained are still to be compared with near copies"
    return text


def as_json(found: Sequence[Change], result: WhatIf, details: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The what-if as plain values."""

    def tallies(by_outcome: dict[Outcome, Tally]) -> dict[str, Any]:
        return {
            "/".join(part for part in outcome if part): {"clips": tally.clips, "hours": tally.hours}
            for outcome, tally in sorted(by_outcome.items())
        }

    def side(nears: Sequence[Near]) -> list[dict[str, Any]]:
        return [{**details[near.clip_id], "score": near.value} for near in nears]

    return {
        "changes": {key: {"before": old, "after": new} for key, old, new in found},
        "thresholds": result.thresholds,
        "before": tallies(result.before),
        "after": tallies(result.after),
        "gained": {"clips": result.gained.clips, "hours": result.gained.hours},
        "lost": {"clips": result.lost.clips, "hours": result.lost.hours},
        "uncompared": result.uncompared,
        "near": {
            reason: {"passes": side(passing), "misses": side(missing)}
            for reason, (passing, missing) in result.near.items()
        },
    }


def _kept(tallies: dict[Outcome, Tally]) -> Tally:
    return next((tally for outcome, tally in tallies.items() if outcome[0] == "kept"), Tally())


def _rank(outcome: Outcome) -> tuple[int, Outcome]:
    order = ("kept", NEEDS_SCORING, "filtered", "duplicate", "failed")
    return order.index(outcome[0]) if outcome[0] in order else len(order), outcome


def _name(outcome: Outcome) -> str:
    state, stage, reason = outcome
    return f"{state}: {stage}/{reason}" if reason else state


def _tally(tally: Tally) -> str:
    return f"{tally.clips:,} ({tally.hours:.2f})" if tally.clips else "–"


def _value(value: Any) -> str:
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
