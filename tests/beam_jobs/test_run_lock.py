"""One run at a time in a folder, on disks and on object stores."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from beam_jobs.run_lock import LEASE_S, OutputInUse, only_run

HOLDER = """
import sys, time
from beam_jobs.run_lock import only_run
with only_run(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_run_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with (
        only_run(str(tmp_path / "run")),
        pytest.raises(OutputInUse, match=f"process {os.getpid()} on .* is working in .*run"),
        only_run(f"file://{tmp_path}/run"),
    ):
        pass
    with only_run(str(tmp_path / "run")), only_run(str(tmp_path / "other")):
        pass


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(OutputInUse, match=f"process {holder.pid}"), only_run(str(tmp_path)):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with only_run(str(tmp_path)):
        pass


@pytest.mark.parametrize(
    ("host", "pid", "age_s", "refused"),
    [
        pytest.param("elsewhere", 1, 10, True, id="renewed"),
        pytest.param("elsewhere", 1, LEASE_S + 1, False, id="run-out"),
        pytest.param(None, 2**22 + 1, 10, False, id="dead-process-of-this-machine"),
        pytest.param(None, os.getppid(), 10, True, id="live-process-of-this-machine"),
    ],
)
def test_a_lease_on_an_object_store(host: str | None, pid: int, age_s: float, refused: bool) -> None:
    store = fsspec.filesystem("memory")
    lease = {"host": host or socket.gethostname(), "pid": pid, "renewed": time.time() - age_s}
    store.pipe_file("/locked/.work/run.lease", json.dumps(lease).encode())
    if refused:
        with pytest.raises(OutputInUse, match=r"remove memory://locked/\.work/run\.lease"), only_run("memory://locked"):
            pass
    else:
        with only_run("memory://locked"):
            assert json.loads(store.cat_file("/locked/.work/run.lease"))["pid"] == os.getpid()
        assert not store.exists("/locked/.work/run.lease")
    store.pipe_file("/locked/.work/run.lease", b"")  # so that there is something to remove
    store.rm("/locked", recursive=True)
