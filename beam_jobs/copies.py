"""Exact copies: inputs with equal bytes are kept once, and so are clips with the same content and span."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.flow import ENDED, Fork, SourceResult, ended
from curation.duplicates import best_source, exact_key, same_clip
from schemas.records import Clip
from schemas.states import SourceState


def content_key(result: SourceResult) -> str:
    """What two copies share: the bytes and the bounds. An input that has failed is a copy of none."""
    source = result.source
    if result.state is not SourceState.DONE or result.content_sha256 is None:
        return f"{source.source_id}:{source.occurrence}"
    return exact_key(source, result.content_sha256)


def mark_copies(results: Iterable[SourceResult]) -> Iterator[SourceResult]:
    """Of inputs with one key the best stays; the others are `duplicate(same_content)` of it."""
    group = sorted(results, key=lambda result: (result.source.source_id, result.source.occurrence))
    best = best_source(result.source for result in group)
    for result in group:
        yield result if result.source == best else result.duplicate("same_content", best.source_id)


class DropCopies(beam.PTransform):
    """Results of all inputs → the same, copies marked and without clips."""

    def expand(self, results: PCollection) -> PCollection:
        return (
            results
            | "ByContent"
            >> beam.Map(lambda result: (content_key(result), result)).with_output_types(tuple[str, SourceResult])
            | "Group" >> beam.GroupByKey()
            | "Mark" >> beam.FlatMapTuple(lambda _, group: mark_copies(group))
        )


class DropSameClips(beam.PTransform):
    """Clips → those whose id is theirs alone, and the others."""

    def expand(self, clips: PCollection) -> Any:  # a Fork
        outputs = (
            clips
            | "ById" >> beam.Map(lambda clip: (clip.clip_id, clip)).with_output_types(tuple[str, Clip])
            | "Group" >> beam.GroupByKey()
            | "Mark" >> beam.FlatMapTuple(_forked).with_outputs(ENDED, main="alive")
        )
        return Fork(outputs["alive"], outputs[ENDED])


def _forked(_: str, clips: Iterable[Clip]) -> Iterator[Any]:
    for clip in same_clip(list(clips)):
        yield ended(clip) if clip.verdict else clip
