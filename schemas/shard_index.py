"""The index of a token shard: where each member lies, so that a reader need not walk the headers of the tar.

It stands in the shard itself, behind the two blocks of zeros that end a tar, where readers of tar do not look; the
size and hash of the shard in `dataset.json` are with it. All integers are little-endian:

    … members …                       the tar, with its end and the padding that tarfile writes
    uint32 (samples, members, 2)      size of the member's body in bytes, number of its form
    uint64 samples, uint64 members
    16 bytes `REELMILL INDEX 1`       the end of the file

A form is a header of a .npy, numbered as they first appear; `NO_FORM` for JSON. Offsets follow from the sizes: before
each body stands its header of 512 bytes, behind it zeros up to a multiple of 512. Names and forms are read in the tar.
"""

from collections.abc import Iterable

import numpy as np

MAGIC = b"REELMILL INDEX 1"
NO_FORM = 2**32 - 1
_BLOCK = 512
_FOOTER = 16 + len(MAGIC)


class IndexBuilder:
    """Collects the index of a shard as its samples pass."""

    def __init__(self) -> None:
        self._rows: list[list[tuple[int, int]]] = []
        self._forms: dict[bytes, int] = {}

    def add(self, members: Iterable[tuple[str, bytes]]) -> None:
        """The members (name, body) of the next sample, in their order in the tar; every sample has equally many."""
        self._rows.append([(len(body), self._form(name, body)) for name, body in members])

    def _form(self, name: str, body: bytes) -> int:
        if not name.endswith(".npy"):
            return NO_FORM
        header = body[: 10 + int.from_bytes(body[8:10], "little")]
        return self._forms.setdefault(header, len(self._forms))

    def to_bytes(self) -> bytes:
        """What is written behind the tar."""
        table = np.array(self._rows, "<u4")
        return table.tobytes() + np.array(table.shape[:2], "<u8").tobytes() + MAGIC


def read_index(end: bytes, num_bytes: int, where: str) -> tuple[int, int, int] | None:
    """(where the table begins in the file, samples, members), or None where the shard has no index.

    Args:
        end: the last bytes of the file, 32 or more.
        num_bytes: of the file.
        where: the file's name, for the error.

    Raises:
        ValueError: the index says what cannot be.
    """
    if len(end) < _FOOTER or not end.endswith(MAGIC):
        return None
    samples, members = (int(number) for number in np.frombuffer(end[-_FOOTER : -len(MAGIC)], "<u8"))
    start = num_bytes - _FOOTER - samples * members * 8
    if start < 0 or not samples or not members:
        raise ValueError(
            f"shard {where} is damaged: its index speaks of {samples} samples of {members} members in {num_bytes} "
            "bytes; run `reelmill tokenize` again"
        )
    return start, samples, members


def offsets_of(sizes: np.ndarray) -> np.ndarray:
    """Where the bodies of members begin, for their sizes (samples, members) int64; the same shape, in bytes."""
    blocks = 1 + (sizes + _BLOCK - 1) // _BLOCK
    return ((np.cumsum(blocks) - blocks.ravel() + 1) * _BLOCK).reshape(sizes.shape)
