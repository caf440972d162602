"""C-ViViT, Phenaki's tokenizer (arXiv 2210.02399 §2.1): patches, a spatial and then a causal temporal transformer.

    frame 0      ── patches 8x8 ───┐
    frames 1, 2  ── tubes 2x8x8 ───┼─ attention within each step ─ causal attention along time ─ codes B t h w
    frames 3, 4  ── tubes 2x8x8 ───┘
    codes ── causal attention along time ── attention within each step ── one linear map to pixels

11 frames of 128x128 give 6x16x16 = 1,536 codes. Every norm is over single tokens, so nothing sees the future.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from tokenize_shards.base import CausalTokenizer
from tokenize_shards.causal import Stream
from tokenize_shards.cosine_vq import CosineVQ
from tokenize_shards.quantizers import LFQ, LFQLossConfig
from tokenize_shards.transformer import Block, GridBias, causal_bias, working_dtype

QUANTIZERS = ("cosine", "lfq")


@dataclass(frozen=True)
class CViViTConfig:
    """The shape of the network. The defaults are the paper's, as far as it gives them (arXiv 2210.02399).

    Attributes:
        width: D, of the tokens.
        heads: attention heads.
        spatial_depth: blocks that attend within a step, in encoder and decoder each.
        temporal_depth: blocks that attend along time, in encoder and decoder each.
        mlp_ratio: hidden width of the MLPs, in units of `width`.
        temporal_patch: frames a tube.
        spatial_patch: pixels a patch or tube, along each side.
        quantizer: `cosine` (unit code vectors) or `lfq` (the signs of log2(codebook_size) channels).
        codebook_size: codes; a power of two for `lfq`.
        code_width: channels of the code vectors (`cosine`).
        bit_order: of `lfq` codes, `little` or `big`.
    """

    width: int = 512
    heads: int = 8
    spatial_depth: int = 4
    temporal_depth: int = 4
    mlp_ratio: int = 4
    temporal_patch: int = 2
    spatial_patch: int = 8
    quantizer: str = "cosine"
    codebook_size: int = 8192
    code_width: int = 32
    bit_order: str = "little"

    def __post_init__(self) -> None:
        if self.quantizer not in QUANTIZERS:
            raise ValueError(f"quantizer {self.quantizer!r} is not one of {', '.join(QUANTIZERS)}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not split into {self.heads} attention heads")
        if self.codebook_size < 2 or (self.quantizer == "lfq" and self.codebook_size & (self.codebook_size - 1)):
            raise ValueError(f"codebook_size is {self.codebook_size}; for {self.quantizer} it must be a power of two")

    @property
    def num_bits(self) -> int:
        """Bits that a code needs."""
        return (self.codebook_size - 1).bit_length()

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "CViViTConfig":
        """From JSON or YAML; ValueError for a key that is not a field."""
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown C-ViViT settings {sorted(unknown)}; known: {sorted(cls.__dataclass_fields__)}")
        return cls(**fields)


TINY = CViViTConfig(width=128, heads=4, spatial_depth=2, temporal_depth=2)
BASE = CViViTConfig()
SIZES = {"tiny": TINY, "base": BASE}


class Transformer(nn.Module):
    """Blocks that attend within each step and blocks that attend along time, in either order."""

    def __init__(self, config: CViViTConfig, spatial_first: bool) -> None:
        super().__init__()
        width, heads, ratio = config.width, config.heads, config.mlp_ratio
        self.heads = heads
        self.spatial_first = spatial_first
        self.grid_bias = GridBias(heads)
        self.spatial = nn.ModuleList(Block(width, heads, ratio) for _ in range(config.spatial_depth))
        self.temporal = nn.ModuleList(Block(width, heads, ratio) for _ in range(config.temporal_depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B t h w D → B t h w D."""
        if self.spatial_first:
            return self.norm(self._along_time(self._within_steps(x, stream), stream))
        return self.norm(self._within_steps(self._along_time(x, stream), stream))

    def _within_steps(self, x: Tensor, stream: Stream | None) -> Tensor:
        batch, _, height, width, _ = x.shape
        bias = stream.recall(self.grid_bias) if stream is not None else None
        if bias is None:
            bias = self.grid_bias(height, width).to(working_dtype(x))
        if stream is not None:
            stream.keep(self.grid_bias, bias)
        x = rearrange(x, "b t h w d -> (b t) (h w) d")
        for block in self.spatial:
            x = block(x, bias)
        return rearrange(x, "(b t) (h w) d -> b t h w d", b=batch, h=height)

    def _along_time(self, x: Tensor, stream: Stream | None) -> Tensor:
        batch, steps, height, _, _ = x.shape
        seen = steps
        if stream is not None:
            count = stream.recall(self)
            seen += 0 if count is None else int(count)
            stream.keep(self, torch.tensor(seen))
        bias = causal_bias(self.heads, steps, seen, x.device)
        x = rearrange(x, "b t h w d -> (b h w) t d")
        for block in self.temporal:
            x = block(x, bias, stream)
        return rearrange(x, "(b h w) t d -> b t h w d", b=batch, h=height)


class Encoder(nn.Module):
    """Video to latents of K channels."""

    def __init__(self, config: CViViTConfig, channels: int) -> None:
        super().__init__()
        self.patch = config.spatial_patch
        self.tube = config.temporal_patch
        pixels = 3 * config.spatial_patch**2
        self.embed_image = nn.Linear(pixels, config.width)
        self.embed_tube = nn.Linear(pixels * config.temporal_patch, config.width)
        self.norm_in = nn.LayerNorm(config.width)
        self.transformer = Transformer(config, spatial_first=True)
        self.to_latent = nn.Linear(config.width, channels)

    def forward(self, video: Tensor, first: bool = True, stream: Stream | None = None) -> Tensor:
        """B 3 T H W in [-1, 1] → B K t h w.

        Args:
            first: whether the clip starts here, with a frame that stands alone.
        """
        tokens = [self.embed_image(self._patches(video[:, :, :1], 1))] if first else []
        rest = video[:, :, 1:] if first else video
        if rest.shape[2]:
            tokens.append(self.embed_tube(self._patches(rest, self.tube)))
        hidden = self.transformer(self.norm_in(torch.cat(tokens, dim=1)), stream)
        return rearrange(self.to_latent(hidden), "b t h w k -> b k t h w")

    def _patches(self, video: Tensor, frames: int) -> Tensor:
        return rearrange(
            video, "b c (t p) (h q) (w r) -> b t h w (c p q r)", p=frames, q=self.patch, r=self.patch
        ).contiguous()


class Decoder(nn.Module):
    """Quantized latents to video."""

    def __init__(self, config: CViViTConfig, channels: int) -> None:
        super().__init__()
        self.patch = config.spatial_patch
        self.tube = config.temporal_patch
        pixels = 3 * config.spatial_patch**2
        self.from_latent = nn.Linear(channels, config.width)
        self.transformer = Transformer(config, spatial_first=False)
        self.to_image = nn.Linear(config.width, pixels)
        self.to_tube = nn.Linear(config.width, pixels * config.temporal_patch)

    def forward(self, latent: Tensor, first: bool = True, stream: Stream | None = None) -> Tensor:
        """B K t h w → B 3 T H W, about [-1, 1]."""
        hidden = self.from_latent(rearrange(latent, "b k t h w -> b t h w k"))
        hidden = self.transformer(hidden, stream)
        frames = [self._pixels(self.to_image(hidden[:, :1]), 1)] if first else []
        rest = hidden[:, 1:] if first else hidden
        if rest.shape[1]:
            frames.append(self._pixels(self.to_tube(rest), self.tube))
        return torch.cat(frames, dim=2)

    def _pixels(self, patches: Tensor, frames: int) -> Tensor:
        return rearrange(
            patches, "b t h w (c p q r) -> b c (t p) (h q) (w r)", c=3, p=frames, q=self.patch, r=self.patch
        )


class CViViT(CausalTokenizer):
    """The C-ViViT video tokenizer; a `VideoTokenizer`."""

    model_type = "cvivit"

    def __init__(self, config: CViViTConfig = BASE, losses: LFQLossConfig | None = None, name: str = "cvivit") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.fingerprint = ""
        lookup_free = config.quantizer == "lfq"
        channels = config.num_bits if lookup_free else config.code_width
        self.encoder = Encoder(config, channels)
        self.decoder = Decoder(config, channels)
        self.quantizer: LFQ | CosineVQ = (
            LFQ(config.num_bits, config.bit_order, losses) if lookup_free else CosineVQ(channels, config.codebook_size)
        )
        self.codebook_size = config.codebook_size
        self.temporal_stride = config.temporal_patch
        self.spatial_stride = config.spatial_patch
        self.bit_order: str | None = config.bit_order if lookup_free else None

    def indices(self, latents: Tensor) -> Tensor:
        """B K t h w → B t h w int64, in equal shapes: one step at a time."""
        if self.training:
            raise RuntimeError("call eval() before encode: in training mode the quantizer learns from what it codes")
        return torch.cat([self.quantizer(step.contiguous()).indices for step in latents.split(1, dim=2)], dim=1)
