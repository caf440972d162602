"""What portable engines print while all is well: left out, so that a terminal shows what a person should know."""

import logging
import threading
from typing import Any

import grpc

# How a Java engine closes its streams at the end of a job. One that dies is told of by the job's state.
_HANGING_UP = ("Multiplexer hanging up", "Stream removed")
_LOGGERS = ("apache_beam.runners.worker.data_plane", "apache_beam.runners.worker.sdk_worker")


def hush() -> None:
    """Drops the reports of streams that an engine closed itself, and of processes that Beam starts for it."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        if _tells not in logger.filters:
            logger.addFilter(_tells)
    if logging.getLogger().getEffectiveLevel() >= logging.WARNING:
        logging.getLogger("apache_beam.utils.subprocess_server").setLevel(logging.ERROR)
    if threading.excepthook is not _report:
        threading.excepthook = _report


_report_all = threading.excepthook


def _report(args: Any) -> None:
    if not _is_hanging_up(args.exc_value):
        _report_all(args)


def _tells(record: logging.LogRecord) -> bool:
    return not (record.exc_info and _is_hanging_up(record.exc_info[1]))


def _is_hanging_up(error: BaseException | None) -> bool:
    return isinstance(error, grpc.RpcError) and any(sign in str(error) for sign in _HANGING_UP)
