"""decord, imported so that torch still works afterwards.

On import decord2 loads every library of the `nvidia-*` wheels into the global namespace, for its CUDA build. One of
them is NVBLAS, which then answers torch's matrix products on the CPU and crashes. The wheel we use needs none of them,
so they are hidden from it while it is imported.
"""

import sys

_nvidia = sys.modules.get("nvidia")
sys.modules["nvidia"] = None  # type: ignore[assignment]  # `find_spec("nvidia")` then finds nothing
try:
    import decord
finally:
    if _nvidia is None:
        del sys.modules["nvidia"]
    else:
        sys.modules["nvidia"] = _nvidia

__all__ = ["decord"]
