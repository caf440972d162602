"""Which processes a run has left behind, by a mark in the environment that all its children inherit."""

import os
import signal
import time
from pathlib import Path

MARK = "REELMILL_TEST_MARK"


def marked(mark: str) -> list[int]:
    """Live processes of this mark, this one left out."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            environment = (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"{MARK}={mark}".encode() in environment.split(b"\0") and state != "Z":
            found.append(int(folder.name))
    return found


def left_behind(mark: str, within_s: float = 20.0) -> list[int]:
    """Processes of this mark that do not end in that time."""
    end = time.monotonic() + within_s
    while (found := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def stop(mark: str) -> None:
    """Ends what a failed test would leave."""
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)
