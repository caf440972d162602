"""Filters as steps of the job: thresholds are replayed on the scores each time, so nothing of them is stored."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton, PCollection

from beam_jobs.flow import ENDED, ended, fork
from curation.filters import verdict
from curation.quantiles import quantiles, resolve, score_of, with_thresholds
from curation.removals import Removals, removed_clip
from curation.settings import FilterSettings
from schemas.records import Clip
from schemas.scores import Score

Scores = tuple[Score, ...]


def judged(clip: Clip, filters: FilterSettings, scores: Scores) -> Clip:
    """The clip, with the verdict where it misses a limit of these scores; one that has a verdict keeps it."""
    if clip.verdict is not None:
        return clip
    found = verdict(clip, filters, scores)
    return clip.with_verdict(found) if found else clip


def judged_together(clips: Iterable[Clip], filters: FilterSettings, scores: Scores) -> list[Clip]:
    """`judged` of all clips that come this far, whose scores say what quantiles among the limits come to."""
    clips = list(clips)
    alive = [clip for clip in clips if clip.verdict is None]
    names = {score_of(name) for name in quantiles(filters, scores)}
    values = {name: np.array([clip.scores[name] for clip in alive if name in clip.scores]) for name in names}
    numbers = with_thresholds(filters, resolve(filters, scores, values))
    return [judged(clip, numbers, scores) for clip in clips]


class _JudgeFn(beam.DoFn):
    def __init__(self, filters: FilterSettings, scores: Scores):
        self._filters, self._scores = filters, scores

    def process(self, clip: Clip, thresholds: Mapping[str, float] | None = None) -> Iterator[Any]:
        clip = judged(clip, with_thresholds(self._filters, thresholds or {}), self._scores)
        yield ended(clip) if clip.verdict else clip


class Thresholds(beam.CombineFn):
    """Scores of clips → the numbers that quantiles come to: exact, so all values of such scores meet in one place.

    That is 8 bytes a clip and score: 0.8 GB for a hundred million clips.
    """

    def __init__(self, filters: FilterSettings, scores: Scores):
        self._filters, self._scores = filters, scores
        self._names = sorted({score_of(name) for name in quantiles(filters, scores)})

    def create_accumulator(self) -> dict[str, array]:
        return {name: array("d") for name in self._names}

    def add_input(self, found: dict[str, array], element: Clip) -> dict[str, array]:
        for name in self._names:
            if element.verdict is None and name in element.scores:
                found[name].append(element.scores[name])
        return found

    def merge_accumulators(self, accumulators: Iterable[dict[str, array]]) -> dict[str, array]:
        merged = self.create_accumulator()
        for found in accumulators:
            for name in self._names:
                merged[name].extend(found[name])
        return merged

    def extract_output(self, found: dict[str, array]) -> dict[str, float]:
        return resolve(self._filters, self._scores, {name: np.asarray(values) for name, values in found.items()})


class Filter(beam.PTransform):
    """Clips → those within the limits of some scores, those that ended, and the numbers that quantiles came to."""

    def __init__(self, filters: FilterSettings, scores: Scores):
        super().__init__()
        self._filters, self._scores = filters, scores

    def expand(self, clips: PCollection) -> Any:  # a Fork, or a FilterFork
        judge = _JudgeFn(self._filters, self._scores)
        if not quantiles(self._filters, self._scores):
            return fork(clips, judge, "Judge")
        thresholds = clips | "Quantiles" >> beam.CombineGlobally(Thresholds(self._filters, self._scores))
        side = AsSingleton(thresholds)
        outputs = clips | "Judge" >> beam.ParDo(judge, side).with_outputs(ENDED, main="alive")
        return QuantileFork(outputs["alive"], outputs[ENDED], thresholds)


class QuantileFork(NamedTuple):
    """A `Fork` of filters that had to look at the whole run first."""

    alive: PCollection
    ended: PCollection
    thresholds: PCollection


class _RemovedFn(beam.DoFn):
    def __init__(self, removals: Removals):
        self._removals = removals

    def process(self, clip: Clip) -> Iterator[Any]:
        tombstone = self._removals.clip(clip)
        yield clip if tombstone is None else ended(removed_clip(clip, tombstone))


class DropRemoved(beam.PTransform):
    """Clips → those that nobody has asked to take down, and the others, whatever verdict they have."""

    def __init__(self, removals: Removals):
        super().__init__()
        self._removals = removals

    def expand(self, clips: PCollection) -> Any:  # a Fork
        return fork(clips, _RemovedFn(self._removals), "Removed")
