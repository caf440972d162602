"""Token shards for training: random access to every sample of a split, straight from the mapped files.

A shard is an uncompressed tar, so once its headers are read each member is a known stretch of the file, and the body
of a .npy is the array: nothing is decoded or copied. Reading order, batches and resume are `training.batches`.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from media import storage
from schemas.shards import DatasetInfo, ShardInfo, TokenizerInfo, TokenSample, read_npy
from tokenize_shards.writer import EMPTY_CAPTION_FILE, read_dataset
from training.shard_file import Shard


class ShardDataset:
    """All samples of one split of one or several data sets: `len`, random access by index, and iteration in order.

    It is a map-style data set of PyTorch (`__getitem__`, `__getitems__`). Samples are `schemas.shards.TokenSample`.

    Args:
        data: folder of token shards, or several; URLs are copied to `cache` first.
        split: "train", "val", or "all".
        expected: what the model was made for, by modality: a fingerprint or a `TokenizerInfo`. Shards of another
            tokenizer are refused.
        members: names in `arrays` that are read; None: all.
        meta: whether `KEY.json` is parsed for every sample.
        cache: folder for copies of remote shards.
        max_open: shards that are mapped at once.

    Raises:
        FileNotFoundError: a folder is no finished data set, or a shard is missing.
        ValueError: another tokenizer, data sets that do not fit together, or no samples in the split.
    """

    def __init__(
        self,
        data: str | Path | Sequence[str | Path],
        split: str = "train",
        *,
        expected: Mapping[str, str | TokenizerInfo] | None = None,
        members: Sequence[str] | None = None,
        meta: bool = True,
        cache: str | Path | None = None,
        max_open: int = 256,
    ):
        folders = [str(data)] if isinstance(data, (str, Path)) else [str(folder) for folder in data]
        self.infos = [read_dataset(folder) for folder in folders]
        for folder, info in zip(folders, self.infos, strict=True):
            check_tokenizers(info, expected or {}, folder)
        _check_alike(folders, self.infos)
        self.members = frozenset(members) if members is not None else None
        self.meta, self.split = meta, split
        self._open, self._max_open = deque[Shard](), max_open
        self.shards = [
            Shard(_local(folder, shard, cache), shard)
            for folder, info in zip(folders, self.infos, strict=True)
            for shard in _of_split(info, split)
        ]
        self._ends = list(accumulate(len(shard) for shard in self.shards))
        sizes = [sum(shard.num_samples for shard in _of_split(info, split)) for info in self.infos]
        self.dataset_ranges = list(pairwise([0, *accumulate(sizes)]))
        """By data set, the half-open range of its samples' indices."""
        if not len(self):
            has = ", ".join(sorted({shard.split for info in self.infos for shard in info.shards})) or "none"
            raise ValueError(f"no samples of split {split!r} in {', '.join(folders)}; splits there: {has}")
        self.empty_caption = _empty_caption(folders[0])
        """States (L D) float16 of the empty caption, which stands in for dropped captions; None without text."""

    @property
    def info(self) -> DatasetInfo:
        """`dataset.json` of the first data set; the others have the same tokenizers and window."""
        return self.infos[0]

    @property
    def shard_ranges(self) -> list[tuple[int, int]]:
        """By shard, the half-open range of its samples' indices."""
        return list(pairwise([0, *self._ends]))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _find(self, index: int) -> tuple[Shard, int]:
        if not 0 <= index < self._ends[-1]:
            raise IndexError(f"sample {index} is outside [0, {len(self)})")
        number = bisect_right(self._ends, index)
        shard = self.shards[number]
        if not shard.is_open:
            self._make_room(shard)
        return shard, index - (self._ends[number - 1] if number else 0)

    def _make_room(self, shard: Shard) -> None:
        """Keeps so many shards mapped that neither file handles nor memory run out, however many there are."""
        self._open.append(shard)
        if len(self._open) > self._max_open:
            self._open.popleft().release()

    def __getitem__(self, index: int) -> TokenSample:
        shard, position = self._find(index)
        return shard.sample(position, self.members, self.meta)

    def __getitems__(self, indices: Sequence[int]) -> list[TokenSample]:
        return [self[index] for index in indices]

    def __iter__(self) -> Iterator[TokenSample]:
        for index in range(len(self)):
            yield self[index]

    def shapes(self, indices: Sequence[int] | np.ndarray, members: Sequence[str]) -> list[tuple[tuple[int, ...], ...]]:
        """By sample, the shapes of these arrays, from their headers alone; what batches are grouped by."""
        where = np.asarray(indices, np.int64)
        if len(where) and not 0 <= where.min() <= where.max() < len(self):
            raise IndexError(f"samples {where.min()} to {where.max()} are not all in [0, {len(self)})")
        numbers = np.searchsorted(self._ends, where, side="right")
        shapes: list[tuple[tuple[int, ...], ...]] = [()] * len(where)
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            shard, first = self._find(int(where[places[0]]))
            positions = where[places] - where[places[0]] + first
            for place, found in zip(places.tolist(), shard.shapes(positions, members), strict=True):
                shapes[place] = found
        return shapes

    def verify(self) -> None:
        """Reads every shard and raises ValueError for the first whose bytes are not those that were written."""
        for shard in self.shards:
            shard.verify()


def check_tokenizers(info: DatasetInfo, expected: Mapping[str, str | TokenizerInfo], where: str) -> None:
    """Raises ValueError unless the shards were made by the tokenizers that a model wants, and names both."""
    for kind, wanted in sorted(expected.items()):
        fingerprint = wanted if isinstance(wanted, str) else wanted.fingerprint
        name = "" if isinstance(wanted, str) else f" {wanted.name!r}"
        has = info.tokenizers.get(kind)
        if has is None:
            raise ValueError(
                f"{where} has no {kind} tokens, the model wants those of{name} {fingerprint[:12]}; tokenize with that "
                f"{kind} tokenizer"
            )
        if has.fingerprint != fingerprint:
            raise ValueError(
                f"the {kind} tokens in {where} were made by {has.name!r} {has.fingerprint[:12]}, the model wants"
                f"{name} {fingerprint[:12]}: tokenize again with the model's tokenizer, or choose other shards"
            )


def _check_alike(folders: Sequence[str], infos: Sequence[DatasetInfo]) -> None:
    """Raises ValueError unless samples of all data sets mean the same."""
    first = infos[0]
    for folder, info in zip(folders[1:], infos[1:], strict=True):
        check_tokenizers(info, first.tokenizers, folder)
        for what in ("fps", "num_frames"):
            if getattr(info, what) != getattr(first, what):
                raise ValueError(
                    f"data sets do not fit together: {what} is {getattr(first, what)} in {folders[0]} and "
                    f"{getattr(info, what)} in {folder}; train on one kind at a time"
                )


def _of_split(info: DatasetInfo, split: str) -> list[ShardInfo]:
    return [shard for shard in info.shards if split in (shard.split, "all")]


def _local(folder: str, shard: ShardInfo, cache: str | Path | None) -> str:
    """A path on this machine with the shard's bytes; a remote shard is copied once, under its own hash."""
    path = storage.join(folder, shard.name)
    if storage.is_local(path):
        return path.removeprefix("file://")
    if cache is None:
        raise ValueError(f"{path} is not on this machine; name a folder for copies of remote shards (cache)")
    local = Path(cache, f"{shard.sha256[:20]}-{shard.name}")
    if not local.is_file() or local.stat().st_size != shard.num_bytes:
        temporary = local.with_suffix(f".{id(shard):x}.part")
        storage.get_file(path, temporary)
        temporary.replace(local)
    return str(local)


def _empty_caption(folder: str) -> np.ndarray | None:
    path = storage.join(folder, EMPTY_CAPTION_FILE)
    return read_npy(storage.read_bytes(path)) if storage.exists(path) else None
