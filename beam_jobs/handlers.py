"""The `RunInference` model handler around a stage: its model is loaded once per process or machine."""

from collections.abc import Iterable, Sequence
from typing import Any

from apache_beam.ml.inference.base import ModelHandler

from beam_jobs.metrics import StageMetrics
from beam_jobs.models import Answer, Ask, ModelStage


class StageHandler(ModelHandler[Ask, Answer, Any]):
    """Batches of a stage's elements to its model."""

    def __init__(self, stage: ModelStage):
        super().__init__(min_batch_size=stage.batch_size, max_batch_size=stage.batch_size)
        self._stage, self._metrics = stage, StageMetrics(stage.name)

    def load_model(self) -> Any:
        return self._stage.load()

    def share_model_across_processes(self) -> bool:
        return self._stage.shared

    def run_inference(
        self, batch: Sequence[Ask], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Answer]:
        with self._metrics.busy():
            answers = self._stage.answer(model, batch)
        self._metrics.done(len(answers))
        return answers
