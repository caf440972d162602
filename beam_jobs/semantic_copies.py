"""Semantic copies: clips whose embeddings agree, found in buckets by hyperplanes and settled by one worker."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.flow import ForkFound
from beam_jobs.job import CurateJob
from beam_jobs.model_stages import embedding_path, read_embedding
from curation.duplicates import Quality, quality
from curation.semantic import (
    Embedded,
    band_keys,
    num_bits,
    pairs_in_bucket,
    semantic_copies,
    semantic_verdict,
    whole_numbers,
)
from media import storage
from schemas.records import Clip

Match = tuple[tuple[str, Quality], tuple[str, Quality], float]
"""Two clips that mean the same, the worse first: (id, quality) of each; and their cosine."""


def embedded(clip: Clip, job: CurateJob) -> Embedded:
    """What the clip is compared by, from its unit."""
    vector = read_embedding(storage.read_bytes(embedding_path(clip, job)))
    return Embedded(clip.clip_id, whole_numbers(vector), quality(clip))


def matches(keyed: tuple[str, Iterable[Embedded]], min_cosine: float) -> Iterator[Match]:
    """The pairs of a bucket that mean the same."""
    key, bucket = keyed
    by_id = {clip.clip_id: clip for clip in bucket}
    for worse, better, cosine in pairs_in_bucket(key, by_id.values(), min_cosine):
        yield (worse, by_id[worse].quality), (better, by_id[better].quality), cosine


def settle(found: Iterable[Match]) -> Iterator[tuple[str, tuple[str, float]]]:
    """(copy, (what it is a copy of, cosine)), decided over all pairs at once."""
    pairs, ranks = set(), dict[str, Quality]()
    for worse, better, cosine in found:
        pairs.add((worse[0], better[0], cosine))
        ranks.update((worse, better))
    yield from sorted(semantic_copies(pairs, ranks).items())


class DropSemanticCopies(beam.PTransform):
    """Clips with embeddings → those that are nobody's copy, and the copies."""

    def __init__(self, job: CurateJob, min_cosine: float):
        super().__init__()
        self._job, self._min_cosine = job, min_cosine

    def expand(self, clips: PCollection) -> Any:  # a Fork
        bits = clips | "Count" >> beam.combiners.Count.Globally() | "Bits" >> beam.Map(num_bits)
        copies = (
            clips
            | "Embedding" >> beam.Map(embedded, self._job).with_output_types(Embedded)
            | "Bands" >> beam.FlatMap(_banded, AsSingleton(bits)).with_output_types(tuple[str, Embedded])
            | "Meet" >> beam.GroupByKey()
            | "Match" >> beam.FlatMap(matches, self._min_cosine)
            | "OnePlace" >> beam.Map(lambda match: ("", match)).with_output_types(tuple[str, Any])
            | "Gather" >> beam.GroupByKey()
            | "Settle" >> beam.FlatMapTuple(lambda _, found: settle(found)).with_output_types(tuple[str, Any])
        )
        return clips | ForkFound(copies, partial(_mark, self._min_cosine))


def _banded(clip: Embedded, bits: int) -> Iterator[tuple[str, Embedded]]:
    yield from ((key, clip) for key in band_keys(clip.vector, bits))


def _mark(min_cosine: float, clip: Clip, found: tuple[str, float]) -> Clip:
    copy_of, cosine = found
    return clip.with_verdict(semantic_verdict(copy_of, cosine, min_cosine))
