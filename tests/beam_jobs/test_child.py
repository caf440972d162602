"""A child that answers, crashes, hangs, lies or loses its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beam_jobs.child import COMMAND, Children, Died, start
from schemas.states import Rejection

SERVER = """
import os, sys, time, subprocess
from multiprocessing.connection import Connection
from beam_jobs.child import receive, send
pipe = Connection(int(sys.argv[-1]))
while True:
    task, _, value = receive(pipe)[0]
    if task == "crash": os.abort()
    if task == "crash once" and not os.path.exists(value): open(value, "w").close(); os.abort()
    if task == "hang": time.sleep(600)
    if task == "garbage": pipe.send_bytes(b"not json"); time.sleep(600)
    if task == "grandchild": send(pipe, subprocess.Popen(["sleep", "600"]).pid); os.abort()
    send(pipe, [value, os.getpid()], [bytes(3)])
"""


def children() -> Children:
    return Children([sys.executable, "-c", SERVER])


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends in that time; one that nobody has waited for yet counts as ended."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_one_child_serves_many_tasks() -> None:
    pool = children()
    (first, pid), blobs = pool.call("echo", {"a": 1}, 30)
    (second, again), _ = pool.call("echo", "ü\udc80", 30)  # a file name that is not UTF-8
    pool.stop()
    assert (first, second, blobs) == ({"a": 1}, "ü\udc80", [b"\0\0\0"]) and pid == again and gone(pid)


@pytest.mark.parametrize(
    ("task", "reason", "detail"),
    [
        ("crash", "decoder_died", "SIGABRT"),
        ("garbage", "decoder_died", "SIGKILL"),
        ("hang", "timed_out", "stopped after 0.5 s"),
    ],
)
def test_what_goes_wrong_within_is_a_rejection(task: str, reason: str, detail: str) -> None:
    pool = children()
    pool.call("echo", 1, 30)
    began = time.monotonic()
    with pytest.raises(Rejection, match=detail) as caught:
        pool.call(task, 1, 0.5 if task == "hang" else 30)
    assert caught.value.reason == reason and time.monotonic() - began < 20
    assert pool.call("echo", 2, 30)[0][0] == 2  # the next file meets a fresh one
    pool.stop()


def test_a_child_that_somebody_killed_is_replaced(tmp_path: Path) -> None:
    pool = children()
    assert pool.call("crash once", str(tmp_path / "was here"), 30)[0][0] == str(tmp_path / "was here")
    pool.stop()


def test_what_a_child_started_ends_with_it() -> None:
    pool = children()
    grandchild = pool.call("grandchild", 1, 30)[0]
    with pytest.raises(Rejection):
        pool.call("crash", 1, 30)
    assert gone(grandchild)


NOTHING = {"path": "none.mp4", "clips": [], "folder": "none", "settings": {"input": "x", "output": "y"}}


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL], ids=str)
def test_a_fork_answers_and_dies_as_a_child_of_its_own(number: signal.Signals) -> None:
    both = start(COMMAND, 2)
    assert both[1].pid is None
    for child in both:
        (outcome, reason, _), _ = child.ask("cut", NOTHING, 60)
        assert (outcome, reason) == ("rejected", "not_found")
    pids = [child.pid for child in both]
    assert pids[0] and pids[1] and pids[0] != pids[1] and os.getsid(pids[1]) == pids[1]
    os.kill(pids[1], number)
    with pytest.raises(Died, match=number.name):
        both[1].ask("cut", NOTHING, 60)
    assert both[0].ask("cut", NOTHING, 60)[0][0] == "rejected"
    both[0].stop()
    assert all(gone(pid) for pid in pids if pid)


def test_a_fork_goes_on_without_the_one_it_comes_from() -> None:
    first, fork = start(COMMAND, 2)
    fork.ask("cut", NOTHING, 60)
    assert first.stop() == "SIGKILL"
    assert fork.ask("cut", NOTHING, 60)[0][0] == "rejected" and fork.pid
    fork.stop()
    assert gone(fork.pid)


PARENT = """
import sys
from beam_jobs.child import CHILDREN
from beam_jobs.record_json import plain
from curation.settings import CURATE
settings = CURATE.parse(["--input", "x", "--output", "y"])[0]
source = {"source_id": "s", "uri": sys.argv[1]}
arguments = {"path": sys.argv[1], "content_sha256": "", "num_bytes": 1, "source": source, "settings": plain(settings)}
child = CHILDREN._take()
CHILDREN._idle.append(child)
print(child.pid, flush=True)
if len(sys.argv) > 2:
    print(CHILDREN.call("analyze", arguments, 60), flush=True)
sys.stdin.read()
"""


def test_the_media_process_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, "none.mp4", "ask"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert "not_found" in parent.stdout.readline()
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert gone(pid)
