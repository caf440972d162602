"""Losses of the tokenizers: adversarial, LeCAM, R1, perceptual, multi-scale mel, feature matching."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import AutoModel

from tokenize_shards.loading import resolve


def non_saturating_generator(fake_logits: Tensor) -> Tensor:
    """-log σ(D(fake)), mean over logits (Goodfellow et al. 2014, §3)."""
    return F.softplus(-fake_logits).mean()


def non_saturating_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log σ(D(real)) - log(1 - σ(D(fake))), mean over logits."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def hinge_generator(fake_logits: Sequence[Tensor]) -> Tensor:
    """max(0, 1 - D(fake)), mean over logits and discriminators (SoundStream eq. 2)."""
    return torch.stack([F.relu(1 - logits).mean() for logits in fake_logits]).mean()


def hinge_discriminator(real_logits: Sequence[Tensor], fake_logits: Sequence[Tensor]) -> Tensor:
    """max(0, 1 - D(real)) + max(0, 1 + D(fake)), mean over logits and discriminators (SoundStream eq. 1)."""
    pairs = zip(real_logits, fake_logits, strict=True)
    return torch.stack([F.relu(1 - real).mean() + F.relu(1 + fake).mean() for real, fake in pairs]).mean()


def r1_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """½·E‖∇D(real)‖² (Mescheder et al. 2018), in float32."""
    real = real.detach().float().requires_grad_(True)
    with torch.autocast(real.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.square().flatten(1).sum(dim=1).mean()


class LeCam:
    """LeCAM regularization (Tseng et al. 2021, eq. 4): distances of logits to moving averages of the others'.

    Args:
        decay: of the two moving averages.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self.real = 0.0
        self.fake = 0.0

    def __call__(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """E[(D(real) - mean fake)²] + E[(D(fake) - mean real)²], after updating the averages."""
        self.real = self.decay * self.real + (1 - self.decay) * float(real_logits.detach().mean())
        self.fake = self.decay * self.fake + (1 - self.decay) * float(fake_logits.detach().mean())
        return (real_logits - self.fake).square().mean() + (fake_logits - self.real).square().mean()


class PerceptualLoss(nn.Module):
    """Mean squared difference of the hidden states of a frozen vision model, each normalised over channels.

    Args:
        trunk: folder or hub id of a model of transformers that takes `pixel_values` (ResNet, ViT, DINO, …).
    """

    def __init__(self, trunk: str) -> None:
        super().__init__()
        self.trunk = AutoModel.from_pretrained(resolve(trunk, "none")).eval().requires_grad_(False)
        size = getattr(self.trunk.config, "image_size", None)
        self.size = size if isinstance(size, int) else None
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1), persistent=False)

    def _features(self, frames: Tensor) -> list[Tensor]:
        frames = ((frames + 1) / 2 - self.mean) / self.deviation
        if self.size is not None and frames.shape[-1] != self.size:
            frames = F.interpolate(frames, (self.size, self.size), mode="bilinear", antialias=True)
        states = self.trunk(pixel_values=frames, output_hidden_states=True).hidden_states
        axes = [1 if state.dim() == 4 else -1 for state in states]
        return [F.normalize(state, dim=axis) for state, axis in zip(states, axes, strict=True)]

    def forward(self, reconstruction: Tensor, video: Tensor) -> Tensor:
        """B 3 T H W in [-1, 1], both → scalar; every frame counts."""
        fake, real = (rearrange(x, "b c t h w -> (b t) c h w") for x in (reconstruction, video))
        with torch.no_grad():
            targets = self._features(real)
        pairs = zip(self._features(fake), targets, strict=True)
        return torch.stack([F.mse_loss(mine, theirs) for mine, theirs in pairs]).mean()


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 of discriminator features, mean over layers and discriminators (SoundStream eq. 3)."""
    pairs = [pair for mine, theirs in zip(fake, real, strict=True) for pair in zip(mine, theirs, strict=True)]
    return torch.stack([F.l1_loss(mine, theirs.detach()) for mine, theirs in pairs]).mean()


class MultiScaleMel(nn.Module):
    """Multi-scale mel loss (SoundStream eq. 4): Σ_s |S - Ŝ|₁ + α_s·‖log S - log Ŝ‖₂, α_s = √(s/2).

    64-bin mels of windows s, hop s/4; per frame, means over bins and frames, mean over scales.
    """

    def __init__(self, sample_rate_hz: int, windows: Sequence[int], num_mels: int = 64) -> None:
        super().__init__()
        self.windows = tuple(windows)
        for window in self.windows:
            mels = min(num_mels, window // 4)  # short windows have fewer bins than 64 mels
            self.register_buffer(f"bank_{window}", mel_bank(sample_rate_hz, window, mels), persistent=False)
            self.register_buffer(f"hann_{window}", torch.hann_window(window), persistent=False)

    def mels(self, audio: Tensor, window: int) -> Tensor:
        """B 1 T → B mels frames, of magnitudes normalised by the window's sum."""
        hann = self.get_buffer(f"hann_{window}")
        spectrum = torch.stft(
            audio.squeeze(1), window, window // 4, window=hann, center=True, pad_mode="constant", return_complex=True
        )
        return self.get_buffer(f"bank_{window}") @ (spectrum.abs() / hann.sum())

    def forward(self, reconstruction: Tensor, audio: Tensor) -> Tensor:
        """B 1 T in [-1, 1], both → scalar."""
        losses = []
        for window in self.windows:
            fake, real = self.mels(reconstruction.float(), window), self.mels(audio.float(), window)
            logs = (torch.log(fake + 1e-5) - torch.log(real + 1e-5)).square().mean(dim=1).add(1e-12).sqrt().mean()
            losses.append((fake - real).abs().sum(dim=1).mean() + math.sqrt(window / 2) * logs / window**0.5)
        return torch.stack(losses).mean()


def mel_bank(sample_rate_hz: int, window: int, num_mels: int) -> Tensor:
    """Triangular filters (num_mels, window/2+1), equally spaced on the mel scale 2595·log10(1 + f/700)."""
    top = 2595 * math.log10(1 + sample_rate_hz / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, num_mels + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, sample_rate_hz / 2, window // 2 + 1, dtype=torch.float64)
    spacing = float(bins[1])
    width = (edges[1:] - edges[:-1]).clamp_min(spacing)  # a filter narrower than a bin would see nothing
    rise = (bins[None] - edges[:-2, None]) / width[:-1, None]
    fall = (edges[2:, None] - bins[None]) / width[1:, None]
    return torch.minimum(rise, fall).clamp(0, 1).float()
