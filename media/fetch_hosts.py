"""Taking turns at a host: so many downloads at a time, so far apart, over all processes of a machine.

The turns are file locks, which the kernel gives back when a process dies. Other machines do not see them: a cluster
asks a host for as many downloads at once as its machines together may.
"""

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from schemas.states import Rejection

_POLL_S = 0.05
_MAX_REST_S = 24 * 3600.0  # a clock that was set back must not keep a host waiting for years


@contextmanager
def turn(host: str, at_a_time: int, interval_s: float, patience_s: float) -> Iterator[None]:
    """A download's turn at a host, waited for.

    Args:
        host: its name, and the port where that is a special one.
        at_a_time: how many turns there are at once.
        interval_s: seconds between the beginnings of two turns.
        patience_s: seconds that a host may have asked to be left alone for.

    Raises:
        Rejection: `busy_host`: it asked for more.
    """
    with _slot(host, at_a_time):
        with _kept_time(host, "rest") as (_, rest_s):
            if rest_s > patience_s:
                raise Rejection("busy_host", f"{host} wants to be left alone for another {rest_s:.0f} s")
        with _kept_time(host, "next") as (file, wait_s):
            wait_s = max(wait_s, rest_s)
            _write(file, time.time() + wait_s + interval_s)
        time.sleep(wait_s)
        yield


def hold_off(host: str, seconds: float) -> None:
    """Has every later turn at a host wait, as the host asked for."""
    with _kept_time(host, "rest") as (file, rest_s):
        _write(file, time.time() + max(rest_s, min(seconds, _MAX_REST_S)))


def _slot(host: str, at_a_time: int) -> IO[str]:
    """A locked file; closing it gives the turn back."""
    while True:
        for index in range(at_a_time):
            file = _file(host, str(index)).open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            except BlockingIOError:
                file.close()
        time.sleep(_POLL_S)


@contextmanager
def _kept_time(host: str, name: str) -> Iterator[tuple[IO[str], float]]:
    """(file that keeps a time, seconds until then), while nobody else may change it."""
    with _file(host, name).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        yield file, max(0.0, min(float(text or 0) - time.time(), _MAX_REST_S))


def _write(file: IO[str], moment: float) -> None:
    file.truncate(0)
    file.write(f"{moment:.3f}")
    file.flush()


def _file(host: str, name: str) -> Path:
    """A file of this host in a folder that only this user can write to."""
    folder = Path(tempfile.gettempdir()) / f"reelmill-hosts-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else; name another folder for temporary files with TMPDIR")
    return folder / f"{hashlib.sha256(host.encode()).hexdigest()[:24]}.{name}"
