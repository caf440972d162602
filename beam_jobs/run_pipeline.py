"""A pipeline to its end, and what went wrong said in one line."""

import logging
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, TestOptions

from beam_jobs.engine_noise import hush
from beam_jobs.flink_conf import flink_conf_folder

logger = logging.getLogger(__name__)

WORKER_DIED = ("Worker subprocess exited", "Channel closed prematurely")  # all that Beam's local runner says of it
OTHER_CODE = ("Can't get attribute", "No module named")  # how a step fails that the worker's code does not have


def run(pipeline: beam.Pipeline) -> Any:
    """The finished result of a pipeline.

    Raises:
        RuntimeError: a worker met what is no single element's fault; in one line, the last cause first.
    """
    hush()
    try:
        with flink_conf_folder(pipeline.options):
            result = pipeline.run()
            state = result.wait_until_finish()
    except Exception as error:
        logger.debug("the pipeline broke", exc_info=True)
        raise RuntimeError(f"the job broke: {_cause(error)}") from error
    if str(state) not in ("DONE", "None"):
        raise RuntimeError(f"the job ended in state {state}; what is finished stays, run the same command again")
    return result


def is_dry_run(options: PipelineOptions) -> bool:
    """Whether the job is only put together (`--dry_run=True`), to see that its engine would take it."""
    return bool(options.view_as(TestOptions).dry_run)


def _cause(error: Exception) -> str:
    """The last line of a worker's traceback, which is what went wrong."""
    if isinstance(error, grpc.RpcError) and hasattr(error, "details"):
        said = error.details() or "no reason; REELMILL_LOG=INFO shows the log of the job server"
        return f"the job server answers {error.code().name}: {said}"[:500]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(sign in line for line in lines for sign in WORKER_DIED):
        return "a worker process died (killed, or out of memory); what is finished stays, run the same command again"
    telling = [line for line in lines if "Error" in line and not line.startswith(("File ", "Traceback"))]
    cause = (telling or lines or [type(error).__name__])[-1][:500]
    if any(sign in cause for sign in OTHER_CODE):
        cause += (
            "; the workers may have other code than you submit from: build the image again, restart the worker pool"
        )
    return cause
