"""Near copies: re-encoded, scaled or letterboxed versions of a clip, found by hash bands and settled by one worker."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.flow import ForkFound
from curation.duplicates import (
    Fingerprinted,
    Quality,
    band_keys,
    fingerprinted,
    near_duplicates,
    near_verdict,
    pairs_in_bucket,
    resolve,
)
from curation.settings import DedupSettings
from schemas.records import Clip

Match = tuple[tuple[str, Quality], tuple[str, Quality]]
"""Two clips that look the same, the worse first: (id, quality) of each."""


def mark_near(clips: Sequence[Clip], settings: DedupSettings) -> list[Clip]:
    """The clips, those that are near copies of a better one with that verdict."""
    copies = near_duplicates([fingerprinted(clip) for clip in clips], settings.near_distance)
    return [marked(clip, copies.get(clip.clip_id)) for clip in clips]


def marked(clip: Clip, copy_of: str | None) -> Clip:
    return clip if copy_of is None else clip.with_verdict(near_verdict(copy_of))


def matches(bucket: Iterable[Fingerprinted], max_distance: float) -> Iterator[Match]:
    """The pairs of a bucket that look the same."""
    by_id = {clip.clip_id: clip for clip in bucket}
    if len(by_id) > 1:
        for worse, better in pairs_in_bucket(by_id.values(), max_distance):
            yield (worse, by_id[worse].quality), (better, by_id[better].quality)


def settle(found: Iterable[Match]) -> Iterator[tuple[str, str]]:
    """(copy, what it is a copy of), decided over all pairs at once, so that no copy names another copy."""
    pairs: set[tuple[str, str]] = set()
    ranks: dict[str, Quality] = {}
    for worse, better in found:
        pairs.add((worse[0], better[0]))
        ranks.update((worse, better))
    yield from sorted(resolve(pairs, ranks).items())


class DropNearCopies(beam.PTransform):
    """Clips → those that are nobody's copy, and the copies.

    Only small records travel: a clip meets others in the buckets of its hash bands, and the few that have a match
    there meet once more, in one place, because who is whose copy is one decision.
    """

    def __init__(self, settings: DedupSettings):
        super().__init__()
        self._settings = settings

    def expand(self, clips: PCollection) -> Any:  # a Fork
        copies = (
            clips
            | "Bands" >> beam.FlatMap(_banded).with_output_types(tuple[str, Fingerprinted])
            | "Meet" >> beam.GroupByKey()
            | "Match" >> beam.FlatMap(_matched, self._settings.near_distance)
            | "OnePlace" >> beam.Map(lambda match: ("", match)).with_output_types(tuple[str, Any])
            | "Gather" >> beam.GroupByKey()
            | "Settle" >> beam.FlatMap(lambda group: settle(group[1])).with_output_types(tuple[str, str])
        )
        return clips | ForkFound(copies, marked)


def _banded(clip: Clip) -> Iterator[tuple[str, Fingerprinted]]:
    small = fingerprinted(clip)
    yield from ((key, small) for key in band_keys(small.phash))


def _matched(bucket: tuple[str, Iterable[Fingerprinted]], max_distance: float) -> Iterator[Match]:
    yield from matches(bucket[1], max_distance)
