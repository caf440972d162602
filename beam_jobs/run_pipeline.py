"""A pipeline run to its end, and what went wrong said in one line."""

import logging
from typing import Any

import apache_beam as beam

logger = logging.getLogger(__name__)


def run(pipeline: beam.Pipeline) -> Any:
    """The finished result of a pipeline.

    Raises:
        RuntimeError: a worker met what is no single element's fault; in one line, the last cause first.
    """
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as error:
        logger.debug("the pipeline broke", exc_info=True)
        raise RuntimeError(f"the job broke: {_cause(error)}") from error
    if str(state) not in ("DONE", "None"):
        raise RuntimeError(f"the job ended in state {state}; what is finished stays, run the same command again")
    return result


def _cause(error: Exception) -> str:
    """The last line of a worker's traceback, which is what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line and not line.startswith(("File ", "Traceback"))]
    return (telling or lines or [type(error).__name__])[-1][:500]
