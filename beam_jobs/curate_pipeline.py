"""The curation job as a list one can say aloud: analyse, drop copies, filter, caption, score, filter, cut, write."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.analyze import AnalyzeSources
from beam_jobs.clip_shards import WriteClipShards, products
from beam_jobs.copies import DropCopies, DropSameClips
from beam_jobs.cut import CutKept, kept_by_reference
from beam_jobs.filtering import DropRemoved, Filter
from beam_jobs.flow import ENDED, Fork, KeptClip, SourceResult
from beam_jobs.job import CurateJob
from beam_jobs.ledger import CLIPS_LEDGER, SOURCES_LEDGER, WriteLedger, source_dict
from beam_jobs.models import CaptionStage, ClipScoreStage, RunModel
from beam_jobs.near_copies import DropNearCopies
from beam_jobs.outcome import WriteList, WriteSums, count_clip, count_source
from beam_jobs.previews import WritePreviews
from beam_jobs.sources import ReadSources
from beam_jobs.standing import NOTHING_STANDS, Standing
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.records import Clip, clip_row


def build(pipeline: beam.Pipeline, job: CurateJob, parts: Sequence[str], standing: Standing = NOTHING_STANDS) -> None:
    """Adds the whole job to a pipeline.

    Args:
        parts: part files of the inputs, as `beam_jobs.sources.write_parts` wrote them.
        standing: clips that an earlier run has placed.
    """
    results = (
        pipeline
        | "Sources" >> ReadSources(parts)
        | "Analyze" >> AnalyzeSources(job)
        | "DropCopies" >> (DropCopies() if job.settings.dedup.exact else beam.Map(_as_it_is))
    )
    alive, finished = decide(results | "Clips" >> beam.FlatMap(SourceResult.clips), job)
    kept, uncut = keep(alive, job)
    write(results, kept, [*finished, uncut], job, standing)


def decide(clips: PCollection, job: CurateJob) -> tuple[PCollection, list[PCollection]]:
    """Candidates → clips to keep, and all those that ended, in the order cheap before dear."""
    settings = job.settings
    steps: list[tuple[str, beam.PTransform]] = [("Removed", DropRemoved(job.removals))] if job.removals else []
    steps.append(("CheapFilters", Filter(settings.filters, cheap=True)))
    steps.append(("DropSameClips", DropSameClips()))
    if settings.dedup.near:
        steps.append(("DropNearCopies", DropNearCopies(settings.dedup)))
    if settings.caption.model:
        steps.append(("Caption", RunModel(job, CaptionStage(job))))
    if settings.clip_score.model:
        steps.append(("ClipScore", RunModel(job, ClipScoreStage(job))))
    steps.append(("Filters", Filter(settings.filters, cheap=False)))
    finished = []
    for label, step in steps:
        forked: Fork = clips | label >> step
        clips = forked.alive
        finished.append(forked.ended)
    return clips, finished


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
