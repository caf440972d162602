"""Decoding of the language model with a key-value cache: the prefix once in both directions, then token by token."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import Cache, CacheLayerMixin

from training.lm import ReelLm, TensorBatch
from training.sampling import Sampler
from training.sequences import AUDIO, MOTION, SPECIAL, VISUAL


class _StaticLayer(CacheLayerMixin):
    """Keys and values in memory set aside once; attention reads the filled part, nothing is copied as it grows."""

    def __init__(self, capacity: int):
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        batch, heads, _, width = key_states.shape
        self.keys = key_states.new_empty(batch, heads, self.capacity, width)
        self.values = value_states.new_empty(batch, heads, self.capacity, width)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None  # noqa: S101
        stop = self.length + key_states.shape[2]
        self.keys[:, :, self.length : stop] = key_states
        self.values[:, :, self.length : stop] = value_states
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


def static_cache(num_layers: int, capacity: int) -> Cache:
    """A cache for `capacity` tokens."""
    return Cache(layers=[_StaticLayer(capacity) for _ in range(num_layers)])


def choose_ids(model: ReelLm, rows_nD: Tensor, kind: int, level: int, pick: Callable[[Tensor], Tensor]) -> Tensor:
    """Global ids (n,) for hidden rows whose position takes a visual code, a motion code or an audio code of `level`."""
    if kind == VISUAL:
        return model.visual.choose(rows_nD, pick) + model.vocabulary.visual_offset
    if kind == MOTION:
        return pick(F.linear(rows_nD, model.motion.weight)) + model.vocabulary.motion_offset
    codes = pick(model.audio_logits(rows_nD, level))
    return codes + model.vocabulary.audio_offset + level * model.config.audio_codebook_size


@torch.inference_mode()
def decode(
    model: ReelLm, plan: TensorBatch, sampler: Sampler, on_token: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Fills in the output of a batch.

    Args:
        plan: sequences of one layout whose output holds special tokens, which stay, and any code where one is to be
            chosen. With guidance: the rows with prompts, then as many without.
        on_token: called with the number of output tokens that are there.

    Returns:
        (B, O) int64 global ids.
    """
    ids, start, length = plan.ids.clone(), plan.prefix_length, plan.ids.shape[1]
    kinds = model.kinds(ids[0]).tolist()
    levels = plan.places[0, :, 0].tolist()
    last_choice = max(index for index, kind in enumerate(kinds) if kind != SPECIAL)
    cache = static_cache(model.config.num_hidden_layers, length)
    hidden_BD = model.hidden(plan, start, cache)[:, -1]
    real = torch.arange(length, device=ids.device) >= plan.padding[:, None]
    padded = bool(plan.padding.any())
    output = torch.ones(1, dtype=torch.long, device=ids.device)
    for index in range(start, length):
        if kinds[index] != SPECIAL:
            level = levels[index] if kinds[index] == AUDIO else 0
            ids[:, index] = choose_ids(model, hidden_BD, kinds[index], level, sampler)
        on_token(index - start + 1)
        if index < last_choice:
            hidden_BD = model.backbone(
                inputs_embeds=model.embed(ids[:, index, None], plan.places[:, index, None], output),
                attention_mask=real[:, None, None, : index + 1] if padded else None,
                position_ids=(index - plan.padding)[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
    return ids[:, start:]


@torch.inference_mode()
def decode_without_cache(model: ReelLm, plan: TensorBatch, sampler: Sampler) -> Tensor:
    """The same as `decode`, slowly: the whole sequence is run again for every token. What tests compare with."""
    ids = plan.ids.clone()
    for index in range(plan.prefix_length, ids.shape[1]):
        kind = int(model.kinds(ids[0, index]))
        if kind == SPECIAL:
            continue
        filled = TensorBatch(ids, plan.places, plan.padding, plan.prefix_length, plan.text)
        hidden_BD = model.hidden(filled, index)[:, -1]
        level = int(plan.places[0, index, 0]) if kind == AUDIO else 0
        ids[:, index] = choose_ids(model, hidden_BD, kind, level, sampler)
    return ids[:, plan.prefix_length :]
