"""Model stages: what is finished is looked up, the rest goes through `RunInference` in batches of fixed size."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_jobs.analyze import read_keyframe
from beam_jobs.flow import Fork, ended
from beam_jobs.isolation import attempt, is_fatal
from beam_jobs.job import CurateJob
from beam_jobs.metrics import StageMetrics
from beam_jobs.record_json import from_json, to_json
from curation.candidates import with_caption
from schemas.records import Caption, Clip, Verdict

if TYPE_CHECKING:  # it imports torch, which a run without models does not need
    from apache_beam.ml.inference.base import ModelHandler

MISSING = "missing"


@dataclass(frozen=True)
class Ask:
    """One element for a model: a clip, its keyframe, and the unit that the answer becomes."""

    clip: Clip
    fp: str
    jpeg: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Answer:
    """What the model said, as the unit's bytes; or how it failed for this element alone."""

    clip: Clip
    fp: str
    data: bytes | None
    failure: Verdict | None = None


class ModelStage(Protocol):
    """What one kind of model adds to a clip."""

    @property
    def name(self) -> str:
        """Of the stage, in units, ledger and report."""

    def wants(self, clip: Clip) -> bool:
        """Whether the clip is one for this model."""

    def parts(self, clip: Clip) -> tuple[str, ...]:
        """What the answer is made from; part of its fingerprint."""

    def apply(self, clip: Clip, data: bytes) -> Clip:
        """The clip with the answer in it."""

    def handler(self) -> "ModelHandler[Ask, Answer, Any]":
        """How the model is loaded and run."""


def answer_batch(stage: str, asks: Sequence[Ask], predict: Callable[[Sequence[Ask]], list[bytes]]) -> list[Answer]:
    """One answer per element. Where the batch fails, each element is asked alone, so that one cannot spoil the rest."""
    try:
        answers = predict(asks)
        return [Answer(ask.clip, ask.fp, data) for ask, data in zip(asks, answers, strict=True)]
    except Exception as error:
        if is_fatal(error):
            raise
    return [_answer_alone(stage, ask, predict) for ask in asks]


def _answer_alone(stage: str, ask: Ask, predict: Callable[[Sequence[Ask]], list[bytes]]) -> Answer:
    outcome = attempt(stage, lambda: predict([ask])[0])
    if isinstance(outcome, Verdict):
        return Answer(ask.clip, ask.fp, None, outcome)
    return Answer(ask.clip, ask.fp, outcome)


class _LookUpFn(beam.DoFn):
    """Clips that need no answer or have one go on; the others become questions."""

    def __init__(self, job: CurateJob, stage: ModelStage):
        self._job, self._stage, self._metrics = job, stage, StageMetrics(stage.name)

    def process(self, clip: Clip) -> Iterator[Any]:
        if not self._stage.wants(clip):
            yield clip
            return
        fp = self._job.unit(self._stage.name, *self._stage.parts(clip))
        stored = self._job.units.get(self._stage.name, fp)
        if stored is not None:
            self._metrics.reused()
            yield self._stage.apply(clip, stored)
        else:
            yield TaggedOutput(MISSING, Ask(clip, fp, read_keyframe(self._job.units, clip)))


class _StoreFn(beam.DoFn):
    """Answers become units, and clips go on with them or end as failed."""

    def __init__(self, job: CurateJob, stage: ModelStage):
        self._job, self._stage = job, stage

    def process(self, answer: Answer) -> Iterator[Any]:
        if answer.failure is not None or answer.data is None:
            yield ended(replace(answer.clip, verdict=answer.failure))
            return
        self._job.units.put(self._stage.name, answer.fp, answer.data)
        yield self._stage.apply(answer.clip, answer.data)


class RunModel(beam.PTransform):
    """Clips → clips with the model's answer, and those it failed on."""

    def __init__(self, job: CurateJob, stage: ModelStage):
        super().__init__()
        self._job, self._stage = job, stage

    def expand(self, clips: PCollection) -> Any:  # a Fork
        from apache_beam.ml.inference.base import RunInference

        looked = clips | "LookUp" >> beam.ParDo(_LookUpFn(self._job, self._stage)).with_outputs(MISSING, main="known")
        answers = looked[MISSING] | "Spread" >> beam.Reshuffle() | "Infer" >> RunInference(self._stage.handler())
        stored = answers | "Store" >> beam.ParDo(_StoreFn(self._job, self._stage)).with_outputs("ended", main="alive")
        return Fork((looked["known"], stored["alive"]) | "Join" >> beam.Flatten(), stored["ended"])


@dataclass(frozen=True)
class CaptionStage:
    """Captions of keyframes by BLIP-2."""

    job: CurateJob
    name: str = "caption"

    def wants(self, clip: Clip) -> bool:
        return bool(clip.keyframe_sha256) and (clip.caption is None or self.job.settings.caption.replace)

    def parts(self, clip: Clip) -> tuple[str, ...]:
        return (clip.keyframe_sha256,)

    def apply(self, clip: Clip, data: bytes) -> Clip:
        return with_caption(clip, from_json(Caption, data))

    def handler(self) -> "ModelHandler[Ask, Answer, Any]":
        from beam_jobs.handlers import CaptionHandler

        return CaptionHandler(self.job.settings.caption)


@dataclass(frozen=True)
class ClipScoreStage:
    """Cosine of keyframe and caption by OpenCLIP."""

    job: CurateJob
    name: str = "clip_score"

    def wants(self, clip: Clip) -> bool:
        return bool(clip.keyframe_sha256 and clip.caption and clip.caption.text)

    def parts(self, clip: Clip) -> tuple[str, ...]:
        return clip.keyframe_sha256, clip.caption.text if clip.caption else ""

    def apply(self, clip: Clip, data: bytes) -> Clip:
        return clip.with_scores(clip_score=float(json.loads(data)))

    def handler(self) -> "ModelHandler[Ask, Answer, Any]":
        from beam_jobs.handlers import ClipScoreHandler

        return ClipScoreHandler(self.job.settings.clip_score)


def caption_bytes(caption: Caption) -> bytes:
    """The unit of a caption."""
    return to_json(caption)


def score_bytes(score: float) -> bytes:
    """The unit of a score."""
    return json.dumps(score).encode()
