"""Lookup-free quantization (MAGVIT-v2 §3.1): the sign of each channel is one bit of the code."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tokenize_shards.base import Quantized

BIT_ORDERS = ("little", "big")


def bits_to_indices(bits: Tensor, bit_order: str) -> Tensor:
    """Booleans (B K ...) → int64 (B ...). `little`: channel 0 is bit 0; `big`: channel 0 is the highest bit."""
    weights = 2 ** torch.arange(bits.shape[1], device=bits.device)
    if bit_order == "big":
        weights = weights.flip(0)
    return (bits.long() * weights.view(1, -1, *[1] * (bits.dim() - 2))).sum(dim=1)


def indices_to_bits(indices: Tensor, num_bits: int, bit_order: str) -> Tensor:
    """int64 (B ...) → booleans (B K ...), the inverse of `bits_to_indices`."""
    shifts = torch.arange(num_bits, device=indices.device)
    if bit_order == "big":
        shifts = shifts.flip(0)
    shifts = shifts.view(1, -1, *[1] * (indices.dim() - 1))
    return (indices.unsqueeze(1) >> shifts & 1).bool()


def split_factors(indices: Tensor, num_bits: int = 18, factors: int = 2) -> Tensor:
    """Codes (...) → sub-codes (..., factors) of num_bits/factors bits each, highest bits first (§A.5: 2 x 512)."""
    width = _factor_bits(num_bits, factors)
    shifts = width * torch.arange(factors - 1, -1, -1, device=indices.device)
    return indices.unsqueeze(-1) >> shifts & (2**width - 1)


def merge_factors(sub_indices: Tensor, num_bits: int = 18) -> Tensor:
    """Sub-codes (..., factors) → codes (...), the inverse of `split_factors`."""
    factors = sub_indices.shape[-1]
    width = _factor_bits(num_bits, factors)
    shifts = width * torch.arange(factors - 1, -1, -1, device=sub_indices.device)
    return (sub_indices << shifts).sum(dim=-1)


def _factor_bits(num_bits: int, factors: int) -> int:
    if factors < 1 or num_bits % factors:
        raise ValueError(f"{num_bits} bits do not split into {factors} equal factors")
    return num_bits // factors


def annealed(weight: float, step: int, ratio: float, steps: int) -> float:
    """weight · (1 + ratio·max(0, 1 - step/steps)): the entropy weight starts high and falls (§A.3)."""
    return weight * (1 + ratio * max(0.0, 1 - step / steps)) if steps > 0 else weight


@dataclass(frozen=True)
class LFQLossConfig:
    """The training losses of lookup-free quantization (§A.3).

    Attributes:
        entropy_weight: of E[H(p)] - diversity·H(E[p]).
        diversity: how much the entropy of the mean counts against that of single tokens.
        commitment_weight: of the mean of (z - q)².
        temperature: τ of p = softmax over codes of -|z-c|²/τ.
        group_bits: the entropy of the mean is taken over groups of so many bits (exact when it is all of them):
            2^18 probabilities for each token would not fit in memory.
        max_tokens: tokens drawn for the entropy of the mean; 0 takes all.
    """

    entropy_weight: float = 0.1
    diversity: float = 1.0
    commitment_weight: float = 0.25
    temperature: float = 0.01
    group_bits: int = 9
    max_tokens: int = 4096


class LFQ(nn.Module):
    """Codes of `num_bits` bits without a codebook: bit k says whether channel k is above zero (zero → 0)."""

    def __init__(self, num_bits: int = 18, bit_order: str = "little", losses: LFQLossConfig | None = None) -> None:
        super().__init__()
        if bit_order not in BIT_ORDERS:
            raise ValueError(f"bit_order {bit_order!r} is not one of {', '.join(BIT_ORDERS)}")
        if not 1 <= num_bits <= 30:
            raise ValueError(f"num_bits is {num_bits}; from 1 to 30 are possible")
        self.num_bits = num_bits
        self.bit_order = bit_order
        self.loss_config = losses or LFQLossConfig()
        self.entropy_factor = 1.0  # trainers anneal it

    def codes(self, indices: Tensor) -> Tensor:
        """int64 (B ...) → ±1 float32 (B K ...)."""
        return indices_to_bits(indices, self.num_bits, self.bit_order).float() * 2 - 1

    def forward(self, z: Tensor) -> Quantized:
        """Latents (B K ...) to ±1 of the same shape, in float32 whatever the precision around."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            bits = z.detach() > 0
            q = bits.float() * 2 - 1
            losses = self._losses(z, q) if self.training else {}
            return Quantized(z + (q - z).detach(), bits_to_indices(bits, self.bit_order), losses)

    def _losses(self, z: Tensor, q: Tensor) -> dict[str, Tensor]:
        config = self.loss_config
        tokens = rearrange(z, "b k ... -> (b ...) k")
        per_token = bit_entropy(tokens, config.temperature)
        of_mean = self._entropy_of_mean(tokens)
        weight = config.entropy_weight * self.entropy_factor
        return {
            "entropy": weight * (per_token - config.diversity * of_mean),
            "commitment": config.commitment_weight * F.mse_loss(z, q),
        }

    def _entropy_of_mean(self, tokens: Tensor) -> Tensor:
        limit = self.loss_config.max_tokens
        if limit and tokens.shape[0] > limit:
            tokens = tokens[torch.randperm(tokens.shape[0], device=tokens.device)[:limit]]
        groups = tokens.split(self.loss_config.group_bits, dim=1)
        entropies = [code_entropy_of_mean(group, self.loss_config.temperature) for group in groups]
        return torch.stack(entropies).sum()


def bit_entropy(tokens: Tensor, temperature: float) -> Tensor:
    """Mean over tokens (M K) of H(p(token)) in nats: p factorises over bits, so the sum over bits is exact."""
    logits = 4 * tokens / temperature  # -|z-1|²/τ + |z+1|²/τ
    return (F.softplus(logits) - logits * torch.sigmoid(logits)).sum(dim=1).mean()


def code_entropy_of_mean(tokens: Tensor, temperature: float) -> Tensor:
    """H of the mean of p over tokens (M K), in nats, over all 2^K codes."""
    num_bits = tokens.shape[1]
    numbers = torch.arange(2**num_bits, device=tokens.device)
    codes = indices_to_bits(numbers, num_bits, "little").to(tokens) * 2 - 1  # 2^K K
    mean = (2 * tokens @ codes.T / temperature).softmax(dim=1).mean(dim=0)
    return -(mean * mean.clamp_min(1e-5).log()).sum()


def bit_use(indices: Tensor, num_bits: int, bit_order: str) -> Tensor:
    """The entropy in bits, in [0, 1], of each of the `num_bits` bits over all codes given."""
    share = indices_to_bits(indices.reshape(1, -1), num_bits, bit_order).double().mean(dim=(0, 2))
    terms = [-p * torch.log(p.clamp_min(1e-12)) for p in (share, 1 - share)]
    return (terms[0] + terms[1]) / math.log(2)
