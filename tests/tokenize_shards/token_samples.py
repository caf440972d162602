"""Token samples and a small data set for the tests of writer, reader and inspection."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from schemas.shards import DatasetInfo, TokenizerInfo, TokenSample
from tokenize_shards.writer import write_dataset, write_shard

TOKENIZERS = {
    "video": TokenizerInfo("magvit2-test", "a" * 64, 2**18, "little", (4, 8, 8)),
    "audio": TokenizerInfo("soundstream-test", "b" * 64, 1024, None, (320,), 4, 16000),
    "text": TokenizerInfo("text-test", "c" * 64, 0, width=6),
}


def make_sample(number: int, *, still: bool = False, audio: bool = True) -> TokenSample:
    """A sample of random codes; equal numbers give equal samples."""
    generator = np.random.default_rng(number)
    clip_id = generator.bytes(10).hex()
    arrays = {
        "video": generator.integers(0, 2**18, (1 if still else 3, 4, 4)).astype(np.uint32),
        "audio": generator.integers(0, 1024, (4, 7 if audio else 0)).astype(np.uint16),
        "text": generator.normal(size=(1 + number % 5, 6)).astype(np.float16),
    }
    meta = {
        "clip_id": clip_id,
        "source_id": f"source-{number % 3}",
        "caption": f"clip {number} – ü",
        "license": None,
        "start_s": 0.0,
        "window_index": 0,
        "num_frames": 1 if still else 9,
        "fps": [8, 1],
        "extra": {},
        "resolution": [32, 32],
        "resolutions": [[32, 32]],
        "quality": {"psnr_db": 20.0 + number} if number % 2 == 0 else {},
    }
    return TokenSample(f"{clip_id}-0000", arrays, meta)


def make_dataset(folder: Path, sizes: Mapping[str, list[int]], first: int = 0, **changes: object) -> list[TokenSample]:
    """A data set with as many samples in its shards as `sizes` says by split; returns all in the order of the shards.

    Every fourth sample is a still, every fifth has no sound. `changes` are fields of `dataset.json`.
    """
    numbers, made, shards = itertools.count(first), [], []
    for split, counts in sizes.items():
        for index, count in enumerate(counts):
            chosen = itertools.islice(numbers, count)
            samples = [make_sample(n, still=n % 4 == 3, audio=n % 5 != 4) for n in chosen]
            shards.append(write_shard(str(folder), f"{split}-{index:05d}.tar", split, samples, TOKENIZERS).info)
            made += samples
    info = DatasetInfo(TOKENIZERS, [(32, 32)], 9, (8, 1), {"samples": len(made)}, shards, ["video", "audio", "text"])
    write_dataset(str(folder), replace(info, **changes), np.ones((2, 6), np.float16))
    return made
