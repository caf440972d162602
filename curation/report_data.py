"""What the report of a curated run shows: counts, examples and distributions, read from the run's files."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping

from curation.ledger_rows import CLIPS, SOURCES, read_run_info, row_groups
from curation.quantiles import run_limits
from curation.report_ledger import CLIP_COLUMNS, SOURCE_COLUMNS, ClipSums, SourceSums
from curation.report_pictures import borderline, preview_ids, read_pictures
from curation.report_records import Bar, Outcome, OutcomeRow, Picture, ReportData, StageRow
from media import storage
from schemas.run import RunInfo

STAGE_ORDER = (
    "manifest", "fetch", "probe", "decode", "analyze", "exact_dedup", "shots", "watermark", "text", "audio", "filters",
    "exclude", "dedup", "near_dedup", "embedding", "aesthetic_embedding", "aesthetic", "nsfw", "semantic_dedup",
    "caption", "clip_score", "verdict", "cut", "shards",
)  # fmt: skip


def read_run(run_dir: str, run: RunInfo | None = None) -> ReportData:
    """Everything the report shows of the run in this folder.

    Args:
        run: what `run.json` will say of it, where it is not there yet.

    Raises:
        FileNotFoundError: the folder holds no finished run.
    """
    run = run or read_run_info(run_dir)
    limits = run_limits(run)
    sources = SourceSums(row_groups(run_dir, SOURCES, SOURCE_COLUMNS))
    groups = row_groups(run_dir, CLIPS, CLIP_COLUMNS)
    clips = ClipSums(groups, run.counts.get("clips", 0), limits, preview_ids(run_dir))
    near = {clip_id for side in clips.nearest.values() for _, clip_id in side}
    gallery = read_pictures(run_dir, clips.rows, near)
    values, unmeasured = clips.values()
    by_state: Counter[str] = Counter()
    for (state, _, _), count in clips.counts.items():
        by_state[state] += count
    return ReportData(
        run=run, num_sources=sources.total, sources=sources.states, num_clips=clips.total, clips=by_state,
        seconds={
            "sources": sources.seconds,
            "candidates": sum(clips.seconds.values()),
            "kept": sum(length for key, length in clips.seconds.items() if key[0] == "kept"),
        },
        source_funnel=_source_funnel(sources), clip_funnel=_clip_funnel(clips.counts),
        outcomes=_outcome_rows(clips, gallery.by_outcome),
        kept=tuple(
            picture for key, group in sorted(gallery.by_outcome.items()) if key[0] == "kept" for picture in group
        ),
        values=values, sampled_every=clips.every, unmeasured=unmeasured,
        failures=sources.failures.groups() + clips.failures.groups(),
        borderline=borderline(clips.nearest, gallery, limits), stages=_stage_rows(run_dir, run),
    )  # fmt: skip


def stage_rank(stage: str) -> tuple[int, str]:
    """Sorts stages as the data meets them; unknown ones come before cutting, by name."""
    known = STAGE_ORDER.index(stage) if stage in STAGE_ORDER else STAGE_ORDER.index("verdict")
    return known, stage


def _source_funnel(sources: SourceSums) -> list[Bar]:
    total, done, with_clips = sources.total, sources.states["done"], sources.with_clips
    return [
        Bar("inputs", total, 1.0 if total else 0.0),
        Bar("analysed", done, done / total if total else 0.0, _lost(sources.lost)),
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


def _outcome_rows(clips: ClipSums, pictures: Mapping[Outcome, tuple[Picture, ...]]) -> list[OutcomeRow]:
    order = {"kept": 0, "filtered": 1, "duplicate": 2, "failed": 3}
    total = max(clips.total, 1)
    return [
        OutcomeRow(*key, count, clips.seconds[key], count / total, pictures.get(key, ()))
        for key, count in sorted(
            clips.counts.items(), key=lambda item: (order.get(item[0][0], 9), stage_rank(item[0][1]), -item[1], item[0])
        )
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
