"""Exact-resume checkpoints without pickles: tensors in safetensors, everything else in JSON.

    OUTPUT/checkpoints/step-00000500/tensors.safetensors   modules, optimizer state, random-number state
                                     state.json            step, parameter groups, extra

A checkpoint is written beside its place and renamed into it, so a folder named `step-…` is always whole.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from training.sharding import laid_out, whole_state

FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{8,})")


def save_checkpoint(
    output: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    extra: Mapping[str, Any] | None = None,
    generators: Mapping[str, torch.Generator] | None = None,
    keep_last: int = 2,
    write: bool = True,
) -> Path:
    """Writes OUTPUT/checkpoints/step-NNNNNNNN and removes all but the newest `keep_last`.

    Args:
        extra: JSON values (schedules, settings, counters), given back by `load_checkpoint`.
        generators: random generators besides torch's own, whose states are always kept.
        write: False on all ranks but one: with weights shared out over devices, all must take part in gathering them.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        tensors.update({f"module/{name}/{key}": value for key, value in module.state_dict().items()})
    groups = {name: _flatten_optimizer(name, optimizer, tensors) for name, optimizer in optimizers.items()}
    tensors.update(_random_states(generators or {}))
    state = {"schema": 1, "step": step, "optimizers": groups, "extra": dict(extra or {})}
    target = output / FOLDER / f"step-{step:08d}"
    tensors = whole_state(tensors)
    if not write:
        return target
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    plain = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    save_file(plain, temporary / "tensors.safetensors")
    (temporary / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
    for path in temporary.iterdir():
        _sync(path)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    _sync(target.parent)
    for old in _checkpoints(output)[: -max(1, keep_last)]:
        shutil.rmtree(old)
    return target


def load_checkpoint(
    folder: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    generators: Mapping[str, torch.Generator] | None = None,
) -> dict[str, Any]:
    """Puts everything back in place, random-number states included; gives `extra` with `step` added.

    Raises:
        FileNotFoundError: `folder` is not a checkpoint.
        ValueError: it is one of a differently shaped model.
    """
    if not (folder / "state.json").is_file():
        raise FileNotFoundError(f"{folder} is not a checkpoint: it has no state.json")
    state = json.loads((folder / "state.json").read_text())
    tensors = load_file(folder / "tensors.safetensors")
    for name, module in modules.items():
        try:
            module.load_state_dict(_laid_out(_below(tensors, f"module/{name}/"), module.state_dict()))
        except RuntimeError as error:
            raise ValueError(
                f"{folder} does not fit the model {name!r}; resume with the settings it was started with "
                f"or choose another --output: {error}"
            ) from error
    for name, optimizer in optimizers.items():
        optimizer.load_state_dict(_unflatten_optimizer(name, state["optimizers"][name], tensors))
        _match_layout(optimizer)
    _restore_random_states(tensors, generators or {})
    return {**state["extra"], "step": state["step"]}


def latest_checkpoint(output: Path) -> Path | None:
    """The checkpoint with the highest step below OUTPUT/checkpoints, or None."""
    found = _checkpoints(output)
    return found[-1] if found else None


def _checkpoints(output: Path) -> list[Path]:
    folder = output / FOLDER
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), key=lambda p: int(p.name[5:]))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _laid_out(tensors: dict[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that fit, shared out over devices where their targets are."""
    return {
        key: laid_out(value, targets[key]) if key in targets and targets[key].shape == value.shape else value
        for key, value in tensors.items()
    }


def _flatten_optimizer(name: str, optimizer: Optimizer, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Moves the tensors of an optimizer's state into `tensors`; gives the rest, which is JSON."""
    state = optimizer.state_dict()
    plain: dict[str, dict[str, Any]] = {}
    for index, slots in state["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{name}/{index}/{slot}"] = value
            else:
                plain.setdefault(str(index), {})[slot] = value
    return {"param_groups": state["param_groups"], "state": plain}


def _unflatten_optimizer(name: str, saved: dict[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    slots: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in saved["state"].items()}
    for key, value in _below(tensors, f"optimizer/{name}/").items():
        index, slot = key.split("/", 1)
        slots.setdefault(int(index), {})[slot] = value
    return {"state": slots, "param_groups": saved["param_groups"]}


def _match_layout(optimizer: Optimizer) -> None:
    """Lays state tensors out like their parameters: fused optimizers pair them byte by byte."""
    inner = getattr(optimizer, "optimizer", optimizer)  # what Lightning Fabric wraps
    for parameter, slots in inner.state.items():
        for slot, value in slots.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                slots[slot] = laid_out(value, parameter)


def _random_states(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    states = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random/cuda"] = torch.cuda.get_rng_state()
    return states | {f"generator/{name}": generator.get_state() for name, generator in generators.items()}


def _restore_random_states(tensors: Mapping[str, Tensor], generators: Mapping[str, torch.Generator]) -> None:
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available() and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"])
    for name, generator in generators.items():
        generator.set_state(tensors[f"generator/{name}"])


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
