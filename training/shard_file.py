"""One token shard, mapped into memory: each member is a known stretch of the file, and nothing is decoded or copied."""

import ast
import hashlib
import json
import math
import mmap
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from schemas.shards import ShardInfo, TokenSample

_BLOCK = 512
_HEAD = 128  # bytes of the usual .npy header
_parse_json = json.JSONDecoder().raw_decode
_ALLOWED = {"<u4": np.uint32, "<u2": np.uint16, "|u1": np.uint8, "<f2": np.float16, "<f4": np.float32, "<i8": np.int64}


@dataclass(frozen=True)
class _Form:
    """What the header of a .npy says; samples share a few of them."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # bytes of the header
    count: int  # elements

    @property
    def num_bytes(self) -> int:
        return self.start + self.count * self.dtype.itemsize


@dataclass(frozen=True)
class _Index:
    """Where the members of a shard lie and what form they have: columns are members in their order on disk."""

    names: tuple[str, ...]  # without `.npy`; `json` is among them
    arrays: tuple[tuple[int, str], ...]  # columns and names of the members that are arrays
    json_column: int  # -1 where there is none
    offsets: np.ndarray  # (samples, members) int64
    sizes: np.ndarray  # (samples, members) int64
    form_ids: np.ndarray  # (samples, members) int32; -1 for JSON
    forms: list[_Form]


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
        return self.info.num_samples if self.info else len(self.index.offsets)

    @property
    def is_open(self) -> bool:
        return self._map is not None

    def release(self) -> None:
        """Lets go of the mapping and the index; the file closes once no array of it is in use."""
        self._map = self._index = None

    @property
    def index(self) -> _Index:
        if self._index is None:
            self._index = _read_index(self._bytes(), self.path)
            found = len(self._index.offsets)
            if self.info is not None and found != self.info.num_samples:
                raise ValueError(
                    f"shard {self.path} holds {found} samples, dataset.json says {self.info.num_samples}; "
                    "run `reelmill tokenize` again"
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

    def sample(self, position: int, members: Collection[str] | None = None, meta: bool = True) -> TokenSample:
        """The sample at a position in [0, len). Its arrays are read-only views of the file; copy to change them.

        Args:
            members: names in `arrays` to read; None: all.
            meta: whether to parse `KEY.json`; without it `meta` is empty.
        """
        index, data = self.index, self._bytes()
        offsets, form_ids, forms = index.offsets[position].tolist(), index.form_ids[position].tolist(), index.forms
        arrays, about = {}, {}
        for column, name in index.arrays:
            if members is None or name in members:
                form = forms[form_ids[column]]
                arrays[name] = np.ndarray(form.shape, form.dtype, data, offsets[column] + form.start)
        if meta and index.json_column >= 0:
            start = offsets[index.json_column]
            about = _parse_json(data[start : start + int(index.sizes[position, index.json_column])].decode())[0]
        name_at = offsets[0] - _BLOCK  # the name in the tar header before the first member: key, dot, member
        return TokenSample(data[name_at : data.find(b".", name_at, offsets[0])].decode(), arrays, about)

    def shape(self, position: int, member: str) -> tuple[int, ...]:
        """Shape of one array; (0,) where the shard has no such member."""
        index = self.index
        if member not in index.names:
            return (0,)
        return index.forms[index.form_ids[position, index.names.index(member)]].shape


def _parse_header(head: bytes, where: str) -> _Form:
    """What a version 1.0 .npy header says; never a type that holds objects."""
    try:
        if head[:8] != b"\x93NUMPY\x01\x00":
            raise ValueError("it is not a version 1.0 .npy")
        fields = ast.literal_eval(head[10:].decode("latin1"))
        dtype, shape = np.dtype(_ALLOWED[fields["descr"]]), tuple(int(side) for side in fields["shape"])
        if fields["fortran_order"] or any(side < 0 for side in shape):
            raise ValueError(f"it has the order or shape {fields}")
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise ValueError(f"member {where} is damaged ({error}); run `reelmill tokenize` again") from None
    return _Form(dtype, shape, len(head), math.prod(shape))


def _read_index(data: mmap.mmap, path: Path) -> _Index:
    """Members of a whole shard, by walking its headers.

    Raises:
        ValueError: it is no tar, is cut short, a member is damaged, or its samples have not all the same members.
    """
    names, forms = _Names(path), _Forms(path)
    rows = array("q")  # of numbers, not of tuples: those would keep the garbage collector busy
    for name, offset, size in _walk(data, path):
        column = names.column(name)
        rows.extend((offset, size, forms.number(data, name, offset, size) if names.is_array[column] else -1))
    names.end()
    table = np.frombuffer(rows, np.int64).reshape(-1, len(names.members), 3)
    offsets, sizes = np.ascontiguousarray(table[..., 0]), np.ascontiguousarray(table[..., 1])
    members = tuple(member.decode().removesuffix(".npy") for member in names.members)
    arrays = tuple((column, name) for column, name in enumerate(members) if names.is_array[column])
    json_column = members.index("json") if "json" in members else -1
    return _Index(members, arrays, json_column, offsets, sizes, table[..., 2].astype(np.int32), forms.forms)


class _Names:
    """Checks that every sample has the members of the first, in its order."""

    def __init__(self, path: Path):
        self.path, self.members, self.is_array = path, list[bytes](), list[bool]()
        self._key, self._expected, self._column, self._is_first = b"", list[bytes](), 0, True

    def column(self, name: bytes) -> int:
        """The column of the next file of a shard, KEY.MEMBER; ValueError for one that other samples do not have."""
        column = self._column
        if column < len(self._expected) and name == self._expected[column]:
            self._column = column + 1
            return column
        key, _, member = name.partition(b".")
        if key != self._key or not self._expected:
            self._begin(key)
        if self._is_first:
            self.members.append(member)
            self._expected.append(name)
            self.is_array.append(member != b"json")
        elif self._column >= len(self._expected) or self._expected[self._column] != name:
            raise ValueError(
                f"sample {key.decode()!r} of {self.path} has a member {member.decode()}: others have {self._words()}"
            )
        self._column += 1
        return self._column - 1

    def _begin(self, key: bytes) -> None:
        """The first file of another sample."""
        if self._expected:
            self.end()
            self._is_first = False
        self._key, self._column = key, 0
        self._expected = [key + b"." + member for member in self.members]

    def end(self) -> None:
        """ValueError where the last sample lacks members."""
        if not self.members or self._column != len(self.members):
            raise ValueError(f"sample {self._key.decode()!r} of {self.path} lacks members: others have {self._words()}")

    def _words(self) -> list[str]:
        return [member.decode() for member in self.members]


class _Forms:
    """The forms of arrays, each parsed once: samples share a few headers."""

    def __init__(self, path: Path):
        self.path, self.forms, self._numbers = path, list[_Form](), dict[bytes, int]()

    def number(self, data: mmap.mmap, name: bytes, offset: int, size: int) -> int:
        """The position in `forms` of an array's form; ValueError where its size does not fit."""
        head = data[offset : offset + _HEAD]  # what NumPy writes for arrays of few axes; longer ones are read below
        number = self._numbers.get(head)
        if number is None:
            number = self._parse(data, head, name, offset)
        if self.forms[number].num_bytes != size:
            raise ValueError(
                f"member {name.decode()} in {self.path} is damaged: {size} bytes do not hold {self.forms[number]}"
            )
        return number

    def _parse(self, data: mmap.mmap, head: bytes, name: bytes, offset: int) -> int:
        length = 10 + int.from_bytes(head[8:10], "little")
        self.forms.append(_parse_header(data[offset : offset + length], f"{name.decode()} in {self.path}"))
        if length == _HEAD:  # of a longer one the rest would go unseen the next time
            self._numbers[head] = len(self.forms) - 1
        return len(self.forms) - 1


def _walk(data: mmap.mmap, path: Path) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the body, size) of every file in a tar."""
    position, end = 0, len(data)
    while position + _BLOCK <= end:
        header = data[position : position + _BLOCK]
        if not header[0]:  # two blocks of zeros end a tar
            return
        if header[257:262] != b"ustar" or header[156] not in b"0\0":
            raise ValueError(f"{path} is no shard that Reelmill wrote: not a plain file at byte {position}")
        size, offset = int(header[124:135], 8), position + _BLOCK
        if offset + size > end:
            break
        yield header[: header.index(0)], offset, size
        position = (offset + size + _BLOCK - 1) // _BLOCK * _BLOCK
    raise ValueError(f"shard {path} is cut short after {position} bytes; copy it again or tokenize again")
