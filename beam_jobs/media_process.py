"""The program in which untrusted media is opened: analysis and cutting, one task after another, for its parent.

python -m beam_jobs.media_process <number of its end of a pipe> …

For each end but the first there is a fork, made when everything is imported: that takes a second for each process.
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from beam_jobs.child import ENDED, Reply, receive, send
from beam_jobs.imports import lasting

_LAST_RESORT_S = 60  # after the parent's own limit: even with the parent gone and the interpreter locked, this ends


def main(ends: Sequence[int]) -> None:
    """Serves until the other end is closed."""
    with lasting():
        from beam_jobs.media_tasks import answer
    own, forks = _forked(ends)
    pipe = Connection(own)
    if own != ends[0]:
        send(pipe, os.getpid())
    for pid, end in forks.items():
        threading.Thread(target=_tell_end, args=(pid, Connection(end)), daemon=True).start()
    _serve(pipe, answer)


def _forked(ends: Sequence[int]) -> tuple[int, dict[int, int]]:
    """The end that this process serves, of which there is one for each end now; and those of its forks, by their id."""
    forks: dict[int, int] = {}
    for place, end in enumerate(ends[1:], 1):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for other in (*ends[:place], *ends[place + 1 :]):
                os.close(other)
            return end, {}
        forks[pid] = end
    return ends[0], forks


def _tell_end(pid: int, pipe: Connection) -> None:
    """Waits for a fork's end and says in its place what it was: only the one who made it can know."""
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):  # it was stopped by him who would be told
        send(pipe, [ENDED, status])
    pipe.close()


def _serve(pipe: Connection, answer: Callable[[str, Any], Reply]) -> None:
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    while True:
        task, timeout_s, arguments = tasks.get()
        signal.setitimer(signal.ITIMER_REAL, timeout_s + _LAST_RESORT_S)
        head, blobs = answer(task, arguments)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(pipe, head, blobs)


def _listen(pipe: Connection, tasks: "queue.SimpleQueue[Any]") -> None:
    """Takes tasks in; ends this process, and what it has started, when nobody waits for it any more."""
    try:
        while True:
            tasks.put(receive(pipe)[0])
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main([int(end) for end in sys.argv[1:]])
