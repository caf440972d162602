"""The protocols every tokenizer answers to, what our video tokenizers share, and the legend of shapes.

Shapes, here and in every tensor function of `tokenize_shards` and `training`:

    B  batch            T  frames (video) or samples (audio) in     Q  residual codebooks
    C  channels         H W  pixels, height first                   S  sequence length
    t h w  token grid   T' audio codes out                          V  vocabulary
    D  width            N  attention heads                          L  text tokens

Value ranges: video and audio tensors lie in [-1, 1].
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from tokenize_shards.causal import Stream

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


class CausalTokenizer(nn.Module, ABC):
    """Clips to codes and back in pieces of one step each, the first of one frame; the base of our video tokenizers.

    Attributes:
        encoder, decoder: called with a piece, whether it is a clip's first, and the stream.
        in_pieces: whether clips go through in pieces; where norms pool over time they cannot.
    """

    config: Any
    encoder: nn.Module
    decoder: nn.Module
    quantizer: Any
    codebook_size: int
    temporal_stride: int
    spatial_stride: int
    in_pieces = True

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds besides the name and the type."""
        return asdict(self.config)

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(t, h, w); ValueError for a size that does not fit the strides."""
        return causal_grid(num_frames, height, width, self.temporal_stride, self.spatial_stride)

    def forward(self, video: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruction (B 3 T H W) and the quantized latents with their losses, for training."""
        quantized: Quantized = self.quantizer(self.encoder(video))
        return self.decoder(quantized.values), quantized

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """B 3 T H W in [-1, 1] → B t h w int64. The same bits whatever follows a frame and whatever the batch."""
        self.grid(*video.shape[2:])
        return torch.cat([self.indices(self.latents(part)) for part in self._parts(video)])

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """B t h w int64 → B 3 T H W in [-1, 1]."""
        check_indices(indices, self.codebook_size)
        latents = self.quantizer.codes(indices.to(self.device))
        return torch.cat([self.pictures(part) for part in self._parts(latents)]).clamp_(-1, 1)

    def latents(self, video: Tensor) -> Tensor:
        """B 3 T H W → B K t h w before quantization."""
        if not self.in_pieces:
            return self.encoder(video)
        first, rest = video[:, :, :1], video[:, :, 1:]
        return self._piece_by_piece(self.encoder, [first, *rest.split(self.temporal_stride, dim=2)])

    @abstractmethod
    def indices(self, latents: Tensor) -> Tensor:
        """B K t h w → B t h w int64."""

    def pictures(self, latents: Tensor) -> Tensor:
        """B K t h w after quantization → B 3 T H W, with gradients; `decode` holds them to [-1, 1]."""
        if not self.in_pieces:
            return self.decoder(latents)
        return self._piece_by_piece(self.decoder, latents.split(1, dim=2))

    def _piece_by_piece(self, network: nn.Module, pieces: Sequence[Tensor]) -> Tensor:
        pieces = [self._laid_out(piece) for piece in pieces if piece.shape[2]]
        stream = Stream(len(pieces))
        return torch.cat([network(piece, i == 0, stream) for i, piece in enumerate(pieces)], dim=2)

    def _laid_out(self, piece: Tensor) -> Tensor:
        return piece.contiguous()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def _parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """On the CPU one clip at a time: kernels are chosen by shape, and bytes must not depend on the batch."""
        x = x.to(self.device)
        return x.split(1) if x.device.type == "cpu" else (x,)
