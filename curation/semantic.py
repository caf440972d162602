"""Semantic duplicates: clips whose CLIP embeddings agree, whatever else is different about them.

    few clips     every pair is compared
    many clips    clips meet in the buckets of `BANDS` bands, each of some bits: the sides of seeded hyperplanes on
                  which an embedding lies (locality-sensitive hashing). A pair at cosine c agrees in a bit with
                  probability 1 - acos(c)/π: at 0.95 and 10 bits it meets somewhere in 1 - (1 - 0.35)^12 = 0.99.

Embeddings are whole numbers here, so that cosines and sides are exact and no order of summing, batch shape or number of
threads can turn a pair near the threshold.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from curation.duplicates import Fingerprinted, Quality, preference
from schemas.records import Verdict
from schemas.states import ClipState

BANDS = 12
LEAF = 2048  # clips that are all compared with each other; larger buckets are split by further hyperplanes
MAX_BETTER = 32  # better clips that one clip is paired with in a bucket
_MAX_BITS = 48
_SCALE = 32_767
_SEED = 20_240_229

Pair = tuple[str, str, float]
"""Ids of the worse and the better clip, and their cosine."""


@dataclass(frozen=True)
class Embedded:
    """What semantic duplicates are decided on."""

    clip_id: str
    vector: bytes  # int16: the embedding of norm 1 by 32767
    quality: Quality


def whole_numbers(embedding: np.ndarray) -> bytes:
    """An embedding (D,) of norm 1 as int16."""
    return np.rint(embedding.astype(np.float64) * _SCALE).astype("<i2").tobytes()


def num_bits(num_clips: int) -> int:
    """Bits of a band, so that a bucket has about `LEAF` clips; 0 where all fit into one."""
    return max(0, (max(num_clips, 1) - 1).bit_length() - (LEAF - 1).bit_length())


def band_keys(vector: bytes, bits: int) -> list[str]:
    """Keys of the buckets in which a clip may meet its copies: one for each band, or a single one without bits."""
    if not bits:
        return [""]
    sides = _sides(np.frombuffer(vector, "<i2")[None])[0].reshape(BANDS, _MAX_BITS)[:, :bits]
    return [f"{band}:{''.join('01'[side] for side in row)}" for band, row in enumerate(sides.astype(int))]


def pairs_in_bucket(key: str, bucket: Iterable[Embedded], min_cosine: float) -> list[Pair]:
    """Pairs in a bucket at or above the threshold, each once, sorted."""
    clips = sorted({clip.clip_id: clip for clip in bucket}.values(), key=lambda clip: clip.clip_id)
    if len(clips) < 2:
        return []
    band, _, bits = key.partition(":")
    vectors = np.stack([np.frombuffer(clip.vector, "<i2") for clip in clips])
    return sorted(
        pair
        for leaf in _leaves(vectors, int(band or 0), len(bits))
        for pair in _pairs([clips[row] for row in leaf], vectors[leaf], min_cosine)
    )


def semantic_copies(pairs: Iterable[Pair], ranks: Mapping[str, Quality]) -> dict[str, tuple[str, float]]:
    """What each copy duplicates, and their cosine: the best clip that stays and that it is alike itself.

    The best come first: a clip that is alike to one that stays goes, all others stay. So nothing goes because of a
    chain of likenesses at whose ends two clips have little in common.

    Args:
        pairs: in any order, with repeats.
        ranks: `quality` of every clip in the pairs.
    """
    better: dict[str, dict[str, float]] = {}
    for worse, best, cosine in pairs:
        better.setdefault(worse, {})[best] = cosine
    order = sorted(ranks, key=lambda clip_id: preference(Fingerprinted(clip_id, (), ranks[clip_id])))
    place = {clip_id: index for index, clip_id in enumerate(order)}
    found: dict[str, tuple[str, float]] = {}
    for clip_id in order:
        staying = [other for other in better.get(clip_id, ()) if other not in found]
        if staying:
            best = min(staying, key=place.__getitem__)
            found[clip_id] = (best, better[clip_id][best])
    return found


def all_semantic_copies(clips: Sequence[Embedded], min_cosine: float) -> dict[str, tuple[str, float]]:
    """`semantic_copies` of clips in one place; their order does not matter."""
    buckets: dict[str, list[Embedded]] = {}
    bits = num_bits(len(clips))
    for clip in clips:
        for key in band_keys(clip.vector, bits):
            buckets.setdefault(key, []).append(clip)
    pairs = {pair for key, bucket in buckets.items() for pair in pairs_in_bucket(key, bucket, min_cosine)}
    return semantic_copies(pairs, {clip.clip_id: clip.quality for clip in clips})


def semantic_verdict(duplicate_of: str, cosine: float, threshold: float) -> Verdict:
    return Verdict(ClipState.DUPLICATE, "dedup", "semantic_duplicate", cosine, threshold, duplicate_of)


def _leaves(vectors: np.ndarray, band: int, depth: int) -> Iterator[np.ndarray]:
    """Rows that are compared with each other: all of a small bucket, else those on one side of the next hyperplanes."""
    sides = _sides(vectors).reshape(len(vectors), BANDS, _MAX_BITS)[:, band] if len(vectors) > LEAF else None
    waiting = [(np.arange(len(vectors)), depth)]
    while waiting:
        rows, bit = waiting.pop()
        if sides is None or len(rows) <= LEAF:
            yield rows
        elif bit == _MAX_BITS:  # thousands of nearly equal clips: each meets its neighbours in the order of ids
            yield from (rows[start : start + LEAF] for start in range(0, len(rows), LEAF // 2))
        else:
            waiting += [(rows[sides[rows, bit] == side], bit + 1) for side in (False, True)]


def _pairs(clips: Sequence[Embedded], vectors: np.ndarray, min_cosine: float) -> Iterator[Pair]:
    """Each clip with the best of those alike to it: a thousand equal clips must not make a million pairs."""
    order = sorted(range(len(clips)), key=lambda row: preference(_ranked(clips[row])))
    exact = vectors[order].astype(np.float64)  # whole numbers, and sums of their products stay below 2^53
    products = exact @ exact.T
    norms = np.sqrt(np.diag(products))
    cosines = products / np.maximum(np.outer(norms, norms), 1.0)
    alike = np.triu(cosines >= min_cosine, k=1)  # row: the better, column: the worse
    alike &= np.cumsum(alike, axis=0, dtype=np.int16) <= MAX_BETTER
    for better, worse in np.argwhere(alike):
        cosine = round(float(cosines[better, worse]), 6)
        yield clips[order[worse]].clip_id, clips[order[better]].clip_id, cosine


def _ranked(clip: Embedded) -> Fingerprinted:
    return Fingerprinted(clip.clip_id, (), clip.quality)


def _sides(vectors: np.ndarray) -> np.ndarray:
    """(n, BANDS × _MAX_BITS) bool: on which side of each hyperplane through the origin vectors (n D) lie."""
    return vectors.astype(np.float64) @ _hyperplanes(vectors.shape[1]) > 0


@cache
def _hyperplanes(size: int) -> np.ndarray:
    """(D, BANDS × _MAX_BITS) whole numbers, normally distributed: products with them are exact too."""
    generator = np.random.Generator(np.random.PCG64(_SEED))
    return np.rint(generator.standard_normal((size, BANDS * _MAX_BITS)) * 4096)
