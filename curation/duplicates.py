"""Duplicates: sources with equal bytes, clips with equal spans of them, and clips that look the same."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from curation.phash import distance
from schemas.records import Clip, Source, Verdict
from schemas.states import ClipState

BANDS = 4  # of 16 bits: 2 × 10^5 buckets a position; copies up to 3 bits apart in one frame always meet
MAX_BUCKET = 2_000  # clips compared with each other in one bucket; beyond that each meets its neighbours in order
MARKED = 0.5  # a clip with a higher watermark probability is not the copy to keep
HALF_MOVED = 16  # bits: half of what two clips that have nothing in common differ by

Quality = tuple[float, ...]


@dataclass(frozen=True)
class Fingerprinted:
    """What near duplicates are decided on."""

    clip_id: str
    phash: tuple[int, ...]
    quality: Quality


# --- equal bytes ----------------------------------------------------------------------------------------------------


def exact_key(source: Source, content_sha256: str) -> str:
    """Equal for inputs that would give the same clips: equal bytes and equal bounds."""
    return f"{content_sha256}:{source.start_s or 0.0:.6f}:{'' if source.end_s is None else format(source.end_s, '.6f')}"


def best_source(sources: Iterable[Source]) -> Source:
    """Of sources with one `exact_key`, the one to keep: with a caption, with a licence, then by id and occurrence."""
    return min(sources, key=lambda s: (not s.caption, not s.license, s.source_id, s.occurrence))


def same_clip(clips: Sequence[Clip]) -> list[Clip]:
    """Clips of one `clip_id`, as overlapping bounds give them: the first stays, the others are duplicates of it."""
    kept, *copies = sorted(clips, key=lambda clip: (clip.verdict is not None, clip.caption is None, clip.source_id))
    verdict = Verdict(ClipState.DUPLICATE, "dedup", "same_clip", duplicate_of=kept.clip_id)
    return [kept, *(clip if clip.verdict else clip.with_verdict(verdict) for clip in copies)]


# --- equal looks ----------------------------------------------------------------------------------------------------


def fingerprinted(clip: Clip) -> Fingerprinted:
    return Fingerprinted(clip.clip_id, clip.phash, quality(clip))


def quality(clip: Clip) -> Quality:
    """Greater for the copy to keep: unmarked, then with more pixels of picture, with sound, longer, sharper."""
    scores = clip.scores
    pixels = scores.get("height", 0.0) * scores.get("width", 0.0) * (1 - scores.get("letterbox", 0.0))
    return (
        float(scores.get("watermark", 0.0) <= MARKED),
        round(pixels, -3),  # a border is measured to within a line or two
        float("loudness_dbfs" in scores),
        round(clip.span.duration_s, 1),
        scores.get("sharpness", 0.0),
    )


def band_keys(phash: Sequence[int]) -> list[str]:
    """Keys of the buckets in which a clip may meet its copies (locality-sensitive hashing).

        hash of frame k   |  16 bits  |  16 bits  |  16 bits  |  16 bits  |    key  k:band:bits

    Only the hashes of frames, the first half, have keys; those of motion would put all that stands still together.
    Flat pictures (hash 0) have none either: every black frame would be a copy of every other.
    """
    width = 64 // BANDS
    mask = (1 << width) - 1
    return [
        f"{position}:{band}:{(value >> (band * width)) & mask:04x}"
        for position, value in enumerate(phash[: len(phash) // 2])
        if value
        for band in range(BANDS)
    ]


def mean_distance(first: Sequence[int], second: Sequence[int]) -> float:
    """Mean bits, of 64, in which the frames of two clips differ, or what moves in them: the greater of the two.

    Two takes of one scene look the same and move otherwise; a copy moves the same even under a mark. 64 where clips
    cannot be compared.
    """
    if len(first) < 2 or len(first) != len(second):
        return 64.0
    half = len(first) // 2
    frames = sum(map(distance, first[:half], second[:half])) / half
    moving = sum(map(_motion_distance, first[half:], second[half:])) / half
    return max(frames, moving)


def _motion_distance(first: int, second: int) -> int:
    """Bits in which two hashes of motion differ; where only one picture moved, the noise of coding may decide that."""
    return distance(first, second) if first and second else HALF_MOVED if first or second else 0


def pairs_in_bucket(bucket: Iterable[Fingerprinted], max_distance: float) -> list[tuple[str, str]]:
    """(worse, better) ids of the clips in a bucket that look the same, each pair once, sorted.

    A bucket of more than `MAX_BUCKET` clips compares each with as many of its neighbours in the order of hashes.
    """
    clips = sorted({clip.clip_id: clip for clip in bucket}.values(), key=lambda clip: (clip.phash, clip.clip_id))
    pairs = []
    for index, first in enumerate(clips):
        for second in clips[index + 1 : index + MAX_BUCKET]:
            if mean_distance(first.phash, second.phash) <= max_distance:
                better, worse = sorted((first, second), key=preference)
                pairs.append((worse.clip_id, better.clip_id))
    return sorted(pairs)


def preference(clip: Fingerprinted) -> tuple[Quality, str]:
    """Sorts the copy to keep first; among equals the smaller id."""
    return tuple(-value for value in clip.quality), clip.clip_id


def resolve(pairs: Iterable[tuple[str, str]], ranks: Mapping[str, Quality]) -> dict[str, str]:
    """What each copy duplicates: the best clip that a chain of pairs leads to.

    Args:
        pairs: (worse, better) ids, in any order.
        ranks: `quality` of every clip in the pairs.
    """
    better: dict[str, set[str]] = defaultdict(set)
    for worse, best in pairs:
        better[worse].add(best)
    order = sorted(ranks, key=lambda clip_id: preference(Fingerprinted(clip_id, (), ranks[clip_id])))
    place = {clip_id: index for index, clip_id in enumerate(order)}
    root: dict[str, str] = {}
    for clip_id in order:  # the best first, so that what a clip duplicates is settled before it
        found = {root.get(other, other) for other in better.get(clip_id, ())}
        if found:
            root[clip_id] = min(found, key=place.__getitem__)
    return root


def near_duplicates(clips: Iterable[Fingerprinted], max_distance: float) -> dict[str, str]:
    """clip_id → clip_id of the best copy, for every clip that looks like a better one; order does not matter."""
    buckets: dict[str, dict[str, Fingerprinted]] = defaultdict(dict)
    for clip in clips:
        for key in band_keys(clip.phash):
            buckets[key][clip.clip_id] = clip
    pairs: set[tuple[str, str]] = set()
    ranks: dict[str, Quality] = {}
    for bucket in buckets.values():
        if len(bucket) > 1:
            pairs.update(pairs_in_bucket(bucket.values(), max_distance))
            ranks.update({clip.clip_id: clip.quality for clip in bucket.values()})
    return resolve(pairs, ranks)


def near_verdict(duplicate_of: str, bits: float | None = None, threshold: float | None = None) -> Verdict:
    return Verdict(ClipState.DUPLICATE, "dedup", "near_duplicate", bits, threshold, duplicate_of)
