"""Discriminators: MAGVIT-v2's 3-D residual one with blur-pooling; SoundStream's STFT and waveform ones."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BlurPool3d(nn.Module):
    """Halves time and space after a [1 2 1] low-pass filter along each axis (Zhang 2019), which keeps motion
    from aliasing. A single frame stays a single frame."""

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C ⌈T/2⌉ ⌈H/2⌉ ⌈W/2⌉."""
        channels = x.shape[1]
        taps = x.new_tensor((0.25, 0.5, 0.25))
        for axis in range(3):
            shape, stride, padding = [1, 1, 1], [1, 1, 1], [0, 0, 0, 0, 0, 0]
            shape[axis], stride[axis] = 3, 2
            padding[2 * (2 - axis)] = padding[2 * (2 - axis) + 1] = 1
            kernel = taps.view(1, 1, *shape).expand(channels, 1, *shape)
            x = F.conv3d(F.pad(x, padding, mode="replicate"), kernel, stride=stride, groups=channels)
        return x


class DiscriminatorBlock(nn.Module):
    """StyleGAN's residual block in 3-D: two convolutions and a blur-pool beside a pooled shortcut, over √2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv3d(in_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv3d(in_channels, out_channels, 1, bias=False)
        self.pool = BlurPool3d()

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B C' ⌈T/2⌉ ⌈H/2⌉ ⌈W/2⌉."""
        hidden = F.leaky_relu(self.conv1(x), 0.2)
        hidden = F.leaky_relu(self.conv2(self.pool(hidden)), 0.2)
        return (hidden + self.shortcut(self.pool(x))) / math.sqrt(2)


class VideoDiscriminator(nn.Module):
    """One logit for each clip of whatever size (MAGVIT-v2, arXiv 2310.05737 §3.2).

    Args:
        channels: width of the first layer.
        multipliers: widths of the blocks, in units of `channels`.
    """

    def __init__(self, channels: int = 64, multipliers: tuple[int, ...] = (2, 4, 4, 4, 4)) -> None:
        super().__init__()
        widths = [channels, *(channels * m for m in multipliers)]
        self.conv_in = nn.Conv3d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(a, b) for a, b in pairwise(widths))
        self.conv_out = nn.Conv3d(widths[-1], widths[-1], 3, padding=1)
        self.head = nn.Sequential(nn.Linear(widths[-1], widths[-1]), nn.LeakyReLU(0.2), nn.Linear(widths[-1], 1))

    def forward(self, video: Tensor) -> Tensor:
        """B 3 T H W in [-1, 1] → B logits."""
        hidden = F.leaky_relu(self.conv_in(video), 0.2)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = F.leaky_relu(self.conv_out(hidden), 0.2)
        return self.head(hidden.mean(dim=(2, 3, 4))).squeeze(1)


class WaveDiscriminator(nn.Module):
    """SoundStream's waveform discriminator at one rate: strided grouped convolutions (MelGAN's)."""

    def __init__(self, channels: int = 16, max_channels: int = 1024) -> None:
        super().__init__()
        layers = [nn.Conv1d(1, channels, 15, padding=7)]
        width = channels
        for groups in (4, 16, 64, 256):
            out = min(width * 4, max_channels)
            layers.append(nn.Conv1d(width, out, 41, stride=4, padding=20, groups=min(groups, width)))
            width = out
        layers.append(nn.Conv1d(width, width, 5, padding=2))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Conv1d(width, 1, 3, padding=1)

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """B 1 T → logits (B 1 T/256) and the features of every layer."""
        features = []
        for layer in self.layers:
            audio = F.leaky_relu(layer(audio), 0.2)
            features.append(audio)
        return self.head(audio), features


class StftUnit(nn.Module):
    """A residual unit over (frequency, time) with a strided second convolution."""

    def __init__(self, in_channels: int, out_channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        kernel = (stride[0] + 2, stride[1] + 2)
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """B C F T → B C' F/stride T/stride."""
        hidden = self.conv2(F.leaky_relu(self.conv1(x), 0.2))
        shortcut = self.shortcut(x)
        height, width = min(hidden.shape[2], shortcut.shape[2]), min(hidden.shape[3], shortcut.shape[3])
        return F.leaky_relu(hidden[:, :, :height, :width] + shortcut[:, :, :height, :width], 0.2)


class StftDiscriminator(nn.Module):
    """SoundStream's discriminator of the complex short-time Fourier transform (window 1024, hop 256)."""

    def __init__(self, channels: int = 32, window: int = 1024, hop: int = 256) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        self.hann: Tensor
        self.register_buffer("hann", torch.hann_window(window), persistent=False)
        widths = [channels * m for m in (1, 2, 4, 4, 8, 8)]
        strides = [(2, 1), (2, 2)] * 3
        self.conv_in = nn.Conv2d(2, channels, 7, padding=3)
        self.units = nn.ModuleList(
            StftUnit(a, b, stride) for (a, b), stride in zip(pairwise([channels, *widths]), strides, strict=True)
        )
        self.head = nn.Conv2d(widths[-1], 1, (window // 2 // 64, 1))

    def forward(self, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        """B 1 T → logits (B 1 1 frames/8) and the features of every layer."""
        spectrum = torch.stft(
            audio.squeeze(1).float(), self.window, self.hop, window=self.hann, return_complex=True, pad_mode="constant"
        )
        hidden = F.leaky_relu(self.conv_in(torch.view_as_real(spectrum[:, :-1]).permute(0, 3, 1, 2)), 0.2)
        features = [hidden]
        for unit in self.units:
            hidden = unit(hidden)
            features.append(hidden)
        return self.head(hidden), features


class AudioDiscriminators(nn.Module):
    """SoundStream's four: one of the STFT and three of the waveform at full, half and quarter rate.

    Args:
        channels: width of the STFT discriminator; the waveform ones have half of it.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.stft = StftDiscriminator(channels)
        self.waves = nn.ModuleList(WaveDiscriminator(channels // 2, 32 * channels) for _ in range(3))

    def forward(self, audio: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """B 1 T in [-1, 1] → the logits and the features of each."""
        outputs = [self.stft(audio)]
        for wave in self.waves:
            outputs.append(wave(audio))
            audio = F.avg_pool1d(audio, 4, 2, padding=1, count_include_pad=False)
        return [logits for logits, _ in outputs], [features for _, features in outputs]
