"""A model whose weights are shared out over devices (FSDP), and its tensors as a whole again for files.

Every function here that gathers is a collective: all ranks call it, in the same order.
"""

from collections.abc import Mapping

import torch
from lightning.fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def fsdp_strategy(devices: int) -> ModelParallelStrategy:
    """Fabric's strategy that shares out each layer of a model, and the rest as one piece."""
    return ModelParallelStrategy(_shard, data_parallel_size=devices, tensor_parallel_size=1)


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Each member of a module list called `layers` is gathered when it runs; what is outside them stays gathered
    from the forward to the backward pass, because the loss reads the embeddings again."""
    data_parallel = mesh["data_parallel"]
    for name, layers in list(model.named_modules()):
        if isinstance(layers, nn.ModuleList) and name.split(".")[-1] == "layers":
            for layer in layers:
                fully_shard(layer, mesh=data_parallel)
    return fully_shard(model, mesh=data_parallel, reshard_after_forward=False)  # type: ignore[return-value]


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, gathered where it is shared out."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of them, as a whole and on the CPU where they were shared out."""
    return {
        name: tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor for name, tensor in tensors.items()
    }


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor laid out as another of its shape: in memory, on the device and over the devices."""
    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)
