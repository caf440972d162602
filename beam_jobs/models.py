"""Model stages: what is finished is looked up, the rest goes through `RunInference` in batches of fixed size."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput

from beam_jobs.flow import Fork, ended
from beam_jobs.isolation import attempt, is_fatal
from beam_jobs.job import CurateJob
from beam_jobs.metrics import StageMetrics
from schemas.records import Clip, Verdict

MISSING = "missing"


@dataclass(frozen=True)
class Ask:
    """One element for a model: a clip, what the model is shown of it, and the unit that the answer becomes."""

    clip: Clip
    fp: str
    pictures: tuple[bytes, ...] = field(default=(), repr=False)  # JPEG
    embedding: bytes = field(default=b"", repr=False)  # float32


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
    def job(self) -> CurateJob: ...

    @property
    def name(self) -> str:
        """Of the stage, in units, ledger and report."""

    @property
    def batch_size(self) -> int:
        """Elements per call of `answer`."""

    @property
    def shared(self) -> bool:
        """Whether one copy of the model serves all processes of a machine."""

    def wants(self, clip: Clip) -> bool:
        """Whether the clip is one for this model."""

    def parts(self, clip: Clip) -> tuple[str, ...]:
        """What the answer is made from; part of its fingerprint."""

    def ask(self, clip: Clip, fp: str) -> Ask:
        """The clip with what the model is shown of it, read from the units."""

    def load(self) -> Any:
        """The model."""

    def answer(self, model: Any, asks: Sequence[Ask]) -> list[Answer]:
        """What the model says of each."""

    def apply(self, clip: Clip, data: bytes) -> Clip:
        """The clip with the answer in it."""


def answer_batch(stage: str, asks: Sequence[Ask], predict: Callable[[Sequence[Ask]], list[bytes]]) -> list[Answer]:
    """One answer per element. Where the batch fails, each element is asked alone, so that one cannot spoil the rest."""
    try:
        answers = predict(asks)
        return [Answer(ask.clip, ask.fp, data) for ask, data in zip(asks, answers, strict=True)]
    except Exception as error:
        if is_fatal(error):
            raise
    return [answer_alone(stage, ask, predict) for ask in asks]


def answer_alone(stage: str, ask: Ask, predict: Callable[[Sequence[Ask]], list[bytes]]) -> Answer:
    """The answer to one element; where that fails, how."""
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
            yield TaggedOutput(MISSING, self._stage.ask(clip, fp))


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
        from apache_beam.ml.inference.base import RunInference  # it imports torch, which a run without models need not

        from beam_jobs.handlers import StageHandler

        looked = clips | "LookUp" >> beam.ParDo(_LookUpFn(self._job, self._stage)).with_outputs(MISSING, main="known")
        infer: beam.PTransform = RunInference(StageHandler(self._stage))
        hints = self._job.settings.engine.hints()
        if hints:
            infer = infer.with_resource_hints(**hints)
        answers = looked[MISSING] | "Spread" >> beam.Reshuffle() | "Infer" >> infer
        stored = answers | "Store" >> beam.ParDo(_StoreFn(self._job, self._stage)).with_outputs("ended", main="alive")
        return Fork((looked["known"], stored["alive"]) | "Join" >> beam.Flatten(), stored["ended"])
