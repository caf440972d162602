"""What an evaluation set bars from a data set: clips of the same content, and clips that look like one of its own.

Its inputs are analysed like any other, with the same settings, so that a clip of a video meets that of its copy.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from curation.duplicates import band_keys, mean_distance
from schemas.records import Analysis, Clip, Verdict
from schemas.states import ClipState

EXCLUDE_STAGE = "exclude"


@dataclass(frozen=True)
class Barred:
    """A stretch of an evaluation video, by its content, or one of its clips, by its looks."""

    barred_id: str  # of the input, or of its clip
    uri: str
    start: Fraction = Fraction(0)  # seconds on the timeline of the file
    end: Fraction | None = None
    phash: tuple[int, ...] = ()


@dataclass(frozen=True, order=True)
class Hit:
    """Why a clip is barred; the smallest of several counts."""

    reason_rank: int  # 0 same content, 1 near duplicate
    bits: float
    barred_id: str
    uri: str


def barred(analysis: Analysis) -> Iterator[tuple[str, Barred]]:
    """(key under which it is met, what is barred) of one input of the evaluation set."""
    source, probe = analysis.source, analysis.probe
    zero = probe.start_pts * Fraction(probe.time_base_num, probe.time_base_den)  # bounds count from the first frame
    end = None if source.end_s is None else zero + Fraction(source.end_s)
    whole = Barred(source.source_id, source.uri, zero + Fraction(source.start_s or 0), end)
    yield _content_key(analysis.content_sha256), whole
    for clip in analysis.clips:
        looks = Barred(clip.clip_id, source.uri, phash=clip.phash)
        yield from ((key, looks) for key in dict.fromkeys(band_keys(clip.phash)))


def keys_of(clip: Clip) -> list[str]:
    """Keys under which a clip meets what is barred."""
    return [_content_key(clip.content_sha256), *dict.fromkeys(band_keys(clip.phash))]


def hits(clip: Clip, met: Iterable[Barred], max_bits: float) -> Iterator[Hit]:
    """Those of the things met that bar the clip."""
    for other in met:
        if other.phash:
            bits = mean_distance(clip.phash, other.phash)
            if bits <= max_bits:
                yield Hit(1, bits, other.barred_id, other.uri)
        elif clip.span.end > other.start and (other.end is None or clip.span.start < other.end):
            yield Hit(0, 0.0, other.barred_id, other.uri)


def excluded_verdict(hit: Hit, max_bits: float) -> Verdict:
    """`duplicate(exclude, same_content | near_duplicate)` of what the evaluation set has."""
    detail = f"the evaluation set has it: {hit.uri}"
    if hit.reason_rank == 0:
        return Verdict(ClipState.DUPLICATE, EXCLUDE_STAGE, "same_content", duplicate_of=hit.barred_id, detail=detail)
    return Verdict(ClipState.DUPLICATE, EXCLUDE_STAGE, "near_duplicate", hit.bits, max_bits, hit.barred_id, detail)


def _content_key(sha256: str) -> str:
    return f"content:{sha256}"
