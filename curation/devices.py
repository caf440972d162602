"""Where a model runs, and in which precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> str:
    """`auto` is cuda where there is one, else cpu.

    Raises:
        ValueError: cuda is asked for and there is none.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
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
