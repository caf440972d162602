"""The order in which samples are trained on: shuffled, alike within a batch, split by rank, and exactly resumable.

One epoch, with two shards read at once and batches of two (letters are shapes):

    shards, shuffled      s3 s0 | s2 s1 |
    samples, shuffled     a b a a b b a | b a …     within those two shards
    batches of one shape  aa bb aa b·   | bb …      what is left waits for the next two

The plan is a pure function of (data, seed, epoch), so a place in it is just two numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from schemas.identity import fingerprint
from schemas.shards import TokenSample
from training.shards import ShardDataset


@dataclass(frozen=True)
class BatchSettings:
    """How samples are ordered and grouped.

    Args:
        batch_size: samples per rank and step.
        shuffle: False: the order of the shards, for validation.
        seed: of the shuffle.
        group_by: members whose shapes are equal within a batch; text is left out because its length varies.
        weights: by data set, how often its samples come in an epoch: 1 once, 2 twice, 0.5 half of them; None: once.
        shards_at_once: shards whose samples are mixed with one another.
        drop_last: leave out the last batches of an epoch that are not full.
    """

    batch_size: int = 8
    shuffle: bool = True
    seed: int = 0
    group_by: tuple[str, ...] = ("video", "audio")
    weights: tuple[float, ...] | None = None
    shards_at_once: int = 16
    drop_last: bool = False

    def __post_init__(self) -> None:
        if min(self.batch_size, self.shards_at_once) < 1:
            raise ValueError(f"batch_size {self.batch_size} and shards_at_once {self.shards_at_once} must be 1 or more")
        if self.weights is not None and not all(weight >= 0 for weight in self.weights):
            raise ValueError(f"weights {self.weights} must be 0 or more")


class BatchPlan:
    """Indices by step for one rank. `epoch_batches(e)` gives the same whoever asks, whenever."""

    def __init__(self, dataset: ShardDataset, settings: BatchSettings, rank: int = 0, world_size: int = 1):
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} is outside [0, {world_size})")
        sets = len(dataset.dataset_ranges)
        if settings.weights is not None and len(settings.weights) != sets:
            raise ValueError(f"{len(settings.weights)} weights for {sets} data sets; give one for each")
        self.dataset, self.settings, self.rank, self.world_size = dataset, settings, rank, world_size

    def epoch_batches(self, epoch: int) -> Iterator[list[int]]:
        """This rank's lists of indices. All ranks get as many, and at each step the same shapes."""
        size = self.settings.batch_size
        for together in self._global_batches(epoch, size * self.world_size):
            each = len(together) // self.world_size
            if each and (each == size or not self.settings.drop_last):
                yield together[self.rank * each : (self.rank + 1) * each]

    def _global_batches(self, epoch: int, size: int) -> Iterator[list[int]]:
        waiting: dict[Any, list[int]] = {}
        for indices in self._order(epoch):
            found = self.dataset.shapes(indices, self.settings.group_by)
            for index, shapes in zip(indices.tolist(), found, strict=True):
                bucket = waiting.setdefault(shapes, [])
                bucket.append(index)
                if len(bucket) == size:
                    yield waiting.pop(shapes)
        yield from waiting.values()

    def _order(self, epoch: int) -> Iterator[np.ndarray]:
        """Indices of an epoch by groups of shards, shuffled within each."""
        generator = np.random.default_rng((self.settings.seed, epoch))
        passes = self._passes(generator)
        if self.settings.shuffle:
            generator.shuffle(passes)
        step = self.settings.shards_at_once if self.settings.shuffle else 1
        for start in range(0, len(passes), step):
            indices = np.concatenate([self._take(one, generator) for one in passes[start : start + step]])
            if self.settings.shuffle:
                generator.shuffle(indices)
            yield indices

    def _passes(self, generator: np.random.Generator) -> list[tuple[int, int, float]]:
        """(first index, last index, share of the samples to take) of every reading of a shard in an epoch."""
        passes = []
        for number, (first, last) in enumerate(self.dataset.dataset_ranges):
            weight = self.settings.weights[number] if self.settings.weights else 1.0
            for low, high in self.dataset.shard_ranges:
                if first <= low and high <= last:
                    passes += [(low, high, 1.0)] * int(weight)
                    if weight % 1:
                        passes.append((low, high, weight % 1))
        return passes

    @staticmethod
    def _take(one: tuple[int, int, float], generator: np.random.Generator) -> np.ndarray:
        low, high, share = one
        if share == 1:
            return np.arange(low, high)
        count = int((high - low) * share + generator.random())  # rounded so that the mean over epochs is the share
        return np.sort(low + generator.choice(high - low, count, replace=False))


class BatchLoader:
    """Endless batches of samples that can be stopped and gone on with at any step.

    `state_dict` counts the batches that were handed out, so samples after a resume are those of an undisturbed run,
    whatever the number of workers.

    Args:
        collate: makes a batch of a list of samples; None: the list itself.
        num_workers: processes that read ahead; 0 reads in this one, which shards rarely outpace.
        epochs: stop after so many; None: never.
    """

    def __init__(
        self,
        dataset: ShardDataset,
        settings: BatchSettings,
        *,
        rank: int = 0,
        world_size: int = 1,
        collate: Callable[[list[TokenSample]], Any] | None = None,
        num_workers: int = 0,
        epochs: int | None = None,
    ):
        self.dataset, self.plan = dataset, BatchPlan(dataset, settings, rank, world_size)
        self.collate, self.num_workers, self.epochs = collate or _as_list, num_workers, epochs
        self.epoch, self.batch = 0, 0

    def __iter__(self) -> Iterator[Any]:
        while self.epochs is None or self.epoch < self.epochs:
            found = self.batch > 0
            for batch in self._read(self.epoch, self.batch):
                found = True
                self.batch += 1
                yield batch
            if not found:
                raise ValueError(
                    f"an epoch of {len(self.dataset)} samples has not one batch of {self.plan.settings.batch_size} for "
                    f"each of {self.plan.world_size} ranks; lower batch_size or let drop_last be false"
                )
            self.epoch, self.batch = self.epoch + 1, 0

    def _read(self, epoch: int, skip: int) -> Iterator[Any]:
        batches = self.plan.epoch_batches(epoch)
        for _ in range(skip):
            next(batches, None)
        if not self.num_workers:
            return (self.collate(self.dataset.__getitems__(indices)) for indices in batches)
        loader: DataLoader[Any] = DataLoader(
            self.dataset,  # type: ignore[arg-type]
            batch_sampler=list(batches),
            collate_fn=self.collate,
            num_workers=self.num_workers,
        )
        return iter(loader)

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands; plain JSON."""
        return {"epoch": self.epoch, "batch": self.batch, "order": self._order_fingerprint()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where another loader of the same data and settings stood.

        Raises:
            ValueError: the data, the settings or the number of ranks are not those of the run that is resumed.
        """
        if state["order"] != self._order_fingerprint():
            raise ValueError(
                "cannot resume: the shards, the batch settings or the number of ranks differ from those of the "
                "checkpoint, so the samples would not be the ones that come next; restore them, or start a new run"
            )
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])

    def _order_fingerprint(self) -> str:
        shards = [shard.info.sha256 if shard.info else str(shard.path) for shard in self.dataset.shards]
        return fingerprint("batches", shards, self.plan.settings, self.plan.world_size)


def _as_list(samples: list[TokenSample]) -> list[TokenSample]:
    return samples
