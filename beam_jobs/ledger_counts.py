"""The sums of a run, counted once more from its ledger: what `beam_jobs.outcome` counts while a job runs."""

from collections import Counter
from fractions import Fraction

from curation.ledger_rows import CLIPS, SOURCES, row_groups
from schemas.states import ClipState, SourceState


def count_ledger(run_dir: str) -> tuple[dict[str, int], dict[str, float]]:
    """(counts, hours) as `run.json` gives them.

    Raises:
        RuntimeError: the candidates that inputs account for are not those that have a row.
    """
    counts: Counter[str] = Counter({"clips.candidates": 0})
    microseconds = Counter(dict.fromkeys(("sources", "candidates", "kept"), 0))
    _count_sources(run_dir, counts, microseconds)
    _count_clips(run_dir, counts, microseconds)
    if counts["clips"] != counts["clips.candidates"]:
        raise RuntimeError(
            f"inputs account for {counts['clips.candidates']} candidate clips, the ledger has {counts['clips']}; "
            "run `reelmill curate` again"
        )
    found = {name: number for name, number in counts.items() if number or name == "clips.candidates"}
    return found, {name: number / 3.6e9 for name, number in microseconds.items()}


def _count_sources(run_dir: str, counts: Counter[str], microseconds: Counter[str]) -> None:
    for table in row_groups(run_dir, SOURCES, ["source_id", "state", "stage", "reason", "duration_s", "num_clips"]):
        for row in table.to_pylist():
            counts["sources"] += 1
            counts[f"sources.{row['state']}"] += 1
            counts["clips.candidates"] += row["num_clips"]
            if row["state"] != SourceState.DONE:
                counts[f"sources.{row['state']}:{row['stage']}/{row['reason']}"] += 1
            elif row["duration_s"]:
                microseconds["sources"] += round(row["duration_s"] * 1_000_000)


def _count_clips(run_dir: str, counts: Counter[str], microseconds: Counter[str]) -> None:
    columns = ["clip_id", "state", "stage", "reason", "start_pts", "end_pts", "time_base_num", "time_base_den"]
    for table in row_groups(run_dir, CLIPS, columns):
        for row in table.to_pylist():
            ticks = (row["end_pts"] - row["start_pts"]) * row["time_base_num"]
            length = round(Fraction(ticks * 1_000_000, row["time_base_den"]))
            counts["clips"] += 1
            counts[f"clips.{row['state']}"] += 1
            microseconds["candidates"] += length
            if row["state"] == ClipState.KEPT:
                microseconds["kept"] += length
            else:
                counts[f"clips.{row['state']}:{row['stage']}/{row['reason']}"] += 1
