"""The curation job without Beam: the same functions over a `multiprocessing` pool, for `benchmarks.beam_overhead`.

It does what one run on one machine needs and no more: no side inputs, no shuffles, everything in the memory of the
main process. Shards and ledger have the bytes of `reelmill curate`; `run.json` and the report are made by its code.
"""

import json
import multiprocessing
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby

from beam_jobs.analyze import analyze_address, read_keyframe
from beam_jobs.clip_shards import CLIPS, products, shard_bytes, sharding, write_clip_shard
from beam_jobs.copies import content_key, mark_copies
from beam_jobs.curate_pipeline import CLIP_ORDER, SOURCE_ORDER
from beam_jobs.curate_run import finish
from beam_jobs.cut import Cut, cut_address, cut_fp
from beam_jobs.filtering import judged
from beam_jobs.flow import KeptClip, SourceResult, kept
from beam_jobs.job import CurateJob
from beam_jobs.ledger import CLIPS_LEDGER, SOURCES_LEDGER, part_name, write_part
from beam_jobs.media_calls import analyze
from beam_jobs.near_copies import mark_near
from beam_jobs.outcome import count_clip, count_source, outcome_path
from beam_jobs.previews import PER_SIDE, Picked, Ranked, near_limits, outcome_of, write_previews
from curation.duplicates import same_clip
from curation.filters import CHEAP_SCORES
from curation.manifest import read_sources
from curation.settings import CURATE
from media import storage
from media.shard_plan import num_buckets, shard_name
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.records import Clip, Source, Verdict, clip_row, clip_sidecar
from schemas.scores import SCORES

_JOB: list[CurateJob] = []


def _start(job: CurateJob) -> None:
    _JOB.append(job)


def _analyze(element: tuple[str, list[Source]]) -> list[SourceResult]:
    return [result for result, _ in analyze_address(*element, _JOB[0], analyze)]


def _cut(element: tuple[str, list[Clip]]) -> list[Clip | KeptClip]:
    return [_finished(clip, cut) for clip, cut, _ in cut_address(*element, _JOB[0])]


def _finished(clip: Clip, cut: Cut) -> Clip | KeptClip:
    if isinstance(cut, Verdict):
        return clip.with_verdict(cut)
    clip = kept(clip)
    size = len(read_keyframe(_JOB[0].units, clip))
    return KeptClip(clip, cut, cut_fp(clip, _JOB[0]), size, clip_sidecar(clip, cut))


def decide(results: Iterable[SourceResult], job: CurateJob) -> Iterator[Clip]:
    """All candidates, those that are not to be kept with their verdict."""
    clips = [judged(clip, job.settings.filters, CHEAP_SCORES) for result in results for clip in result.clips()]
    yield from (clip for clip in clips if clip.verdict)
    by_id: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if not clip.verdict:
            by_id[clip.clip_id].append(clip)
    unique = [clip for group in by_id.values() for clip in same_clip(group)]
    yield from (clip for clip in unique if clip.verdict)
    marked = mark_near([clip for clip in unique if not clip.verdict], job.settings.dedup)
    yield from (judged(clip, job.settings.filters, SCORES) for clip in marked)


def write(results: Sequence[SourceResult], clips: Sequence[Clip | KeptClip], job: CurateJob) -> None:
    """Shards, ledger, previews and sums."""
    files, rows = products(job), [clip_row(clip) for clip in clips if isinstance(clip, Clip)]
    finished = [clip for clip in clips if isinstance(clip, KeptClip)]
    if num_buckets(sum(shard_bytes(clip) for clip in finished), job.settings.shards.max_bytes) > 1:
        raise ValueError("this loop plans one bucket; give it less data or larger shards")
    shards = []
    for index, group in enumerate(sharding(job.settings.shards.max_bytes).plan((CLIPS, 0), finished)[1]):
        shards.append(write_clip_shard(shard_name(CLIPS, index), group, job))
        rows += [clip_row(clip.clip, shards[-1].name, clip.cut) for clip in group]
    everyone = [clip.clip if isinstance(clip, KeptClip) else clip for clip in clips]
    picked = pick(everyone, job)
    source_rows = [asdict(result.row()) for result in results]
    names = [
        write_part(files, part_name(CLIPS_LEDGER, 0), rows, CLIPS_SCHEMA, CLIP_ORDER),
        write_part(files, part_name(SOURCES_LEDGER, 0), source_rows, SOURCES_SCHEMA, SOURCE_ORDER),
        write_previews(0, picked, job),
    ]
    sums: Counter[str] = Counter()
    for name, number in [pair for result in results for pair in count_source(result)]:
        sums[name] += number
    for name, number in [pair for clip in everyone for pair in count_clip(clip)]:
        sums[name] += number
    _put(job, "counts", dict(sums))
    _put(job, "shards", [asdict(shard) for shard in shards])
    _put(job, "files", [{"name": name} for name in names])


def pick(clips: Sequence[Clip], job: CurateJob) -> list[Picked]:
    """The clips whose pictures the report shows."""
    by_outcome: dict[str, list[Picked]] = defaultdict(list)
    by_limit: dict[str, list[Ranked]] = defaultdict(list)
    for clip in clips:
        if clip.keyframe_sha256:
            by_outcome[outcome_of(clip)].append((clip.clip_id, clip.keyframe_sha256))
            for key, ranked in near_limits(clip, job.settings.filters):
                by_limit[key].append(ranked)
    picked = [each for group in by_outcome.values() for each in sorted(group)[: int(job.settings.previews)]]
    return [*picked, *(each for group in by_limit.values() for _, each in sorted(group)[:PER_SIDE])]


def _put(job: CurateJob, name: str, value: object) -> None:
    storage.write_bytes_atomic(outcome_path(job.units, name), json.dumps(value).encode())


def main() -> int:
    settings, flags = CURATE.parse(sys.argv[1:])
    workers = int(flags[0].partition("=")[2])
    sources = read_sources(settings)
    job = CurateJob.of(settings)
    storage.makedirs(job.units.root)
    began = time.monotonic()
    grouped = [(uri, list(group)) for uri, group in groupby(sorted(sources, key=lambda each: each.uri), _uri)]
    with multiprocessing.get_context("spawn").Pool(workers, _start, (job,)) as pool:
        found = [result for group in pool.imap_unordered(_analyze, grouped) for result in group]
        by_content: dict[str, list[SourceResult]] = defaultdict(list)
        for result in found:
            by_content[content_key(result)].append(result)
        results = [result for group in by_content.values() for result in mark_copies(group)]
        decided = list(decide(results, job))
        alive = sorted((clip for clip in decided if not clip.verdict), key=_uri)
        by_address = [(uri, list(group)) for uri, group in groupby(alive, _uri)]
        cut = [clip for group in pool.imap_unordered(_cut, by_address) for clip in group]
    write(results, [*(clip for clip in decided if clip.verdict), *cut], job)
    return finish(job, {}, len(sources), time.monotonic() - began)


def _uri(record: Source | Clip) -> str:
    return record.uri


if __name__ == "__main__":
    sys.exit(main())
