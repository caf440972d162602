"""The protocols every tokenizer answers to, and the legend of shapes.

Shapes, here and in every tensor function of `tokenize_shards` and `training`:

    B  batch            T  frames (video) or samples (audio) in     Q  residual codebooks
    C  channels         H W  pixels, height first                   S  sequence length
    t h w  token grid   T' audio codes out                          V  vocabulary
    D  width            N  attention heads                          L  text tokens

Value ranges: video and audio tensors lie in [-1, 1].
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

# Part of every fingerprint. Raise it when a change of code changes the tokens that the same weights give.
CODE_VERSION = "1"


@dataclass  # not frozen: Lightning Fabric rebuilds the outputs of a wrapped module
class Quantized:
    """What a quantizer gives back.

    Attributes:
        values: quantized latents, the shape of the input; the gradient passes straight through to the input.
        indices: int64 code numbers (B t h w for video, B Q T' for audio).
        losses: named scalar losses, each already multiplied by its weight; empty outside training.
    """

    values: Tensor
    indices: Tensor
    losses: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The sum of `losses`, a scalar."""
        return sum(self.losses.values(), start=self.values.new_zeros(()))


@runtime_checkable
class VideoTokenizer(Protocol):
    """Video to a grid of integers and back. Frame 0 stands alone: an image is a one-frame video."""

    name: str
    codebook_size: int
    temporal_stride: int
    spatial_stride: int
    fingerprint: str
    bit_order: str | None
    """`little` (channel 0 is bit 0) or `big` for lookup-free codes; None where codes are not made of bits."""

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(t, h, w) of the tokens of a clip; ValueError for a size this tokenizer cannot take."""
        ...

    def encode(self, video: Tensor) -> Tensor:
        """B C T H W float32 in [-1, 1] → B t h w int64 in [0, codebook_size)."""
        ...

    def decode(self, indices: Tensor) -> Tensor:
        """B t h w int64 → B C T H W float32 in [-1, 1]."""
        ...


@runtime_checkable
class AudioTokenizer(Protocol):
    """Mono sound in [-1, 1] to residual codes and back."""

    name: str
    codebook_size: int
    num_quantizers: int
    sample_rate_hz: int
    hop: int
    fingerprint: str

    def num_codes(self, num_samples: int) -> int:
        """T' for that many samples, rounded down: 34,000 samples at hop 320 give 106."""
        ...

    def encode(self, audio: Tensor) -> Tensor:
        """B 1 T float32 in [-1, 1] → B Q T' int64 in [0, codebook_size)."""
        ...

    def decode(self, codes: Tensor) -> Tensor:
        """B Q T' int64 → B 1 T float32 in [-1, 1], T = T' · hop."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Captions to token embeddings of a frozen encoder."""

    name: str
    width: int
    max_tokens: int
    fingerprint: str

    def encode(self, captions: Sequence[str]) -> list[np.ndarray]:
        """One float16 array (L, width) per caption, 1 ≤ L ≤ max_tokens, without padding.

        The empty caption has its own embedding (of the end-of-sequence tokens), for guidance. A caption's
        bytes do not depend on which others are encoded with it.
        """
        ...


def causal_grid(
    num_frames: int, height: int, width: int, temporal_stride: int, spatial_stride: int
) -> tuple[int, int, int]:
    """(1 + (T-1)/temporal_stride, H/spatial_stride, W/spatial_stride).

    Raises:
        ValueError: T is not 1 + k·temporal_stride, or H or W is not a positive multiple of spatial_stride.
    """
    if num_frames < 1 or (num_frames - 1) % temporal_stride:
        below = 1 + max(num_frames - 1, 0) // temporal_stride * temporal_stride
        raise ValueError(
            f"cannot tokenize {num_frames} frames: the count must be 1 + k·{temporal_stride}, "
            f"for instance {below} or {below + temporal_stride}"
        )
    for side, size in (("height", height), ("width", width)):
        if size < spatial_stride or size % spatial_stride:
            raise ValueError(f"{side} {size} must be a positive multiple of {spatial_stride}; resize or crop to it")
    return 1 + (num_frames - 1) // temporal_stride, height // spatial_stride, width // spatial_stride


def check_indices(indices: Tensor, codebook_size: int) -> None:
    """ValueError unless every code lies in [0, codebook_size)."""
    if indices.numel() == 0:
        raise ValueError("there are no codes to decode: the tensor is empty")
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"codes lie in [{low}, {high}] but this tokenizer's are in [0, {codebook_size}): "
            "they were made by another tokenizer, or a vocabulary offset was not removed"
        )


def fingerprint(config: Mapping[str, Any], *weights: Path) -> str:
    """sha256 over the sorted config, the bytes of the weight files in the order given, and CODE_VERSION."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(b"\0" + CODE_VERSION.encode())
    for path in weights:
        digest.update(b"\0" + path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def default_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else `cuda` when there is one, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_here(device: torch.device, elsewhere: bool) -> torch.device:
    """Where models of a device are put on this machine.

    Args:
        elsewhere: whether the device is another machine's; where this one lacks it, the CPU stands in.

    Raises:
        ValueError: the device is to be here and is not.
    """
    if device.type != "cuda" or torch.cuda.is_available():
        return device
    if not elsewhere:
        raise ValueError(f"device {device} is asked for, but there is no CUDA device here; leave it out, or say cpu")
    return torch.device("cpu")
