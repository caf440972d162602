"""What a command and all the processes it starts cost: wall and processor seconds, and the most memory of each process.

Linux only. Orphans come back to this process, so that no worker's time is lost, however its parent ends.
"""

import ctypes
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_SAMPLE_S = 0.1


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    wall_s: float
    cpu_s: float  # user and system, of the command and all it started
    peak_mb: float  # resident, of the largest Python process
    main_peak_mb: float  # resident, of the command's own process
    workers: int  # most Python processes at once below the command


def measure(command: Sequence[str], environment: Mapping[str, str], cores: Sequence[int] | None = None) -> Cost:
    """Runs a command to its end.

    Args:
        cores: the only ones it may use; None: all.

    Raises:
        RuntimeError: it failed.
    """
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    before, began = os.times(), time.monotonic()
    process = subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )  # fmt: skip
    peaks: dict[int, int] = {}
    most = 0
    while process.poll() is None:
        below = python_processes_below(process.pid)
        most = max(most, len(below) - 1, 0)
        peaks.update({pid: max(peak, peaks.get(pid, 0)) for pid, peak in below.items()})
        time.sleep(_SAMPLE_S)
    wall_s = time.monotonic() - began
    _reap()
    after = os.times()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {process.stderr.read()[-2000:] if process.stderr else ''}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(wall_s, cpu_s, max(peaks.values(), default=0) / 1024, peaks.get(process.pid, 0) / 1024, most)


def python_processes_below(pid: int) -> dict[int, int]:
    """By id, the most kB that a process and those it started have had; Python ones only."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _read(entry / "stat").rpartition(")")[2].split()
            if len(fields) > 1:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = {}, [pid]
    while waiting:
        each = waiting.pop()
        waiting += children.get(each, [])
        status = dict(line.split(":", 1) for line in _read(Path(f"/proc/{each}/status")).splitlines() if ":" in line)
        if "VmHWM" in status and status["Name"].strip().startswith(("python", "reelmill")):
            found[each] = int(status["VmHWM"].split()[0])
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has just ended
        return ""


def _reap() -> None:
    """Waits for what the command has left behind, so that its time is counted."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
        except ChildProcessError:
            return
