"""What identifies a model's weights, without loading the model."""

import hashlib
from functools import cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

SHIPPED = Path(__file__).parent / "weights"  # the weights that come with this package

WHOLE = 64 * 2**20  # bytes; larger files are hashed by size and samples, as 15 GB would take a minute at every start
_SAMPLES, _SAMPLE_BYTES = 64, 2**20


@cache
def weights_fingerprint(name: str) -> str:
    """Fingerprint of a weight file, a folder of them, or a name on the hub with the revision at hand.

    Files above 64 MiB count by size and 64 evenly spread samples of 1 MiB: training changes every tensor.
    """
    path = Path(name)
    if path.is_file():
        return _of_file(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        parts = [f"{file.relative_to(path).as_posix()} {_of_file(file)}" for file in files]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return hashlib.sha256(f"{name} {_revision(name)}".encode()).hexdigest()


def _revision(name: str) -> str:
    """The commit of the hub's model in the local cache; empty where none is cached yet."""
    if name.count("/") != 1:
        return ""
    cached = try_to_load_from_cache(name, "config.json")
    return Path(cached).parent.name if isinstance(cached, str) else ""


def _of_file(path: Path) -> str:
    size = path.stat().st_size
    if size <= WHOLE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as stream:
        for sample in range(_SAMPLES):
            stream.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()
