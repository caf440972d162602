"""The models of curation as stages: what each is shown of a clip, and what it adds to it.

    after near copies                 embedding ─ aesthetic, nsfw      early_stages
    after filters, semantic copies    caption ─ (embedding) clip_score late_stages

An embedding is a unit of its own: semantic copies, the aesthetic head and the CLIP score read it there, and it goes
through no shuffle.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_jobs.analyze import read_picture
from beam_jobs.job import CurateJob
from beam_jobs.models import Answer, Ask, ModelStage, answer_alone, answer_batch
from beam_jobs.record_json import from_json, to_json
from curation.candidates import with_caption
from curation.settings import ClipScoreSettings
from curation.stills import pictures_at
from media import storage
from schemas.records import Caption, Clip

EMBEDDING, AESTHETIC_EMBEDDING = "embedding", "aesthetic_embedding"
_VECTOR = np.dtype("<f4")


def early_stages(job: CurateJob) -> list[ModelStage]:
    """Those whose answers decide before clips are compared by meaning and captioned."""
    settings, stages = job.settings, list[ModelStage]()
    if settings.dedup.semantic is not None or (settings.aesthetic.head and not settings.aesthetic.model):
        stages.append(EmbeddingStage(job))
    if settings.aesthetic.head:
        if settings.aesthetic.model:
            stages.append(EmbeddingStage(job, AESTHETIC_EMBEDDING))
        stages.append(AestheticStage(job))
    if settings.nsfw.enabled:
        stages.append(NsfwStage(job))
    return stages


def late_stages(job: CurateJob) -> list[ModelStage]:
    """Those that only see clips which the others have left."""
    stages = list[ModelStage]()
    if job.settings.caption.model:
        stages.append(CaptionStage(job))
    if job.settings.clip_score.model:
        if not any(stage.name == EMBEDDING for stage in early_stages(job)):
            stages.append(EmbeddingStage(job, captioned_only=True))
        stages.append(ClipScoreStage(job))
    return stages


@dataclass(frozen=True)
class _Stage:
    """What most stages have in common; a model is small enough for each process unless it says otherwise."""

    job: CurateJob
    name: str = ""

    @property
    def shared(self) -> bool:
        return False

    def wants(self, clip: Clip) -> bool:
        return bool(clip.keyframe_sha256)

    def apply(self, clip: Clip, data: bytes) -> Clip:
        """With a score of the stage's name."""
        return clip.with_scores(**{self.name: float(json.loads(data))})

    def _shown(self, clip: Clip, fp: str, frames: int) -> Ask:
        return Ask(clip, fp, tuple(read_picture(self.job.units, sha) for sha in pictures_at(clip, frames)))


@dataclass(frozen=True)
class EmbeddingStage(_Stage):
    """Mean CLIP embedding of a clip's pictures, as float32; the clip stays as it is."""

    name: str = EMBEDDING
    captioned_only: bool = False  # nobody asks for it but the CLIP score

    @property
    def settings(self) -> ClipScoreSettings:
        settings = self.job.settings
        return settings.clip_score if self.name == EMBEDDING else settings.aesthetic.embedding(settings.clip_score)

    @property
    def batch_size(self) -> int:
        return max(1, self.settings.batch_size // self.settings.frames)

    @property
    def shared(self) -> bool:
        return on_gpu(self.settings.device)

    def wants(self, clip: Clip) -> bool:
        return super().wants(clip) and (not self.captioned_only or _captioned(clip))

    def parts(self, clip: Clip) -> tuple[str, ...]:
        return pictures_at(clip, self.settings.frames)

    def ask(self, clip: Clip, fp: str) -> Ask:
        return self._shown(clip, fp, self.settings.frames)

    def load(self) -> Any:
        from curation.clip_score import ClipPictures

        return ClipPictures(self.settings)

    def answer(self, model: Any, asks: Sequence[Ask]) -> list[Answer]:
        def embed(some: Sequence[Ask]) -> list[bytes]:
            return [row.astype(_VECTOR).tobytes() for row in model.embed([ask.pictures for ask in some])]

        return answer_batch(self.name, asks, embed)

    def apply(self, clip: Clip, data: bytes) -> Clip:
        return clip


def embedding_path(clip: Clip, job: CurateJob, stage: str = EMBEDDING) -> str:
    """The unit with the embedding of a clip."""
    return job.units.path(stage, job.unit(stage, *EmbeddingStage(job, stage).parts(clip)))


def read_embedding(data: bytes) -> np.ndarray:
    """(D,) float32 of a unit."""
    return np.frombuffer(data, _VECTOR)


@dataclass(frozen=True)
class AestheticStage(_Stage):
    """LAION's aesthetic head on an embedding."""

    name: str = "aesthetic"

    @property
    def batch_size(self) -> int:
        return self.job.settings.aesthetic.batch_size

    def _source(self) -> str:
        return AESTHETIC_EMBEDDING if self.job.settings.aesthetic.model else EMBEDDING

    def parts(self, clip: Clip) -> tuple[str, ...]:
        return (embedding_path(clip, self.job, self._source()).rpartition("/")[2],)

    def ask(self, clip: Clip, fp: str) -> Ask:
        return Ask(clip, fp, embedding=storage.read_bytes(embedding_path(clip, self.job, self._source())))

    def load(self) -> Any:
        from curation.aesthetic import AestheticHead

        return AestheticHead(self.job.settings.aesthetic)

    def answer(self, model: Any, asks: Sequence[Ask]) -> list[Answer]:
        return _scored(self.name, asks, lambda some: model.score([read_embedding(ask.embedding) for ask in some]))


@dataclass(frozen=True)
class NsfwStage(_Stage):
    """Adult content in the pictures."""

    name: str = "nsfw"

    @property
    def batch_size(self) -> int:
        return max(1, self.job.settings.nsfw.batch_size // self.job.settings.nsfw.frames)

    def parts(self, clip: Clip) -> tuple[str, ...]:
        return pictures_at(clip, self.job.settings.nsfw.frames)

    def ask(self, clip: Clip, fp: str) -> Ask:
        return self._shown(clip, fp, self.job.settings.nsfw.frames)

    def load(self) -> Any:
        from curation.nsfw import NsfwJudge

        return NsfwJudge(self.job.settings.nsfw)

    def answer(self, model: Any, asks: Sequence[Ask]) -> list[Answer]:
        return _scored(self.name, asks, lambda some: model.score([ask.pictures for ask in some]))


@dataclass(frozen=True)
class CaptionStage(_Stage):
    """Captions of pictures, by a model here or behind an endpoint."""

    name: str = "caption"

    @property
    def batch_size(self) -> int:
        return self.job.settings.caption.batch_size

    @property
    def shared(self) -> bool:
        return self.job.settings.caption.endpoint is None  # it has billions of weights

    def wants(self, clip: Clip) -> bool:
        return super().wants(clip) and (clip.caption is None or self.job.settings.caption.replace)

    def parts(self, clip: Clip) -> tuple[str, ...]:
        return pictures_at(clip, self.job.settings.caption.frames)

    def ask(self, clip: Clip, fp: str) -> Ask:
        return self._shown(clip, fp, self.job.settings.caption.frames)

    def load(self) -> Any:
        if self.job.settings.caption.endpoint:
            from curation.caption_endpoint import EndpointCaptioner

            return EndpointCaptioner(self.job.settings.caption)
        from curation.captions import Captioner

        return Captioner(self.job.settings.caption)

    def answer(self, model: Any, asks: Sequence[Ask]) -> list[Answer]:
        def caption(some: Sequence[Ask]) -> list[bytes]:
            return [to_json(caption) for caption in model.caption([ask.pictures for ask in some])]

        if not self.job.settings.caption.endpoint:
            return answer_batch(self.name, asks, caption)
        with ThreadPoolExecutor(self.job.settings.caption.concurrency) as pool:
            return list(pool.map(lambda ask: answer_alone(self.name, ask, caption), asks))

    def apply(self, clip: Clip, data: bytes) -> Clip:
        return with_caption(clip, from_json(Caption, data))


@dataclass(frozen=True)
class ClipScoreStage(_Stage):
    """Cosine of a clip's embedding and its caption's."""

    name: str = "clip_score"

    @property
    def batch_size(self) -> int:
        return self.job.settings.clip_score.batch_size

    @property
    def shared(self) -> bool:
        return on_gpu(self.job.settings.clip_score.device)

    def wants(self, clip: Clip) -> bool:
        return super().wants(clip) and _captioned(clip)

    def parts(self, clip: Clip) -> tuple[str, ...]:
        return (*EmbeddingStage(self.job).parts(clip), _text(clip))

    def ask(self, clip: Clip, fp: str) -> Ask:
        return Ask(clip, fp, embedding=storage.read_bytes(embedding_path(clip, self.job)))

    def load(self) -> Any:
        from curation.clip_score import ClipTexts

        return ClipTexts(self.job.settings.clip_score)

    def answer(self, model: Any, asks: Sequence[Ask]) -> list[Answer]:
        def score(some: Sequence[Ask]) -> list[float]:
            return list(model.score([(read_embedding(ask.embedding), _text(ask.clip)) for ask in some]))

        return _scored(self.name, asks, score)


def on_gpu(device: str) -> bool:
    """Whether a model goes to a GPU, of which all processes share one copy."""
    import torch  # only where a model is about to be loaded

    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def _captioned(clip: Clip) -> bool:
    return bool(_text(clip))


def _text(clip: Clip) -> str:
    return clip.caption.text if clip.caption else ""


def _scored(name: str, asks: Sequence[Ask], score: Callable[[Sequence[Ask]], list[float]]) -> list[Answer]:
    return answer_batch(name, asks, lambda some: [json.dumps(value).encode() for value in score(some)])
