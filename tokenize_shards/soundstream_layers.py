"""Layers of SoundStream that never look ahead, on sound B C T.

Without gradients on a CPU, sound is held as pictures of one row with the channels of a sample side by side, where
oneDNN's 2-D convolutions are up to five times as quick as its 1-D ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenize_shards.causal import Stream


def _as_pictures(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled()


class CausalConv1d(nn.Module):
    """A convolution padded with kernel-stride zeros in front, none behind: T samples give T/stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.front = (kernel - 1) * dilation + 1 - stride
        self.conv = nn.Conv1d(in_channels, out_channels, kernel, stride=stride, dilation=dilation)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B C T → B C' T/stride."""
        if stream is None:
            return self._without_gradients(x, self.front) if _as_pictures(x) else self.conv(F.pad(x, (self.front, 0)))
        past = stream.recall(self)
        x = torch.cat((x.new_zeros(*x.shape[:2], self.front) if past is None else past, x), dim=2)
        stream.keep(self, x[:, :, x.shape[2] - self.front :].clone())
        return self._without_gradients(x, 0) if _as_pictures(x) else self.conv(x)

    def _without_gradients(self, x: Tensor, front: int) -> Tensor:
        """The convolution of sound with `front` zeros before it."""
        (stride,), (dilation,), (kernel,) = self.conv.stride, self.conv.dilation, self.conv.kernel_size
        if x.shape[1] == 1 and dilation == 1:
            windows = F.pad(x, (front, 0))[:, 0].unfold(1, kernel, stride)
            return F.linear(windows, self.conv.weight[:, 0], self.conv.bias).transpose(1, 2)
        length = (x.shape[2] + front - (kernel - 1) * dilation - 1) // stride + 1
        weight = self.conv.weight.unsqueeze(2)
        # Zeros on both sides cost nothing, in front alone a copy: what they give behind the end is cut off.
        found = F.conv2d(_picture(x), weight, self.conv.bias, (1, stride), (0, front), (1, dilation))
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
        if not _as_pictures(x):
            return self.conv(x)
        weight = self.conv.weight.unsqueeze(2)
        return F.conv_transpose2d(_picture(x), weight, self.conv.bias, (1, self.stride)).squeeze(2)


def _picture(x: Tensor) -> Tensor:
    """B C T → B C 1 T with channels side by side, copied only where they are not."""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


class ResidualUnit(nn.Module):
    """ELU → dilated convolution of kernel 7 → ELU → convolution of kernel 1, added to the input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.wide = CausalConv1d(channels, channels, 7, dilation=dilation)
        self.point = CausalConv1d(channels, channels, 1)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B C T → B C T."""
        if torch.is_grad_enabled():
            return x + self.point(F.elu(self.wide(F.elu(x), stream)), stream)
        return self.point(F.elu_(self.wide(F.elu(x), stream)), stream).add_(x)


class Activation(nn.Module):
    """ELU with the signature of the causal layers; without gradients it overwrites what it is given."""

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """Any shape → the same."""
        return F.elu(x, inplace=not torch.is_grad_enabled())


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
