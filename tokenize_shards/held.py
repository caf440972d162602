"""Layers as they are held for inference on a CPU: their weights are laid out once, not at every call.

oneDNN and MKL rearrange weights for their kernels. torch has them do so anew at each call, unless it is given weights
that lie so already, which is what its compiler does (`torch._inductor`) and what is done here by the same operators.
"""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenize_shards.causal import CausalConv3d, Stream, channels_last, clips_of, frames_of, is_channels_last
from tokenize_shards.transformer import GELU

_OPERATORS = (
    ("mkl", "_mkl_linear"),
    ("mkl", "_mkl_reorder_linear_weight"),
    ("mkldnn", "_linear_pointwise"),
    ("mkldnn", "_reorder_linear_weight"),
    ("mkldnn", "_convolution_pointwise"),
    ("mkldnn", "_convolution_pointwise_"),
    ("mkldnn", "_reorder_convolution_weight"),
)
_MIN_WEIGHTS = 2**14  # of a linear layer that is worth it
_MAX_LAYOUTS = 4  # of a layer: one for each size that it is given, the last ones
_LAYING_OUT = Lock()


def can_hold(weight: Tensor) -> bool:
    """Whether this machine and this torch have kernels for weights of this type: AVX for float32, AVX-512 or AMX for
    bfloat16."""
    if weight.device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()):
        return False
    if any(not hasattr(getattr(torch.ops, library), name) for library, name in _OPERATORS):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.cpu._is_avx512_bf16_supported())
    return weight.dtype == torch.float32 and torch.backends.cpu.get_cpu_capability().startswith("AVX")


def hold_layers(part: nn.Module) -> None:
    """Puts held layers in the place of those that have one, all over a module. Its weights cannot be saved after it."""
    layers = list(part.named_children())
    for number, (name, layer) in enumerate(layers):
        if isinstance(layer, nn.Linear) and layer.weight.numel() >= _MIN_WEIGHTS and can_hold(layer.weight):
            after, activation = layers[number + 1] if number + 1 < len(layers) else ("", None)
            gelu = isinstance(part, nn.Sequential) and isinstance(activation, GELU)
            setattr(part, name, HeldLinear(layer, gelu))
            if gelu:
                setattr(part, after, nn.Identity())
        elif isinstance(layer, CausalConv3d) and HeldCausalConv3d.takes(layer):
            setattr(part, name, HeldCausalConv3d(layer))
        else:
            hold_layers(layer)


class _Layouts:
    """A layer's weights as they lie for the sizes that it was given, the last few.

    The threads of a Beam worker share its tokenizers: one at a time lays weights out, others may read meanwhile.
    """

    def __init__(self) -> None:
        self._held: dict[Hashable, Any] = {}

    def get(self, size: Hashable, lay_out: Callable[[], Any]) -> Any:
        """The layout for this size; `lay_out` makes it where it is not there."""
        held = self._held.get(size)
        if held is not None:
            return held
        with _LAYING_OUT:
            if size not in self._held:
                held = lay_out()
                if len(self._held) == _MAX_LAYOUTS:
                    del self._held[next(iter(self._held))]
                self._held[size] = held
            return self._held[size]

    def any(self) -> Any:
        """One of those that are there."""
        return next(iter(self._held.values()))


class HeldLinear(nn.Module):
    """A linear layer, in bfloat16 or float32.

    Args:
        gelu: whether GELU comes after it.
    """

    def __init__(self, layer: nn.Linear, gelu: bool = False) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        self.gelu = gelu
        self._layouts = _Layouts()

    def forward(self, input: Tensor) -> Tensor:
        """B ... D → B ... D', of the weights' type."""
        x = input.to(self.weight.dtype)
        if torch.is_grad_enabled():
            made = F.linear(x, self.weight, self.bias)
            return F.gelu(made) if self.gelu else made
        if x.dtype == torch.bfloat16:
            after = "gelu" if self.gelu else "none"
            return torch.ops.mkldnn._linear_pointwise(x, self._weight_for(0), self.bias, after, [], "none")
        rows = x.numel() // x.shape[-1]
        made = torch.ops.mkl._mkl_linear(x, self._weight_for(rows), self.weight, self.bias, rows)
        return torch.ops.aten.gelu_(made) if self.gelu else made

    def _weight_for(self, rows: int) -> Tensor:
        """The weights laid out: by MKL for this number of rows, or by oneDNN, whose layout is for any (0).

        Rows never decide between kernels: the result of some does not depend on which came before.
        """
        lay_out = torch.ops.mkl._mkl_reorder_linear_weight if rows else torch.ops.mkldnn._reorder_linear_weight
        held: Tensor = self._layouts.get(rows, lambda: lay_out(self.weight.detach(), rows or None))
        return held


class HeldCausalConv3d(nn.Module):
    """A `CausalConv3d` without strides, in bfloat16 or float32, as a sum over time of 2-D convolutions.

    Frames before a piece are convolved where they lie: nothing is joined along time, and zeros are left out.
    """

    def __init__(self, layer: CausalConv3d) -> None:
        super().__init__()
        conv = layer.conv
        self.dtype = conv.weight.dtype
        self.bias = conv.bias
        self.padding = list(conv.padding[1:])
        self.time_padding = layer.time_padding
        self.num_taps = conv.kernel_size[0]
        self._plain = list(conv.weight.detach().unbind(2))[::-1]  # that of the newest frame first
        self._layouts = _Layouts()

    @staticmethod
    def takes(layer: CausalConv3d) -> bool:
        """Whether the layer can be held so."""
        return layer.conv.stride == (1, 1, 1) and can_hold(layer.conv.weight)

    def forward(self, x: Tensor, stream: Stream | None = None, silu: bool = False) -> Tensor:
        """B C T H W → B C' T H W of the weights' type, without gradients.

        Args:
            silu: convolve silu(x), which is written over x.
        """
        x = x.to(self.dtype)
        x = F.silu(x, inplace=True) if silu else x
        x = x if is_channels_last(x) else channels_last(x)
        taps = self._taps_for(x.shape[3], x.shape[4])
        past = stream.recall(self) if stream is not None else None
        made = []
        kept = []
        for number, clip in enumerate(frames_of(x).split(x.shape[2])):
            frames = list(clip.split(1))
            before = past[number] if past is not None else self._before(frames[0])
            made.append(self._convolve(clip, before, taps))
            kept.append([*before, *frames][-self.num_taps + 1 :] if self.num_taps > 1 else [])
        if stream is not None:
            stream.keep(self, kept)
        return clips_of(torch.cat(made) if len(made) > 1 else made[0], x.shape[0])

    def _before(self, frame: Tensor) -> list[Tensor]:
        """What stands before a clip; zeros need not be convolved."""
        return [frame] * (self.num_taps - 1) if self.time_padding == "replicate" else []

    def _taps_for(self, height: int, width: int) -> list[Tensor]:
        """The weights laid out for this size: with the layout for another one, kernels can be a hundred times slower.

        The plain weights are not kept beside them; they come back from one layout for the next, as they were.
        """
        held: list[Tensor] = self._layouts.get((height, width), lambda: self._lay_out(height, width))
        return held

    def _lay_out(self, height: int, width: int) -> list[Tensor]:
        plain = self._plain or [tap.to_dense() for tap in self._layouts.any()]
        how = (self.padding, [1, 1], [1, 1], 1, [1, plain[0].shape[1], height, width])
        held = [torch.ops.mkldnn._reorder_convolution_weight(tap.contiguous(), *how) for tap in plain]
        self._plain = []
        return held

    def _convolve(self, clip: Tensor, before: list[Tensor], taps: list[Tensor]) -> Tensor:
        """T C H W and the frames before → T C' H W."""
        made = torch.ops.mkldnn._convolution_pointwise(
            clip, taps[0], self.bias, self.padding, [1, 1], [1, 1], 1, "none", [], ""
        )
        for age, tap in enumerate(taps[1:], start=1):
            if age < len(clip):
                self._add(made[age:], clip[: len(clip) - age], tap)
            for time in range(min(age, len(clip))):
                if age - time <= len(before):
                    self._add(made[time : time + 1], before[time - age], tap)
        return made

    def _add(self, made: Tensor, frames: Tensor, tap: Tensor) -> None:
        torch.ops.mkldnn._convolution_pointwise_.binary(
            made, frames, tap, None, self.padding, [1, 1], [1, 1], 1, "add", None, None, [], None
        )
