"""Fetch, probe and the one decode: inputs to candidate clips, each finished input a unit of work."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.abreast import Abreast
from beam_jobs.flow import SourceResult
from beam_jobs.isolation import PASSING, attempt
from beam_jobs.job import CurateJob
from beam_jobs.media_calls import analyze
from beam_jobs.metrics import StageMetrics
from beam_jobs.record_json import from_json, to_json
from beam_jobs.unchanged import file_state
from beam_jobs.units import SCRATCH, Units
from curation.candidates import CAPTION_SCORES, with_caption
from curation.settings import CurateSettings
from media import storage
from media.fetch import LocalMedia, fetch, file_name
from media.fetch_cache import FetchCache
from schemas.identity import fingerprint
from schemas.records import Analysis, Caption, Clip, Source, Verdict, failed

Analyze = Callable[[Source, LocalMedia, CurateSettings], Analysis]


class FetchingJob(Protocol):
    """What fetching needs to know of a job."""

    @property
    def settings(self) -> Any:
        """With limits of downloads in `fetch`."""

    @property
    def units(self) -> Units:
        """Where finished units are."""

    def address(self, uri: str) -> str:
        """An input's address as any worker can open it."""


class SourceMedia:
    """One input's media: its hash, and its bytes where they are really needed. A fetched copy goes away at the end.

    The hash is a unit of work, so that finished inputs are not fetched or read again. That of a local file holds for
    its size and time of change; that of a URL stands for what was there when it was first fetched.
    """

    def __init__(self, uri: str, job: FetchingJob):
        self._uri, self._job = job.address(uri), job
        scratch = scratch_folder(job)
        self._folder = tempfile.TemporaryDirectory(prefix="reelmill-fetch-", dir=scratch)
        self._cache = FetchCache(Path(scratch) / "fetched", job.settings.fetch.cache_bytes) if scratch else None
        self._local: LocalMedia | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def local(self, wanted: str | None = None) -> LocalMedia:
        """The media as a local file; fetched only where an earlier stage has not left it on this disk.

        Args:
            wanted: sha256 of the bytes it had then.

        Raises:
            Rejection: it cannot be fetched.
        """
        folder = Path(self._folder.name)
        if self._local is None and wanted and self._cache and not storage.is_local(self._uri):
            self._local = self._cache.take(wanted, folder / file_name(self._uri))
        if self._local is None:
            self._local = fetch(self._uri, folder, self._job.settings.fetch)
            if self._cache and self._local.path.parent == folder:
                self._cache.keep(self._local)
        return self._local

    def content_sha256(self) -> str:
        """sha256 of its bytes.

        Raises:
            Rejection: it cannot be fetched.
        """
        fp = fetch_fp(self._uri)
        stored = self._job.units.get("fetch", fp)
        if stored is not None:
            return str(json.loads(stored)["content_sha256"])
        sha256 = self.local().content_sha256
        self._job.units.put("fetch", fp, json.dumps({"content_sha256": sha256}).encode())
        return sha256


def scratch_folder(job: FetchingJob) -> str | None:
    """Where workers keep what is not finished: on the disk of the run where that is local."""
    if not storage.is_local(job.units.root):
        return None
    folder = Path(job.units.root.removeprefix("file://")) / SCRATCH
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder)


def fetch_fp(uri: str) -> str:
    """Fingerprint of the unit that holds an address's content hash."""
    return fingerprint("fetch", uri, *file_state(uri))


def analyze_address(
    uri: str, sources: Iterable[Source], job: CurateJob, analyze: Analyze
) -> Iterator[tuple[SourceResult, bool]]:
    """(result, whether it was finished before) for every row that names this address."""
    ordered = sorted(sources, key=lambda source: (source.source_id, source.occurrence))
    with SourceMedia(uri, job) as media:
        for source in ordered:
            tombstone = job.removals.source(source)
            if tombstone is not None:  # before it is fetched
                yield SourceResult(source).removed(tombstone), True
            elif source.occurrence:
                yield SourceResult(source).duplicate("same_row", source.source_id), True
            else:
                yield analyze_source(source, media, job, analyze)


def analyze_source(source: Source, media: SourceMedia, job: CurateJob, analyze: Analyze) -> tuple[SourceResult, bool]:
    """(result, whether it was finished before) of one input."""
    sha256 = attempt("fetch", media.content_sha256)
    if isinstance(sha256, Verdict):
        return SourceResult(source).failed(sha256), False
    tombstone = job.removals.source(source, sha256)
    if tombstone is not None:
        return SourceResult(source).removed(tombstone), True
    result = SourceResult(source, content_sha256=sha256)
    stored = stored_analysis(source, sha256, job)
    outcome = stored if stored is not None else _fresh(source, media, job, analyze)
    if isinstance(outcome, Verdict):
        return result.failed(outcome), stored is not None
    return replace(result, analysis=outcome), stored is not None


def analysis_fp(source: Source, sha256: str, job: CurateJob) -> str:
    """Fingerprint of the analysis of some content within an input's bounds."""
    return job.unit("analyze", sha256, source.start_s, source.end_s)


def stored_analysis(source: Source, sha256: str, job: CurateJob) -> Analysis | Verdict | None:
    """What an earlier run found for this content, as that of this input; None where there is nothing."""
    data = job.units.get("analyze", analysis_fp(source, sha256, job))
    if data is None:
        return None
    refusal = json.loads(data).get("rejected")
    if refusal:
        return failed("analyze", refusal["reason"], refusal["detail"])
    return _bound(from_json(Analysis, data), source)


def _fresh(source: Source, media: SourceMedia, job: CurateJob, analyze: Analyze) -> Analysis | Verdict:
    """The analysis, made now and stored as a unit; so is a rejection, but not an error of ours."""
    local = attempt("fetch", media.local)
    if isinstance(local, Verdict):
        return local
    fp = analysis_fp(source, local.content_sha256, job)
    outcome = attempt("analyze", lambda: analyze(source, local, job.settings))
    if isinstance(outcome, Verdict):
        if outcome.reason not in PASSING:
            refusal = {"reason": outcome.reason, "detail": outcome.detail}
            job.units.put("analyze", fp, json.dumps({"rejected": refusal}, sort_keys=True).encode())
        return outcome
    stored = replace(outcome, clips=tuple(_without_picture(clip, job) for clip in outcome.clips))
    data = to_json(stored)  # last: where it stands, its keyframes do
    job.units.put("analyze", fp, data)
    return _bound(from_json(Analysis, data), source)


def _bound(analysis: Analysis, source: Source) -> Analysis:
    """The analysis of some content as that of this input: what its row says, its clips say."""
    return replace(analysis, source=source, clips=tuple(_clip_of(source, clip) for clip in analysis.clips))


def _clip_of(source: Source, clip: Clip) -> Clip:
    scores = {name: value for name, value in clip.scores.items() if name not in CAPTION_SCORES}
    bound = replace(
        clip, source_id=source.source_id, uri=source.uri, license=source.license, extra=source.extra, caption=None,
        scores=scores,
    )  # fmt: skip
    return with_caption(bound, Caption(source.caption, "manifest", "ok")) if source.caption else bound


def _without_picture(clip: Clip, job: CurateJob) -> Clip:
    """The clip with its pictures as units of their own, by content: clips carry none through the job."""
    if not clip.keyframe_jpeg or job.removals.clip(clip) is not None:
        return replace(clip, keyframe_jpeg=b"", stills=())
    stills = tuple(replace(still, jpeg=b"", sha256=_put_picture(still.jpeg, job)) for still in clip.stills)
    return replace(clip, keyframe_jpeg=b"", keyframe_sha256=_put_picture(clip.keyframe_jpeg, job), stills=stills)


def _put_picture(jpeg: bytes, job: CurateJob) -> str:
    sha256 = hashlib.sha256(jpeg).hexdigest()
    if not job.units.has("keyframe", sha256, ".jpg"):
        job.units.put("keyframe", sha256, jpeg, ".jpg")
    return sha256


def read_keyframe(units: Units, clip: Clip) -> bytes:
    """The clip's keyframe as JPEG; empty where it has none.

    Raises:
        FileNotFoundError: somebody has taken the unit away.
    """
    return read_picture(units, clip.keyframe_sha256) if clip.keyframe_sha256 else b""


def read_picture(units: Units, sha256: str) -> bytes:
    """A picture of a clip as JPEG.

    Raises:
        FileNotFoundError: somebody has taken the unit away.
    """
    return storage.read_bytes(units.path("keyframe", sha256, ".jpg"))


class AnalyzeSources(beam.PTransform):
    """(address, inputs) → one result per input."""

    def __init__(self, job: CurateJob):
        super().__init__()
        self._job = job

    def expand(self, addresses: PCollection) -> PCollection:
        analyzed = Abreast("analyze", partial(_analyzed, job=self._job), _counted)
        return addresses | "Analyze" >> beam.ParDo(analyzed).with_output_types(SourceResult)


def _analyzed(element: tuple[str, Iterable[Source]], job: CurateJob) -> list[tuple[SourceResult, bool]]:
    return list(analyze_address(*element, job, analyze))


def _counted(results: Iterable[tuple[SourceResult, bool]], metrics: StageMetrics) -> Iterator[SourceResult]:
    for result, reused in results:
        length_s = (result.analysis.probe.duration_s if result.analysis else None) or 0.0
        count = metrics.reused if reused else metrics.done
        count(clips=len(result.clips()), video_s=length_s)
        yield result
