"""Clips that an evaluation set has too: met by content and by hash bands, decided for each clip alone."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.flow import ForkFound, SourceResult
from curation.exclusion import Barred, Hit, barred, excluded_verdict, hits, keys_of
from schemas.records import Clip
from schemas.states import SourceState


class DropExcluded(beam.PTransform):
    """Clips → those that the evaluation set does not have, and the others."""

    def __init__(self, evaluation: PCollection, max_bits: float):
        super().__init__()
        self._evaluation, self._max_bits = evaluation, max_bits

    def expand(self, clips: PCollection) -> Any:  # a Fork
        met = {
            "clips": clips | "Keys" >> beam.FlatMap(_keyed).with_output_types(tuple[str, Clip]),
            "barred": self._evaluation | "Barred" >> beam.FlatMap(_barred).with_output_types(tuple[str, Barred]),
        }
        found = (
            met
            | "Meet" >> beam.CoGroupByKey()
            | "Hits" >> beam.FlatMap(_hits, self._max_bits).with_output_types(tuple[str, Hit])
            | "First" >> beam.CombinePerKey(min)
        )
        return clips | ForkFound(found, partial(_mark, self._max_bits))


def count_excluded(result: SourceResult) -> list[tuple[str, int]]:
    """What one input of the evaluation set adds to the sums."""
    return [(f"exclude.{result.state}", 1)]


def _keyed(clip: Clip) -> Iterator[tuple[str, Clip]]:
    if clip.verdict is None:
        yield from ((key, clip) for key in keys_of(clip))


def _barred(result: SourceResult) -> Iterator[tuple[str, Barred]]:
    if result.analysis is not None and result.state is SourceState.DONE:
        yield from barred(result.analysis)


def _hits(keyed: tuple[str, Mapping[str, Iterable[Any]]], max_bits: float) -> Iterator[tuple[str, Hit]]:
    group = keyed[1]
    met = list(group["barred"])
    for clip in group["clips"] if met else ():
        yield from ((clip.clip_id, hit) for hit in hits(clip, met, max_bits))


def _mark(max_bits: float, clip: Clip, hit: Hit) -> Clip:
    return clip if clip.verdict else clip.with_verdict(excluded_verdict(hit, max_bits))
