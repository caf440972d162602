"""The runner of one machine: what happens when one of its processes dies while it has nothing to do."""

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pytest

from beam_jobs import local_runner
from beam_jobs.run_pipeline import run
from beam_jobs.runner import beam_options

_GO_ON = threading.Event()


class _Sign(beam.DoFn):
    """Leaves its process's name; slowly, so that every process has a share."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, element: int) -> Iterator[tuple[int, int]]:
        (Path(self.folder) / str(os.getpid())).touch()
        time.sleep(0.2)
        yield 0, element


class _KillAnother(beam.DoFn):
    """Kills the process that has no element of this stage."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def process(self, element: tuple[int, Iterable[int]]) -> Iterator[int]:
        others = {int(path.name) for path in Path(self.folder).iterdir()} - {os.getpid()}
        os.kill(max(others), signal.SIGKILL)
        time.sleep(3)
        yield from element[1]


@pytest.mark.long
@pytest.mark.timeout(120)
def test_an_idle_worker_that_dies_ends_the_job(tmp_path: Path) -> None:
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    pipeline = beam.Pipeline(options=beam_options(flags, 8))
    (
        pipeline
        | beam.Create(range(8))
        | "spread" >> beam.Reshuffle()
        | beam.ParDo(_Sign(str(tmp_path)))
        | beam.GroupByKey()
        | beam.ParDo(_KillAnother(str(tmp_path)))
        | "spread again" >> beam.Reshuffle()
        | beam.Map(print)
    )
    with pytest.raises(RuntimeError, match="a worker process died"):
        run(pipeline)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.timeout(120)
def test_a_worker_that_dies_before_it_answers_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_runner, "WORKER_COMMAND", "exit 3")
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    pipeline = beam.Pipeline(options=beam_options(flags, 8))
    pipeline | beam.Create(range(8)) | beam.Reshuffle() | beam.Map(print)
    with pytest.raises(RuntimeError, match="a worker process died"):
        run(pipeline)


def interrupt(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    _GO_ON.wait(60)
    return number


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A command that a shell starts in the background has the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_is_no_error_of_a_step() -> None:
    whole = beam.Pipeline(options=beam_options([], 1))
    _ = whole | beam.Create([1]) | beam.Map(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            whole.run()
    finally:
        _GO_ON.set()
