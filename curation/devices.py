"""Where a model runs, and in which precision."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def device_kind(name: str) -> str:
    """`cpu` or `cuda`, of a device that may be another machine's; `auto` is cuda where this one has it, else cpu.

    Raises:
        ValueError: no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if re.fullmatch(r"cpu|cuda(:\d+)?", name) is None:
        raise ValueError(f"device {name!r} is none; use auto, cpu, cuda or cuda:N")
    return name.partition(":")[0]


def pick_device(name: str) -> str:
    """The device that a model is put on here; `auto` is cuda where there is one, else cpu.

    Raises:
        ValueError: cuda is asked for and there is none, or no such device.
    """
    kind = device_kind(name)
    if name == "auto":
        return kind
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name} is asked for, but there is no CUDA device here; use auto or cpu")
    return name


def pick_dtype(name: str, device: str) -> torch.dtype:
    """`auto` is float16 on cuda and float32 elsewhere."""
    if name == "auto":
        return torch.float16 if device.startswith("cuda") else torch.float32
    return _DTYPES[name]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one CPU thread: every core already has a worker, and sums are taken in one order everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
