"""`RunInference` model handlers around the captioner and the CLIP scorer: loaded once per process or machine."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from apache_beam.ml.inference.base import ModelHandler

from beam_jobs.metrics import StageMetrics
from beam_jobs.models import Answer, Ask, answer_batch, caption_bytes, score_bytes
from curation.captions import Blip2Captioner
from curation.clip_score import OpenClipScorer
from curation.settings import CaptionSettings, ClipScoreSettings


class CaptionHandler(ModelHandler[Ask, Answer, Blip2Captioner]):
    """BLIP-2 on batches of keyframes. One copy serves all processes of a machine: it has billions of weights."""

    def __init__(self, settings: CaptionSettings):
        size = settings.batch_size
        super().__init__(min_batch_size=size, max_batch_size=size, large_model=True)
        self._settings, self._metrics = settings, StageMetrics("caption")

    def load_model(self) -> Blip2Captioner:
        return Blip2Captioner(self._settings)

    def run_inference(
        self, batch: Sequence[Ask], model: Blip2Captioner, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Answer]:
        def captions(asks: Sequence[Ask]) -> list[bytes]:
            return [caption_bytes(caption) for caption in model.caption([ask.jpeg for ask in asks])]

        with self._metrics.busy():
            answers = answer_batch("caption", batch, captions)
        self._metrics.done(len(answers))
        return answers


class ClipScoreHandler(ModelHandler[Ask, Answer, OpenClipScorer]):
    """OpenCLIP on batches of keyframe and caption. One copy per machine on a GPU, else one per process."""

    def __init__(self, settings: ClipScoreSettings):
        size = settings.batch_size
        super().__init__(min_batch_size=size, max_batch_size=size)
        self._settings, self._metrics = settings, StageMetrics("clip_score")

    def load_model(self) -> OpenClipScorer:
        return OpenClipScorer(self._settings)

    def share_model_across_processes(self) -> bool:
        return torch.cuda.is_available() and self._settings.device != "cpu"

    def run_inference(
        self, batch: Sequence[Ask], model: OpenClipScorer, inference_args: dict[str, Any] | None = None
    ) -> Iterable[Answer]:
        def scores(asks: Sequence[Ask]) -> list[bytes]:
            pairs = [(ask.jpeg, ask.clip.caption.text if ask.clip.caption else "") for ask in asks]
            return [score_bytes(score) for score in model.score(pairs)]

        with self._metrics.busy():
            answers = answer_batch("clip_score", batch, scores)
        self._metrics.done(len(answers))
        return answers
