"""Codes that are made from others and made but once, since training comes by again."""

from collections.abc import Callable

import numpy as np

MAX_KEPT_BYTES = 256 * 1024**2


class KeptCodes:
    """A function from codes to codes that remembers what it gave, up to 256 MiB.

    Args:
        make: from codes, and whole numbers, to codes; a function of these alone.
    """

    def __init__(self, make: Callable[..., np.ndarray]):
        self._make = make
        self._kept: dict[bytes, np.ndarray] = {}
        self._kept_bytes = 0

    def __call__(self, codes: np.ndarray, *numbers: int) -> np.ndarray:
        """What is made of them."""
        name = repr((codes.shape, numbers)).encode() + codes.astype(np.uint32).tobytes()
        found = self._kept.get(name)
        if found is None:
            found = self._make(codes, *numbers)
            self._kept_bytes += len(name) + found.nbytes
            if self._kept_bytes <= MAX_KEPT_BYTES:
                self._kept[name] = found
        return found
