"""One token shard, mapped into memory: each member is a known stretch of the file, and nothing is decoded or copied."""

import hashlib
import json
import mmap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from schemas.shards import ShardInfo, TokenSample
from training.shard_members import BLOCK, ShardMembers, find_members


class Shard:
    """One shard, mapped into memory when it is first read.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is cut short, damaged, or not the file that `dataset.json` describes.
    """

    def __init__(self, path: str | Path, info: ShardInfo | None = None):
        self.path, self.info = Path(path), info
        self._map: mmap.mmap | None = None
        self._index: ShardMembers | None = None
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
        return self.info.num_samples if self.info else len(self.index.table)

    @property
    def is_open(self) -> bool:
        return self._map is not None

    def release(self) -> None:
        """Lets go of the mapping and the index; the file closes once no array of it is in use."""
        self._map = self._index = None

    @property
    def index(self) -> ShardMembers:
        if self._index is None:
            self._index = find_members(self._bytes(), self.path)
            found = len(self._index.table)
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
        offsets, sizes, form_ids = index.table[position].tolist()
        arrays, about, forms = {}, {}, index.forms
        for column, name in index.arrays:
            if members is None or name in members:
                form = forms[form_ids[column]]
                arrays[name] = np.ndarray(form.shape, form.dtype, data, offsets[column] + form.start)
        if meta and index.json_column >= 0:
            start = offsets[index.json_column]
            about = _parse_json(data[start : start + sizes[index.json_column]])
        name_at = offsets[0] - BLOCK  # the name in the tar header before the first member: key, dot, member
        return TokenSample(data[name_at : data.find(b".", name_at, offsets[0])].decode(), arrays, about)

    def shapes(self, positions: np.ndarray, members: Sequence[str]) -> list[tuple[tuple[int, ...], ...]]:
        """By position, the shapes of these arrays; (0,) where the shard has no such member."""
        index = self.index
        columns = np.array([index.names.index(name) if name in index.names else -1 for name in members], np.int64)
        form_ids = index.table[positions, 2][:, columns]
        form_ids[:, columns < 0] = -1
        shapes = [*(form.shape for form in index.forms), (0,)]  # the last is that of number -1
        known = {row: tuple(shapes[form] for form in row) for row in set(map(tuple, form_ids.tolist()))}
        return [known[row] for row in map(tuple, form_ids.tolist())]


def _parse_json(data: bytes) -> dict[str, Any]:
    """A `KEY.json`, several times as fast as by the standard library, which alone reads NaN and Infinity."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)
