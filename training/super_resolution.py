"""VideoPoet's super-resolution: a masked transformer from low- to high-resolution tokens (arXiv 2312.14125, A.5.2).

A block is three layers, whose windows run vertically, horizontally and through time. A layer is self-attention in
its window, cross-attention to the same window of the low-resolution tokens (half as high and wide), cross-attention
to the text, and an MLP. A code is two factors of 512: their embeddings are added, their two softmaxes share them.

Not published: with `low_grid` "same" the low resolution comes on the grid of the high one
(`training.enlarged_codes`), and its embedding is added where the code of the same place stands. From few clips the
published model does not learn which bits of a coarse code make which of four fine ones; here they mostly are the same.
"""

from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from training.masked_tokens import Attention, MaskedOutput, MaskedTokens, MaskedTokensConfig, mlp
from training.masking import training_mask
from training.pixel_loss import PixelLoss
from training.text_condition import drop_text

Window = tuple[int, int, int]


class SuperResolutionConfig(MaskedTokensConfig):
    """Sizes of the model, and which tokenizers made its tokens.

    `windows` are (t, h, w) in high-resolution tokens for the vertical, horizontal and temporal layer of a block; 0
    means the whole axis. `low_grid` is "own" or "same". `tokenizers` and `formats` are as in
    `training.lm.ReelLmConfig`; `formats` here holds the grids and pixel sizes "low" and "high".
    """

    model_type = "reelmill_super_resolution"

    width: int = 128
    num_blocks: int = 2
    windows: list[list[int]] | None = None
    low_grid: str = "own"
    low_noise: float = 0.2
    drop_text: float = 0.1
    drop_low: float = 0.1

    def __post_init__(self, **kwargs: Any):
        self.windows = [[1, 0, 4], [1, 4, 0], [0, 8, 8]] if self.windows is None else self.windows
        if len(self.windows) != 3 or any(len(window) != 3 for window in self.windows):
            raise ValueError(f"windows are {self.windows}; three of (t, h, w) are wanted")
        if self.low_grid not in ("own", "same"):
            raise ValueError(f"low_grid is {self.low_grid!r}; allowed are 'own' and 'same'")
        super().__post_init__(**kwargs)


class Condition(NamedTuple):
    """What is given.

    Attributes:
        low: (B, t, h, w) int64, low-resolution codes; for a model of `low_grid` "same", on the grid of the result.
        text: (B, L, D_text), padded; `text_mask` (B, L) bool is True where a state is real.
        use_low: (B,) bool; where False the low-resolution tokens are hidden from the model.
    """

    low: Tensor
    text: Tensor
    text_mask: Tensor
    use_low: Tensor


def resolve_window(window: list[int], grid: Window) -> Window:
    """The window on this grid (t, h, w): whole axes filled in; ValueError where it does not divide the grid."""
    sizes = tuple(axis if size == 0 else min(size, axis) for size, axis in zip(window, grid, strict=True))
    if any(axis % size for size, axis in zip(sizes, grid, strict=True)):
        raise ValueError(f"window {sizes} does not divide the token grid {grid}; choose windows that do (0 = whole)")
    return sizes[0], sizes[1], sizes[2]


def to_windows(x_BthwD: Tensor, window: Window) -> Tensor:
    """(B t h w D) → (B·windows, tokens of a window, D)."""
    t, h, w = window
    return rearrange(x_BthwD, "b (nt t) (nh h) (nw w) d -> (b nt nh nw) (t h w) d", t=t, h=h, w=w)


def from_windows(x_nSD: Tensor, window: Window, grid: Window) -> Tensor:
    """Inverse of `to_windows`."""
    t, h, w = window
    nt, nh, nw = (axis // size for axis, size in zip(grid, window, strict=True))
    return rearrange(x_nSD, "(b nt nh nw) (t h w) d -> b (nt t) (nh h) (nw w) d", nt=nt, nh=nh, nw=nw, t=t, h=h, w=w)


class Layer(nn.Module):
    """Self-attention in a window, cross-attention to its low-resolution window and to the text, MLP."""

    def __init__(self, config: SuperResolutionConfig, window: list[int]):
        super().__init__()
        width = config.width
        self.window = window
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-6) for _ in range(4))
        self.self_attention = Attention(width, config.num_heads)
        self.low_attention = Attention(width, config.num_heads)
        self.text_attention = Attention(width, config.num_heads)
        self.mlp = mlp(config)

    def forward(self, x_BthwD: Tensor, low_BthwD: Tensor, text_BLD: Tensor, text_mask_BL: Tensor) -> Tensor:
        grid = _grid(x_BthwD)
        window = resolve_window(self.window, grid)
        low_window = low_window_of(window, grid, _grid(low_BthwD))
        x = to_windows(x_BthwD, window)
        normal = self.norms[0](x)
        x = x + self.self_attention(normal, normal)
        x = x + self.low_attention(self.norms[1](x), to_windows(low_BthwD, low_window))
        x = rearrange(from_windows(x, window, grid), "b t h w d -> b (t h w) d")
        x = x + self.text_attention(self.norms[2](x), text_BLD, text_mask_BL)
        x = x + self.mlp(self.norms[3](x))
        return x.view(x_BthwD.shape)


def low_window_of(window: Window, grid: Window, low_grid: Window) -> Window:
    """The low-resolution window under a window; ValueError where the grids do not fit each other."""
    sizes = []
    for size, axis, low_axis in zip(window, grid, low_grid, strict=True):
        if axis % low_axis or size % (axis // low_axis):
            raise ValueError(
                f"a window of {window} on the grid {grid} has no whole window on the low-resolution grid {low_grid}"
            )
        sizes.append(size * low_axis // axis)
    return sizes[0], sizes[1], sizes[2]


def _grid(x_BthwD: Tensor) -> Window:
    return x_BthwD.shape[1], x_BthwD.shape[2], x_BthwD.shape[3]


class SuperResolution(MaskedTokens):
    """High-resolution codes from low-resolution codes and text."""

    config_class = SuperResolutionConfig
    config: SuperResolutionConfig
    base_model_prefix = "super_resolution"

    def __init__(self, config: SuperResolutionConfig):
        super().__init__(config)
        self.high, self.low = self.token_grid(), self.token_grid()
        self.layers = nn.ModuleList(
            Layer(config, window) for _ in range(config.num_blocks) for window in config.windows or ()
        )
        self.post_init()

    def forward(self, codes_Bthw: Tensor, hide_Bthw: Tensor, condition: Condition) -> list[Tensor]:
        """Logits (B t h w 512) of each factor; `hide_Bthw` is True where a code is not to be seen."""
        hide_low = (~condition.use_low)[:, None, None, None].expand(condition.low.shape)
        x, low = self.high(codes_Bthw, hide_Bthw), self.low(condition.low, hide_low)
        text = self.text_states(condition.text)
        if self.config.low_grid == "same":
            # By the embeddings that make the logits: before anything is learnt, these codes are the likeliest.
            x = x + self.high.embed(condition.low).masked_fill(hide_low[..., None], 0.0)
        for layer in self.layers:
            x = layer(x, low, text, condition.text_mask)
        return self.logits(x, self.high)

    def loss(
        self, codes_Bthw: Tensor, condition: Condition, generator: torch.Generator, pixels: PixelLoss | None = None
    ) -> MaskedOutput:
        """The training objective: cross-entropy of hidden tokens, with noise on and dropping of the conditions.

        With `pixels`, the first half of the batch is wholly hidden, and the pictures of its likeliest codes count too.
        """
        batch, num_tokens = len(codes_Bthw), codes_Bthw[0].numel()
        mask_BN = training_mask(batch, num_tokens, generator).to(codes_Bthw.device)
        if self.training:
            condition = self.disturb(condition, generator)
        if pixels is None:
            return self.masked_loss(codes_Bthw, condition, mask_BN)
        half = (batch + 1) // 2
        mask_BN[:half] = True
        logits = self(codes_Bthw, mask_BN.view(codes_Bthw.shape), condition)
        output = self.hidden_loss(logits, codes_Bthw, mask_BN)
        pixel = pixels([factor[:half] for factor in logits], codes_Bthw[:half], condition.use_low[:half])
        return output._replace(loss=output.loss + pixel)

    def masked_loss(self, codes_Bthw: Tensor, condition: Condition, mask_BN: Tensor) -> MaskedOutput:
        """Cross-entropy of the tokens that `mask_BN` hides."""
        logits = self(codes_Bthw, mask_BN.view(codes_Bthw.shape), condition)
        return self.hidden_loss(logits, codes_Bthw, mask_BN)

    def disturb(self, condition: Condition, generator: torch.Generator) -> Condition:
        """Replaces a random share (up to `low_noise`) of the low-resolution codes by random ones, and drops the
        low-resolution tokens and the text, each of its own in 10 % of the samples (A.5.2)."""
        batch, device = len(condition.low), condition.low.device
        rate = torch.rand(batch, 1, 1, 1, generator=generator) * self.config.low_noise
        noisy = (torch.rand(condition.low.shape, generator=generator) < rate).to(device)
        noise = torch.randint(self.codebook_size, condition.low.shape, generator=generator).to(device)
        use_low = (torch.rand(batch, generator=generator) >= self.config.drop_low).to(device)
        drop = (torch.rand(batch, generator=generator) < self.config.drop_text).to(device)
        text, text_mask = self.without_text(condition, drop)
        return Condition(noise.where(noisy, condition.low), text, text_mask, condition.use_low & use_low)

    def without_text(self, condition: Condition, drop_B: Tensor) -> tuple[Tensor, Tensor]:
        """Text and mask with the empty caption in the rows that `drop_B` marks."""
        return drop_text(condition.text, condition.text_mask, self.empty_text, drop_B)


AutoConfig.register(SuperResolutionConfig.model_type, SuperResolutionConfig)
AutoModel.register(SuperResolutionConfig, SuperResolution)
