"""A worker pool through its protocol: workers start, are started again once when killed, and end when told."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api.org.apache.beam.model.fn_execution.v1 import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.portability.api.org.apache.beam.model.pipeline.v1 import endpoints_pb2

from tests.beam_jobs.services import WorkerPool, worker_pool
from tests.engines.services import children


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[WorkerPool]:
    with worker_pool(tmp_path) as running:
        yield running


def ask(pool: WorkerPool, what: str, name: str) -> None:
    """What an engine says; the address is one where nobody answers, so the worker keeps waiting."""
    with grpc.insecure_channel(f"localhost:{pool.port}") as channel:
        stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        if what == "start":
            nobody = endpoints_pb2.ApiServiceDescriptor(url="localhost:9")
            answer = stub.StartWorker(beam_fn_api_pb2.StartWorkerRequest(worker_id=name, control_endpoint=nobody))
        else:
            answer = stub.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id=name))
    assert not answer.error


def until(found: Callable[[], list[int]], wanted: Callable[[list[int]], bool]) -> list[int]:
    end = time.monotonic() + 60
    while not wanted(found()):
        assert time.monotonic() < end, found()
        time.sleep(0.05)
    return found()


def test_a_killed_worker_is_started_again_once(pool: WorkerPool) -> None:
    ask(pool, "start", "1-1")
    (first,) = until(lambda: children(pool.pid), lambda pids: len(pids) == 1)
    os.kill(first, signal.SIGKILL)
    (second,) = until(lambda: children(pool.pid), lambda pids: len(pids) == 1 and first not in pids)
    os.kill(second, signal.SIGKILL)
    until(lambda: children(pool.pid), lambda pids: not pids)
    time.sleep(0.5)
    assert children(pool.pid) == []


def test_a_worker_ends_when_the_engine_says_so(pool: WorkerPool) -> None:
    ask(pool, "start", "1-1")
    (first,) = until(lambda: children(pool.pid), lambda pids: len(pids) == 1)
    ask(pool, "start", "1-2")
    until(lambda: children(pool.pid), lambda pids: len(pids) == 2)
    ask(pool, "stop", "1-1")
    until(lambda: children(pool.pid), lambda pids: len(pids) == 1 and first not in pids)


def test_workers_of_one_name_are_not_taken_for_each_other(pool: WorkerPool) -> None:
    ask(pool, "start", "1-1")
    ask(pool, "start", "1-1")
    both = until(lambda: children(pool.pid), lambda pids: len(pids) == 2)
    ask(pool, "stop", "1-1")
    assert sorted(children(pool.pid)) == sorted(both)


def test_no_worker_is_left_when_the_pool_ends(tmp_path: Path) -> None:
    with worker_pool(tmp_path) as running:
        ask(running, "start", "1-1")
        (worker,) = until(lambda: children(running.pid), lambda pids: len(pids) == 1)
    assert not Path(f"/proc/{worker}").exists()
