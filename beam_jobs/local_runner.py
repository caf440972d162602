"""The runner of a single machine: Beam's `FnApiRunner`, whose processes are our quiet workers."""

import shlex
import sys
import threading
from contextvars import copy_context
from functools import lru_cache
from typing import Any

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    BeamFnControlServicer,
    SubprocessSdkWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker
from apache_beam.transforms import core
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance

# Beam inspects every method of a step some five times, which is a fifth of what a short run costs it.
core.get_function_args_defaults = lru_cache(maxsize=10_000)(core.get_function_args_defaults)

WORKER_COMMAND = f"exec {shlex.quote(sys.executable)} -m beam_jobs.worker"


class LocalRunner(FnApiRunner):
    """One process per core, each with one static share of every stage's input; or this one alone.

    It works beside the main thread: what an interrupt raises within a pipeline, Beam takes for an error of a step.
    """

    def run_pipeline(self, pipeline: Any, options: Any) -> Any:
        run = super().run_pipeline
        return shared_unbounded_instance().submit(copy_context().run, run, pipeline, options).result()

    def run_via_runner_api(self, pipeline_proto: Any, options: Any) -> Any:
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK:
                environment.payload = WORKER_COMMAND.encode()
        return super().run_via_runner_api(pipeline_proto, options)


@WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
class _WatchedWorker(SubprocessSdkWorkerHandler):  # type: ignore[misc]
    """A worker process whose death reaches everybody that waits for an answer of it.

    Beam's own handler learns of it by the channels that break; one that dies before it opened them is waited for
    without end.
    """

    def start_worker(self) -> None:
        self.worker = SubprocessSdkWorker(
            self._worker_command_line, self.control_address, self.provision_info, self.worker_id
        )
        self.worker_thread = threading.Thread(name="run_worker", target=self._serve)
        self.worker_thread.start()

    def _serve(self) -> None:
        try:
            self.worker.run()
        except RuntimeError as error:
            self._died(error)

    def _died(self, error: RuntimeError) -> None:
        push = self.control_conn.push

        def refuse(request: Any) -> Any:
            if request is BeamFnControlServicer._DONE_MARKER:
                return push(request)
            raise error

        self.control_conn.push = refuse  # type: ignore[method-assign, assignment]
        for future in list(self.control_conn._futures_by_id.values()):
            future.abort(error)
        self.data_conn._exception = error
