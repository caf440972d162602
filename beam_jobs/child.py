"""A process of its own for work that may hang or crash: it answers, or it is stopped with all it has started.

Parent and child exchange JSON and plain bytes, never pickles, so that a decoder which a hostile file has taken over can
lie about that file and about nothing else. Whoever holds the other end of the pipe keeps the child alive: it ends by
itself when its parent does, however that came to die.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from schemas.states import Rejection

COMMAND = (sys.executable, "-m", "beam_jobs.media_process")
ENDED = "ended"  # what comes in the place of an answer, with the exit status, when a fork is no more
Reply = tuple[Any, list[bytes]]

_MAX_MESSAGE = 1 << 30


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Died(Exception):
    """The child ended without an answer; the message says by what."""


class Child:
    """One child process, which does one task after another.

    Args:
        pipe: our end of what leads to it.
        process: None for a fork of another child. It first of all tells its id, and its parent how it ended.

    Attributes:
        pid: its process id; None for a fork that has not been asked anything.
    """

    def __init__(self, pipe: Connection, process: "subprocess.Popen[bytes] | None"):
        self._pipe, self._process, self._status = pipe, process, 0
        self.pid = None if process is None else process.pid

    def ask(self, task: str, arguments: Any, timeout_s: float) -> Reply:
        """What the child answers.

        Raises:
            Died: it has ended; TimeoutError: it has not answered in time. Either way it is gone.
        """
        try:
            if self.pid is None and self._pipe.poll(timeout_s):
                self.pid = int(receive(self._pipe)[0])
            if self.pid is not None:
                send(self._pipe, [task, timeout_s, arguments])
                if self._pipe.poll(timeout_s):
                    return self._reply()
        except (EOFError, OSError) as error:
            raise Died(self.stop()) from error
        except BaseException:
            self.stop()
            raise
        self.stop()
        raise TimeoutError(f"no answer in {timeout_s:g} s")

    def _reply(self) -> Reply:
        head, blobs = receive(self._pipe)
        if isinstance(head, list) and head[:1] == [ENDED]:
            self._status = int(head[1])
            raise EOFError
        return head, blobs

    def stop(self) -> str:
        """Ends the child and all it has started; returns how it came to its end."""
        self._pipe.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):  # one that is dying already says by what
                self._process.wait(0.2)
        if self.pid is not None:  # a fork that nobody has met ends by itself, as it has begun nothing
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        status = self._status if self._process is None else self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def start(command: Sequence[str], count: int = 1) -> list[Child]:
    """So many children; all but the first are forks of it, so that what they share is imported once.

    Args:
        command: the program; it is given the numbers of its ends of their pipes as the last arguments.
    """
    pipes = [Pipe() for _ in range(count)]
    ends = [theirs.fileno() for _, theirs in pipes]
    process = subprocess.Popen(  # a session of its own: what it starts can be stopped with it
        [*command, *map(str, ends)], stdin=subprocess.DEVNULL, pass_fds=ends, start_new_session=True
    )
    for _, theirs in pipes:
        theirs.close()
    return [Child(ours, None if forked else process) for forked, (ours, _) in enumerate(pipes)]


class Children:
    """The children of this process: as many at a time as there are cores, each started when it is first needed.

    Attributes:
        for_one: how many of them one caller may keep busy.
    """

    def __init__(self, command: Sequence[str] = COMMAND):
        self._command, self._idle = command, list[Child]()
        self.for_one = 1
        self._lock, self._slots = threading.Lock(), threading.BoundedSemaphore(num_cores())

    def call(self, task: str, arguments: Any, timeout_s: float) -> Reply:
        """What a child answers; one that dies is replaced once, since not every death is the file's fault.

        Raises:
            Rejection: `timed_out`, `decoder_died`.
        """
        with self._slots:
            for last in (False, True):
                child = self._take()
                try:
                    reply = child.ask(task, arguments, timeout_s)
                except TimeoutError:
                    raise Rejection("timed_out", f"{task} was stopped after {timeout_s:g} s") from None
                except Died as death:
                    if last:
                        raise Rejection("decoder_died", f"{task} ended twice by {death}") from death
                    continue
                with self._lock:
                    self._idle.append(child)
                return reply
        raise AssertionError("unreachable")

    def _take(self) -> Child:
        with self._lock:
            return self._idle.pop() if self._idle else start(self._command)[0]

    def own_all(self, count: int) -> None:
        """Starts so many now, for a process in which all callers of this machine are: one may keep all of them busy."""
        self.for_one = count
        with self._lock:
            self._idle += start(self._command, count)

    def stop(self) -> None:
        """Ends the idle ones."""
        with self._lock:
            while self._idle:
                self._idle.pop().stop()


def send(pipe: Connection, head: Any, blobs: Sequence[bytes] = ()) -> None:
    """A message: JSON, then pieces of plain bytes."""
    pipe.send_bytes(json.dumps([len(blobs), head]).encode())
    for blob in blobs:
        pipe.send_bytes(blob)


def receive(pipe: Connection) -> Reply:
    """The next message.

    Raises:
        EOFError: the other end is closed. OSError: what comes is no message.
    """
    try:
        num_blobs, head = json.loads(pipe.recv_bytes(_MAX_MESSAGE))
        return head, [pipe.recv_bytes(_MAX_MESSAGE) for _ in range(num_blobs)]
    except (ValueError, TypeError) as error:
        raise OSError(f"not a message: {error}") from error


CHILDREN = Children()
atexit.register(CHILDREN.stop)
