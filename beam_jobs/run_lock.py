"""One run at a time in an output folder.

On a local disk (and on network file systems that keep locks) it is the kernel's file lock: exact, and gone with the
process that held it. On an object store, which has no locks, it is a lease: an object that says who, renewed while the
run lasts. A lease is best effort: two runs that begin within the same second may both think they have it, and that of a
machine which died holds others up until it runs out. Finished files are whole in any case; what a second run could do
is waste work, and take away what the first is about to use.
"""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from beam_jobs.units import WORK
from media import storage

LEASE_S = 180.0
RENEWED_EVERY_S = 30.0


class OutputInUse(RuntimeError):
    """Another run is working in the folder."""

    def __init__(self, output: str, holder: str, hint: str):
        super().__init__(f"another run, {holder}, is working in {output}; {hint}")


@contextmanager
def only_run(output: str) -> Iterator[None]:
    """While it lasts, no other run may work in this folder.

    Raises:
        OutputInUse: one does already.
    """
    with _lock(output) if storage.is_local(output) else _lease(output):
        yield


@contextmanager
def _lock(output: str) -> Iterator[None]:
    path = Path(output.removeprefix("file://")) / WORK / "run.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise OutputInUse(output, file.read() or "just begun", "wait for it, or name another folder") from None
        file.truncate(0)
        file.write(_me())
        file.flush()
        yield


@contextmanager
def _lease(output: str) -> Iterator[None]:
    path = storage.join(output, WORK, "run.lease")
    holder = _holder(path)
    if holder is not None:
        hint = f"its lease lasts until {LEASE_S:.0f} s after its end; where it is dead for certain, remove {path}"
        raise OutputInUse(output, holder, hint)
    stop = threading.Event()
    _renew(path)
    keeper = threading.Thread(target=_keep, args=(path, stop), name="lease", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stop.set()
        keeper.join(timeout=RENEWED_EVERY_S)
        storage.remove(path)


def _holder(path: str) -> str | None:
    """Who holds a lease that is good; one of a dead process of this machine is not."""
    try:
        lease: dict[str, Any] = json.loads(storage.read_bytes(path))
    except (FileNotFoundError, ValueError):
        return None
    if time.time() - float(lease["renewed"]) > LEASE_S:
        return None
    if lease["host"] == socket.gethostname() and not Path(f"/proc/{lease['pid']}").exists() and Path("/proc").exists():
        return None
    return f"process {lease['pid']} on {lease['host']}"


def _renew(path: str) -> None:
    lease = {"host": socket.gethostname(), "pid": os.getpid(), "renewed": time.time()}
    storage.write_bytes_atomic(path, json.dumps(lease).encode())


def _keep(path: str, stop: threading.Event) -> None:
    while not stop.wait(RENEWED_EVERY_S):
        with suppress(OSError):  # the next renewal is soon enough
            _renew(path)


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
