"""Vector quantization on the unit sphere: ℓ2-normalised latents of few channels, ℓ2-normalised code vectors."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from tokenize_shards.base import Quantized

_CHUNK = 4096  # latents compared with the whole codebook at once


class CosineVQ(nn.Module):
    """The nearest of `codebook_size` unit vectors by angle (ViT-VQGAN, arXiv 2110.04627 §3.2).

    Codes follow the moving average of the latents that chose them, which takes the place of the codebook term of the
    VQ loss. The codebook starts from random latents of the first training batch, and a code that is chosen less than
    `min_usage` times a batch in the moving average is replaced by a latent.

    Args:
        width: K, channels of latents and codes.
        decay: of the moving averages.
        commitment_weight: of the mean over latents of |z - q|², both of length 1.
        min_usage: where a batch has fewer latents than there are codes, it must be below latents / codes.
    """

    def __init__(
        self,
        width: int = 32,
        codebook_size: int = 8192,
        decay: float = 0.99,
        commitment_weight: float = 0.25,
        min_usage: float = 0.05,
    ) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.decay = decay
        self.commitment_weight = commitment_weight
        self.min_usage = min_usage
        self.active = True  # False lets unit latents through unquantized, which trainers use for the first steps
        self.codebook: Tensor
        self.usage: Tensor
        self.started: Tensor
        self.register_buffer("codebook", F.normalize(torch.randn(codebook_size, width), dim=1))
        self.register_buffer("usage", torch.ones(codebook_size))
        self.register_buffer("started", torch.zeros((), dtype=torch.uint8))

    def forward(self, z: Tensor) -> Quantized:
        """Latents (B K ...) to unit code vectors of the same shape, in float32 whatever the precision around."""
        with torch.autocast(z.device.type, enabled=False):
            z = F.normalize(z.float(), dim=1)
            if self.training and not self.active:
                return Quantized(z, torch.zeros_like(z[:, 0], dtype=torch.long), {})
            vectors = rearrange(z, "b k ... -> (b ...) k")
            if self.training:
                self._start(vectors.detach())
            numbers = self._nearest(vectors.detach())
            indices = numbers.view(z.shape[0], *z.shape[2:])
            q = self.codes(indices)
            losses = {}
            if self.training:
                losses["commitment"] = self.commitment_weight * (z - q).square().sum(dim=1).mean()
                self._learn(vectors.detach(), numbers)
            return Quantized(z + (q - z).detach(), indices, losses)

    def codes(self, indices: Tensor) -> Tensor:
        """int64 (B ...) → unit vectors (B K ...)."""
        return rearrange(F.embedding(indices, self.codebook).clone(), "b ... k -> b k ...")

    def _nearest(self, vectors: Tensor) -> Tensor:
        return torch.cat([(part @ self.codebook.T).argmax(dim=1) for part in vectors.split(_CHUNK)])

    @torch.no_grad()
    def _start(self, vectors: Tensor) -> None:
        if self.started:
            return
        order = torch.randperm(len(vectors), device=vectors.device)
        chosen = vectors[order.repeat(-(-self.codebook_size // len(vectors)))[: self.codebook_size]]
        noise = 0.001 * torch.randn_like(chosen)  # where there are fewer latents than codes, no two are alike
        self.codebook.copy_(F.normalize(chosen + noise, dim=1))
        self.usage.fill_(len(vectors) / self.codebook_size)
        self.started.fill_(1)

    @torch.no_grad()
    def _learn(self, vectors: Tensor, numbers: Tensor) -> None:
        counts = torch.bincount(numbers, minlength=self.codebook_size).to(vectors)
        sums = torch.zeros_like(self.codebook).index_add_(0, numbers, vectors)
        self.usage.lerp_(counts, 1 - self.decay)
        used = counts > 0
        means = F.normalize(sums[used], dim=1)
        self.codebook[used] = F.normalize(self.codebook[used].lerp(means, 1 - self.decay), dim=1)
        unused = (self.usage < self.min_usage).nonzero().squeeze(1)
        if len(unused):
            chosen = torch.randint(len(vectors), (len(unused),), device=vectors.device)
            self.codebook[unused] = vectors[chosen]
            self.usage[unused] = max(self.min_usage, len(vectors) / self.codebook_size)  # time to prove themselves
