"""The program in which untrusted media is opened: analysis and cutting, one task after another, for its parent.

python -m beam_jobs.media_process <number of its end of the pipe>
"""

import os
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from beam_jobs.child import receive, send
from beam_jobs.imports import lasting

_LAST_RESORT_S = 60  # after the parent's own limit: even with the parent gone and the interpreter locked, this ends


def main(pipe: Connection) -> None:
    """Serves until the other end is closed."""
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    with lasting():
        from beam_jobs.media_tasks import answer  # takes seconds to import, in which the parent may die

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
    main(Connection(int(sys.argv[-1])))
