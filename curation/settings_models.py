"""Settings of the models that judge and describe clips. Nothing heavy is imported here."""

from dataclasses import dataclass
from typing import Literal

from media.bounds import check_between


@dataclass(frozen=True)
class CaptionSettings:
    """Captions of the centre keyframe by BLIP-2 (arXiv 2301.12597).

    Args:
        model: hub name or local folder of a BLIP-2 model, e.g. `Salesforce/blip2-opt-2.7b`; null takes captions from
            the manifest and its sidecars only.
        replace: whether the model also captions clips that the manifest gave a caption.
        prompt: text the model continues; empty for a plain caption.
        max_new_tokens: tokens a caption may have; a caption that reaches it is recorded as `truncated`.
        num_beams: beams of the search; 1 is greedy.
        length_penalty: above 0 favours longer captions, below 0 shorter ones.
        repetition_penalty: above 1 punishes repeated words.
        batch_size: keyframes per step of the model; part of what fixes the results.
        device: `auto` is cuda where there is one, else cpu.
        dtype: `auto` is float16 on cuda and float32 on cpu.
    """

    model: str | None = None
    replace: bool = False
    prompt: str = ""
    max_new_tokens: int = 40
    num_beams: int = 5
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    batch_size: int = 8
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        check_between("caption.max_new_tokens", self.max_new_tokens, 1, 1024)
        check_between("caption.num_beams", self.num_beams, 1, 64)
        check_between("caption.batch_size", self.batch_size, 1, 1024)
        if self.repetition_penalty <= 0:
            raise ValueError(f"caption.repetition_penalty {self.repetition_penalty} must be positive; 1 is off")
        if self.dtype not in ("auto", "float32", "float16", "bfloat16"):
            raise ValueError(f"caption.dtype {self.dtype!r} is not one of auto, float32, float16, bfloat16")


@dataclass(frozen=True)
class ClipScoreSettings:
    """Cosine of keyframe and caption by an OpenCLIP model.

    Args:
        model: OpenCLIP architecture (`ViT-B-32`), `hf-hub:NAME`, or `local-dir:FOLDER`; null takes no CLIP score.
        pretrained: OpenCLIP's weight tag (`laion2b_s34b_b79k`) or a local weight file; null with `hf-hub:` and
            `local-dir:`, which bring their own.
        batch_size: pairs per step of the model; part of what fixes the results.
        device: `auto` is cuda where there is one, else cpu.
    """

    model: str | None = None
    pretrained: str | None = None
    batch_size: int = 32
    device: str = "auto"

    def __post_init__(self) -> None:
        check_between("clip_score.batch_size", self.batch_size, 1, 4096)
        if self.model and not self.pretrained and not self.model.startswith(("hf-hub:", "local-dir:")):
            raise ValueError(
                f"clip_score.model {self.model!r} without clip_score.pretrained would have random weights; "
                "name a weight tag or file, e.g. --clip_score.pretrained laion2b_s34b_b79k"
            )
