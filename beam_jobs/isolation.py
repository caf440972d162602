"""One element's failure is one row of the ledger, never the job's end; what would fail every element stops it."""

import errno
import logging
from collections.abc import Callable
from typing import TypeVar

from schemas.records import Verdict, failed
from schemas.states import Rejection, RunStopped

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

PASSING = frozenset({"internal_error", "timed_out", "decoder_died"})
"""Reasons that another run may not meet, so that nothing is stored of them."""

_FATAL_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})
_MAX_DETAIL = 500


def attempt(stage: str, function: Callable[[], Result]) -> Result | Verdict:
    """What the function returns, or `failed(stage, reason, detail)` where it raises.

    Raises:
        MemoryError, OSError: memory or disk has run out, which the next element would meet as well.
    """
    try:
        return function()
    except Rejection as rejection:
        return failed(stage, rejection.reason, rejection.detail)
    except Exception as error:
        if is_fatal(error):
            raise
        logger.warning("%s: internal error", stage, exc_info=True)
        return failed(stage, "internal_error", describe(error))


def is_fatal(error: BaseException) -> bool:
    """Whether an error is the machine's and not the element's."""
    return isinstance(error, (MemoryError, RunStopped)) or (isinstance(error, OSError) and error.errno in _FATAL_ERRNO)


def describe(error: BaseException) -> str:
    """Type and message of an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_MAX_DETAIL]
