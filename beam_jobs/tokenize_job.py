"""`reelmill tokenize`: the clips of a curated run in; token shards with their manifest out."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.code_version import library_version
from beam_jobs.curated_clips import CuratedClips
from beam_jobs.engines import check_engine
from beam_jobs.metrics import counters, timings
from beam_jobs.outcome import clear_outcome, plural, read_names, read_outcome, too_many_failures
from beam_jobs.products import Products
from beam_jobs.progress import Progress, log
from beam_jobs.run_lock import only_run
from beam_jobs.run_pipeline import is_dry_run, run
from beam_jobs.runner import beam_options
from beam_jobs.token_shards import products, standing_samples
from beam_jobs.tokenize_pipeline import LISTED, SAMPLES, Prepared, build, prepare
from beam_jobs.tokens import FAILED, FILTERED, TOKENIZED
from beam_jobs.unchanged import Finished, forget, key_of, remember, settled, unchanged
from media import storage
from schemas.shards import DatasetInfo, ShardInfo, video_member
from tokenize_shards.quality import ShardQuality, merge
from tokenize_shards.settings import TOKENIZE, TokenizeSettings
from tokenize_shards.writer import EMPTY_CAPTION_FILE, vocabulary_sizes, write_dataset

UNITS = {"tokenize": "clips", "shards": "shards"}
QUALITY_FILE = "quality.json"
_LIBRARIES = ("reelmill", "av", "decord2", "numpy", "opencv-python-headless", "torch", "transformers")


def main(argv: Sequence[str]) -> int:
    """Runs `reelmill tokenize` and returns its exit status: 0 done, 1 the run failed.

    Raises:
        ValueError, FileNotFoundError: wrong usage.
        RuntimeError: the job broke, or another run is working in the folder.
    """
    settings, flags = TOKENIZE.parse(argv)
    flags = [*settings.engine.as_flags(), *flags]
    places = {"input": settings.input, "output": settings.output}
    check_engine(beam_options(flags, 1), places, [settings.device])
    prepared = prepare(settings)
    options = beam_options(flags, prepared.inputs.num_items)
    output = prepared.job.settings.output
    with only_run(output):
        key = run_key(prepared)
        finished = unchanged(output, "dataset.json", key)
        if finished is not None:
            log(f"nothing to do: all is finished and in its place\n{finished.summary} → {output}")
            return finished.status
        forget(output)
        began = time.monotonic()
        counts = run_job(prepared, options)
        if is_dry_run(options):
            log("dry run: the engine would take this job; nothing was run")
            return 0
        return finish(prepared, counts, time.monotonic() - began, key)


def run_key(prepared: Prepared) -> str:
    """Fingerprint of all that a data set is made from; that of a curated run stands for its clips."""
    job = prepared.job
    return key_of((job.fingerprint, job.shown, prepared.inputs.identity, {n: library_version(n) for n in _LIBRARIES}))


def run_job(prepared: Prepared, options: PipelineOptions) -> dict[str, int]:
    """Runs the pipeline to its end; returns its counters."""
    job = prepared.job
    storage.makedirs(job.units.root)
    standing = standing_samples(job)
    products(job).sweep()
    clear_outcome(job.units)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, prepared, standing)
    with Progress(job.units, {"tokenize": prepared.inputs.num_items}):
        result = run(pipeline)
    return {} if is_dry_run(options) else counters(result)


def check_conservation(sums: Mapping[str, int], num_clips: int) -> None:
    """Every clip has ended in exactly one state, and every sample of it lies in a shard.

    Raises:
        RuntimeError: not so; names the sums.
    """
    ended = [sums.get(f"clips.{state}", 0) for state in (TOKENIZED, FILTERED, FAILED)]
    if sum(ended) != num_clips:
        raise RuntimeError(
            f"{num_clips} clips went in, but tokenized + filtered + failed = {sum(ended)}; this is a bug, please "
            "report it"
        )
    if sums.get("samples", 0) != sums.get("samples.planned", 0):
        raise RuntimeError(
            f"{sums.get('samples.planned', 0)} samples were made, but {sums.get('samples', 0)} lie in shards; this is "
            "a bug, please report it"
        )


def finish(prepared: Prepared, counts: Mapping[str, int], wall_s: float, key: str) -> int:
    """Checks the sums, tidies the output folder, writes dataset.json last; returns the exit status.

    Args:
        key: fingerprint of what the data set is made from, under which it is found when it is to be made again.
    """
    job, files = prepared.job, products(prepared.job)
    sums = read_outcome(job.units, "counts")
    check_conservation(sums, sums.pop(LISTED, 0))
    shards = _shards(read_outcome(job.units, "shards"))
    quality = {note["name"]: ShardQuality(**note["quality"]) for note in read_outcome(job.units, "quality")}
    barred = quarantined(quality, job.settings.quality.min_psnr_db)
    usable = [shard for shard in shards if shard.name not in barred]
    _tidy(files, [shard.name for shard in shards], read_names(job.units, "files"))
    storage.write_bytes_atomic(files.path("timings.json"), timings(dict(counts), wall_s, UNITS))
    write_quality(files, quality, barred)
    info = dataset_info(prepared, sums, usable)
    if not _committed(files, info, prepared):
        write_dataset(job.settings.output, info, prepared.empty_caption)
    for name, why in sorted(barred.items()):
        log(f"quarantined: {name}: {why}")
    told, status = tally(sums, usable), _status(sums, usable, job.settings)
    log(f"{told} → {job.settings.output}")
    if isinstance(prepared.inputs, CuratedClips) and settled(sums, all_local=True):
        remember(job.settings.output, files.manifest, Finished(key, status, told))
    return status


def _shards(records: Sequence[Mapping[str, Any]]) -> list[ShardInfo]:
    return [ShardInfo(**{**shard, "resolution": tuple(shard["resolution"])}) for shard in records]


def quarantined(quality: Mapping[str, ShardQuality], min_psnr_db: float | None) -> dict[str, str]:
    """By name, why a shard stays out of `dataset.json`."""
    found = {name: each.quarantined(min_psnr_db) for name, each in quality.items()}
    return {name: why for name, why in found.items() if why is not None}


def _tidy(files: Products, shards: Sequence[str], names: Sequence[str]) -> None:
    """Removes what an earlier plan left behind."""
    files.keep_only("", "*.tar", shards)
    files.keep_only("", f"{SAMPLES}-*.parquet", names)
    files.keep_only("ledger", "*.parquet", names)


def write_quality(files: Products, quality: Mapping[str, ShardQuality], barred: Mapping[str, str]) -> None:
    """`quality.json`: token QA of the whole set and of each shard."""
    merged = merge([quality[name] for name in sorted(quality)])
    shards = {name: {**asdict(each), "quarantined": barred.get(name)} for name, each in quality.items()}
    text = json.dumps({"schema_version": 1, "all": merged, "shards": shards}, indent=2, sort_keys=True) + "\n"
    storage.write_bytes_atomic(files.path(QUALITY_FILE), text.encode())


def dataset_info(prepared: Prepared, sums: Mapping[str, int], shards: Sequence[ShardInfo]) -> DatasetInfo:
    """`dataset.json`. Equal runs give equal bytes, wherever they lie: the folders are not in it."""
    job = prepared.job
    video = job.settings.video
    return DatasetInfo(
        tokenizers=dict(job.tokenizers),
        resolutions=[size for bucket in video.buckets for size in bucket],
        num_frames=video.lengths[0],
        fps=(video.rate.numerator, video.rate.denominator),
        counts=dict(sums),
        shards=list(shards),
        members=members_of(prepared),
        vocabulary=vocabulary_sizes(job.tokenizers),
        curated=prepared.inputs.identity,
        settings=job.shown,
        versions={name: library_version(name) for name in _LIBRARIES},
    )


def members_of(prepared: Prepared) -> list[str]:
    """Names of the arrays that samples may have, video at the lowest resolution first."""
    higher = {size for bucket in prepared.job.settings.video.buckets for size in bucket[1:]}
    others = [kind for kind in prepared.job.tokenizers if kind != "video"]
    return ["video", *(video_member(*size, lowest=False) for size in sorted(higher)), *others]


def _committed(files: Products, info: DatasetInfo, prepared: Prepared) -> bool:
    """Whether the data set stands already as it would be written."""
    path = files.path(files.manifest)
    if not storage.exists(path) or storage.read_bytes(path) != info.to_json().encode():
        return False
    return prepared.empty_caption is None or storage.exists(files.path(EMPTY_CAPTION_FILE))


def tally(sums: Mapping[str, int], shards: Sequence[ShardInfo]) -> str:
    """What became of all: `120 clips: 118 tokenized, 2 filtered · 260 samples (240 train, 20 val), …`."""
    clips = [
        f"{sums[f'clips.{state}']} {state}" for state in (TOKENIZED, FILTERED, FAILED) if sums.get(f"clips.{state}")
    ]
    splits = [f"{sums[f'samples.{split}']} {split}" for split in ("train", "val") if sums.get(f"samples.{split}")]
    num_bytes = sum(shard.num_bytes for shard in shards)
    return (
        f"{plural(sums.get('clips.read', 0), 'clip')}: {', '.join(clips)} · "
        f"{plural(sums.get('samples', 0), 'sample')} ({', '.join(splits)}), {sums.get('video_tokens', 0):,} video "
        f"tokens, {plural(len(shards), 'shard')} of {num_bytes / 1e6:.1f} MB"
    )


def _status(sums: Mapping[str, int], shards: Sequence[ShardInfo], settings: TokenizeSettings) -> int:
    failures = sums.get(f"clips.{FAILED}", 0)
    if too_many_failures(failures, sums.get("clips.read", 0), settings.max_failures):
        log(f"error: {failures} clips failed; --max_failures allows {settings.max_failures:g}")
        return 1
    if not shards:
        log("error: there are no samples; ledger/clips-*.parquet says what became of each clip")
        return 1
    return 0
