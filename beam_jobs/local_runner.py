"""The runner of a single machine: Beam's `FnApiRunner`, whose processes are our quiet workers."""

import shlex
import sys
from typing import Any

from apache_beam.portability import python_urns
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

WORKER_COMMAND = f"exec {shlex.quote(sys.executable)} -m beam_jobs.worker"


class LocalRunner(FnApiRunner):
    """One process per core, each with one static share of every stage's input."""

    def run_via_runner_api(self, pipeline_proto: Any, options: Any) -> Any:
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == python_urns.SUBPROCESS_SDK:
                environment.payload = WORKER_COMMAND.encode()
        return super().run_via_runner_api(pipeline_proto, options)
