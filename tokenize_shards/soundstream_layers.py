"""Layers of SoundStream that never look ahead, on sound B C T.

Without gradients on a CPU the same is computed in another way: sound is held with the channels of a sample side by
side, as pictures of one row, where oneDNN's 2-D convolutions are up to five times as quick as its 1-D ones; at low
rates, where weights outnumber samples, convolutions are matrix products, which leave the weights where they are; and
at high rates the work between two strides is done in blocks of samples that stay in the cache.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenize_shards.causal import Stream

_BLOCK = 4096  # samples
_FEW = 512  # up to so many samples in or out weights are not reordered


def _quick(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled()


def elu(x: Tensor) -> Tensor:
    """ELU; without gradients on a CPU from `exp`, which is vectorized better than `expm1`."""
    if not _quick(x):
        return F.elu(x)
    below = x.clamp_max(0).exp_().sub_(1)
    return torch.maximum(x, below, out=below)


class CausalConv1d(nn.Module):
    """A convolution padded with kernel-stride zeros in front, none behind: T samples give T/stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.front = (kernel - 1) * dilation + 1 - stride
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride=stride, dilation=dilation)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B C T → B C' T/stride."""
        if stream is None:
            return self.after_zeros(x, self.front)
        past = stream.recall(self)
        x = torch.cat((x.new_zeros(*x.shape[:2], self.front) if past is None else past, x), dim=2)
        stream.keep(self, x[:, :, x.shape[2] - self.front :].clone())
        return self.after_zeros(x, 0)

    def after_zeros(self, x: Tensor, count: int) -> Tensor:
        """The convolution of B C T with so many zeros in front of it."""
        if not _quick(x):
            return self.conv(F.pad(x, (count, 0)))
        (stride,), (dilation,), (kernel,) = self.conv.stride, self.conv.dilation, self.conv.kernel_size
        length = (x.shape[2] + count - (kernel - 1) * dilation - 1) // stride + 1
        weight = self.conv.weight
        if kernel == 1 and stride == 1:
            return F.linear(x.transpose(1, 2), weight.squeeze(2), self.conv.bias).transpose(1, 2)
        if dilation == 1 and (length <= _FEW or x.shape[1] == 1):
            windows = F.pad(x, (count, 0)).unfold(2, kernel, stride).transpose(1, 2).flatten(2)  # B T' C·kernel
            return F.linear(windows, weight.flatten(1), self.conv.bias).transpose(1, 2)
        # Zeros on both sides cost nothing, in front alone a copy: what they give behind the end is cut off.
        found = F.conv2d(_picture(x), weight.unsqueeze(2), self.conv.bias, (1, stride), (0, count), (1, dilation))
        return found.squeeze(2)[:, :, :length]


class CausalUpsample1d(nn.Module):
    """A transposed convolution of kernel 2·stride whose last `stride` samples, which need the next frame, are cut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.ConvTranspose1d(in_channels, out_channels, 2 * stride, stride=stride)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B C T → B C' T·stride."""
        past = stream.recall(self) if stream is not None else None
        if stream is not None:
            stream.keep(self, x[:, :, -1:].clone())
        if past is None:
            return self._upsample(x)[:, :, : -self.stride]
        return self._upsample(torch.cat((past, x), dim=2))[:, :, self.stride : -self.stride]

    def _upsample(self, x: Tensor) -> Tensor:
        """B C T → B C' (T+1)·stride."""
        weight, bias = self.conv.weight, cast(Tensor, self.conv.bias)
        if not _quick(x):
            return self.conv(x)
        if x.shape[2] > _FEW:
            return F.conv_transpose2d(_picture(x), weight.unsqueeze(2), bias, (1, self.stride)).squeeze(2)
        taps = (x.transpose(1, 2) @ weight.flatten(1)).unflatten(2, (-1, 2, self.stride))  # B T C' 2 stride
        sums = F.pad(taps[:, :, :, 0], (0, 0, 0, 0, 0, 1))
        sums[:, 1:] += taps[:, :, :, 1]
        return (sums.transpose(2, 3) + bias).flatten(1, 2).transpose(1, 2)


def _picture(x: Tensor) -> Tensor:
    """B C T → B C 1 T with channels side by side, copied only where they are not."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


class ResidualUnit(nn.Module):
    """ELU → dilated convolution of kernel 7 → ELU → convolution of kernel 1, added to the input.

    Without gradients on a CPU the result is written over the input.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.wide = CausalConv1d(channels, channels, 7, dilation=dilation)
        self.point = CausalConv1d(channels, channels, 1)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B C T → B C T."""
        if stream is not None or not _quick(x):
            return x + self.point(elu(self.wide(elu(x), stream)), stream)
        for start in reversed(range(0, x.shape[2], _BLOCK)):  # from the end: what is before a block is still unchanged
            front = min(start, self.wide.front)
            block = x[:, :, start - front : start + _BLOCK]
            hidden = self.wide.after_zeros(elu(block), self.wide.front - front)
            block[:, :, front:] += self.point(elu(hidden))
        return x


class Activation(nn.Module):
    """ELU with the signature of the causal layers. Without gradients on a CPU it is written over the input."""

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Any shape → the same."""
        if not _quick(x):
            return elu(x)
        for block in x.split(_BLOCK, dim=2):
            block.copy_(elu(block))
        return x


class Codec(nn.Module):
    """A row of causal layers, a convolution first."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B C T → B C' T'."""
        for layer in self.layers:
            x = layer(x, stream)
        return x
