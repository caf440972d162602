"""MAGVIT-v2 (arXiv 2310.05737): a causal 3-D convolutional tokenizer with lookup-free quantization.

    video B 3 T H W ── [Haar patches] ── encoder ── 18 channels ── sign ── codes B t h w
    codes ── ±1 ── decoder (adaptive norms steered by the codes) ── [Haar patches] ── video

Frame 0 stands alone; each later group of `temporal_stride` frames gives one latent frame.
"""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tokenize_shards.base import CausalTokenizer
from tokenize_shards.causal import (
    AdaptiveNorm,
    CausalConv3d,
    FrameNorm,
    PointConv3d,
    ResBlock,
    Stream,
    Upsample,
    channels_last,
)
from tokenize_shards.quantizers import LFQ, LFQLossConfig, bits_to_indices
from tokenize_shards.wavelets import patchify, unpatchify


@dataclass(frozen=True)
class Magvit2Config:
    """The shape of the network. The defaults are the paper's video model (arXiv 2310.05737).

    Attributes:
        channels: width of the first level.
        multipliers: width of each level, in units of `channels`.
        num_res_blocks: residual blocks a level in the encoder.
        num_decoder_blocks: residual blocks a level in the decoder; 0 takes `num_res_blocks`.
        num_mid_blocks: residual blocks between encoder and latent, and latent and decoder.
        strides: (time, space) downsampling after each level but the last.
        wavelet_levels: (time, space) halvings by Haar patches before the network; (0, 0) convolves pixels.
        num_bits: bits a code.
        bit_order: `little` or `big`.
        kernel: `full` 3x3x3 residual convolutions, or `factored` 1x3x3 and 3x1x1.
        stem_kernel: (time, space) kernel of the encoder's first and the decoder's last convolution.
        upsample_kernel: (time, space) kernel before depth to space.
        norm_groups: groups of the group norms.
        norm_scope: `frame` (causal) or `clip` (statistics over time as well: not causal).
        time_padding: `zero` or `replicate`.
    """

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 4)
    num_res_blocks: int = 4
    num_decoder_blocks: int = 0
    num_mid_blocks: int = 4
    strides: tuple[tuple[int, int], ...] = ((1, 2), (2, 2), (2, 2))
    wavelet_levels: tuple[int, int] = (0, 0)
    num_bits: int = 18
    bit_order: str = "little"
    kernel: str = "full"
    stem_kernel: tuple[int, int] = (3, 3)
    upsample_kernel: tuple[int, int] = (3, 3)
    norm_groups: int = 32
    norm_scope: str = "frame"
    time_padding: str = "zero"

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.multipliers) - 1:
            raise ValueError(
                f"{len(self.multipliers)} levels need {len(self.multipliers) - 1} strides, not {len(self.strides)}"
            )
        for name, allowed in (
            ("kernel", ("full", "factored")),
            ("norm_scope", ("frame", "clip")),
            ("time_padding", ("zero", "replicate")),
            ("bit_order", ("little", "big")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {', '.join(allowed)}")

    @property
    def temporal_stride(self) -> int:
        """Frames a latent frame."""
        stride = 2 ** self.wavelet_levels[0]
        for time, _ in self.strides:
            stride *= time
        return stride

    @property
    def spatial_stride(self) -> int:
        """Pixels a latent cell, along each side."""
        stride = 2 ** self.wavelet_levels[1]
        for _, space in self.strides:
            stride *= space
        return stride

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Magvit2Config":
        """From JSON or YAML, where tuples are lists; ValueError for a key that is not a field."""
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(f"unknown MAGVIT-v2 settings {sorted(unknown)}; known: {sorted(cls.__dataclass_fields__)}")
        return cls(**{key: _tupled(value) for key, value in fields.items()})


def _tupled(value: Any) -> Any:
    return tuple(_tupled(item) for item in value) if isinstance(value, list | tuple) else value


# Quick enough for a CPU: everything happens on Haar patches of 4x4 pixels and 4 frames.
TINY = Magvit2Config(
    channels=96,
    multipliers=(1, 2),
    num_res_blocks=1,
    num_decoder_blocks=2,
    num_mid_blocks=2,
    strides=((1, 2),),
    wavelet_levels=(2, 2),
    kernel="factored",
    stem_kernel=(1, 3),
    upsample_kernel=(1, 1),
    norm_groups=1,
)
BASE = Magvit2Config(channels=64, num_res_blocks=2, num_mid_blocks=2)
VIDEOPOET = Magvit2Config()
SIZES = {"tiny": TINY, "base": BASE, "videopoet": VIDEOPOET}


class Encoder(nn.Module):
    """Video to latents of `num_bits` channels."""

    def __init__(self, config: Magvit2Config) -> None:
        super().__init__()
        self.config = config
        padding = config.time_padding
        bands = 3 * 2 ** config.wavelet_levels[0] * 4 ** config.wavelet_levels[1]
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = CausalConv3d(bands, widths[0], config.stem_kernel, bias=False, time_padding=padding)
        self.blocks = nn.ModuleList()
        width = widths[0]
        for level, out in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.blocks.append(_block(width, out, config))
                width = out
            if level < len(config.strides):
                self.blocks.append(CausalConv3d(width, width, stride=config.strides[level], time_padding=padding))
        self.blocks.extend(_block(width, width, config) for _ in range(config.num_mid_blocks))
        self.norm_out = FrameNorm(width, config.norm_groups, scope=config.norm_scope)
        self.conv_out = PointConv3d(width, config.num_bits)

    def forward(self, video: Tensor, first: bool = True, stream: Stream | None = None) -> Tensor:
        """B 3 T H W in [-1, 1] → B K t h w."""
        time_levels, space_levels = self.config.wavelet_levels
        hidden = self.conv_in(patchify(video, space_levels, time_levels, first), stream)
        for block in self.blocks:
            hidden = block(hidden, stream)
        return self.conv_out(F.silu(self.norm_out(hidden)))


class Decoder(nn.Module):
    """Quantized latents to video."""

    def __init__(self, config: Magvit2Config) -> None:
        super().__init__()
        self.config = config
        padding = config.time_padding
        widths = [config.channels * m for m in config.multipliers]
        width = widths[-1]
        self.conv_in = CausalConv3d(config.num_bits, width, time_padding=padding)
        self.mid = nn.ModuleList(_block(width, width, config) for _ in range(config.num_mid_blocks))
        self.adaptive = nn.ModuleList()
        self.levels = nn.ModuleList()
        self.upsamples = nn.ModuleList()
        for level in reversed(range(len(widths))):
            self.adaptive.append(AdaptiveNorm(width, config.num_bits, config.norm_groups, config.norm_scope))
            blocks = nn.ModuleList()
            for _ in range(config.num_decoder_blocks or config.num_res_blocks):
                blocks.append(_block(width, widths[level], config))
                width = widths[level]
            self.levels.append(blocks)
            if level:
                self.upsamples.append(Upsample(width, config.strides[level - 1], config.upsample_kernel, padding))
        bands = 3 * 2 ** config.wavelet_levels[0] * 4 ** config.wavelet_levels[1]
        self.norm_out = FrameNorm(width, config.norm_groups, scope=config.norm_scope)
        self.conv_out = CausalConv3d(width, bands, config.stem_kernel, time_padding=padding)

    def forward(self, latent: Tensor, first: bool = True, stream: Stream | None = None) -> Tensor:
        """B K t h w of ±1 → B 3 T H W, about [-1, 1]."""
        hidden = self.conv_in(latent, stream)
        for block in self.mid:
            hidden = block(hidden, stream)
        for level, (adaptive, blocks) in enumerate(zip(self.adaptive, self.levels, strict=True)):
            hidden = adaptive(hidden, latent, first)
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, stream)
            if level < len(self.upsamples):
                hidden = self.upsamples[level](hidden, first, stream)
        bands = self.conv_out(F.silu(self.norm_out(hidden)), stream)
        time_levels, space_levels = self.config.wavelet_levels
        return unpatchify(bands, space_levels, time_levels, first)


def _block(in_channels: int, out_channels: int, config: Magvit2Config) -> ResBlock:
    return ResBlock(
        in_channels, out_channels, config.norm_groups, config.norm_scope, config.kernel, config.time_padding
    )


class Magvit2(CausalTokenizer):
    """The MAGVIT-v2 video tokenizer; a `VideoTokenizer`."""

    model_type = "magvit2"

    def __init__(
        self, config: Magvit2Config = VIDEOPOET, losses: LFQLossConfig | None = None, name: str = "magvit2"
    ) -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.fingerprint = ""
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantizer = LFQ(config.num_bits, config.bit_order, losses)
        self.codebook_size = 2**config.num_bits
        self.temporal_stride = config.temporal_stride
        self.spatial_stride = config.spatial_stride
        self.bit_order: str | None = config.bit_order
        self.in_pieces = config.norm_scope != "clip"

    def indices(self, latents: Tensor) -> Tensor:
        """B K t h w → B t h w int64."""
        return bits_to_indices(latents > 0, self.config.bit_order)

    def _laid_out(self, piece: Tensor) -> Tensor:
        return channels_last(piece) if piece.device.type == "cpu" else piece.contiguous()
