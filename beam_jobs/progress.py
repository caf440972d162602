"""Seeing progress: what each stage has finished while a job runs, live on a terminal, as plain lines elsewhere."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from beam_jobs.heartbeat import FOLDER, Beat, read_beats
from beam_jobs.units import Units
from media import storage

_LIVE_S = 1.0
_DONE = {"analyze": "analysed", "cut": "cut", "tokenize": "tokenized", "shards": "written"}
_UNITS = {"analyze": "video", "shards": "shard"}


def log(text: str) -> None:
    """A line of the command for a person."""
    print(text, flush=True)


@dataclass(frozen=True)
class StageProgress:
    """How far one stage is."""

    stage: str
    beat: Beat
    total: int | None  # None: not known
    at_most: bool  # the total is an upper bound
    now: float  # seconds of the wall clock

    @property
    def finished(self) -> int:
        return self.beat.items + self.beat.reused

    @property
    def rate(self) -> float | None:
        """Items per second since the stage began; those of an earlier run do not count."""
        took_s = self.now - self.beat.began
        return self.beat.items / took_s if self.beat.items and self.beat.began and took_s > 0 else None

    @property
    def left_s(self) -> float | None:
        """Estimate of the seconds until the stage is over."""
        if self.total is None or self.rate is None or self.finished >= self.total:
            return None
        return (self.total - self.finished) / self.rate

    @property
    def unit(self) -> str:
        return _UNITS.get(self.stage, "clip")


def stages_of(beats: Mapping[str, Beat], totals: Mapping[str, int], now: float) -> list[StageProgress]:
    """The stages that have begun, in order. Of clips there are at most as many as the analyses have found.

    Args:
        totals: by stage, how many items there will be, where that is known before.
        now: seconds of the wall clock. A stage that a later one has followed ended with its last item.
    """
    analyses = beats.get("analyze", Beat())
    found = analyses.clips if analyses.items + analyses.reused >= totals.get("analyze", 1) else None
    stages, names = [], list(beats)
    for index, stage in enumerate(names):
        beat, total = beats[stage], totals.get(stage)
        over = any(beats[later].items for later in names[index + 1 :])
        clips = _UNITS.get(stage) is None
        bound = found if total is None and clips and not over else None
        stages.append(StageProgress(stage, beat, total if total is not None else bound, bound is not None,
                                    beat.last if over and beat.last else now))  # fmt: skip
    return stages


def line(stages: list[StageProgress], took_s: float) -> str:
    """`  45 s  analysed 412/900 videos (1,236 clips, 0.82 h, 3.1/s, 2 min left), cut …`; empty before work began."""
    told = []
    for each in stages:
        done = _DONE.get(each.stage, each.stage.replace("_", " "))
        facts = ", ".join(fact for fact in (*_found(each), _rate(each), _left(each)) if fact)
        told.append(f"{done} {_count(each)}{f' ({facts})' if facts else ''}")
    return f"{took_s:6.0f} s  {', '.join(told)}" if told else ""


def table(stages: list[StageProgress]) -> RenderableType:
    """A row for each stage: bar, count, what it found, rate, and an estimate of what is left."""
    grid = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right", "right", "right", "left"):
        grid.add_column(justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for each in stages:
        bar = ProgressBar(total=each.total, completed=each.finished, width=24, pulse=each.total is None)
        clips, hours = _found(each)
        grid.add_row(each.stage.replace("_", " "), bar, _count(each), clips, hours, _rate(each), _left(each))
    return grid


def _count(each: StageProgress) -> str:
    plural = "" if (each.total or each.finished) == 1 else "s"
    of = "" if each.total is None else f"/{'≤' if each.at_most else ''}{each.total:,}"
    return f"{each.finished:,}{of} {each.unit}{plural}"


def _found(each: StageProgress) -> tuple[str, str]:
    clips, hours = each.beat.clips, each.beat.video_s / 3600
    return f"{clips:,} clips" if clips else "", f"{hours:.2f} h" if hours else ""


def _rate(each: StageProgress) -> str:
    return "" if each.rate is None else f"{each.rate:.3g}/s"


def _left(each: StageProgress) -> str:
    if each.left_s is None:
        return ""
    minutes = each.left_s / 60
    about = (
        f"{each.left_s:.0f} s" if minutes < 1.5 else f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
    )
    return f"{'at most ' if each.at_most else ''}{about} left"


class Progress:
    """Shows how far the stages are, from the sums that the workers of this machine keep.

    On another machine's workers it is silent: their engine has a view of its own.

    Args:
        totals: by stage, how many items there will be, where that is known before.
        every_s: seconds between two lines where there is no terminal.
    """

    def __init__(self, units: Units, totals: Mapping[str, int], every_s: float = 15.0):
        self._units, self._totals, self._every_s = units, dict(totals), every_s
        self._live = sys.stderr.isatty()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._folder = Path(units.root.removeprefix("file://")) / "progress"
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        if storage.is_local(self._units.root):
            shutil.rmtree(self._folder, ignore_errors=True)  # of a run that was killed
            self._folder.mkdir(parents=True)
            os.environ[FOLDER] = str(self._folder.absolute())
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        os.environ.pop(FOLDER, None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stages(self) -> list[StageProgress]:
        return stages_of(read_beats(str(self._folder)), self._totals, time.time())

    def _watch(self) -> None:
        if self._live:
            self._show_table()
        else:
            self._write_lines()

    def _show_table(self) -> None:
        with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
            while not self._stop.wait(_LIVE_S):
                live.update(table(self._stages()), refresh=True)

    def _write_lines(self) -> None:
        shown = ""
        while not self._stop.wait(self._every_s):
            text = line(self._stages(), time.monotonic() - self._began)
            if text and text[8:] != shown[8:]:
                print(text, file=sys.stderr, flush=True)
                shown = text
