"""Filters as steps of the job: thresholds are replayed on the scores each time, so nothing of them is stored."""

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_jobs.flow import ended, fork
from curation.filters import cheap_verdict, verdict
from curation.removals import Removals, removed_clip
from curation.settings import FilterSettings
from schemas.records import Clip, Verdict

Judge = Callable[[Clip, FilterSettings], Verdict | None]


def judged(clip: Clip, filters: FilterSettings, judge: Judge) -> Clip:
    """The clip, with the verdict where it misses a limit; one that has a verdict keeps it."""
    if clip.verdict is not None:
        return clip
    found = judge(clip, filters)
    return clip.with_verdict(found) if found else clip


class _JudgeFn(beam.DoFn):
    def __init__(self, filters: FilterSettings, judge: Judge):
        self._filters, self._judge = filters, judge

    def process(self, clip: Clip) -> Iterator[Any]:
        clip = judged(clip, self._filters, self._judge)
        yield ended(clip) if clip.verdict else clip


class Filter(beam.PTransform):
    """Clips → those within the limits, and those that ended.

    Args:
        cheap: only the scores that need no large model.
    """

    def __init__(self, filters: FilterSettings, cheap: bool):
        super().__init__()
        self._filters, self._judge = filters, cheap_verdict if cheap else verdict

    def expand(self, clips: PCollection) -> Any:  # a Fork
        return fork(clips, _JudgeFn(self._filters, self._judge), "Judge")


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
