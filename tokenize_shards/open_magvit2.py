"""Open-MAGVIT2's video checkpoints (arXiv 2409.04410; the layout of its published code) as our `Magvit2`.

A published file is a Lightning checkpoint: the live weights as `encoder.…` and `decoder.…`, and their moving average,
which is the one to use, as `model_ema.` and the same name without its dots. Widths, levels, blocks, strides and bits
are read off the shapes. The reference pools its norms over time, so with `norm="clip"` (what those weights were
trained with) an image need not have the tokens of a first frame; `norm="frame"` is causal and meant for training on.
"""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tokenize_shards.base import fingerprint
from tokenize_shards.magvit2 import Magvit2, Magvit2Config

MODEL_TYPE = "open-magvit2"
_EMA = "model_ema."
_SIDES = ("encoder", "decoder")
_BLOCK = (
    ("norm1", "norm1.norm"),
    ("norm2", "norm2.norm"),
    ("conv1.conv_1", "conv1.conv"),
    ("conv2.conv_1", "conv2.conv"),
)
_AFFINE = ("weight", "bias")


def load_open_magvit2(path: Path, norm: str = "clip", name: str = "") -> Magvit2:
    """The tokenizer of a published checkpoint, in evaluation mode, on the CPU.

    Its `latents(video)` are those before the sign; `decode` clamps to [-1, 1] what `decoder(quantizer.codes(indices))`
    gives, which the reference leaves as it is.

    Args:
        path: the Lightning `.ckpt`; only tensors and plain containers are read from it, never code.
        norm: `clip` (statistics over time as well, as the weights were trained) or `frame` (causal).
        name: what shards will call it; by default the file's stem.

    Raises:
        ValueError: the file is no such checkpoint: what is missing, left over, or of another shape.
    """
    weights = _read(path)
    try:
        config = infer_config(weights, norm)
    except (KeyError, ZeroDivisionError) as error:
        raise ValueError(f"{path} is not an Open-MAGVIT2 video checkpoint: it lacks {error}") from None
    model = Magvit2(config, name=name or path.stem)
    state, unused = {}, set(weights)
    for theirs, ours in layer_names(config):
        key = _plain(theirs)
        if key not in weights:
            raise ValueError(f"{path} lacks {theirs}, which a network of {config.channels} channels needs")
        state[ours] = weights[key].float()
        unused.discard(key)
    if unused:
        raise ValueError(f"{path} has weights of layers this network does not have, for instance {min(unused)}")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} is not of the Open-MAGVIT2 video network: {error}") from error
    model.fingerprint = fingerprint({"model_type": MODEL_TYPE, "config": model.config_dict()}, path)
    return model.eval()


def _read(path: Path) -> dict[str, Tensor]:
    """Weights of encoder and decoder by dot-less name: the moving average where there is one."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise ValueError(f"{path} does not load as a checkpoint of tensors alone: {reason}") from error
    state = saved.get("state_dict", saved) if isinstance(saved, dict) else {}
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    average = {key.removeprefix(_EMA): value for key, value in tensors.items() if key.startswith(_EMA)}
    average = {key: value for key, value in average.items() if key.startswith(_SIDES)}
    live = {_plain(key): value for key, value in tensors.items() if key.startswith(_SIDES)}
    if not average and not live:
        raise ValueError(f"{path} holds no encoder.… and decoder.… weights; expected an Open-MAGVIT2 video checkpoint")
    return average or live


def _plain(name: str) -> str:
    return name.replace(".", "")


def infer_config(weights: Mapping[str, Tensor], norm: str = "clip") -> Magvit2Config:
    """The shape of the network whose weights these are (dot-less names); KeyError where one is missing."""

    def width(name: str) -> int:
        return weights[_plain(name)].shape[0]

    def count(pattern: str) -> int:
        number = 0
        while _plain(pattern.format(number)) in weights:
            number += 1
        return number

    if weights[_plain("encoder.conv_in.conv_1.weight")].dim() != 5:
        raise ValueError("this is an image checkpoint: its convolutions have no time; the video one is needed")
    channels = width("encoder.conv_in.conv_1.weight")
    levels = count("encoder.down.{}.block.0.norm1.weight")
    widths = [width(f"encoder.down.{level}.block.0.norm2.weight") for level in range(levels)]
    strides = []
    for level in range(1, levels):
        shape = weights[_plain(f"decoder.up.{level}.upsample.conv1.conv_1.weight")].shape
        strides.append((shape[0] // shape[1] // 4, 2))  # depth to space: time·2·2 times the channels
    return Magvit2Config(
        channels=channels,
        multipliers=tuple(w // channels for w in widths),
        num_res_blocks=count("encoder.down.0.block.{}.norm1.weight"),
        num_decoder_blocks=count("decoder.up.0.block.{}.norm1.weight"),
        num_mid_blocks=count("encoder.mid_block.{}.norm1.weight"),
        strides=tuple(strides),
        num_bits=width("encoder.conv_out.conv_1.weight"),
        bit_order="little",
        norm_scope=norm,
    )


def layer_names(config: Magvit2Config) -> Iterator[tuple[str, str]]:
    """Pairs of (their name, our name) of every tensor of the network."""
    yield from _encoder_names(config)
    yield from _decoder_names(config)


def _encoder_names(config: Magvit2Config) -> Iterator[tuple[str, str]]:
    yield "encoder.conv_in.conv_1.weight", "encoder.conv_in.conv.weight"
    position, before = 0, 1
    for level, multiplier in enumerate(config.multipliers):
        for block in range(config.num_res_blocks):
            ours = f"encoder.blocks.{position}"
            yield from _block_names(f"encoder.down.{level}.block.{block}", ours, before != multiplier)
            position, before = position + 1, multiplier
        if level < len(config.strides):
            yield from _both(f"encoder.down.{level}.downsample.conv_1", f"encoder.blocks.{position}.conv")
            position += 1
    for block in range(config.num_mid_blocks):
        yield from _block_names(f"encoder.mid_block.{block}", f"encoder.blocks.{position + block}", False)
    yield from _both("encoder.norm_out", "encoder.norm_out.norm")
    yield from _both("encoder.conv_out.conv_1", "encoder.conv_out")


def _decoder_names(config: Magvit2Config) -> Iterator[tuple[str, str]]:
    yield from _both("decoder.conv_in.conv_1", "decoder.conv_in.conv")
    for block in range(config.num_mid_blocks):
        yield from _block_names(f"decoder.mid_block.{block}", f"decoder.mid.{block}", False)
    top = len(config.multipliers) - 1
    before = config.multipliers[top]
    for level in range(top, -1, -1):  # theirs counts from the finest level, ours from the coarsest
        rank = top - level
        yield from _both(f"decoder.adaptive.{level}.gamma", f"decoder.adaptive.{rank}.scale")
        yield from _both(f"decoder.adaptive.{level}.beta", f"decoder.adaptive.{rank}.shift")
        for block in range(config.num_decoder_blocks or config.num_res_blocks):
            ours = f"decoder.levels.{rank}.{block}"
            yield from _block_names(f"decoder.up.{level}.block.{block}", ours, before != config.multipliers[level])
            before = config.multipliers[level]
        if level:
            yield from _both(f"decoder.up.{level}.upsample.conv1.conv_1", f"decoder.upsamples.{rank}.conv.conv")
    yield from _both("decoder.norm_out", "decoder.norm_out.norm")
    yield from _both("decoder.conv_out.conv_1", "decoder.conv_out.conv")


def _block_names(theirs: str, ours: str, widens: bool) -> Iterator[tuple[str, str]]:
    for layer, our_layer in _BLOCK:
        for field in _AFFINE if layer.startswith("norm") else ("weight",):
            yield f"{theirs}.{layer}.{field}", f"{ours}.{our_layer}.{field}"
    if widens:
        yield f"{theirs}.nin_shortcut.conv_1.weight", f"{ours}.shortcut.weight"


def _both(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    for field in _AFFINE:
        yield f"{theirs}.{field}", f"{ours}.{field}"
