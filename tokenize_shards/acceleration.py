"""How the encoders run on a device: precision of the matrix work, compilation, batch sizes."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from tokenize_shards.held import hold_layers
from tokenize_shards.settings_parts import Precision, VideoTokenSettings

_ROUNDED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
GPU_BATCH = 8
"""Windows encoded at once on a GPU, unless the settings say otherwise."""


def batch_size(settings: VideoTokenSettings, device: torch.device) -> int:
    """Windows encoded at once."""
    return settings.batch_size or (1 if device.type == "cpu" else GPU_BATCH)


def precision_of(settings: VideoTokenSettings, device: torch.device) -> Precision:
    """The precision asked for; else float32 on the CPU and bfloat16 on a GPU."""
    return settings.precision or ("float32" if device.type == "cpu" else "bfloat16")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Matrix work within it is done at this precision; norms, losses and quantizers stay in float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def hold_weights(part: object, precision: Precision, laid_out: bool = True) -> None:
    """Keeps the weights of linear layers and convolutions at this precision, in place: once, and for inference only.

    `autocast` rounds them so at every call, for each step of a clip again; the results are the same, up to rounding. A
    part that is no module of ours (a TorchScript one) stays as it is.

    Args:
        laid_out: on a CPU, keep them in the layout of its kernels too, which torch.compile cannot trace.
    """
    if not isinstance(part, nn.Module) or isinstance(part, torch.jit.ScriptModule):
        return
    if precision != "float32":
        for module in part.modules():
            if isinstance(module, _ROUNDED) and module.weight.dtype == torch.float32:
                module.to(getattr(torch, precision))
    if laid_out:
        hold_layers(part)


def compile_encoder(tokenizer: object, backend: str = "inductor") -> None:
    """Lets torch.compile build the encoder when it is first called; its weights and their names stay as they are.

    Raises:
        ValueError: the tokenizer has no encoder of its own to compile (a TorchScript one is built already).
    """
    encoder = getattr(tokenizer, "encoder", None)
    if not isinstance(encoder, nn.Module) or isinstance(encoder, torch.jit.ScriptModule):
        raise ValueError("video.compile: this tokenizer's encoder cannot be compiled; set video.compile to false")
    encoder.compile(backend=backend)
