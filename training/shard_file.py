"""One token shard, mapped into memory: each member is a known stretch of the file, and nothing is decoded or copied."""

import ast
import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.shards import ShardInfo, TokenSample

_BLOCK = 512
_ALLOWED = {"<u4": np.uint32, "<u2": np.uint16, "|u1": np.uint8, "<f2": np.float16, "<f4": np.float32, "<i8": np.int64}


@dataclass(frozen=True)
class _Index:
    """Where the members of a shard lie: columns are members in their order, `json` last."""

    keys: list[str]
    names: tuple[str, ...]
    offsets: np.ndarray  # (samples, members) int64
    sizes: np.ndarray  # (samples, members) int64


class Shard:
    """One shard, mapped into memory when it is first read.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is cut short, damaged, or not the file that `dataset.json` describes.
    """

    def __init__(self, path: str | Path, info: ShardInfo | None = None):
        self.path, self.info = Path(path), info
        self._map: mmap.mmap | None = None
        self._index: _Index | None = None
        self._headers: dict[bytes, tuple[np.dtype, tuple[int, ...], int]] = {}
        if not self.path.is_file():
            raise FileNotFoundError(f"shard {self.path} is missing; run `reelmill tokenize` again, it restores it")
        size = self.path.stat().st_size
        if info is not None and size != info.num_bytes:
            raise ValueError(
                f"shard {self.path} has {size} bytes, dataset.json says {info.num_bytes}: it is cut short or was "
                "replaced; copy it again or run `reelmill tokenize` again"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # a mapping cannot travel to another process; it is made again there

    def __len__(self) -> int:
        return self.info.num_samples if self.info else len(self.index.keys)

    @property
    def index(self) -> _Index:
        if self._index is None:
            self._index = _read_index(self._bytes(), self.path)
            if self.info is not None and len(self._index.keys) != self.info.num_samples:
                raise ValueError(
                    f"shard {self.path} holds {len(self._index.keys)} samples, dataset.json says "
                    f"{self.info.num_samples}; run `reelmill tokenize` again"
                )
        return self._index

    def _bytes(self) -> mmap.mmap:
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def verify(self) -> None:
        """Raises ValueError unless the bytes have the sha256 that `dataset.json` gives."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if self.info is not None and digest != self.info.sha256:
            raise ValueError(f"shard {self.path} is damaged: sha256 {digest}, dataset.json says {self.info.sha256}")

    def sample(self, position: int, members: Iterable[str] | None = None, meta: bool = True) -> TokenSample:
        """The sample at a position in [0, len). Its arrays are read-only views of the file; copy to change them.

        Args:
            members: names in `arrays` to read; None: all.
            meta: whether to parse `KEY.json`; without it `meta` is empty.
        """
        index = self.index
        wanted = set(members) if members is not None else None
        offsets, sizes = index.offsets[position].tolist(), index.sizes[position].tolist()
        arrays, about = {}, {}
        for name, offset, size in zip(index.names, offsets, sizes, strict=True):
            if name != "json":
                if wanted is None or name in wanted:
                    arrays[name] = self._array(offset, size, name)
            elif meta:
                about = json.loads(self._bytes()[offset : offset + size])
        return TokenSample(index.keys[position], arrays, about)

    def shape(self, position: int, member: str) -> tuple[int, ...]:
        """Shape of one array, from its header alone; (0,) where the shard has no such member."""
        index = self.index
        if member not in index.names:
            return (0,)
        column = index.names.index(member)
        return self._header(int(index.offsets[position, column]), int(index.sizes[position, column]), member)[1]

    def _array(self, offset: int, size: int, name: str) -> np.ndarray:
        dtype, shape, start = self._header(offset, size, name)
        count = (size - start) // dtype.itemsize
        return np.frombuffer(self._bytes(), dtype, count, offset + start).reshape(shape)

    def _header(self, offset: int, size: int, name: str) -> tuple[np.dtype, tuple[int, ...], int]:
        """Type, shape and where the body begins. Headers repeat, so each is parsed once."""
        data = self._bytes()
        length = 10 + int.from_bytes(data[offset + 8 : offset + 10], "little")
        head = data[offset : offset + length]
        known = self._headers.get(head)
        if known is None:
            known = self._headers[head] = _parse_header(head, f"{name} in {self.path}")
        dtype, shape, start = known
        if start + dtype.itemsize * int(np.prod(shape, dtype=np.int64)) != size:
            raise ValueError(f"member {name} in {self.path} is damaged: {size} bytes do not hold {shape} of {dtype}")
        return known


def _parse_header(head: bytes, where: str) -> tuple[np.dtype, tuple[int, ...], int]:
    """(type, shape, length) of a version 1.0 .npy header; never a type that holds objects."""
    try:
        if head[:8] != b"\x93NUMPY\x01\x00":
            raise ValueError("it is not a version 1.0 .npy")
        fields = ast.literal_eval(head[10:].decode("latin1"))
        dtype, shape = np.dtype(_ALLOWED[fields["descr"]]), tuple(int(side) for side in fields["shape"])
        if fields["fortran_order"] or any(side < 0 for side in shape):
            raise ValueError(f"it has the order or shape {fields}")
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise ValueError(f"member {where} is damaged ({error}); run `reelmill tokenize` again") from None
    return dtype, shape, len(head)


def _read_index(data: mmap.mmap, path: Path) -> _Index:
    """Members of a whole shard, by walking its headers.

    Raises:
        ValueError: it is no tar, is cut short, or its samples have not all the same members.
    """
    keys: list[str] = []
    names: list[tuple[str, ...]] = []
    rows: list[list[tuple[int, int]]] = []
    current: list[str] = []
    for key, member, offset, size in _walk(data, path):
        if not keys or key != keys[-1]:
            if current:
                names.append(tuple(current))
            keys.append(key)
            rows.append([])
            current = []
        current.append(member.removesuffix(".npy"))
        rows[-1].append((offset, size))
    names.append(tuple(current))
    if len(set(names)) > 1:
        odd = next(key for key, had in zip(keys, names, strict=True) if had != names[0])
        raise ValueError(f"samples of {path} have different members: {keys[0]} has {names[0]}, {odd} has not")
    table = np.array(rows, np.int64).reshape(len(keys), -1, 2)
    return _Index(keys, names[0], np.ascontiguousarray(table[..., 0]), np.ascontiguousarray(table[..., 1]))


def _walk(data: mmap.mmap, path: Path) -> Iterator[tuple[str, str, int, int]]:
    """(key, member, offset of the body, size) of every file in a tar."""
    position, end = 0, len(data)
    while position + _BLOCK <= end:
        header = data[position : position + _BLOCK]
        if not header[0]:  # two blocks of zeros end a tar
            return
        if header[257:262] != b"ustar" or header[156] not in b"0\0":
            raise ValueError(f"{path} is no shard that Reelmill wrote: not a plain file at byte {position}")
        size = int(header[124:135], 8)
        offset = position + _BLOCK
        if offset + size > end:
            break
        key, _, member = header[:100].split(b"\0", 1)[0].decode().partition(".")
        yield key, member, offset, size
        position = offset + -(-size // _BLOCK) * _BLOCK
    raise ValueError(f"shard {path} is cut short after {position} bytes; copy it again or tokenize again")
