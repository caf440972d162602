"""Seeing progress: finished units counted while a job runs, live on a terminal, as plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from beam_jobs.units import Units
from media import storage

_LIVE_S, _PLAIN_S = 0.5, 15.0
STAGES = {
    "fetch": "fetched",
    "analyze": "analysed",
    "caption": "captioned",
    "clip_score": "scored",
    "cut": "cut",
    "tokens": "tokenized",
}


def log(text: str) -> None:
    """A line of the command for a person."""
    print(text, flush=True)


class Progress:
    """Shows how many units of each stage are finished, from the files themselves, so that any runner will do.

    Args:
        totals: by stage, how many there will be, where that is known before.
    """

    def __init__(self, units: Units, totals: Mapping[str, int]):
        self._units, self._totals = units, dict(totals)
        self._live = sys.stderr.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if storage.is_local(self._units.root):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _counts(self) -> dict[str, int]:
        found = {stage: self._units.count(stage) for stage in STAGES}
        found["cut"] //= 2  # media and record
        return {stage: count for stage, count in found.items() if count or stage in self._totals}

    def _watch(self) -> None:
        if self._live:
            self._show_bars()
        else:
            self._write_lines()

    def _show_bars(self) -> None:
        columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
            tasks: dict[str, TaskID] = {}
            while True:
                began = time.monotonic()
                for stage, count in self._counts().items():
                    if stage not in tasks:
                        tasks[stage] = bars.add_task(STAGES[stage], total=self._totals.get(stage))
                    bars.update(tasks[stage], completed=count)
                took_s = time.monotonic() - began
                if self._stop.wait(max(_LIVE_S, 20 * took_s)):  # counting must cost nothing beside the work
                    return

    def _write_lines(self) -> None:
        began, shown = time.monotonic(), ""
        while not self._stop.wait(_PLAIN_S):
            line = ", ".join(f"{count} {STAGES[stage]}" for stage, count in self._counts().items())
            if line and line != shown:
                print(f"{time.monotonic() - began:6.0f} s  {line}", file=sys.stderr, flush=True)
                shown = line
