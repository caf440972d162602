"""Kept clips get media of their own: sources are opened once, finished cuts are taken from the units."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.abreast import Abreast
from beam_jobs.analyze import SourceMedia, read_keyframe, scratch_folder
from beam_jobs.flow import Fork, KeptClip, ended, kept
from beam_jobs.isolation import attempt
from beam_jobs.job import CurateJob
from beam_jobs.media_calls import cut_clips
from beam_jobs.metrics import StageMetrics
from beam_jobs.record_json import from_json, to_json
from schemas.records import Clip, CutClip, Verdict, clip_sidecar, failed
from schemas.states import Rejection

Cut = CutClip | Verdict


def cut_fp(clip: Clip, job: CurateJob) -> str:
    """Fingerprint of a clip's media: bytes of the source, exact span, what is cropped, encoder."""
    cropped = clip.crop if job.settings.clips.crop_letterbox else None
    return job.unit("cut", clip.content_sha256, clip.span, *([cropped] if cropped else []))


def cut_address(uri: str, clips: Iterable[Clip], job: CurateJob) -> Iterator[tuple[Clip, Cut, bool]]:
    """(clip, its media or why there is none, whether it was finished before) for all kept clips of an address."""
    ordered = sorted(clips, key=lambda clip: (clip.content_sha256, clip.span.start, clip.span.end))
    waiting = []
    for clip in ordered:
        stored = job.units.get("cut", cut_fp(clip, job))
        if stored is None:
            waiting.append(clip)
        else:
            yield clip, from_json(CutClip, stored), True
    if waiting:
        with SourceMedia(uri, job) as media:
            yield from ((clip, cut, False) for clip, cut in _cut_fresh(media, waiting, job))


def _cut_fresh(media: SourceMedia, clips: Sequence[Clip], job: CurateJob) -> Iterator[tuple[Clip, Cut]]:
    """Cuts what is not there yet, from one source."""
    local = attempt("cut", lambda: _unchanged(media, clips[0].content_sha256))
    if isinstance(local, Verdict):
        yield from ((clip, local) for clip in clips)
        return
    with tempfile.TemporaryDirectory(prefix="reelmill-cut-", dir=scratch_folder(job)) as folder:
        for clip, cut in zip(clips, _cut_all(local, clips, folder, job), strict=True):
            yield clip, _stored(clip, cut, job) if isinstance(cut, CutClip) else cut


def _unchanged(media: SourceMedia, sha256: str) -> str:
    """The local path of the media.

    Raises:
        Rejection: it cannot be fetched, or it is not what was analysed.
    """
    if media.local(sha256).content_sha256 != sha256:
        raise Rejection("source_changed", "the file is not the one that was analysed; run again to analyse it anew")
    return str(media.local().path)


def _cut_all(path: str, clips: Sequence[Clip], folder: str, job: CurateJob) -> list[Cut]:
    """The media of each clip in turn; where the whole pass breaks, each clip is cut alone."""

    def run(some: Sequence[Clip]) -> list[CutClip | Rejection]:
        return cut_clips(path, some, folder, job.settings)

    outcome = attempt("cut", lambda: run(clips))
    if isinstance(outcome, Verdict):
        outcomes = [attempt("cut", lambda clip=clip: run([clip])[0]) for clip in clips]  # type: ignore[misc]
    else:
        outcomes = list(outcome)
    return [failed("cut", cut.reason, cut.detail) if isinstance(cut, Rejection) else cut for cut in outcomes]


def _stored(clip: Clip, cut: CutClip, job: CurateJob) -> CutClip:
    """The media moved into the units; the record goes last and says that it is whole."""
    fp = cut_fp(clip, job)
    job.units.put_file("cut", fp, Path(cut.path), ".mp4")
    record = replace(cut, clip_id=clip.clip_id, path="")
    job.units.put("cut", fp, to_json(record))
    return record


def read_media(job: CurateJob, fp: str) -> bytes:
    """The media of a cut clip."""
    data = job.units.get("cut", fp, ".mp4")
    if data is None:
        raise FileNotFoundError(f"cut {fp} has no media in {job.units.root}; remove that folder and run again")
    return data


class CutKept(beam.PTransform):
    """Clips that passed everything → kept clips with their media, and those that could not be cut."""

    def __init__(self, job: CurateJob):
        super().__init__()
        self._job = job

    def expand(self, clips: PCollection) -> Any:  # a Fork
        cut = Abreast("cut", partial(_cut, job=self._job), partial(_counted, job=self._job))
        outputs = (
            clips
            | "ByAddress" >> beam.Map(lambda clip: (clip.uri, clip)).with_output_types(tuple[str, Clip])
            | "Spread" >> beam.GroupByKey()
            | "Cut" >> beam.ParDo(cut).with_outputs("ended", main="alive")
        )
        return Fork(outputs["alive"], outputs["ended"])


def _cut(element: tuple[str, Iterable[Clip]], job: CurateJob) -> list[tuple[Clip, Cut, bool]]:
    return list(cut_address(*element, job))


def _counted(outcomes: Iterable[tuple[Clip, Cut, bool]], metrics: StageMetrics, job: CurateJob) -> Iterator[Any]:
    for clip, cut, reused in outcomes:
        count = metrics.reused if reused else metrics.done
        count(video_s=clip.span.duration_s)
        yield ended(clip.with_verdict(cut)) if isinstance(cut, Verdict) else _finished(clip, cut, job)


def _finished(clip: Clip, cut: CutClip, job: CurateJob) -> KeptClip:
    clip = kept(clip)
    keyframe = read_keyframe(job.units, clip)
    return KeptClip(clip, cut, cut_fp(clip, job), len(keyframe), clip_sidecar(clip, cut))


def kept_by_reference(clip: Clip) -> KeptClip:
    """A kept clip of a run that writes spans only."""
    return KeptClip(kept(clip))


def sidecar_json(sidecar: bytes) -> dict[str, Any]:
    """What a clip's `KEY.json` says."""
    return dict(json.loads(sidecar))
