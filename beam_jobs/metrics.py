"""What each stage cost: counters that Beam adds up over all workers, and `timings.json` from them."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apache_beam.metrics import Metrics, MetricsFilter

from beam_jobs.heartbeat import beat

logger = logging.getLogger(__name__)

NAMESPACE = "reelmill"


class StageMetrics:
    """Counters of one stage: `<stage>-msec` of its work, `<stage>-items` it finished, `<stage>-reused` it had already.

    They count only within `process` and what it calls: what a DoFn counts in `setup` is lost on some runners. The same
    goes to `beam_jobs.heartbeat`, which a watching command reads while the job runs.
    """

    def __init__(self, stage: str):
        self._stage = stage
        self._msec = Metrics.counter(NAMESPACE, f"{stage}-msec")
        self._items = Metrics.counter(NAMESPACE, f"{stage}-items")
        self._reused = Metrics.counter(NAMESPACE, f"{stage}-reused")

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Counts the time that passes within."""
        began = self.begin()
        try:
            yield
        finally:
            self.worked(time.perf_counter_ns() - began)

    def begin(self) -> int:
        """Says that the stage is at work, from any thread; returns the time, in nanoseconds of `perf_counter_ns`."""
        beat(self._stage, began=time.time())
        return time.perf_counter_ns()

    def worked(self, took_ns: int) -> None:
        """Counts time that has passed."""
        self._msec.inc(took_ns // 1_000_000)

    def done(self, items: int = 1, *, clips: int = 0, video_s: float = 0.0) -> None:
        """Counts items as finished.

        Args:
            clips: found in them.
            video_s: their length in seconds.
        """
        self._items.inc(items)
        beat(self._stage, items=items, clips=clips, video_s=video_s, last=time.time())

    def reused(self, items: int = 1, *, clips: int = 0, video_s: float = 0.0) -> None:
        """Counts items that were finished before."""
        self._reused.inc(items)
        beat(self._stage, reused=items, clips=clips, video_s=video_s, last=time.time())


def counters(result: Any) -> dict[str, int]:
    """Our counters of a finished pipeline by name; empty where the runner keeps none."""
    try:
        found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except Exception:  # a runner without metrics must not fail a run that is done
        logger.warning("this runner gives no metrics; timings.json will have no stages")
        logger.debug("no metrics", exc_info=True)
        return {}
    totals: dict[str, int] = {}
    for counter in found:
        value = counter.committed if counter.committed is not None else counter.attempted
        totals[counter.key.metric.name] = totals.get(counter.key.metric.name, 0) + int(value or 0)
    return totals


def timings(counts: dict[str, int], wall_s: float, units: dict[str, str]) -> bytes:
    """`timings.json`: seconds of work by stage, added up over the workers, and how many items that was.

    Args:
        units: what a stage's items are called, e.g. {"analyze": "videos"}.
    """
    stages: dict[str, dict[str, Any]] = {}
    for name in sorted(counts):
        stage, _, what = name.rpartition("-")
        entry = stages.setdefault(stage, {"unit": units.get(stage, "items")})
        if what == "msec":
            entry["seconds"] = counts[name] / 1000
        elif what in ("items", "reused"):
            entry[what] = counts[name]
    return (json.dumps({"wall_s": round(wall_s, 3), "stages": stages}, indent=2, sort_keys=True) + "\n").encode()
