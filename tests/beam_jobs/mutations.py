"""Damaged copies of real files, each a function of its seed alone."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

Mutation = Callable[[bytearray, random.Random, bytes], bytearray]


def flip_bits(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    for _ in range(rng.choice((1, 2, 8, 64, 512))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def truncate(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    return data[: rng.randrange(len(data))]


def zero_runs(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    for _ in range(rng.randint(1, 4)):
        begin = rng.randrange(len(data))
        length = min(rng.choice((4, 64, 4096, 65536)), len(data) - begin)
        data[begin : begin + length] = bytes(length)
    return data


def splice(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    begin, length = rng.randrange(len(data)), rng.randint(1, max(2, len(data) // 4))
    taken = rng.randrange(len(other))
    data[begin : begin + rng.choice((0, length))] = other[taken : taken + length]
    return data


def edit_header(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    """Sizes and counts of the first boxes, or of those at the end of an mp4 that keeps its index there."""
    moov = data.find(b"moov")
    begin = rng.choice((0, max(0, moov - 4)))
    for _ in range(rng.randint(1, 8)):
        position = min(begin + rng.randrange(1024), len(data) - 1)
        value = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        width = rng.choice((1, 1, 2, 4))
        data[position : position + width] = bytes([value]) * min(width, len(data) - position)
    return data


def delete_block(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    begin = rng.randrange(len(data))
    del data[begin : begin + rng.randint(1, max(2, len(data) // 8))]
    return data


def repeat_block(data: bytearray, rng: random.Random, other: bytes) -> bytearray:
    begin, length = rng.randrange(len(data)), rng.randint(1, max(2, len(data) // 8))
    data[begin:begin] = data[begin : begin + length]
    return data


MUTATIONS: Sequence[Mutation] = (
    flip_bits, truncate, zero_runs, splice, edit_header, delete_block, repeat_block,
)  # fmt: skip


def mutate(data: bytes, other: bytes, seed: int) -> tuple[str, bytes]:
    """(name of the mutation, damaged bytes)."""
    rng = random.Random(seed)
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    return mutation.__name__, bytes(mutation(bytearray(data), rng, other))


def write_mutants(files: Sequence[Path], folder: Path, seeds: Sequence[int]) -> dict[str, str]:
    """One damaged file for each seed; by file name, the mutation."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for seed in seeds:
        rng = random.Random(-1 - seed)
        original, other = rng.choice(files), rng.choice(files)
        mutation, data = mutate(original.read_bytes(), other.read_bytes(), seed)
        suffix = original.suffix if rng.random() < 0.9 else rng.choice((".mp4", ".mkv", ".avi", ".ts", ".webm"))
        name = f"{seed:05d}-{mutation}{suffix}"
        (folder / name).write_bytes(data)
        made[name] = mutation
    return made
