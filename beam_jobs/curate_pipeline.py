"""The curation job as a list one can say aloud: analyse, drop copies, filter, caption, score, filter, cut, write."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.analyze import AnalyzeSources
from beam_jobs.clip_shards import WriteClipShards, products
from beam_jobs.copies import DropCopies, DropSameClips
from beam_jobs.cut import CutKept, kept_by_reference
from beam_jobs.exclude import DropExcluded, count_excluded
from beam_jobs.filtering import DropRemoved, Filter, QuantileFork
from beam_jobs.flow import ENDED, Fork, KeptClip, SourceResult
from beam_jobs.job import CurateJob
from beam_jobs.ledger import CLIPS_LEDGER, SOURCES_LEDGER, WriteLedger, source_dict
from beam_jobs.model_stages import early_stages, late_stages
from beam_jobs.models import ModelStage, RunModel
from beam_jobs.near_copies import DropNearCopies
from beam_jobs.outcome import WriteList, WriteSums, count_clip, count_source
from beam_jobs.previews import WritePreviews
from beam_jobs.semantic_copies import DropSemanticCopies
from beam_jobs.sources import ReadSources
from beam_jobs.standing import NOTHING_STANDS, Standing
from curation.filters import CHEAP_SCORES, JUDGE_SCORES, LAST_SCORES, limited
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.records import Clip, clip_row


class Decided(NamedTuple):
    """Clips to keep, those that ended, and what the quantiles among the limits came to."""

    kept: PCollection
    ended: list[PCollection]
    thresholds: list[PCollection]


def build(
    pipeline: beam.Pipeline,
    job: CurateJob,
    parts: Sequence[str],
    standing: Standing = NOTHING_STANDS,
    excluded: Sequence[str] = (),
) -> None:
    """Adds the whole job to a pipeline.

    Args:
        parts: part files of the inputs, as `beam_jobs.sources.write_parts` wrote them.
        excluded: part files of the inputs of the evaluation set.
        standing: clips that an earlier run has placed.
    """
    results = (
        pipeline
        | "Sources" >> ReadSources(parts)
        | "Analyze" >> AnalyzeSources(job)
        | "DropCopies" >> (DropCopies() if job.settings.dedup.exact else beam.Map(_as_it_is))
    )
    evaluation = None
    if excluded:
        evaluation = pipeline | "ReadExcluded" >> ReadSources(excluded) | "AnalyzeExcluded" >> AnalyzeSources(job)
    decided = decide(results | "Clips" >> beam.FlatMap(SourceResult.clips), evaluation, job)
    kept, uncut = keep(decided.kept, job)
    write(results, kept, [*decided.ended, uncut], job, standing)
    if evaluation is not None:
        counts = evaluation | "CountExcluded" >> beam.FlatMap(count_excluded)
        counts | "WriteExcluded" >> WriteSums(job.units, "excluded")
    if decided.thresholds:
        numbers = decided.thresholds | "Thresholds" >> beam.Flatten() | "Numbers" >> beam.FlatMap(dict.items)
        numbers | "WriteThresholds" >> WriteSums(job.units, "thresholds")


def decide(clips: PCollection, evaluation: PCollection | None, job: CurateJob) -> Decided:
    """Candidates → clips to keep, and all those that ended, in the order cheap before dear.

    Args:
        evaluation: results of the inputs of an evaluation set, whose clips are to be kept out.
    """
    finished, thresholds = [], []
    for label, step in _steps(evaluation, job):
        forked: Any = clips | label >> step
        clips = forked.alive
        finished.append(forked.ended)
        if isinstance(forked, QuantileFork):
            thresholds.append(forked.thresholds)
    return Decided(clips, finished, thresholds)


def _steps(evaluation: PCollection | None, job: CurateJob) -> Iterator[tuple[str, beam.PTransform]]:
    settings, filters = job.settings, job.settings.filters
    if job.removals:
        yield "Removed", DropRemoved(job.removals)
    if evaluation is not None:
        yield "DropExcluded", DropExcluded(evaluation, settings.dedup.near_distance)
    yield "CheapFilters", Filter(filters, CHEAP_SCORES)
    yield "DropSameClips", DropSameClips()
    if settings.dedup.near:
        yield "DropNearCopies", DropNearCopies(settings.dedup)
    for stage in early_stages(job):
        yield step_name(stage), RunModel(job, stage)
    if limited(filters, JUDGE_SCORES):
        yield "JudgeFilters", Filter(filters, JUDGE_SCORES)
    if settings.dedup.semantic is not None:
        yield "DropSemanticCopies", DropSemanticCopies(job, settings.dedup.semantic)
    for stage in late_stages(job):
        yield step_name(stage), RunModel(job, stage)
    yield "Filters", Filter(filters, LAST_SCORES)


def step_name(stage: ModelStage) -> str:
    """`ClipScore` of `clip_score`."""
    return stage.name.title().replace("_", "")


def keep(clips: PCollection, job: CurateJob) -> Fork:
    """Clips to keep → kept clips with their media, and those that could not be cut."""
    if job.settings.clips.mode == "encode":
        return clips | "Cut" >> CutKept(job)
    outputs = clips | "Keep" >> beam.Map(kept_by_reference).with_outputs(ENDED, main="alive")
    return Fork(outputs["alive"], outputs[ENDED])


def write(
    results: PCollection, kept: PCollection, finished: list[PCollection], job: CurateJob, standing: Standing
) -> None:
    """Shards, ledger, previews, and the sums that the command checks."""
    files = products(job)
    closed = finished | "Closed" >> beam.Flatten()
    rows = [closed | "ClosedRows" >> beam.Map(clip_row)]
    if job.settings.clips.mode == "encode":
        shards, kept_rows = kept | "Shards" >> WriteClipShards(job, standing)
        shards | "ShardList" >> WriteList(job.units, "shards")
        rows.append(kept_rows)
    else:
        rows.append(kept | "KeptRows" >> beam.Map(lambda each: clip_row(each.clip)))
    all_rows = rows | "AllRows" >> beam.Flatten()
    written = [all_rows | "ClipLedger" >> WriteLedger(files, CLIPS_LEDGER, CLIPS_SCHEMA, CLIP_ORDER)]
    source_rows = results | "SourceRows" >> beam.Map(lambda result: source_dict(result.row()))
    written.append(source_rows | "SourceLedger" >> WriteLedger(files, SOURCES_LEDGER, SOURCES_SCHEMA, SOURCE_ORDER))
    everyone = (closed, kept | "KeptClips" >> beam.Map(_clip)) | "Everyone" >> beam.Flatten()
    if job.settings.previews:
        written.append(everyone | "Previews" >> WritePreviews(job))
    written | "Files" >> beam.Flatten() | "FileList" >> WriteList(job.units, "files")
    sums = (
        results | "CountSources" >> beam.FlatMap(count_source),
        everyone | "CountClips" >> beam.FlatMap(count_clip),
    )
    sums | "Sums" >> beam.Flatten() | "WriteSums" >> WriteSums(job.units, "counts")


CLIP_ORDER = ("clip_id", "source_id")
SOURCE_ORDER = ("source_id", "occurrence")


def _clip(kept: KeptClip) -> Clip:
    return kept.clip


def _as_it_is(result: SourceResult) -> SourceResult:
    return result
