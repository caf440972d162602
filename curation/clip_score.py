"""CLIP score: cosine of keyframe and caption (Radford et al. arXiv 2103.00020; Hessel et al. arXiv 2104.08718)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image

from curation.devices import pick_device
from curation.settings import ClipScoreSettings
from curation.weights_identity import weights_fingerprint
from media.encode import image_from_jpeg
from schemas.identity import fingerprint


def clip_score_fingerprint(settings: ClipScoreSettings) -> str:
    """Changes with the weights and with what else changes a score; loads no model."""
    model, weights = settings.model or "", settings.pretrained or ""
    if model.startswith("local-dir:"):
        weights = weights_fingerprint(model.removeprefix("local-dir:"))
        model = "local-dir"
    elif Path(weights).is_file():
        weights = weights_fingerprint(weights)
    device = pick_device(settings.device)
    return fingerprint("open_clip", model, weights, settings.batch_size, device, open_clip.__version__)


class OpenClipScorer:
    """An OpenCLIP model with its preprocessing and tokenizer.

    Raises:
        FileNotFoundError: the folder or weight file is not there, or the hub cannot be reached.
        ValueError: no such architecture or weight tag.
    """

    def __init__(self, settings: ClipScoreSettings):
        if not settings.model:
            raise ValueError("clip_score.model is not set; name an OpenCLIP model, e.g. ViT-B-32")
        self.settings = settings
        self.device = pick_device(settings.device)
        self.model, self.preprocess, self.tokenizer = _load(settings)
        self.model.to(self.device).eval()

    @property
    def fingerprint(self) -> str:
        """See `clip_score_fingerprint`."""
        return clip_score_fingerprint(self.settings)

    def score(self, pairs: Sequence[tuple[bytes, str]]) -> list[float]:
        """Cosine in [-1, 1] of each (JPEG, caption), in order; NaN where the picture cannot be decoded.

        Every step holds `batch_size` pairs, the last filled up by repeats, so that no score depends on how many
        come together.
        """
        scores = [math.nan] * len(pairs)
        decoded = [(i, image, text) for i, (data, text) in enumerate(pairs) if (image := self._image(data)) is not None]
        size = self.settings.batch_size
        for start in range(0, len(decoded), size):
            batch = decoded[start : start + size]
            filled = batch + [batch[-1]] * (size - len(batch))
            cosines = self._cosines(torch.stack([row[1] for row in filled]), [row[2] for row in filled])
            for (index, _, _), cosine in zip(batch, cosines, strict=False):
                scores[index] = cosine
        return scores

    def _image(self, data: bytes) -> torch.Tensor | None:
        try:
            return self.preprocess(Image.fromarray(image_from_jpeg(data)))
        except ValueError:
            return None

    @torch.inference_mode()
    def _cosines(self, images: torch.Tensor, texts: list[str]) -> list[float]:
        """Cosines of images (B C H W) and texts; a caption beyond the model's context is cut there."""
        image = F.normalize(self.model.encode_image(images.to(self.device)).float(), dim=-1)  # B D
        text = F.normalize(self.model.encode_text(self.tokenizer(texts).to(self.device)).float(), dim=-1)  # B D
        return (image * text).sum(-1).clamp(-1, 1).tolist()


def _load(settings: ClipScoreSettings) -> tuple[Any, Any, Any]:
    name, weights = settings.model or "", settings.pretrained
    check_model(name, weights)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=weights)
        return model, preprocess, open_clip.get_tokenizer(name)
    except (OSError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"clip_score.model {name} with pretrained {weights} cannot be loaded ({first_line}); give a weight file or "
            "a local-dir: folder where the hub cannot be reached"
        ) from error


def check_model(name: str, weights: str | None) -> None:
    """Each mistake in its own words, before OpenCLIP tries the network; no weights are loaded.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: no such architecture or weight tag.
    """
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "open_clip_config.json").is_file():
            raise FileNotFoundError(f"clip_score.model {name}: no open_clip_config.json in {folder}")
        return
    if name.startswith("hf-hub:"):
        return
    if name not in open_clip.list_models():
        raise ValueError(
            f"clip_score.model {name!r} is no OpenCLIP architecture; use one of open_clip.list_models(), "
            "such as ViT-B-32, or hf-hub:NAME or local-dir:FOLDER"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags and not Path(weights or "").is_file():
        raise ValueError(
            f"clip_score.pretrained {weights!r} is neither a weight file nor a tag of {name}; "
            f"its tags are {', '.join(tags)}"
        )
