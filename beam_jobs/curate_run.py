"""A run of `reelmill curate` from its first file to its last: the pipeline, the sums, the shards, the report."""

import time
from collections.abc import Mapping, Sequence

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import curate_pipeline
from beam_jobs.clip_shards import CLIPS, products, standing_clips
from beam_jobs.job import CurateJob, stages_run, versions
from beam_jobs.ledger import CLIPS_LEDGER, LEDGER, part_name, write_part
from beam_jobs.metrics import counters, timings
from beam_jobs.outcome import (
    check_conservation,
    clear_outcome,
    plural,
    read_names,
    read_outcome,
    read_shards,
    too_many_failures,
)
from beam_jobs.previews import PREVIEWS
from beam_jobs.products import Products
from beam_jobs.progress import Progress, log
from beam_jobs.run_pipeline import is_dry_run, run
from beam_jobs.sources import write_parts
from beam_jobs.unchanged import Finished, forget, remember, settled
from beam_jobs.units import SCRATCH, Units
from curation.quantiles import quantiles
from curation.removals import removal_files
from curation.report import build_report
from curation.settings import CurateSettings
from media import storage
from schemas.arrow import CLIPS_SCHEMA
from schemas.records import Source
from schemas.run import ClipShard, RunInfo

_OF_CLIPS = ("embedding", "aesthetic_embedding", "aesthetic", "nsfw", "caption", "clip_score", "cut")
UNITS = {"analyze": "videos", **dict.fromkeys(_OF_CLIPS, "clips"), "shards": "shards"}


def run_whole(
    job: CurateJob, options: PipelineOptions, sources: Sequence[Source], excluded: Sequence[Source], key: str
) -> int:
    """The pipeline and all that follows it; returns the exit status.

    Args:
        key: fingerprint of all that the run is made from, under which it is found when it is to be made again.

    Raises:
        RuntimeError: it broke; what is finished stays, and the same command goes on from there.
    """
    output, began = job.settings.output, time.monotonic()
    forget(output)
    counts = run_job(job, options, sources, excluded)
    if is_dry_run(options):
        log("dry run: the engine would take this job; nothing was run")
        return 0
    status = finish(job, counts, len(sources), time.monotonic() - began)
    sums = read_outcome(job.units, "counts")
    barred = read_outcome(job.units, "excluded") if excluded else {}
    local = all(storage.is_local(source.uri) for source in (*sources, *excluded))
    if settled(sums, local) and not barred.get("exclude.failed"):
        remember(output, "run.json", Finished(key, status, tally(sums)))
    return status


def run_job(
    job: CurateJob, options: PipelineOptions, sources: Sequence[Source], excluded: Sequence[Source] = ()
) -> dict[str, int]:
    """Runs the pipeline to its end; returns its counters.

    Args:
        excluded: inputs of the evaluation set.

    Raises:
        RuntimeError: it broke; what is finished stays, and the same command goes on from there.
    """
    storage.makedirs(job.units.root)
    standing = standing_clips(job)
    products(job).sweep()
    clear_outcome(job.units)
    parts, excluded_parts = write_parts(job.units, sources), write_parts(job.units, excluded)
    pipeline = beam.Pipeline(options=options)
    curate_pipeline.build(pipeline, job, parts, standing, excluded_parts)
    with Progress(job.units, {"analyze": len(sources) + len(excluded)}):
        result = run(pipeline)
    return {} if is_dry_run(options) else counters(result)


def finish(job: CurateJob, counts: Mapping[str, int], num_inputs: int, wall_s: float) -> int:
    """Checks the sums, tidies the output folder, writes the report and run.json; returns the exit status."""
    files = products(job)
    sums = read_outcome(job.units, "counts")
    check_conservation(sums, num_inputs)
    shards = read_shards(job.units) if job.settings.clips.mode == "encode" else []
    _tidy(files, shards, sums, job.settings)
    storage.write_bytes_atomic(files.path("timings.json"), timings(dict(counts), wall_s, UNITS))
    info = run_info(job, sums, shards)
    storage.remove(storage.join(job.units.root, SCRATCH))
    files.commit(info.to_json(), lambda: build_report(job.settings.output, info))
    log(summary(sums, job.settings.output))
    return _status(sums, job.settings)


def _tidy(files: Products, shards: Sequence[ClipShard], sums: Mapping[str, int], settings: CurateSettings) -> None:
    """Removes what an earlier plan left behind, and writes the tables that have no rows."""
    files.keep_only(CLIPS, "clips-*.tar", [f"{CLIPS}/{shard.name}" for shard in shards])
    if not sums.get("clips"):
        write_part(files, part_name(CLIPS_LEDGER, 0), [], CLIPS_SCHEMA, curate_pipeline.CLIP_ORDER)
    names = [*read_names(Units.of(files.output), "files"), *([] if sums.get("clips") else [part_name(CLIPS_LEDGER, 0)])]
    files.keep_only(LEDGER, "*.parquet", [*names, *removal_files(files.output)])
    files.keep_only(PREVIEWS, "*.tar", names)


def run_info(job: CurateJob, sums: Mapping[str, int], shards: Sequence[ClipShard]) -> RunInfo:
    """`run.json`. Equal runs give equal bytes, wherever they lie: the output folder is not in it."""
    settings = job.settings
    stages = stages_run(settings)
    return RunInfo(
        command="curate",
        settings=job.shown,
        versions=versions(settings),
        fingerprints=dict(job.fingerprints),
        stages=stages,
        counts={name: value for name, value in {**sums, **_excluded(job)}.items() if not name.startswith("us.")},
        shards=list(shards),
        thresholds=read_outcome(job.units, "thresholds") if quantiles(settings.filters) else {},
        hours={name: sums.get(f"us.{name}", 0) / 3.6e9 for name in ("sources", "candidates", "kept")},
    )


def _excluded(job: CurateJob) -> dict[str, int]:
    """What became of the inputs of the evaluation set; one that failed bars nothing, which a person should know."""
    counts: dict[str, int] = read_outcome(job.units, "excluded") if job.settings.exclude else {}
    failed = counts.get("exclude.failed", 0)
    if failed:
        log(f"warning: {plural(failed, 'input')} of {job.settings.exclude} could not be read and bars nothing")
    return counts


def summary(sums: Mapping[str, int], output: str) -> str:
    """The last line: the tally, and where all is."""
    return f"{tally(sums)} → {output} (report.html)"


def tally(sums: Mapping[str, int]) -> str:
    """What became of all: `11 videos: 11 done · 143 clips: 120 kept (3.2 min), 23 filtered`."""
    sources = [
        f"{sums[f'sources.{state}']} {state}"
        for state in ("done", "duplicate", "failed")
        if sums.get(f"sources.{state}")
    ]
    clips = [
        f"{sums[f'clips.{state}']} {state}"
        for state in ("filtered", "duplicate", "failed")
        if sums.get(f"clips.{state}")
    ]
    minutes = sums.get("us.kept", 0) / 6e7
    kept = f"{sums.get('clips.kept', 0)} kept ({minutes:.1f} min)"
    return (
        f"{plural(sums.get('sources', 0), 'video')}: {', '.join(sources)} · "
        f"{plural(sums.get('clips', 0), 'clip')}: {', '.join([kept, *clips])}"
    )


def _status(sums: Mapping[str, int], settings: CurateSettings) -> int:
    failures = sums.get("sources.failed", 0) + sums.get("clips.failed", 0)
    total = sums.get("sources", 0) + sums.get("clips", 0)
    if too_many_failures(failures, total, settings.max_failures):
        log(f"error: {failures} of {total} inputs and clips failed; --max_failures allows {settings.max_failures:g}")
        return 1
    if not sums.get("clips.kept"):
        log("error: nothing was kept; report.html says what became of everything")
        return 1
    return 0
