"""Layers that never look ahead: convolutions padded in front, norms over single frames.

Every layer takes an optional `Stream`. Without one it sees a whole clip (training). With one it sees the next
piece of a clip and remembers the few frames the following piece needs. Feeding a clip in fixed pieces (frame 0,
then groups of one temporal stride) runs the very same kernels on the very same shapes however long the clip is,
so an image equals the first frame of any clip that starts with it bit for bit, not merely up to rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

_SMALL = 20480  # up to so many values (without the width) torch computes 3-D convolutions on a CPU without oneDNN


class Stream:
    """What each causal layer remembers of the frames it has seen; one per clip (or batch of clips).

    Args:
        pieces: how many will come, where it is known.
    """

    def __init__(self, pieces: int = 0) -> None:
        self.pieces = pieces
        self._past: dict[nn.Module, Any] = {}

    def recall(self, layer: nn.Module) -> Any:
        """What was kept for this layer; None at the start of a clip."""
        return self._past.get(layer)

    def keep(self, layer: nn.Module, frames: Any) -> None:
        """Remembers `frames` for the layer's next call."""
        self._past[layer] = frames


def channels_last(x: Tensor) -> Tensor:
    """A copy with the channels of a pixel side by side in memory, where convolutions on a CPU are quickest.

    Its strides depend on its shape alone, also where sides of 1 leave a choice: kernels are chosen by them.
    """
    return x.clone(memory_format=torch.channels_last_3d if x.dim() == 5 else torch.channels_last)


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of each pixel of B C T H W are side by side in memory."""
    return x.is_contiguous(memory_format=torch.channels_last_3d)


def frames_of(x: Tensor) -> Tensor:
    """B C T H W → (B T) C H W. Of one clip it is a view made without merging sides of 1, which would spoil the strides
    by which torch knows that channels are last."""
    return x[0].transpose(0, 1) if x.shape[0] == 1 else rearrange(x, "b c t h w -> (b t) c h w")


def clips_of(frames: Tensor, batch: int) -> Tensor:
    """(B T) C H W → B C T H W."""
    clips = frames.unsqueeze(0) if batch == 1 else frames.unflatten(0, (batch, -1))
    return clips.transpose(1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of one pixel and one frame, which is a matrix product where channels are side by side."""
    if is_channels_last(x) and x.device.type == "cpu" and not torch.is_grad_enabled():
        return F.linear(x.permute(0, 2, 3, 4, 1), weight.flatten(1), bias).permute(0, 4, 1, 2, 3)
    return F.conv3d(x, weight, bias)


class PointConv3d(nn.Conv3d):
    """A convolution of one pixel and one frame."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """B C T H W → B C' T H W."""
        return pointwise(input, self.weight, self.bias)


def _joined(past: Tensor, x: Tensor, silu: bool) -> Tensor:
    """`past` and then x, or silu(x), along time: written into place, since copies of large frames take their time."""
    if not silu or past.dtype != x.dtype:
        return torch.cat((past, F.silu(x) if silu else x), dim=2)
    layout = torch.channels_last_3d if is_channels_last(x) else torch.contiguous_format
    shape = (*x.shape[:2], past.shape[2] + x.shape[2], *x.shape[3:])
    joined = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    joined[:, :, : past.shape[2]] = past
    torch.ops.aten.silu.out(x, out=joined[:, :, past.shape[2] :])
    return joined


class CausalConv3d(nn.Module):
    """A 3-D convolution whose output at time t depends on inputs up to t.

    Time is padded with kernel-1 frames in front and none behind; space on both sides:

        kernel 3, stride 1    . . 0 1 2 3 4      kernel 3, stride 2    . . 0 1 2 3 4
                              └─┬─┘ └─┬─┘                              └─┬─┘ └─┬─┘ → 0, 2, 4

    Args:
        kernel: (time, space); the kernel is square in space.
        stride: (time, space).
        time_padding: `zero`, or `replicate` to repeat the first frame (a still clip then stays constant).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        bias: bool = True,
        time_padding: str = "zero",
    ) -> None:
        super().__init__()
        self.time_padding = time_padding
        self.front = kernel[0] - 1
        self.kept = kernel[0] - stride[0]
        self.conv = nn.Conv3d(
            in_channels,
            out_channels,
            (kernel[0], kernel[1], kernel[1]),
            stride=(stride[0], stride[1], stride[1]),
            padding=(0, kernel[1] // 2, kernel[1] // 2),
            bias=bias,
        )

    def forward(self, x: Tensor, stream: Stream | None = None, silu: bool = False) -> Tensor:
        """B C T H W → B C' T/stride H/stride W/stride (rounded up in time).

        Args:
            silu: convolve silu(x); without gradients it may be written over x.
        """
        past = stream.recall(self) if stream is not None else None
        if silu and (past is None or torch.is_grad_enabled() or past.shape[2] < self.kept):
            x, silu = F.silu(x, inplace=not torch.is_grad_enabled()), False
        if not self.front:
            return self.conv(x) if stream is None else self._convolve(x, 0)
        missing = self.front if past is None else self.kept - past.shape[2]  # frames before the clip
        skips = stream is not None and self.time_padding == "zero"
        if missing and not (skips and x.shape[2] <= self.conv.stride[0]):
            past = self._before(x, missing) if past is None else torch.cat((self._before(x, missing), past), dim=2)
            missing = 0
        x = x if past is None else _joined(past, x, silu)
        if stream is None:
            return self.conv(x)
        stream.keep(self, x[:, :, max(0, x.shape[2] - self.kept) :].clone())
        x = self._convolve(x, missing)
        return channels_last(x) if x.device.type == "cpu" and not is_channels_last(x) else x

    def _before(self, x: Tensor, num_frames: int) -> Tensor:
        if self.time_padding == "replicate":
            return x[:, :, :1].expand(-1, -1, num_frames, -1, -1)
        return x.new_zeros(x.shape[0], x.shape[1], num_frames, *x.shape[3:])

    def _convolve(self, x: Tensor, missing: int) -> Tensor:
        """The convolution without the `missing` first frames of the kernel, which would meet zeros.

        On a CPU 2-D convolutions are quicker: over the channels of all frames, where there is one frame of output or
        the input is small, and over every frame, where the kernel has one.
        """
        weight = self.conv.weight[:, :, missing:]
        stride, padding = self.conv.stride[1:], self.conv.padding[1:]
        if weight.shape[2:].numel() == 1:
            return pointwise(x, weight, self.conv.bias)
        if weight.shape[2] == 1:
            return clips_of(F.conv2d(frames_of(x), weight[:, :, 0], self.conv.bias, stride, padding), x.shape[0])
        if weight.shape[2] == x.shape[2]:
            like = channels_last if is_channels_last(x) else Tensor.contiguous
            return F.conv2d(like(x.flatten(1, 2)), weight.flatten(1, 2), self.conv.bias, stride, padding).unsqueeze(2)
        if x.shape[:4].numel() > _SMALL or x.device.type != "cpu":
            return F.conv3d(x, weight, self.conv.bias, self.conv.stride, self.conv.padding)
        windows = rearrange(x.unfold(2, weight.shape[2], self.conv.stride[0]), "b c t h w k -> (b t) (c k) h w")
        frames = F.conv2d(channels_last(windows), weight.flatten(1, 2), self.conv.bias, stride, padding)
        return clips_of(frames, x.shape[0])


class FrameNorm(nn.Module):
    """Group normalisation with the statistics of single frames, which alone keeps a network causal.

    Args:
        scope: `frame`; or `clip`, which pools over time as some published checkpoints do and is not causal.
    """

    def __init__(self, channels: int, groups: int = 32, affine: bool = True, scope: str = "frame") -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels do not split into {groups} norm groups")
        self.scope = scope
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6, affine=affine)

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """B C T H W → the same shape.

        Args:
            scale, shift: of each channel, where the norm has none of its own.
        """
        frames = x if self.scope == "clip" else frames_of(x)
        if scale is None:
            frames = self.norm(frames)
        else:
            frames = F.group_norm(frames, self.norm.num_groups, scale, shift, self.norm.eps)
        return frames if self.scope == "clip" else clips_of(frames, x.shape[0])


class AdaptiveNorm(nn.Module):
    """A norm whose scale and shift come from the quantized latent: linear maps of the standard deviation and
    the mean of each of its channels over a frame (MAGVIT-v2 §3.2).

    Args:
        control_channels: channels of the latent, which may be coarser in time and space than the input.
    """

    def __init__(self, channels: int, control_channels: int, groups: int = 32, scope: str = "frame") -> None:
        super().__init__()
        self.norm = FrameNorm(channels, groups, affine=False, scope=scope)
        self.scale = nn.Linear(control_channels, channels)
        self.shift = nn.Linear(control_channels, channels)
        nn.init.zeros_(self.scale.weight)
        nn.init.ones_(self.scale.bias)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)

    def _statistics(self, control: Tensor) -> tuple[Tensor, Tensor]:
        axes = (2, 3, 4) if self.norm.scope == "clip" else (3, 4)
        count = control[0, 0, 0].numel() * (control.shape[2] if self.norm.scope == "clip" else 1)
        variance = control.var(dim=axes, correction=min(1, count - 1), keepdim=True)
        return control.mean(dim=axes, keepdim=True), (variance + 1e-6).sqrt()

    def forward(self, x: Tensor, control: Tensor, first: bool) -> Tensor:
        """B C T H W and the latent B c t h w → B C T H W.

        Args:
            first: whether the clip starts here: latent 0 then stands for one frame, every other for T/t frames.
        """
        mean, deviation = (rearrange(s, "b c t 1 1 -> b t c") for s in self._statistics(control))
        scale = rearrange(self.scale(deviation), "b t c -> b c t 1 1")
        shift = rearrange(self.shift(mean), "b t c -> b c t 1 1")
        if scale.shape[:3].numel() == scale.shape[1] and not torch.is_grad_enabled():  # one latent of one clip
            return self.norm(x, scale.flatten().to(x.dtype), shift.flatten().to(x.dtype))
        if scale.shape[2] > 1 or not first:
            scale, shift = (_hold(s, x.shape[2], first) for s in (scale, shift))
        if torch.is_grad_enabled():
            return self.norm(x) * scale + shift
        return self.norm(x).mul_(scale).add_(shift)


def _hold(control: Tensor, num_frames: int, first: bool) -> Tensor:
    """B C t 1 1 → B C T 1 1: each latent held over its frames, the first of a clip over one."""
    latents = control.shape[2]
    if latents in (1, num_frames):
        return control
    if not first:
        return control.repeat_interleave(num_frames // latents, dim=2)
    rest = control[:, :, 1:].repeat_interleave((num_frames - 1) // (latents - 1), dim=2)
    return torch.cat((control[:, :, :1], rest), dim=2)


class ResBlock(nn.Module):
    """norm → swish → convolution, twice, beside a shortcut (a 1x1x1 convolution where widths differ).

    Args:
        kernel: `full` (3x3x3 twice, as in the paper) or `factored` (1x3x3, then 3x1x1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int = 32,
        scope: str = "frame",
        kernel: str = "full",
        time_padding: str = "zero",
    ) -> None:
        super().__init__()
        kernels = ((3, 3), (3, 3)) if kernel == "full" else ((1, 3), (3, 1))
        self.norm1 = FrameNorm(in_channels, groups, scope=scope)
        self.conv1 = CausalConv3d(in_channels, out_channels, kernels[0], bias=False, time_padding=time_padding)
        self.norm2 = FrameNorm(out_channels, groups, scope=scope)
        self.conv2 = CausalConv3d(out_channels, out_channels, kernels[1], bias=False, time_padding=time_padding)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = PointConv3d(in_channels, out_channels, bias=False)

    def forward(self, x: Tensor, stream: Stream | None = None) -> Tensor:
        """B C T H W → B C' T H W."""
        hidden = self.conv1(self.norm1(x), stream, silu=True)
        hidden = self.conv2(self.norm2(hidden), stream, silu=True)
        return self.shortcut(x) + hidden if torch.is_grad_enabled() else hidden.add_(self.shortcut(x))


class Upsample(nn.Module):
    """A convolution to C·time·space² channels, then depth to space with the channel split (t h w c).

    A clip's first latent frame becomes one frame, not `time` frames: the one at index 1 is dropped (time 2), so
    that 1 + k frames become 1 + 2k.
    """

    def __init__(
        self,
        channels: int,
        factor: tuple[int, int],
        kernel: tuple[int, int] = (3, 3),
        time_padding: str = "zero",
    ) -> None:
        super().__init__()
        self.time, self.space = factor
        out_channels = channels * self.time * self.space**2
        self.conv = CausalConv3d(channels, out_channels, kernel, time_padding=time_padding)

    def forward(self, x: Tensor, first: bool, stream: Stream | None = None) -> Tensor:
        """B C T H W → B C T·time H·space W·space, less time-1 frames where the clip starts."""
        x = self.conv(x, stream)
        sides = {"p": self.time, "q": self.space, "r": self.space}
        if stream is not None and is_channels_last(x):
            x = rearrange(x, "b (p q r c) t h w -> b (t p) (h q) (w r) c", **sides)
            x = x.permute(0, 4, 1, 2, 3)
        else:
            x = rearrange(x, "b (p q r c) t h w -> b c (t p) (h q) (w r)", **sides)
        if first and self.time > 1:
            later = x[:, :, self.time :]
            x = torch.cat((x[:, :, :1], later), dim=2) if later.shape[2] else x[:, :, :1]
        return x
