"""Where the members of a token shard lie: from its index, or, in a shard without one, by walking the tar's headers."""

import ast
import math
import mmap
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from schemas.shard_index import offsets_of, read_index

BLOCK = 512
_HEAD = 128  # bytes of the usual .npy header
_ALLOWED = {"<u4": np.uint32, "<u2": np.uint16, "|u1": np.uint8, "<f2": np.float16, "<f4": np.float32, "<i8": np.int64}


@dataclass(frozen=True)
class Form:
    """What the header of a .npy says; samples share a few of them."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # bytes of the header
    count: int  # elements

    @property
    def num_bytes(self) -> int:
        return self.start + self.count * self.dtype.itemsize


@dataclass(frozen=True)
class ShardMembers:
    """Where the members of a shard lie and what form they have: columns are members in their order on disk."""

    names: tuple[str, ...]  # without `.npy`; `json` is among them
    arrays: tuple[tuple[int, str], ...]  # columns and names of the members that are arrays
    json_column: int  # -1 where there is none
    table: np.ndarray  # (samples, 3, members) int64: offset and size of the body, number of its form or -1 for JSON
    forms: list[Form]


def find_members(data: mmap.mmap, path: Path) -> ShardMembers:
    """Members of a whole shard.

    Raises:
        ValueError: it is no tar, is cut short, a member is damaged, its samples have not all the same members, or its
            index is that of another.
    """
    found = read_index(data[-64:], len(data), str(path))
    return _walked(data, path) if found is None else _indexed(data, path, *found)


def _indexed(data: mmap.mmap, path: Path, start: int, samples: int, members: int) -> ShardMembers:
    """From the index at byte `start`. Names and forms are read in the tar, where they first come."""
    stored = np.frombuffer(data[start : start + samples * members * 8], "<u4").reshape(samples, members, 2)
    sizes, form_ids = stored[..., 0].astype(np.int64), stored[..., 1].astype(np.int32)  # NO_FORM becomes -1
    table = np.stack((offsets_of(sizes), sizes, form_ids), axis=1)
    names, forms = _Names(path), _Forms(path)
    for name, _, _ in islice(_walk(data, path), members):
        names.column(name)
    names.end()
    numbers, firsts = np.unique(form_ids, return_index=True)
    for first in firsts[numbers >= 0].tolist():
        sample, column = divmod(first, members)
        forms.parse(data, names.members[column], int(table[sample, 0, column]))
    if not _fits(table, names, forms, start):
        raise ValueError(f"shard {path} is damaged: its index does not fit its members; run `reelmill tokenize` again")
    for _, _, size in islice(_walk(data, path, int(table[-1, 0, -1]) - BLOCK), 1):
        if size == sizes[-1, -1]:
            return _members(names, forms, table)
    raise ValueError(f"shard {path} is damaged: it ends elsewhere than its index says; run `reelmill tokenize` again")


def _fits(table: np.ndarray, names: "_Names", forms: "_Forms", end: int) -> bool:
    """Whether the members of an index are of the right kind and size and lie before byte `end`."""
    is_array = np.array(names.is_array)
    sizes, form_ids = table[:, 1], table[:, 2]
    wanted = np.array([form.num_bytes for form in forms.forms], np.int64)
    return bool(
        ((form_ids >= 0) == is_array).all()
        and form_ids.max() < len(wanted)
        and (wanted[form_ids[:, is_array]] == sizes[:, is_array]).all()
        and table[-1, 0, -1] + sizes[-1, -1] <= end
    )


def _members(names: "_Names", forms: "_Forms", table: np.ndarray) -> ShardMembers:
    members = tuple(member.decode().removesuffix(".npy") for member in names.members)
    arrays = tuple((column, name) for column, name in enumerate(members) if names.is_array[column])
    return ShardMembers(members, arrays, members.index("json") if "json" in members else -1, table, forms.forms)


def _walked(data: mmap.mmap, path: Path) -> ShardMembers:
    """By walking all headers of the tar."""
    names, forms = _Names(path), _Forms(path)
    rows = array("q")  # of numbers, not of tuples: those would keep the garbage collector busy
    for name, offset, size in _walk(data, path):
        column = names.column(name)
        rows.extend((offset, size, forms.number(data, name, offset, size) if names.is_array[column] else -1))
    names.end()
    table = np.frombuffer(rows, np.int64).reshape(-1, len(names.members), 3)
    return _members(names, forms, np.ascontiguousarray(table.transpose(0, 2, 1)))


@lru_cache(maxsize=4096)
def _parse_header(head: bytes) -> Form:
    """What a version 1.0 .npy header says; never a type that holds objects."""
    if head[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError("it is not a version 1.0 .npy")
    fields = ast.literal_eval(head[10:].decode("latin1"))
    dtype, shape = np.dtype(_ALLOWED[fields["descr"]]), tuple(int(side) for side in fields["shape"])
    if fields["fortran_order"] or any(side < 0 for side in shape):
        raise ValueError(f"it has the order or shape {fields}")
    return Form(dtype, shape, len(head), math.prod(shape))


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
        self.path, self.forms, self._numbers = path, list[Form](), dict[bytes, int]()

    def number(self, data: mmap.mmap, name: bytes, offset: int, size: int) -> int:
        """The position in `forms` of an array's form; ValueError where its size does not fit."""
        head = data[offset : offset + _HEAD]  # what NumPy writes for arrays of few axes; longer ones are read below
        number = self._numbers.get(head)
        if number is None:
            number = self.parse(data, name, offset)
        if self.forms[number].num_bytes != size:
            raise ValueError(
                f"member {name.decode()} in {self.path} is damaged: {size} bytes do not hold {self.forms[number]}"
            )
        return number

    def parse(self, data: mmap.mmap, name: bytes, offset: int) -> int:
        """The position in `forms` of the form of the array that begins at byte `offset`."""
        head = data[offset : offset + _HEAD]
        length = 10 + int.from_bytes(head[8:10], "little")
        try:
            self.forms.append(_parse_header(data[offset : offset + length]))
        except (ValueError, KeyError, TypeError, SyntaxError) as error:
            raise ValueError(
                f"member {name.decode()} in {self.path} is damaged ({error}); run `reelmill tokenize` again"
            ) from None
        if length == _HEAD:  # of a longer one the rest would go unseen the next time
            self._numbers[head] = len(self.forms) - 1
        return len(self.forms) - 1


def _walk(data: mmap.mmap, path: Path, position: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the body, size) of every file in a tar, from the header at byte `position` on."""
    end = len(data)
    while position + BLOCK <= end:
        header = data[position : position + BLOCK]
        if not header[0]:  # two blocks of zeros end a tar
            return
        if header[257:262] != b"ustar" or header[156] not in b"0\0":
            raise ValueError(f"{path} is no shard that Reelmill wrote: not a plain file at byte {position}")
        size, offset = int(header[124:135], 8), position + BLOCK
        if offset + size > end:
            break
        yield header[: header.index(0)], offset, size
        position = (offset + size + BLOCK - 1) // BLOCK * BLOCK
    raise ValueError(f"shard {path} is cut short after {position} bytes; copy it again or tokenize again")
