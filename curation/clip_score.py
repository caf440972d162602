"""CLIP embeddings of a clip's pictures, and their cosine with the caption's.

Radford et al. 2021, arXiv 2103.00020; the score as in Hessel et al. 2021, arXiv 2104.08718, without their scaling.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image

from curation.devices import device_kind, pick_device
from curation.settings_models import ClipScoreSettings
from curation.weights_identity import weights_fingerprint
from media.encode import image_from_jpeg
from schemas.identity import fingerprint
from schemas.states import Rejection


def clip_model_fingerprint(settings: ClipScoreSettings) -> str:
    """Changes with the weights and with what else changes an embedding; loads no model."""
    model, weights = settings.model or "", settings.pretrained or ""
    if model.startswith("local-dir:"):
        weights = weights_fingerprint(model.removeprefix("local-dir:"))
        model = "local-dir"
    elif Path(weights).is_file():
        weights = weights_fingerprint(weights)
    device = device_kind(settings.device)
    return fingerprint("open_clip", model, weights, settings.batch_size, device, open_clip.__version__)


class ClipPictures:
    """The picture tower of an OpenCLIP model with its preprocessing.

    Raises:
        FileNotFoundError: the folder or weight file is not there, or the hub cannot be reached.
        ValueError: no such architecture or weight tag.
    """

    def __init__(self, settings: ClipScoreSettings):
        self._size = settings.batch_size
        self._device = pick_device(settings.device)
        model, self._preprocess, _ = _load(settings)
        for part in ("text", "transformer", "token_embedding"):  # half of the weights, and not this half's
            if hasattr(model, part):
                setattr(model, part, None)
        self._model = model.to(self._device).eval()

    def embed(self, clips: Sequence[Sequence[bytes]]) -> np.ndarray:
        """(clips, D) float32 of norm 1: the mean of the embeddings of each clip's pictures (JPEG).

        Every step of the model holds `batch_size` pictures, the last filled up by repeats, so that no embedding depends
        on how many come together.

        Raises:
            Rejection: `unreadable_picture`.
        """
        images = [self._image(jpeg) for pictures in clips for jpeg in pictures]
        rows = [F.normalize(self._encode(batch), dim=-1)[:count] for batch, count in _filled(images, self._size)]
        parts = torch.cat(rows).split([len(pictures) for pictures in clips])
        return F.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1).numpy()

    @torch.inference_mode()
    def _encode(self, images: list[torch.Tensor]) -> torch.Tensor:
        """(B, D) of images (C H W)."""
        return self._model.encode_image(torch.stack(images).to(self._device)).float().cpu()

    def _image(self, jpeg: bytes) -> torch.Tensor:
        try:
            return self._preprocess(Image.fromarray(image_from_jpeg(jpeg)))
        except ValueError as error:
            raise Rejection("unreadable_picture", str(error)) from error


class ClipTexts:
    """The text tower of an OpenCLIP model with its tokenizer.

    Raises:
        FileNotFoundError, ValueError: as of `ClipPictures`.
    """

    def __init__(self, settings: ClipScoreSettings):
        self._size = settings.batch_size
        self._device = pick_device(settings.device)
        model, _, self._tokenizer = _load(settings)
        model.visual = None
        self._model = model.to(self._device).eval()

    def score(self, pairs: Sequence[tuple[np.ndarray, str]]) -> list[float]:
        """Cosine in [-1, 1] of each (embedding, caption); a caption beyond the model's context is cut there."""
        texts = [text for _, text in pairs]
        rows = [F.normalize(self._encode(batch), dim=-1)[:count] for batch, count in _filled(texts, self._size)]
        if not rows:
            return []
        pictures = torch.from_numpy(np.stack([embedding for embedding, _ in pairs]))
        return [float(value) for value in (pictures * torch.cat(rows)).sum(-1).clamp(-1, 1)]

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> torch.Tensor:
        """(B, D) of captions."""
        return self._model.encode_text(self._tokenizer(texts).to(self._device)).float().cpu()


def _filled(items: Sequence[Any], size: int) -> Iterator[tuple[list[Any], int]]:
    """Batches of one size, the last filled up by repeats; with how many of each count."""
    for start in range(0, len(items), size):
        batch = list(items[start : start + size])
        yield batch + [batch[-1]] * (size - len(batch)), len(batch)


def _load(settings: ClipScoreSettings) -> tuple[Any, Any, Any]:
    """Model, preprocessing of pictures, tokenizer."""
    name, weights = settings.model or "", settings.pretrained
    check_model(name, weights)
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=weights)
        return model, preprocess, open_clip.get_tokenizer(name)
    except (OSError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"CLIP model {name} with pretrained {weights} cannot be loaded ({first_line}); give a weight file or a "
            "local-dir: folder where the hub cannot be reached"
        ) from error


def embedding_size(name: str) -> int | None:
    """Numbers in an embedding of the model; None where its configuration is not at hand."""
    if name.startswith("local-dir:"):
        config = json.loads((Path(name.removeprefix("local-dir:")) / "open_clip_config.json").read_text())
        return int(config["model_cfg"]["embed_dim"])
    return None if name.startswith("hf-hub:") else int(open_clip.get_model_config(name)["embed_dim"])


def check_model(name: str, weights: str | None) -> None:
    """Each mistake in its own words, before OpenCLIP tries the network; no weights are loaded.

    Raises:
        FileNotFoundError: the folder is not there.
        ValueError: no such architecture or weight tag.
    """
    if not name:
        raise ValueError("clip_score.model is not set; name an OpenCLIP model, e.g. ViT-B-32")
    if name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        if not (folder / "open_clip_config.json").is_file():
            raise FileNotFoundError(f"CLIP model {name}: no open_clip_config.json in {folder}")
        return
    if name.startswith("hf-hub:"):
        return
    if name not in open_clip.list_models():
        raise ValueError(
            f"{name!r} is no OpenCLIP architecture; use one of open_clip.list_models(), "
            "such as ViT-B-32, or hf-hub:NAME or local-dir:FOLDER"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights not in tags and not Path(weights or "").is_file():
        raise ValueError(
            f"{weights!r} is neither a weight file nor a tag of the CLIP model {name}; its tags are {', '.join(tags)}"
        )
