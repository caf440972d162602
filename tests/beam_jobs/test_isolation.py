import errno

import pytest

from beam_jobs.isolation import attempt
from schemas.records import Verdict, failed
from schemas.states import Rejection


def raising(error: Exception) -> Verdict | None:
    def function() -> None:
        raise error

    return attempt("cut", function)


def test_a_result_passes() -> None:
    assert attempt("cut", lambda: 5) == 5


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        pytest.param(Rejection("empty_file", "0 bytes"), failed("cut", "empty_file", "0 bytes"), id="rejection"),
        pytest.param(ZeroDivisionError("x"), failed("cut", "internal_error", "ZeroDivisionError: x"), id="bug"),
        pytest.param(OSError("odd\nfile"), failed("cut", "internal_error", "OSError: odd file"), id="one-file"),
    ],
)
def test_one_elements_failure_is_a_verdict(error: Exception, verdict: Verdict) -> None:
    assert raising(error) == verdict


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "No space left")], ids=["memory", "disk"])
def test_what_would_fail_all_stops_the_run(error: Exception) -> None:
    with pytest.raises(type(error)):
        raising(error)
