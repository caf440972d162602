"""Captions of keyframes by BLIP-2 (Li et al. 2023, arXiv 2301.12597)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, Blip2ForConditionalGeneration, Blip2Processor

from curation.devices import pick_device, pick_dtype
from curation.settings import CaptionSettings
from curation.weights_identity import weights_fingerprint
from media.encode import image_from_jpeg
from schemas.identity import fingerprint
from schemas.records import Caption


def caption_fingerprint(settings: CaptionSettings) -> str:
    """Changes with the weights, the processor and every setting that changes a caption; loads no model."""
    device = pick_device(settings.device)
    search = {
        name: value for name, value in settings.__dict__.items() if name not in {"model", "device", "dtype", "replace"}
    }
    weights = weights_fingerprint(settings.model or "")
    return fingerprint("blip2", weights, search, device, str(pick_dtype(settings.dtype, device)), _library())


def _library() -> str:
    return f"transformers-{transformers.__version__}"


class Blip2Captioner:
    """A BLIP-2 model with its processor, prompt and generation settings.

    Args:
        settings: model (a local folder or a hub name), prompt, search, device and precision.

    Raises:
        FileNotFoundError: the folder is not there, or the hub has no such model or cannot be reached.
        ValueError: no model is named, or what the folder holds is not a BLIP-2 model.
    """

    def __init__(self, settings: CaptionSettings):
        if not settings.model:
            raise ValueError("caption.model is not set; name a BLIP-2 model, e.g. Salesforce/blip2-opt-2.7b")
        self.settings = settings
        self.name = Path(settings.model).name if Path(settings.model).is_dir() else settings.model
        self.device = pick_device(settings.device)
        self.dtype = pick_dtype(settings.dtype, self.device)
        self.processor, self.model = _load(settings.model, self.dtype)
        self.model.to(self.device).eval()
        self._ends = _end_tokens(self.model)

    @property
    def fingerprint(self) -> str:
        """See `caption_fingerprint`."""
        return caption_fingerprint(self.settings)

    def caption(self, images: Sequence[bytes]) -> list[Caption]:
        """One caption for each JPEG, in order; a picture that cannot be decoded has outcome `failed`.

        Every step holds `batch_size` pictures, the last filled up by repeats, so that neither a caption nor the
        memory depends on how many come together.
        """
        captions = [Caption("", self.name, "failed")] * len(images)
        decoded = [(index, picture) for index, data in enumerate(images) if (picture := _picture(data)) is not None]
        size = self.settings.batch_size
        for start in range(0, len(decoded), size):
            batch = decoded[start : start + size]
            filled = [picture for _, picture in batch] + [batch[-1][1]] * (size - len(batch))
            for (index, _), caption in zip(batch, self._generate(filled), strict=False):
                captions[index] = caption
        return captions

    @torch.inference_mode()
    def _generate(self, pictures: list[np.ndarray]) -> list[Caption]:
        """Captions of pictures (H W 3) uint8 of any sizes."""
        settings = self.settings
        inputs = self.processor(images=pictures, text=[settings.prompt] * len(pictures), return_tensors="pt")
        inputs = inputs.to(self.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        tokens = self.model.generate(
            **inputs,
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.num_beams,
            do_sample=False,
            length_penalty=settings.length_penalty,
            repetition_penalty=settings.repetition_penalty,
        )
        # A decoder-only language model repeats the prompt; an encoder-decoder begins with its start token.
        decoder_only = self.model.config.use_decoder_only_language_model
        begin = inputs["input_ids"].shape[1] if decoder_only else 1
        return [self._as_caption(row) for row in tokens[:, begin:].cpu()]

    def _as_caption(self, new_tokens: torch.Tensor) -> Caption:
        text = " ".join(self.processor.tokenizer.decode(new_tokens, skip_special_tokens=True).split())
        finished = any(token in self._ends for token in new_tokens.tolist())
        finished = finished or len(new_tokens) < self.settings.max_new_tokens
        return Caption(text, self.name, "empty" if not text else "ok" if finished else "truncated")


def check_model(name: str) -> None:
    """Every way in which a name can be wrong has its own message; no weights are loaded.

    Raises:
        FileNotFoundError: the folder is not there, or the hub does not have the model or cannot be reached.
        ValueError: it is something else than a BLIP-2 model.
    """
    folder = Path(name)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"caption.model {name} is a folder without config.json; name the folder save_pretrained wrote")
    if not folder.exists() and name.count("/") != 1:
        raise FileNotFoundError(f"caption.model {name} is neither a folder nor a hub name OWNER/MODEL")
    try:
        config = AutoConfig.from_pretrained(name)
    except OSError as error:
        raise _not_loadable(name, error) from error
    if config.model_type != "blip-2":
        raise ValueError(
            f"caption.model {name} is a {config.model_type} model; a BLIP-2 model is needed, "
            "e.g. Salesforce/blip2-opt-2.7b"
        )


def _load(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Processor and model."""
    check_model(name)
    try:
        processor = Blip2Processor.from_pretrained(name)
        model = Blip2ForConditionalGeneration.from_pretrained(name, dtype=dtype, use_safetensors=True)
    except OSError as error:
        raise _not_loadable(name, error) from error
    return processor, model


def _not_loadable(name: str, error: OSError) -> FileNotFoundError:
    return FileNotFoundError(
        f"caption.model {name} cannot be loaded ({str(error).splitlines()[0]}); give a local folder made by "
        "save_pretrained, or a hub name where the hub can be reached"
    )


def _end_tokens(model: Any) -> frozenset[int]:
    """Tokens that only come when a caption is finished: end of text, and the padding after it."""
    found: set[int] = set()
    for value in (model.language_model.generation_config.eos_token_id, model.generation_config.eos_token_id):
        if value is not None:
            found |= {value} if isinstance(value, int) else set(value)
    pad = model.language_model.generation_config.pad_token_id
    return frozenset(found if pad is None else {*found, pad})


def _picture(data: bytes) -> np.ndarray | None:
    try:
        return image_from_jpeg(data).copy()  # the processor wants a writable picture
    except ValueError:
        return None
