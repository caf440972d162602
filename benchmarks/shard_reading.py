"""Samples per CPU second read from token shards in shuffled order: ours, plain WebDataset, and litdata where installed.

The shards are those of VideoPoet's window: 1,280 visual codes, 4×106 audio codes, some ten text states of width 384.
Every reader hands over every array and the JSON, and each array is copied, so that its bytes are touched. litdata
reads a copy in its own format, the JSON as text that is parsed, as the others parse theirs.
"""

import importlib.util
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import webdataset

from media.shard_plan import shard_name
from schemas.shards import DatasetInfo, TokenizerInfo, TokenSample
from tokenize_shards.writer import write_dataset, write_shard
from training.batches import BatchLoader, BatchSettings
from training.shards import ShardDataset

SHARDS, SAMPLES, REPEATS = 8, 500, 5
TOKENIZERS = {
    "video": TokenizerInfo("video", "a" * 64, 2**18, "little", (4, 8, 8)),
    "audio": TokenizerInfo("audio", "b" * 64, 1024, strides=(320,), num_quantizers=4, sample_rate_hz=16000),
    "text": TokenizerInfo("text", "c" * 64, 0, width=384),
}


def make_sample(number: int) -> TokenSample:
    """A sample of random codes in the shapes of real ones."""
    generator = np.random.default_rng(number)
    clip_id = generator.bytes(10).hex()
    arrays = {
        "video": generator.integers(0, 2**18, (5, 16, 16)).astype(np.uint32),
        "audio": generator.integers(0, 1024, (4, 106)).astype(np.uint16),
        "text": generator.normal(size=(6 + number % 9, 384)).astype(np.float16),
    }
    meta = {
        "clip_id": clip_id, "source_id": f"{number % 50:020d}", "caption": "a dog runs over a lawn", "license": "CC0",
        "start_s": 0.0, "window_index": 0, "num_frames": 17, "fps": [8, 1], "extra": {}, "resolution": [128, 128],
        "resolutions": [[128, 128]], "quality": {},
    }  # fmt: skip
    return TokenSample(f"{clip_id}-0000", arrays, meta)


def make_shards(folder: str) -> None:
    """The data set that all readers read."""
    infos = []
    for shard in range(SHARDS):
        samples = (make_sample(shard * SAMPLES + index) for index in range(SAMPLES))
        infos.append(write_shard(folder, shard_name("train", shard), "train", samples, TOKENIZERS).info)
    members = list(TOKENIZERS)
    write_dataset(folder, DatasetInfo(TOKENIZERS, [(128, 128)], 17, (8, 1), {}, infos, members))


def ours(folder: str) -> Iterator[list[np.ndarray]]:
    """Batches of eight, shuffled over all shards."""
    for batch in BatchLoader(ShardDataset(folder), BatchSettings(batch_size=8), epochs=1):
        for sample in batch:
            yield list(sample.arrays.values())


def plain_webdataset(folder: str) -> Iterator[list[np.ndarray]]:
    """Shards shuffled, and samples within a buffer of 1,000."""
    shards = sorted(map(str, Path(folder).glob("*.tar")))
    reader = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(1000, seed=0).decode()
    for sample in reader:
        yield [value for name, value in sample.items() if name.endswith(".npy")]


def litdata_copy(folder: str, target: str) -> Callable[[str], Iterator[list[np.ndarray]]]:
    """Writes the same samples in litdata's format; returns its reader."""
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    Path(target).mkdir()
    writer = BinaryWriter(target, chunk_bytes="64MB")
    for index, sample in enumerate(ShardDataset(folder)):
        writer[index] = {
            **{name: np.array(array) for name, array in sample.arrays.items()},
            "json": json.dumps(sample.meta),
        }
    writer.done()
    writer.merge()

    def read(_: str) -> Iterator[list[np.ndarray]]:
        for sample in StreamingDataset(target, shuffle=True, seed=0):
            json.loads(sample["json"])
            yield [value for value in sample.values() if isinstance(value, np.ndarray)]

    return read


def samples_per_second(samples: Iterable[list[np.ndarray]]) -> float:
    """By CPU time, opening included; what a disk takes is the same for all."""
    start, count = time.process_time(), 0
    for arrays in samples:
        count += 1
        for array in arrays:
            array.copy()
    if count != SHARDS * SAMPLES:
        raise RuntimeError(f"read {count} samples of {SHARDS * SAMPLES}")
    return count / (time.process_time() - start)


def main() -> None:
    """Prints a table: samples per second (best of five, in turn) and ours as a multiple."""
    readers: dict[str, Callable[[str], Any]] = {"ours": ours, "webdataset": plain_webdataset}
    with TemporaryDirectory() as scratch:
        folder = f"{scratch}/shards"
        make_shards(folder)
        if importlib.util.find_spec("litdata"):
            readers["litdata"] = litdata_copy(folder, f"{scratch}/litdata")
        best = dict.fromkeys(readers, 0.0)
        for _ in range(REPEATS):
            for name, read in readers.items():
                best[name] = max(best[name], samples_per_second(read(folder)))
    print("| reader | samples/s | ours is |\n|---|---|---|")
    for name, speed in best.items():
        print(f"| {name} | {speed:,.0f} | {best['ours'] / speed:.1f} × |")
