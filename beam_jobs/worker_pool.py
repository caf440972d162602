"""Python workers for a cluster's machine without Docker: Beam's worker pool, with this very Python.

    python -m beam_jobs.worker_pool --service_port 50000

Beam's Java waits for ever for a worker that died before it answered, so one that was killed is started once more: if
its engine still waits, the job goes on; if the engine has taken note of its death, it ends with the engine's task.
"""

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
from apache_beam.portability.api.org.apache.beam.model.fn_execution.v1 import beam_fn_api_pb2, beam_fn_api_pb2_grpc
from apache_beam.utils import thread_pool_executor

_HARNESS = """
import sys
from apache_beam.runners.worker.sdk_worker import SdkHarness
SdkHarness(sys.argv[1], worker_id=sys.argv[2]).run()
"""
_PATIENCE_S = 10.0


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):  # type: ignore[misc]
    """Starts a process for each worker that an engine asks for, and ends it when the engine says so."""

    def __init__(self) -> None:
        self._lock, self._closed = threading.Lock(), False
        self._running: dict[str, list[subprocess.Popen[bytes]]] = {}  # executors give their workers the same names

    def StartWorker(self, request: Any, context: Any) -> Any:
        """Starts the worker that is asked for; named so by the protocol."""
        command = [sys.executable, "-c", _HARNESS, request.control_endpoint.url, request.worker_id]
        try:
            self._start(request.worker_id, command, again=True)
        except OSError as error:
            return beam_fn_api_pb2.StartWorkerResponse(error=str(error))
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:
        """Ends the worker of that name; of several, each ends by itself when its engine hangs up."""
        with self._lock:
            named = self._running.get(request.worker_id, [])
            stopped = self._running.pop(request.worker_id) if len(named) == 1 else []
        for process in stopped:
            _end(process)
        return beam_fn_api_pb2.StopWorkerResponse()

    def stop(self) -> None:
        """Ends all workers."""
        with self._lock:
            all_running = [process for named in self._running.values() for process in named]
            self._running.clear()
            self._closed = True
        for process in all_running:
            _end(process)

    def _start(self, name: str, command: Sequence[str], again: bool) -> None:
        process = subprocess.Popen(command)
        with self._lock:
            late = self._closed
            if not late:
                self._running.setdefault(name, []).append(process)
        if late:  # the pool was stopped meanwhile
            _end(process)
            return
        threading.Thread(target=self._watch, args=(name, command, process, again), daemon=True).start()

    def _watch(self, name: str, command: Sequence[str], process: "subprocess.Popen[bytes]", again: bool) -> None:
        """Waits for a worker's end, and starts it again where it was killed, and not by us."""
        process.wait()
        with self._lock:
            named = self._running.get(name, [])
            ours = self._closed or process not in named
            if process in named:
                named.remove(process)
        if process.returncode < 0 and again and not ours:
            print(f"worker {name} was killed by signal {-process.returncode}; it is started again", flush=True)
            self._start(name, command, again=False)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(argv: Sequence[str]) -> None:
    """Serves until it is told to stop.

    Raises:
        ValueError: the port is taken.
    """
    parser = argparse.ArgumentParser(prog="python -m beam_jobs.worker_pool", description="Workers for Spark and Flink.")
    parser.add_argument("--service_port", type=int, required=True, help="where the engine asks for workers")
    port = parser.parse_args(argv).service_port
    pool = WorkerPool()
    server = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(f"[::]:{port}")
    except RuntimeError as error:
        raise ValueError(f"port {port} cannot be served ({error}); name another --service_port") from error
    server.start()
    print(f"workers are to be had at port {port}", flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        while True:
            time.sleep(3600)
    finally:
        server.stop(0)
        pool.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
