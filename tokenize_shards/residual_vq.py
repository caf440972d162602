"""Residual vector quantization (SoundStream §III-C): each level codes what the levels before it left over."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tokenize_shards.base import Quantized


class ResidualVQ(nn.Module):
    """`num_quantizers` codebooks of `codebook_size` vectors, learnt by moving averages.

    Codebooks start from k-means of the first training batch (of fewer centres where it has too few vectors: centres
    that are the vectors themselves would leave nothing over for the next level to start from). A code used less than
    `min_usage` times a batch (in the moving average) is replaced by a random vector of the batch; where a batch has
    fewer vectors than there are codes, that must be below vectors / codes, or all codes would be replaced all the time.

    With `dropout`, each training example is coded by its first n levels only, n uniform in 1..Q, so that fewer
    levels can be decoded as well.

    Args:
        width: D, channels of the latents.
        decay: of the moving averages.
        commitment_weight: of the mean of (z - q)² at each level.
    """

    def __init__(
        self,
        width: int,
        num_quantizers: int = 4,
        codebook_size: int = 1024,
        decay: float = 0.99,
        commitment_weight: float = 0.25,
        min_usage: float = 2.0,
        dropout: bool = True,
    ) -> None:
        super().__init__()
        self.num_quantizers = num_quantizers
        self.codebook_size = codebook_size
        self.decay = decay
        self.commitment_weight = commitment_weight
        self.min_usage = min_usage
        self.dropout = dropout
        self.active = True  # False lets latents through unquantized, which trainers use for the first steps
        self.codebooks: Tensor
        self.usage: Tensor
        self.sums: Tensor
        self.started: Tensor
        self.register_buffer("codebooks", torch.randn(num_quantizers, codebook_size, width) / width**0.5)
        self.register_buffer("usage", torch.zeros(num_quantizers, codebook_size))
        self.register_buffer("sums", torch.zeros(num_quantizers, codebook_size, width))
        self.register_buffer("started", torch.zeros(num_quantizers, dtype=torch.uint8))

    def forward(self, z: Tensor) -> Quantized:
        """B D T' → quantized values of the same shape and indices B Q T'."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            if self.training and not self.active:
                shape = (z.shape[0], self.num_quantizers, z.shape[2])
                return Quantized(z, torch.zeros(shape, dtype=torch.long, device=z.device), {})
            levels = self._levels_kept(z.shape[0], z.device)
            residual, total = z, torch.zeros_like(z)
            indices, commitments = [], []
            for level in range(self.num_quantizers):
                kept = (levels > level).view(-1, 1, 1)
                vectors = rearrange(residual, "b d t -> (b t) d")
                if self.training:
                    self._start(level, vectors.detach())
                index = self._nearest(level, vectors.detach())
                q = rearrange(self.codebooks[level][index], "(b t) d -> b d t", b=z.shape[0])
                if self.training:
                    self._learn(level, vectors.detach(), index)
                    commitments.append(((residual - q).square() * kept).mean())
                residual = residual - q
                total = total + q * kept
                indices.append(rearrange(index, "(b t) -> b t", b=z.shape[0]))
            losses = {"commitment": self.commitment_weight * torch.stack(commitments).sum()} if commitments else {}
            return Quantized(z + (total - z).detach(), torch.stack(indices, dim=1), losses)

    def encode(self, z: Tensor) -> Tensor:
        """B D T' → B Q T', the indices that `forward` gives in eval mode, without the values."""
        left = rearrange(z.float(), "b d t -> (b t) d")
        indices = []
        with torch.autocast(z.device.type, enabled=False):
            for level in range(self.num_quantizers):
                indices.append(self._nearest(level, left))
                left = left - F.embedding(indices[-1], self.codebooks[level])
        return rearrange(torch.stack(indices), "q (b t) -> b q t", b=z.shape[0])

    def decode(self, indices: Tensor) -> Tensor:
        """B Q' T' (the first Q' ≤ Q levels) → B D T'."""
        if not 1 <= indices.shape[1] <= self.num_quantizers:
            raise ValueError(f"{indices.shape[1]} levels of codes; this quantizer has {self.num_quantizers}")
        values = [F.embedding(indices[:, level], self.codebooks[level]) for level in range(indices.shape[1])]
        return rearrange(torch.stack(values).sum(dim=0), "b t d -> b d t")

    def _levels_kept(self, batch: int, device: torch.device) -> Tensor:
        if self.training and self.dropout:
            return torch.randint(1, self.num_quantizers + 1, (batch,), device=device)
        return torch.full((batch,), self.num_quantizers, device=device)

    def _nearest(self, level: int, vectors: Tensor) -> Tensor:
        """M D → M, the nearest codes in Euclidean distance."""
        codebook = self.codebooks[level]
        lengths = torch.linalg.vector_norm(codebook, dim=1)  # the sum of squares would copy the codebook
        return (lengths.square() - 2 * vectors @ codebook.T).argmin(dim=1)

    @torch.no_grad()
    def _start(self, level: int, vectors: Tensor) -> None:
        if self.started[level]:
            return
        centres, counts = starting_codes(vectors, self.codebook_size)
        self.codebooks[level] = centres
        self.usage[level] = counts.clamp_min(self.min_usage)
        self.sums[level] = centres * self.usage[level][:, None]
        self.started[level] = 1

    @torch.no_grad()
    def _learn(self, level: int, vectors: Tensor, index: Tensor) -> None:
        """One step of the moving averages, then new vectors for the codes that nobody uses."""
        counts = torch.bincount(index, minlength=self.codebook_size).to(vectors)
        sums = torch.zeros_like(self.sums[level]).index_add_(0, index, vectors)
        self.usage[level].lerp_(counts, 1 - self.decay)
        self.sums[level].lerp_(sums, 1 - self.decay)
        self.codebooks[level] = self.sums[level] / self.usage[level].clamp_min(1e-5)[:, None]
        dead = (self.usage[level] < self.min_usage).nonzero().squeeze(1)
        if len(dead):
            chosen = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)]
            self.codebooks[level][dead] = chosen
            usage = max(self.min_usage, len(vectors) / self.codebook_size)  # time to prove themselves
            self.usage[level][dead] = usage
            self.sums[level][dead] = chosen * usage


def starting_codes(vectors: Tensor, num_codes: int) -> tuple[Tensor, Tensor]:
    """(codes K D, counts K): k-means with a centre for every four vectors, at most K; the other codes lie around the
    centres as far as the vectors do."""
    num_centres = min(num_codes, max(1, len(vectors) // 4))
    centres, counts = kmeans(vectors, num_centres)
    if num_centres == num_codes:
        return centres, counts
    index = (centres.square().sum(dim=1) - 2 * vectors @ centres.T).argmin(dim=1)
    spread = (vectors - centres[index]).square().mean(dim=0).sqrt()
    owner = torch.arange(num_codes, device=vectors.device) % num_centres
    codes = centres[owner]
    codes[num_centres:] += torch.randn_like(codes[num_centres:]) * spread
    return codes, counts[owner] / torch.bincount(owner)[owner]


def kmeans(vectors: Tensor, num_centres: int, iterations: int = 10) -> tuple[Tensor, Tensor]:
    """(centres K D, counts K) of Lloyd's algorithm from random vectors (repeated where there are too few)."""
    order = torch.randperm(len(vectors), device=vectors.device)
    centres = vectors[order.repeat(-(-num_centres // len(vectors)))[:num_centres]].clone()
    counts = torch.ones(num_centres, device=vectors.device)
    for _ in range(iterations):
        index = (centres.square().sum(dim=1) - 2 * vectors @ centres.T).argmin(dim=1)
        counts = torch.bincount(index, minlength=num_centres).to(vectors)
        sums = torch.zeros_like(centres).index_add_(0, index, vectors)
        centres = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres)
    return centres, counts
