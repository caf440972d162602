"""`--plan`: what a run would do, stage by stage, from the units that are finished; nothing is fetched or decoded."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from beam_jobs.analyze import fetch_fp, stored_analysis
from beam_jobs.cut import cut_fp
from beam_jobs.filtering import Scores, judged_together
from beam_jobs.job import CurateJob
from beam_jobs.model_stages import early_stages, embedding_path, late_stages
from beam_jobs.models import ModelStage
from beam_jobs.near_copies import mark_near
from beam_jobs.semantic_copies import embedded
from curation.duplicates import best_source, exact_key, same_clip
from curation.filters import CHEAP_SCORES, JUDGE_SCORES, LAST_SCORES
from curation.semantic import all_semantic_copies
from media import storage
from schemas.records import Analysis, Clip, Source


@dataclass(frozen=True)
class StagePlan:
    """How many units of one stage are finished, and how many a run would make now."""

    stage: str
    finished: int
    missing: int
    note: str = ""


def plan(job: CurateJob, sources: Sequence[Source]) -> list[StagePlan]:
    """The stages in order. What depends on inputs that are still to be analysed cannot be counted, and says so."""
    first = [source for source in sources if not source.occurrence and job.removals.source(source) is None]
    hashes = {source.source_id: _known_hash(job, source) for source in first}
    found = [stored_analysis(source, sha, job) for source in first if (sha := hashes[source.source_id])]
    analyses = [outcome for outcome in found if isinstance(outcome, Analysis)]
    missing = len(first) - sum(outcome is not None for outcome in found)
    note = f"and those of {missing} inputs not yet analysed" if missing else ""
    fetched = sum(sha is not None for sha in hashes.values())
    stages = [
        StagePlan("fetch", fetched, len(first) - fetched),
        StagePlan("analyze", len(first) - missing, missing),
    ]
    clips = _alive_after_dedup(_unique(analyses, job), job)
    for some, scores in ((early_stages(job), JUDGE_SCORES), (late_stages(job), LAST_SCORES)):
        for stage in some:
            clips, entry = _through_model(clips, stage, job, note)
            stages.append(entry)
        clips = _passing(clips, job, scores)
        if scores is JUDGE_SCORES:
            clips = _unlike(clips, job)
    if job.settings.clips.mode == "encode":
        cut = sum(job.units.has("cut", cut_fp(clip, job)) for clip in clips)
        stages.append(StagePlan("cut", cut, len(clips) - cut, note))
    return stages


def print_plan(job: CurateJob, sources: Sequence[Source]) -> None:
    """The plan as a table for a person."""
    table = Table(title=f"{len(sources)} inputs → {job.settings.output}", title_justify="left")
    for column in ("stage", "finished", "would run", ""):
        table.add_column(column, justify="left" if column in ("stage", "") else "right")
    for entry in plan(job, sources):
        table.add_row(entry.stage, str(entry.finished), str(entry.missing), entry.note)
    Console(width=110).print(table)


def _known_hash(job: CurateJob, source: Source) -> str | None:
    stored = job.units.get("fetch", fetch_fp(job.address(source.uri)))
    return str(json.loads(stored)["content_sha256"]) if stored is not None else None


def _unique(analyses: Iterable[Analysis], job: CurateJob) -> list[Analysis]:
    """Analyses without those of exact copies."""
    if not job.settings.dedup.exact:
        return list(analyses)
    by_content: dict[str, list[Analysis]] = {}
    for analysis in analyses:
        by_content.setdefault(exact_key(analysis.source, analysis.content_sha256), []).append(analysis)
    return [_best(group) for group in by_content.values()]


def _best(group: Sequence[Analysis]) -> Analysis:
    best = best_source(analysis.source for analysis in group)
    return next(analysis for analysis in group if analysis.source == best)


def _alive_after_dedup(analyses: Iterable[Analysis], job: CurateJob) -> list[Clip]:
    settings = job.settings
    wanted = (clip for analysis in analyses for clip in analysis.clips if job.removals.clip(clip) is None)
    by_id: dict[str, list[Clip]] = {}
    for clip in _passing(wanted, job, CHEAP_SCORES):
        by_id.setdefault(clip.clip_id, []).append(clip)
    unique = [same_clip(group)[0] for group in by_id.values()]
    marked = mark_near(unique, settings.dedup) if settings.dedup.near else unique
    return [clip for clip in marked if clip.verdict is None]


def _passing(clips: Iterable[Clip], job: CurateJob, scores: Scores) -> list[Clip]:
    return [clip for clip in judged_together(clips, job.settings.filters, scores) if clip.verdict is None]


def _unlike(clips: Sequence[Clip], job: CurateJob) -> list[Clip]:
    """Clips without semantic copies, as far as embeddings are there."""
    if job.settings.dedup.semantic is None:
        return list(clips)
    known = [embedded(clip, job) for clip in clips if storage.exists(embedding_path(clip, job))]
    copies = all_semantic_copies(known, job.settings.dedup.semantic)
    return [clip for clip in clips if clip.clip_id not in copies]


def _through_model(clips: Sequence[Clip], stage: ModelStage, job: CurateJob, note: str) -> tuple[list[Clip], StagePlan]:
    """The clips as they would leave a model stage, as far as its answers are known."""
    finished, missing, after = 0, 0, []
    for clip in clips:
        stored = job.units.get(stage.name, job.unit(stage.name, *stage.parts(clip))) if stage.wants(clip) else None
        if stored is not None:
            finished += 1
            after.append(stage.apply(clip, stored))
        else:
            missing += stage.wants(clip)
            after.append(clip)
    return after, StagePlan(stage.name, finished, missing, note)
