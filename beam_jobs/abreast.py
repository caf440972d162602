"""Elements of a bundle dealt with side by side, where one process has all cores and others do its work."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, as_completed
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance

from beam_jobs.child import CHILDREN
from beam_jobs.metrics import StageMetrics


class Abreast(beam.DoFn):
    """`finish(work(element))` of each element; as many at once are worked on as one caller may keep children busy.

    They are begun in their order, so that the longest may go first, and go on as they are done. Several Beam workers
    would each have one static share of them.

    Args:
        stage: its name in the metrics.
        work: what takes long, but not in this process; no generator.
        finish: what of it goes on, and how it counts.
    """

    def __init__(
        self, stage: str, work: Callable[[Any], Any], finish: Callable[[Any, StageMetrics], Iterator[Any]]
    ) -> None:
        super().__init__()
        self._work, self._finish, self._metrics = work, finish, StageMetrics(stage)
        self._begun: list[Future[tuple[Any, int]]] = []
        self._slots: threading.Semaphore | None = None

    def process(self, element: Any) -> Iterator[Any]:
        if CHILDREN.for_one == 1:
            with self._metrics.busy():
                found = self._work(element)
            yield from self._finish(found, self._metrics)
            return
        slots = self._slots = self._slots or threading.BoundedSemaphore(CHILDREN.for_one)
        self._begun.append(shared_unbounded_instance().submit(self._in_turn, element, slots))

    def finish_bundle(self) -> Iterator[Any]:
        begun, self._begun = self._begun, []
        for future in as_completed(begun):
            found, took_ns = future.result()
            self._metrics.worked(took_ns)
            yield from map(_at_end, self._finish(found, self._metrics))

    def _in_turn(self, element: Any, slots: threading.Semaphore) -> tuple[Any, int]:
        with slots:
            began = self._metrics.begin()
            found = self._work(element)
            return found, time.perf_counter_ns() - began


def _at_end(value: Any) -> Any:
    """A value as the end of a bundle yields it."""
    if isinstance(value, TaggedOutput):
        return TaggedOutput(value.tag, _at_end(value.value))
    return GlobalWindows.windowed_value_at_end_of_window(value)
