"""Video-LaVIT's motion tokenizer (arXiv 2402.03161, A.1): 4 s of motion as 135 codes.

    (24, 20, 36) x 2 ── linear ── 3 blocks ↓(1,2,2) ── 3 blocks ↓(2,1,1) ── 3 blocks ↓(2,1,1) ── 3 blocks ↓(2,2,2)
                     ── linear, tanh, linear ── (3, 5, 9) unit vectors of 32 channels ── 1 of 1,024 codes each
    codes ── linear ── the same upwards: nearest neighbours and a convolution, then 3 blocks ── linear ── maps

A block attends within each frame, then along time, then comes an MLP.
"""

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from tokenize_shards.base import Quantized, check_indices
from tokenize_shards.cosine_vq import CosineVQ
from tokenize_shards.transformer import Attention

STRIDES = ((1, 2, 2), (2, 1, 1), (2, 1, 1), (2, 2, 2))


@dataclass(frozen=True)
class MotionConfig:
    """The shape of the network. The defaults are the paper's.

    Attributes:
        width: D, of the transformer.
        heads: attention heads.
        blocks: blocks before each of the four reductions, and after each of the four enlargements (in reverse).
        mlp_ratio: hidden width of the MLPs, in units of `width`.
        frames: of the maps; a multiple of 8.
        height: rows of the maps; a multiple of 4.
        map_width: columns of the maps; a multiple of 4.
        codebook_size: codes.
        code_width: channels of the code vectors.
        decay: of the codebook's moving averages.
    """

    width: int = 512
    heads: int = 8
    blocks: tuple[int, int, int, int] = (3, 3, 3, 3)
    mlp_ratio: int = 4
    frames: int = 24
    height: int = 20
    map_width: int = 36
    codebook_size: int = 1024
    code_width: int = 32
    decay: float = 0.995

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not split into {self.heads} attention heads")
        if len(self.blocks) != len(STRIDES) or min(self.blocks) < 0:
            raise ValueError(f"blocks {self.blocks}: four numbers, one for each of the reductions {STRIDES}")
        if self.frames % 8 or self.height % 4 or self.map_width % 4:
            raise ValueError(f"maps of {self.shape}: frames must be a multiple of 8, the sides multiples of 4")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(frames, rows, columns) of the maps."""
        return self.frames, self.height, self.map_width

    @property
    def grid(self) -> tuple[int, int, int]:
        """(t, h, w) of the codes."""
        return self.frames // 8, self.height // 4, self.map_width // 4

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "MotionConfig":
        """From JSON or YAML; ValueError for a key that is not a field."""
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(
                f"unknown motion tokenizer settings {sorted(unknown)}; known: {sorted(cls.__dataclass_fields__)}"
            )
        tupled: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**tupled)


# Quick enough for a CPU: no attention among the 720 or 180 cells of a frame, where most of the work would be.
TINY = MotionConfig(width=32, heads=2, blocks=(0, 0, 1, 2), decay=0.99)
BASE = MotionConfig()
SIZES = {"tiny": TINY, "base": BASE}


class SpaceTimeBlock(nn.Module):
    """Attention within each frame, attention along time (both ways), MLP; each after a norm, added to its input."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm_space, self.space = nn.LayerNorm(width), Attention(width, heads)
        self.norm_time, self.time = nn.LayerNorm(width), Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """B t h w D → B t h w D."""
        batch, _, height, _, _ = x.shape
        x = rearrange(x, "b t h w d -> (b t) (h w) d")
        x = x + self.space(self.norm_space(x))
        x = rearrange(x, "(b t) s d -> (b s) t d", b=batch)
        x = x + self.time(self.norm_time(x))
        x = rearrange(x, "(b h w) t d -> b t h w d", b=batch, h=height)
        return x + self.mlp(self.norm_mlp(x))


class Positions(nn.Module):
    """Learned vectors for each frame and each cell, added to the tokens."""

    def __init__(self, grid: tuple[int, int, int], width: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.randn(grid[0], 1, 1, width) * 0.02)
        self.space = nn.Parameter(torch.randn(grid[1], grid[2], width) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """B t h w D → B t h w D."""
        return x + self.time + self.space


class Resize(nn.Module):
    """A strided convolution, or nearest neighbours and a convolution, over a grid of tokens."""

    def __init__(self, width: int, stride: tuple[int, int, int], up: bool) -> None:
        super().__init__()
        kernel = _odd(stride[0]), _odd(stride[1]), _odd(stride[2])
        self.scale = nn.Upsample(scale_factor=stride, mode="nearest") if up else nn.Identity()
        padding = kernel[0] // 2, kernel[1] // 2, kernel[2] // 2
        self.conv = nn.Conv3d(width, width, kernel, 1 if up else stride, padding)
        nn.init.dirac_(self.conv.weight)  # what passes through eight of them must not fade before training has begun
        nn.init.zeros_(cast(Tensor, self.conv.bias))

    def forward(self, x: Tensor) -> Tensor:
        """B t h w D → B t' h' w' D."""
        x = self.conv(self.scale(rearrange(x, "b t h w d -> b d t h w")))
        return rearrange(x, "b d t h w -> b t h w d")


def _odd(stride: int) -> int:
    return 3 if stride > 1 else 1


def _stage(config: MotionConfig, number: int) -> list[nn.Module]:
    return [SpaceTimeBlock(config.width, config.heads, config.mlp_ratio) for _ in range(config.blocks[number])]


def build_encoder(config: MotionConfig) -> nn.Sequential:
    """Maps B 24 20 36 2 → latents B 3 5 9 K."""
    layers: list[nn.Module] = [nn.Linear(2, config.width), Positions(config.shape, config.width)]
    for number, stride in enumerate(STRIDES):
        layers += [*_stage(config, number), Resize(config.width, stride, up=False)]
    head = [nn.Linear(config.width, config.width), nn.Tanh(), nn.Linear(config.width, config.code_width)]
    return nn.Sequential(*layers, nn.LayerNorm(config.width), *head)


def build_decoder(config: MotionConfig) -> nn.Sequential:
    """Latents B 3 5 9 K → maps B 24 20 36 2."""
    layers: list[nn.Module] = [nn.Linear(config.code_width, config.width), Positions(config.grid, config.width)]
    for number, stride in reversed(list(enumerate(STRIDES))):
        layers += [Resize(config.width, stride, up=True), *_stage(config, number)]
    return nn.Sequential(*layers, nn.LayerNorm(config.width), nn.Linear(config.width, 2))


class MotionTokenizer(nn.Module):
    """Motion maps of 4 s to 135 codes and back."""

    model_type = "lavit-motion"

    def __init__(self, config: MotionConfig = BASE, name: str = "lavit-motion") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.fingerprint = ""
        self.encoder = build_encoder(config)
        self.quantizer = CosineVQ(config.code_width, config.codebook_size, config.decay)
        self.decoder = build_decoder(config)
        self.codebook_size = config.codebook_size
        self.grid = config.grid
        self.num_codes = config.grid[0] * config.grid[1] * config.grid[2]

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds besides the name and the type."""
        return asdict(self.config)

    def forward(self, motion: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruction (B T H W 2) and the quantized latents with their losses, for training."""
        quantized = self.quantizer(rearrange(self.encoder(motion), "b t h w k -> b k t h w"))
        return self.decoder(rearrange(quantized.values, "b k t h w -> b t h w k")), quantized

    @torch.no_grad()
    def encode(self, motion: Tensor) -> Tensor:
        """B 24 20 36 2 float32 (as `motion_vectors.motion_map`) → B 135 int64, in the order of time, row, column.

        Raises:
            ValueError: maps of another shape.
        """
        if motion.dim() != 5 or tuple(motion.shape[1:]) != (*self.config.shape, 2):
            raise ValueError(f"motion of shape {tuple(motion.shape)}; this tokenizer takes B x {self.config.shape} x 2")
        if self.training:
            raise RuntimeError("call eval() before encode: in training mode the quantizer learns from what it codes")
        parts = [rearrange(self.encoder(part), "b t h w k -> b k t h w") for part in motion.to(self.device).split(1)]
        return torch.cat([self.quantizer(part).indices.flatten(1) for part in parts])

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """B 135 int64 → B 24 20 36 2 float32."""
        check_indices(indices, self.codebook_size)
        if indices.dim() != 2 or indices.shape[1] != self.num_codes:
            raise ValueError(f"codes of shape {tuple(indices.shape)}; this tokenizer has B x {self.num_codes}")
        latents = rearrange(
            self.quantizer.codes(indices.to(self.device)), "b k (t h w) -> b t h w k", t=self.grid[0], h=self.grid[1]
        )
        return torch.cat([self.decoder(part) for part in latents.split(1)])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.quantizer.codebook.device
