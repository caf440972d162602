"""Embedding and softmax of visual codes: un-factorised, or in factors predicted one after the other.

VideoPoet's language model has one softmax over all 262,144 codes (arXiv 2312.14125, A.5.1); Open-MAGVIT2's predicts
sub-codes in turn, p(code | h) = Π p(sub-code i | h, sub-codes before i), which is exact and costs little. The list of
factor sizes chooses: [262144] or [512, 512].
"""

import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.chunked_loss import chunked_cross_entropy


def split_codes(codes: Tensor, factors: Sequence[int]) -> list[Tensor]:
    """The sub-codes of each code, most significant first; every tensor has the shape of `codes`."""
    parts = []
    for size in reversed(factors):
        parts.append(codes % size)
        codes = codes // size
    return parts[::-1]


def merge_codes(parts: Sequence[Tensor], factors: Sequence[int]) -> Tensor:
    """Inverse of `split_codes`."""
    codes = torch.zeros_like(parts[0])
    for part, size in zip(parts, factors, strict=True):
        codes = codes * size + part
    return codes


def factor_nll(logits: Sequence[Tensor], codes_Bthw: Tensor, factors: Sequence[int]) -> Tensor:
    """−log p of each code (B, N), float32, where the factors are predicted side by side: logits (B t h w V) each."""
    parts = split_codes(codes_Bthw, factors)
    nll = [
        F.cross_entropy(factor.float().flatten(0, -2), part.flatten(), reduction="none")
        for factor, part in zip(logits, parts, strict=True)
    ]
    return torch.stack(nll).sum(dim=0).view(len(codes_Bthw), -1)


class _NextFactor(nn.Module):
    """The state that predicts the next factor, from the state and the factor just known."""

    def __init__(self, width: int):
        super().__init__()
        self.code_norm = nn.RMSNorm(width, eps=1e-6)
        self.code = nn.Linear(width, width, bias=False)
        self.inner = nn.Linear(width, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, hidden: Tensor, code_embedding: Tensor) -> Tensor:
        hidden = hidden + self.code(self.code_norm(code_embedding))
        return self.norm(hidden + self.outer(F.silu(self.inner(hidden))))


class VisualTokens(nn.Module):
    """Input and output embeddings of visual codes, tied."""

    def __init__(self, factors: Sequence[int], width: int):
        super().__init__()
        self.factors = tuple(factors)
        self.tables = nn.ModuleList(nn.Embedding(size, width) for size in self.factors)
        self.next_factor = nn.ModuleList(_NextFactor(width) for _ in self.factors[1:])

    @property
    def embeddings(self) -> list[nn.Embedding]:
        """One table for each factor."""
        return cast(list[nn.Embedding], list(self.tables))

    @property
    def size(self) -> int:
        return math.prod(self.factors)

    def embed(self, codes: Tensor) -> Tensor:
        """Codes of any shape → the same shape and D: the sum of the embeddings of their factors."""
        parts = split_codes(codes, self.factors)
        embeddings = [table(part) for table, part in zip(self.embeddings, parts, strict=True)]
        return torch.stack(embeddings).sum(dim=0)

    def loss(
        self, hidden_ND: Tensor, codes_N: Tensor, scale_N: Tensor, chunk_bytes: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Weighted sum of −log p(code), and its nats per row (N,) without gradient."""
        total, nll_N = hidden_ND.new_zeros(()), hidden_ND.new_zeros(len(hidden_ND), dtype=torch.float32)
        for index, part_N in enumerate(split_codes(codes_N, self.factors)):
            table = self.embeddings[index].weight
            factor_loss, factor_nll_N = chunked_cross_entropy(hidden_ND, table, part_N, scale_N, chunk_bytes)
            total, nll_N = total + factor_loss, nll_N + factor_nll_N
            if index < len(self.next_factor):
                hidden_ND = self.next_factor[index](hidden_ND, F.embedding(part_N, table))
        return total, nll_N

    def likeliest_logits(self, hidden_ND: Tensor) -> list[Tensor]:
        """Logits (N V) of each factor, where those before it take their likeliest values."""
        logits: list[Tensor] = []

        def likeliest(factor: Tensor) -> Tensor:
            logits.append(factor)
            return factor.argmax(dim=-1)

        self.choose(hidden_ND, likeliest)
        return logits

    def choose(self, hidden_ND: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
        """Codes (N,) chosen factor by factor; `pick` maps logits (N V) to choices (N,)."""
        parts = []
        for index, table in enumerate(self.embeddings):
            parts.append(pick(F.linear(hidden_ND, table.weight)))
            if index < len(self.next_factor):
                hidden_ND = self.next_factor[index](hidden_ND, table(parts[-1]))
        return merge_codes(parts, self.factors)
