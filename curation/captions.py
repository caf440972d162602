"""Captions of pictures by a model that runs here: BLIP-2 (Li et al. 2023, arXiv 2301.12597), or any of transformers'
image-text-to-text models. No code that a model brings with it is run."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from curation.devices import pick_device, pick_dtype
from curation.settings_models import QUESTION, CaptionSettings
from media.encode import image_from_jpeg
from schemas.records import Caption


class Captioner:
    """A model with its processor, prompt and generation settings.

    Args:
        settings: model (a local folder or a hub name), prompt, search, device and precision.

    Raises:
        FileNotFoundError: the folder is not there, or the hub has no such model or cannot be reached.
        ValueError: no model is named, or it is none that writes text about pictures.
    """

    def __init__(self, settings: CaptionSettings):
        if not settings.model:
            raise ValueError("caption.model is not set; name a model, e.g. Salesforce/blip2-opt-2.7b")
        self.settings = settings
        self.name = Path(settings.model).name if Path(settings.model).is_dir() else settings.model
        self.device = pick_device(settings.device)
        self.dtype = pick_dtype(settings.dtype, self.device)
        self.processor, self.model = _load(settings.model, self.dtype)
        self.model.to(self.device).eval()
        self._ends = _end_tokens(self.model)
        self._chats = getattr(self.processor, "chat_template", None) is not None

    def caption(self, clips: Sequence[Sequence[bytes]]) -> list[Caption]:
        """The caption of each clip, in order, from its pictures (JPEG); outcome `failed` where none can be decoded.

        A chat model sees all pictures of a clip at once; of another the caption that is most like those of the clip's
        other pictures is taken. Every step of the model holds `batch_size` elements of one shape, the last filled up by
        repeats, so that neither a caption nor the memory depends on how many come together.
        """
        decoded = [tuple(image for jpeg in jpegs if (image := _picture(jpeg)) is not None) for jpegs in clips]
        if self._chats:
            found = self._in_batches(decoded, by_size=True)
            return [caption or self._failed() for caption in found]
        single = iter(self._in_batches([(image,) for images in decoded for image in images], by_size=False))
        return [consensus([next(single) or self._failed() for _ in images]) or self._failed() for images in decoded]

    def _in_batches(self, elements: Sequence[tuple[np.ndarray, ...]], by_size: bool) -> list[Caption | None]:
        """A caption for each element that has pictures.

        Args:
            by_size: only elements with pictures of equal sizes come together: theirs are prompts of equal length, which
                need no padding.
        """
        groups: dict[Any, list[int]] = defaultdict(list)
        for index, images in enumerate(elements):
            if images:
                groups[tuple(image.shape for image in images) if by_size else None].append(index)
        found: list[Caption | None] = [None] * len(elements)
        size = self.settings.batch_size
        for indices in groups.values():
            for start in range(0, len(indices), size):
                batch = indices[start : start + size]
                filled = batch + [batch[-1]] * (size - len(batch))
                captions = self._generate([elements[index] for index in filled])
                for index, caption in zip(batch, captions, strict=False):
                    found[index] = caption
        return found

    @torch.inference_mode()
    def _generate(self, elements: list[tuple[np.ndarray, ...]]) -> list[Caption]:
        """Captions of as many elements as a batch has."""
        settings = self.settings
        inputs = self._chat_inputs(elements) if self._chats else self._plain_inputs(elements)
        placed = {name: value.to(self.device) for name, value in inputs.items() if torch.is_tensor(value)}
        placed = {n: value.to(self.dtype) if value.is_floating_point() else value for n, value in placed.items()}
        tokens = self.model.generate(
            **placed,
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.num_beams,
            do_sample=False,
            length_penalty=settings.length_penalty,
            repetition_penalty=settings.repetition_penalty,
        )
        begin = self._first_new(tokens, placed.get("input_ids"))
        return [self._as_caption(row) for row in tokens[:, begin:].cpu()]

    def _plain_inputs(self, elements: list[tuple[np.ndarray, ...]]) -> Any:
        images, prompt = [images[0] for images in elements], self.settings.prompt
        if prompt or getattr(self.processor, "image_token", None) is not None:  # the text has a place for the picture
            return self.processor(images=images, text=[prompt] * len(images), return_tensors="pt", padding=True)
        return self.processor(images=images, return_tensors="pt")

    def _chat_inputs(self, elements: list[tuple[np.ndarray, ...]]) -> Any:
        question = {"type": "text", "text": self.settings.prompt or QUESTION}
        conversations = [
            [{"role": "user", "content": [*({"type": "image", "image": image} for image in images), question]}]
            for images in elements
        ]
        return self.processor.apply_chat_template(
            conversations, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )

    def _first_new(self, tokens: torch.Tensor, prompt: torch.Tensor | None) -> int:
        """Position of the first token that is no repeat of the prompt and no start token of a decoder."""
        if prompt is not None and torch.equal(tokens[:, : prompt.shape[1]], prompt):
            return prompt.shape[1]
        config = self.model.config
        decoder_only = getattr(config, "use_decoder_only_language_model", not config.is_encoder_decoder)
        return 0 if decoder_only else 1

    def _as_caption(self, new_tokens: torch.Tensor) -> Caption:
        text = " ".join(self.processor.tokenizer.decode(new_tokens, skip_special_tokens=True).split())
        if not self._chats:
            text = text.removeprefix(" ".join(self.settings.prompt.split())).strip()  # some repeat it as words
        finished = any(token in self._ends for token in new_tokens.tolist())
        finished = finished or len(new_tokens) < self.settings.max_new_tokens
        return Caption(text, self.name, "empty" if not text else "ok" if finished else "truncated")

    def _failed(self) -> Caption:
        return Caption("", self.name, "failed")


def consensus(captions: Sequence[Caption]) -> Caption | None:
    """The caption that shares most words with the others; among equals the one nearest the middle, then the earlier."""
    telling = [caption for caption in captions if caption.text] or list(captions)
    words = [set(caption.text.lower().split()) for caption in telling]

    def rank(index: int) -> tuple[float, float, int]:
        likeness = sum(len(words[index] & other) / max(len(words[index] | other), 1) for other in words)
        return -round(likeness, 9), abs(index - (len(words) - 1) / 2), index

    return telling[min(range(len(telling)), key=rank)] if telling else None


def check_model(name: str) -> None:
    """Every way in which a name can be wrong has its own message; no weights are loaded.

    Raises:
        FileNotFoundError: the folder is not there, or the hub does not have the model or cannot be reached.
        ValueError: it is a model that does not write text about pictures.
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
    if config.model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ValueError(
            f"caption.model {name} is a {config.model_type} model, none of transformers' image-text-to-text models; "
            "use one such as Salesforce/blip2-opt-2.7b"
        )


def _load(name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Processor and model."""
    check_model(name)
    try:
        processor = AutoProcessor.from_pretrained(name)
        model = AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, use_safetensors=True)
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
    for part in (model, getattr(model, "language_model", None), getattr(model, "text_decoder", None)):
        generation = getattr(part, "generation_config", None)
        for name in ("eos_token_id", "pad_token_id") if generation is not None else ():
            value = getattr(generation, name)
            found |= set(value) if isinstance(value, list) else set() if value is None else {value}
    return frozenset(found)


def _picture(data: bytes) -> np.ndarray | None:
    try:
        return image_from_jpeg(data).copy()  # the processor wants a writable picture
    except ValueError:
        return None
