"""`kill -9` at any moment, run again, and the output is equal to that of an undisturbed run."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.beam_jobs.runs import ONE_PROCESS, command, environment, run, timings, tree

MOMENTS = {  # what must be there before the run is killed
    "some-analysed": (".work/analyze/*/*", 3),
    "shards-written": (".work/products/clips__*.json", 1),
}


def killed(args: list[str], cwd: Path, pattern: str, count: int, delay_s: float) -> bool:
    """Starts a run and kills it with all its processes soon after that many files match; False where it ended first."""
    process = subprocess.Popen(
        command(*args), cwd=cwd, env=environment(), start_new_session=True, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 240
    while len(list((cwd / "run").glob(pattern))) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(delay_s)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return not ended


@pytest.mark.long
def test_killed_again_and_again_and_then_finished(inputs: Path, curated: Path, tmp_path: Path) -> None:
    args = ["curate", "--input", str(inputs), "--output", "run", *ONE_PROCESS]
    delays = random.Random(20231221)
    times_killed = 0
    for pattern, count in MOMENTS.values():
        times_killed += killed(args, tmp_path, pattern, count, delays.uniform(0, 0.1))
        assert not (tmp_path / "run" / "run.json").exists() or tree(tmp_path / "run") == tree(curated)
    assert times_killed >= 1
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert tree(tmp_path / "run") == tree(curated)
    assert timings(tmp_path / "run")["analyze"]["reused"] >= 3
    left = [path for path in (tmp_path / "run").rglob(".*") if path.name != ".work"]
    assert left == []
