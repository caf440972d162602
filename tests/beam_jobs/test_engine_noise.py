"""What an engine's closing streams say is left out of the log; other errors are not."""

import logging
import threading

import grpc
import pytest

from beam_jobs import engine_noise
from beam_jobs.engine_noise import hush


class _Broken(grpc.RpcError):
    """A stream that ended so."""


@pytest.mark.parametrize(
    ("said", "shown"),
    [("Multiplexer hanging up", 0), ("Stream removed (Socket closed)", 0), ("deadline exceeded", 1)],
)
def test_closing_streams_are_left_out(said: str, shown: int, caplog: pytest.LogCaptureFixture) -> None:
    hush()
    logger = logging.getLogger("apache_beam.runners.worker.data_plane")
    try:
        raise _Broken(said)
    except grpc.RpcError:
        logger.exception("Failed to read inputs in the data plane.")
    assert len(caplog.records) == shown


def test_a_thread_that_fails_otherwise_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[BaseException] = []
    monkeypatch.setattr(engine_noise, "_report_all", lambda args: told.append(args.exc_value))
    hush()
    real = ValueError("a real fault")
    for error in (_Broken("Stream removed (Socket closed)"), real):
        threading.excepthook(threading.ExceptHookArgs((type(error), error, None, threading.current_thread())))
    assert told == [real]
