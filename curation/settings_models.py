"""Settings of the models that judge and describe clips. Nothing heavy is imported here."""

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from media.bounds import check_between

MAX_FRAMES = 16
QUESTION = "Describe in one sentence what happens in this video."
"""What a model is asked that wants a question, where no prompt is set."""
EXTRA = "the extra `judges`: pip install 'reelmill[judges]'"


@dataclass(frozen=True)
class CaptionSettings:
    """Captions of keyframes by an image-to-text model, here or behind an endpoint.

    Args:
        model: hub name or local folder of an image-text-to-text model of transformers, e.g. `Salesforce/blip2-opt-2.7b`
            (arXiv 2301.12597); with `endpoint`, the name it goes by there. null takes captions from the manifest and
            its sidecars only.
        endpoint: address of an OpenAI-compatible server, e.g. `http://localhost:8000/v1`; null runs the model here.
        key_variable: environment variable that holds the endpoint's key; it is read where it is used and written
            nowhere. Where it is not set, no key is sent.
        concurrency: requests to the endpoint at a time, from each worker process.
        timeout_s: seconds one request may take.
        retries: attempts after the first, with back-off, where the endpoint is busy or cannot be reached.
        max_side: longer side in pixels of the pictures that are sent to an endpoint.
        replace: whether the model also captions clips that the manifest gave a caption.
        frames: pictures of a clip that the model sees, at the middles of as many equal parts; 1 is the centre. A model
            that takes one picture captions each, and the caption most like the others is taken. 1–16.
        prompt: text the model continues, or, of a chat model, the question; empty for a plain caption.
        max_new_tokens: tokens a caption may have; a caption that reaches it is recorded as `truncated`.
        num_beams: beams of the search; 1 is greedy.
        length_penalty: above 0 favours longer captions, below 0 shorter ones.
        repetition_penalty: above 1 punishes repeated words.
        batch_size: keyframes per step of the model; part of what fixes the results.
        device: `auto` is cuda where there is one, else cpu.
        dtype: `auto` is float16 on cuda and float32 on cpu.
    """

    model: str | None = None
    endpoint: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int = 4
    timeout_s: float = 120.0
    retries: int = 5
    max_side: int = 768
    replace: bool = False
    frames: int = 1
    prompt: str = ""
    max_new_tokens: int = 40
    num_beams: int = 5
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    batch_size: int = 8
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        check_between("caption.frames", self.frames, 1, MAX_FRAMES)
        check_between("caption.concurrency", self.concurrency, 1, 256)
        check_between("caption.timeout_s", self.timeout_s, 0.1, 3600)
        check_between("caption.retries", self.retries, 0, 100)
        check_between("caption.max_side", self.max_side, 32, 8192)
        check_between("caption.max_new_tokens", self.max_new_tokens, 1, 4096)
        check_between("caption.num_beams", self.num_beams, 1, 64)
        check_between("caption.batch_size", self.batch_size, 1, 1024)
        if self.repetition_penalty <= 0:
            raise ValueError(f"caption.repetition_penalty {self.repetition_penalty} must be positive; 1 is off")
        if self.dtype not in ("auto", "float32", "float16", "bfloat16"):
            raise ValueError(f"caption.dtype {self.dtype!r} is not one of auto, float32, float16, bfloat16")
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)

    def _check_endpoint(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"caption.endpoint {endpoint!r} is no http(s) address, such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError(
                "caption.endpoint holds a user, a password or a query; give the key in the environment variable that "
                f"caption.key_variable names ({self.key_variable})"
            )
        if not self.model:
            raise ValueError("caption.endpoint is set without caption.model; name the model as the endpoint knows it")


@dataclass(frozen=True)
class ClipScoreSettings:
    """An OpenCLIP model: its picture embedding, and the cosine of that and the caption's.

    Args:
        model: OpenCLIP architecture (`ViT-B-32`), `hf-hub:NAME`, or `local-dir:FOLDER`; null takes no CLIP score.
        pretrained: OpenCLIP's weight tag (`laion2b_s34b_b79k`) or a local weight file; null with `hf-hub:` and
            `local-dir:`, which bring their own.
        frames: pictures of a clip whose mean embedding stands for it, at the middles of as many equal parts; 1 is the
            centre. 1–16.
        batch_size: pictures or captions per step of the model; part of what fixes the results.
        device: `auto` is cuda where there is one, else cpu.
    """

    model: str | None = None
    pretrained: str | None = None
    frames: int = 1
    batch_size: int = 32
    device: str = "auto"

    def __post_init__(self) -> None:
        check_clip_model("clip_score", self.model, self.pretrained)
        check_between("clip_score.frames", self.frames, 1, MAX_FRAMES)
        check_between("clip_score.batch_size", self.batch_size, 1, 4096)


@dataclass(frozen=True)
class AestheticSettings:
    """LAION's aesthetic score: a small head on the embedding of a CLIP model, for which it was trained.

    Args:
        head: weights of the head, a linear layer or LAION's `layers.N` stack, as safetensors or as a state dict (.pth):
            a local file, or `OWNER/NAME/FILE` on the hub. null takes no aesthetic score.
        model: OpenCLIP architecture of the embedding, e.g. `ViT-L-14`; null takes that of `clip_score`.
        pretrained: as `clip_score.pretrained`, e.g. `openai`.
        frames: as `clip_score.frames`, with a model of its own. 1–16.
        batch_size: pictures per step of the model; part of what fixes the results.
        device: `auto` is cuda where there is one, else cpu.
    """

    head: str | None = None
    model: str | None = None
    pretrained: str | None = None
    frames: int = 1
    batch_size: int = 32
    device: str = "auto"

    def __post_init__(self) -> None:
        check_clip_model("aesthetic", self.model, self.pretrained)
        check_between("aesthetic.frames", self.frames, 1, MAX_FRAMES)
        check_between("aesthetic.batch_size", self.batch_size, 1, 4096)

    def embedding(self, shared: ClipScoreSettings) -> ClipScoreSettings:
        """The model whose embedding the head judges."""
        if self.model is None:
            return shared
        return ClipScoreSettings(self.model, self.pretrained, self.frames, self.batch_size, self.device)


@dataclass(frozen=True)
class NsfwSettings:
    """Probability of adult content by Yahoo's open_nsfw; its weights come with the extra `judges`. It runs on the CPU.

    Args:
        enabled: whether the score is taken.
        frames: pictures of a clip that are judged, at the middles of as many equal parts; the worst one counts. 1–16.
        batch_size: pictures per step; part of what fixes the results.
    """

    enabled: bool = False
    frames: int = 1
    batch_size: int = 8

    def __post_init__(self) -> None:
        check_between("nsfw.frames", self.frames, 1, MAX_FRAMES)
        check_between("nsfw.batch_size", self.batch_size, 1, 1024)


@dataclass(frozen=True)
class TextSettings:
    """Text that stays in one place of the picture; the detector's weights come with the extra `judges`.

    Args:
        enabled: whether the score `text_area` is taken, and counted as evidence in `watermark`. It runs on the CPU, on
            clips that are long enough.
        model: ONNX file of another text detector of the same kind (differentiable binarization); null is PP-OCR's.
        frames: pictures of a clip, at the middles of as many equal parts, in all of which the text must be. 1–16.
        max_side: longer side in pixels at which pictures are looked at; smaller ones are enlarged. 64–2048.
    """

    enabled: bool = False
    model: str | None = None
    frames: int = 2
    max_side: int = 480

    def __post_init__(self) -> None:
        check_between("text.frames", self.frames, 1, MAX_FRAMES)
        check_between("text.max_side", self.max_side, 64, 2048)


@dataclass(frozen=True)
class SpeechSettings:
    """Share of a clip with speech by Silero VAD; its weights come with the extra `judges`. It runs on the CPU.

    Args:
        enabled: whether the score is taken, during the one decode.
        threshold: probability from which 32 ms of sound count as speech, in (0, 1).
    """

    enabled: bool = False
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_between("speech.threshold", self.threshold, 0.01, 0.99)


def check_clip_model(group: str, model: str | None, pretrained: str | None) -> None:
    """Refuses a CLIP model whose weights nobody has named.

    Raises:
        ValueError: the architecture stands without weights.
    """
    if model and not pretrained and not model.startswith(("hf-hub:", "local-dir:")):
        raise ValueError(
            f"{group}.model {model!r} without {group}.pretrained would have random weights; "
            f"name a weight tag or file, e.g. --{group}.pretrained laion2b_s34b_b79k"
        )
