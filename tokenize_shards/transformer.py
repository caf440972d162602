"""Transformer layers over a token grid: attention within a frame, or causal attention along time."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tokenize_shards.causal import Stream

_SCALE = 8.0  # of the products of normalised queries and keys


class Attention(nn.Module):
    """Multi-head attention with ℓ2-normalised queries and keys, each scaled by a learned vector.

    Args:
        width: D, of the tokens; a multiple of `heads`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} does not split into {heads} attention heads")
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_scale = nn.Parameter(torch.ones(width // heads))
        self.k_scale = nn.Parameter(torch.ones(width // heads))
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, bias: Tensor | None = None, stream: Stream | None = None) -> Tensor:
        """B S D → B S D.

        Args:
            bias: added to the products, N S (S with what the stream holds).
            stream: keys and values of earlier pieces of the sequence are attended to as well.
        """
        q, k, v = self._heads(self.to_qkv(x))
        if stream is not None:
            k, v = self._with_past(k, v, stream)
        mask = None if bias is None else bias.to(v.dtype)[None]  # torch's quick kernels on CPUs want four dimensions
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=_SCALE)
        return self.to_out(rearrange(out, "b n s d -> b s (n d)"))

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys of length 1, both scales on the keys, and values: B N S d each."""
        qk, v = rearrange(qkv, "b s (three n d) -> three b n s d", three=3, n=self.heads).split((2, 1))
        lengths = torch.linalg.vector_norm(qk, dim=-1, keepdim=True).clamp_min(1e-12)
        scale = (self.q_scale * self.k_scale).to(v.dtype)
        if torch.is_grad_enabled():
            q, k = qk / lengths
            return q, k * scale, v[0]
        q, k = qk.div_(lengths)
        return q, k.mul_(scale), v[0]

    def _with_past(self, k: Tensor, v: Tensor, stream: Stream) -> tuple[Tensor, Tensor]:
        """Keys and values so far, in a store whose strides do not depend on how many steps it has room for."""
        store, seen = stream.recall(self) or (k.new_empty(0, 2, *k.shape[:2], k.shape[3]), 0)
        steps = seen + k.shape[2]
        if steps > len(store) or torch.is_grad_enabled():
            room = k.new_empty(max(steps, 2 * seen, stream.pieces), *store.shape[1:])
            room[:seen] = store[:seen]
            store = room
        store[seen:steps, 0] = k.permute(2, 0, 1, 3)
        store[seen:steps, 1] = v.permute(2, 0, 1, 3)
        stream.keep(self, (store, steps))
        k, v = store[:steps].permute(1, 2, 3, 0, 4)
        return k, v


class GELU(nn.Module):
    """GELU, without gradients in place: a new tensor of an MLP's width costs as much as the function."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape → the same shape."""
        return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


class Block(nn.Module):
    """norm → attention, then norm → MLP with GELU, each added to its input."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(self, x: Tensor, bias: Tensor | None = None, stream: Stream | None = None) -> Tensor:
        """B S D → B S D."""
        x = _sum(self.attention(self.norm1(x), bias, stream), x)
        return _sum(self.mlp(self.norm2(x)), x)


def _sum(made: Tensor, x: Tensor) -> Tensor:
    """x + made, without gradients in its place."""
    return x + made if torch.is_grad_enabled() or made.dtype != x.dtype else made.add_(x)


class GridBias(nn.Module):
    """Attention bias of each pair of cells of a frame: a small network on the signed log of their offset.

    It knows no grid size, so that other resolutions than those trained on can be tokenized.
    """

    def __init__(self, heads: int, hidden: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, heads)
        )

    def forward(self, height: int, width: int) -> Tensor:
        """N S S, S = height·width in row order."""
        device = next(self.net.parameters()).device
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        offsets = (
            torch.cartesian_prod(torch.arange(1 - height, height), torch.arange(1 - width, width)).to(device).float()
        )
        table = self.net(offsets.sign() * offsets.abs().log1p())  # (2h-1)(2w-1) N
        down = rows[:, None] - rows[None] + height - 1  # h h
        right = columns[:, None] - columns[None] + width - 1  # w w
        number = down[:, None, :, None] * (2 * width - 1) + right[None, :, None, :]  # h w h w
        return rearrange(table[number], "h w i j n -> n (h w) (i j)").contiguous()


def causal_bias(heads: int, queries: int, keys: int, device: torch.device) -> Tensor:
    """N queries keys: -∞ for keys to come, and below zero in proportion to the distance of past ones (ALiBi).

    The queries are the last of the `keys` positions.
    """
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1, device=device) / heads)
    here = torch.arange(keys - queries, keys, device=device)[:, None]
    distance = (here - torch.arange(keys, device=device)[None]).float()
    return torch.where(distance < 0, -math.inf, -slopes[:, None, None] * distance)


def working_dtype(x: Tensor) -> torch.dtype:
    """The type of matrix products with x: that of autocast where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
