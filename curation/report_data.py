"""What the report of a curated run shows: counts, examples and distributions, read from the run's files."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.quantiles import run_limits
from curation.report_pictures import borderline, nearest_rows, read_pictures
from curation.report_records import Bar, FailureGroup, Outcome, OutcomeRow, Picture, ReportData, StageRow, Values
from media import storage
from media.parquet import read_parquet
from schemas.run import RunInfo
from schemas.scores import SCORES

STAGE_ORDER = (
    "manifest", "fetch", "probe", "decode", "analyze", "exact_dedup", "shots", "watermark", "text", "audio", "filters",
    "dedup", "near_dedup", "caption", "clip_score", "aesthetic", "nsfw", "verdict", "cut", "shards",
)  # fmt: skip
MAX_FAILURES = 12
_COLUMNS = [
    "clip_id", "uri", "start_s", "end_s", "caption", "caption_source", "state", "stage", "reason", "score",
    "threshold", "duplicate_of", "detail", *(f"score_{score.name}" for score in SCORES),
]  # fmt: skip


def read_run(run_dir: str) -> ReportData:
    """Everything the report shows of the run in this folder.

    Raises:
        FileNotFoundError: the folder holds no finished run.
    """
    if not storage.exists(storage.join(run_dir, "run.json")):
        raise FileNotFoundError(
            f"{run_dir} holds no finished run: there is no run.json; give the --output folder of `reelmill curate`, "
            "and let an unfinished run finish first"
        )
    run = RunInfo.from_json(storage.read_bytes(storage.join(run_dir, "run.json")).decode())
    sources = read_parquet(storage.join(run_dir, "ledger", "sources-*.parquet"))
    clips = read_parquet(storage.join(run_dir, "ledger", "clips-*.parquet"), columns=_COLUMNS)
    lengths = pc.subtract(clips["end_s"], clips["start_s"]).to_numpy(zero_copy_only=False)
    keys = _outcomes_of(clips)
    counts = Counter(keys)
    limits = run_limits(run)
    nearest = nearest_rows(clips, limits)
    gallery = read_pictures(run_dir, clips, keys, [row for side in nearest.values() for row in side])
    pictures = gallery.by_outcome
    kept = np.array([key[0] == "kept" for key in keys], dtype=bool)
    seconds = {
        "sources": float(pc.sum(sources["duration_s"]).as_py() or 0.0),
        "candidates": float(lengths.sum()),
        "kept": float(lengths[kept].sum()) if len(kept) else 0.0,
    }
    values, unmeasured = _values(clips, kept, limits)
    return ReportData(
        run=run, num_sources=sources.num_rows, sources=Counter(sources["state"].to_pylist()),
        num_clips=clips.num_rows, clips=Counter(key[0] for key in keys), seconds=seconds,
        source_funnel=_source_funnel(sources), clip_funnel=_clip_funnel(counts),
        outcomes=_outcome_rows(counts, keys, lengths, pictures),
        kept=tuple(picture for key, group in sorted(pictures.items()) if key[0] == "kept" for picture in group),
        values=values, unmeasured=unmeasured, failures=_failures(sources, "input") + _failures(clips, "clip"),
        borderline=borderline(nearest, gallery, limits),
        stages=_stage_rows(run_dir, run),
    )  # fmt: skip


def stage_rank(stage: str) -> tuple[int, str]:
    """Sorts stages as the data meets them; unknown ones come before cutting, by name."""
    known = STAGE_ORDER.index(stage) if stage in STAGE_ORDER else STAGE_ORDER.index("verdict")
    return known, stage


def _outcomes_of(clips: pa.Table) -> list[Outcome]:
    return list(zip(clips["state"].to_pylist(), clips["stage"].to_pylist(), clips["reason"].to_pylist(), strict=True))


def _source_funnel(sources: pa.Table) -> list[Bar]:
    total = sources.num_rows
    lost = Counter(
        f"{reason or state}"
        for state, reason in zip(sources["state"].to_pylist(), sources["reason"].to_pylist(), strict=True)
        if state != "done"
    )
    done = total - sum(lost.values())
    with_clips = int(pc.sum(pc.greater(sources["num_clips"], 0)).as_py() or 0)
    return [
        Bar("inputs", total, 1.0 if total else 0.0),
        Bar("analysed", done, done / total if total else 0.0, _lost(lost)),
        Bar("with candidate clips", with_clips, with_clips / total if total else 0.0),
    ]


def _clip_funnel(counts: Counter[Outcome]) -> list[Bar]:
    """Candidates, then what is left after each stage that rejected any, then what was kept."""
    total = left = sum(counts.values())
    bars = [Bar("candidate clips", total, 1.0 if total else 0.0)]
    by_stage: dict[str, Counter[str]] = defaultdict(Counter)
    for (state, stage, reason), count in counts.items():
        if state != "kept":
            by_stage[stage][reason or state] += count
    for stage in sorted(by_stage, key=stage_rank):
        left -= sum(by_stage[stage].values())
        bars.append(Bar(f"after {stage.replace('_', ' ')}", left, left / total, _lost(by_stage[stage])))
    if len(bars) == 1:
        bars.append(Bar("kept", left, left / total if total else 0.0))
    else:
        bars[-1] = Bar("kept", bars[-1].count, bars[-1].share, bars[-1].lost)
    return bars


def _lost(reasons: Counter[str]) -> str:
    """`−12 min_motion, −3 too_short`, most first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"−{count:,} {reason}" for reason, count in ordered[:4]) + (" …" if len(ordered) > 4 else "")


def _outcome_rows(
    counts: Counter[Outcome], keys: list[Outcome], lengths: np.ndarray, pictures: dict[Outcome, tuple[Picture, ...]]
) -> list[OutcomeRow]:
    seconds: dict[Outcome, float] = defaultdict(float)
    for key, length in zip(keys, lengths, strict=True):
        seconds[key] += float(length)
    order = {"kept": 0, "filtered": 1, "duplicate": 2, "failed": 3}
    total = max(len(keys), 1)
    return [
        OutcomeRow(*key, count, seconds[key], count / total, pictures.get(key, ()))
        for key, count in sorted(
            counts.items(), key=lambda item: (order.get(item[0][0], 9), stage_rank(item[0][1]), -item[1], item[0])
        )
    ]


def _values(clips: pa.Table, kept: np.ndarray, limits: Mapping[str, float]) -> tuple[list[Values], list[str]]:
    values, unmeasured = [], []
    for score in SCORES:
        column = clips[f"score_{score.name}"].to_numpy(zero_copy_only=False).astype(np.float64)
        there = np.isfinite(column)
        if not there.any():
            unmeasured.append(score.name)
            continue
        low, high = limits.get(f"min_{score.name}"), limits.get(f"max_{score.name}")
        values.append(Values(score, column[there & kept], column[there & ~kept], low, high))
    return values, unmeasured


def _failures(table: pa.Table, what: str) -> list[FailureGroup]:
    failed = table.filter(pc.equal(table["state"], "failed"))
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for row in failed.select(["stage", "reason", "uri", "detail"]).to_pylist():
        groups[row["stage"], row["reason"]].append((row["uri"], row["detail"]))
    return [
        FailureGroup(what, stage, reason, len(rows), tuple(sorted(rows)[:MAX_FAILURES]))
        for (stage, reason), rows in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _stage_rows(run_dir: str, run: RunInfo) -> list[StageRow]:
    path = storage.join(run_dir, "timings.json")
    timings = json.loads(storage.read_bytes(path)) if storage.exists(path) else {}
    by_stage = timings.get("stages", {})
    rows = []
    for name in sorted({*run.stages, *by_stage}, key=stage_rank):
        timing = by_stage.get(name, {})
        seconds, status = timing.get("seconds"), run.stages.get(name, "run")
        rate = ""
        if seconds and timing.get("items"):
            rate = f"{timing['items'] / seconds:.3g} {timing.get('unit', 'items')}/s"
        rows.append(StageRow(name, status, status == "run", seconds, rate, timing.get("reused", 0)))
    return rows
