"""`kill -9` at any moment, run again, and the output is equal to that of an undisturbed run.

`REELMILL_KILLS=10` sets how often the run is killed before it may finish.
"""

import os
import random
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.beam_jobs.processes import MARK, left_behind, marked, stop
from tests.beam_jobs.runs import ONE_PROCESS, command, environment, run, tree

KILLS = int(os.environ.get("REELMILL_KILLS", "2"))
SEED = 20231221


def files_of(folder: Path) -> set[tuple[str, int]]:
    """Every finished file of a run with its time of change."""
    found = set()
    for path in folder.rglob("*"):
        try:
            if path.is_file() and "scratch" not in path.parts and not path.name.endswith((".tmp", ".lock")):
                found.add((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


def interrupted(args: list[str], cwd: Path, moment: int, delay_s: float, kill: Callable[[int, str], None]) -> str:
    """Starts a run and calls `kill` soon after so many files are new; what it leaves is an error, or nothing.

    Returns:
        `killed`, or `ended` where the run was done before.
    """
    mark, before = uuid.uuid4().hex, files_of(cwd / "run")
    process = subprocess.Popen(
        command(*args), cwd=cwd, env={**environment(), MARK: mark}, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 500
        while len(files_of(cwd / "run") - before) < moment and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(delay_s)
        if process.poll() is not None:
            return "ended"
        kill(process.pid, mark)
        process.wait(timeout=300)
        assert left_behind(mark, 60) == []
        return "killed"
    finally:
        stop(mark)
        process.wait()


def the_whole_group(pid: int, mark: str) -> None:
    os.killpg(pid, signal.SIGKILL)


def the_command_alone(pid: int, mark: str) -> None:
    os.kill(pid, signal.SIGKILL)


def one_worker(pid: int, mark: str) -> None:
    """The worker that the system named last."""
    workers = [each for each in marked(mark) if b"beam_jobs.worker" in Path(f"/proc/{each}/cmdline").read_bytes()]
    os.kill(max(workers), signal.SIGKILL)


def the_media_process(pid: int, mark: str) -> None:
    """The run goes on with another one; then it is killed itself."""
    decoders = [each for each in marked(mark) if b"media_process" in Path(f"/proc/{each}/cmdline").read_bytes()]
    for each in decoders:
        os.kill(each, signal.SIGKILL)
    time.sleep(0.5)
    os.killpg(pid, signal.SIGKILL)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_killed_again_and_again_and_then_finished(inputs: Path, curated: Path, tmp_path: Path) -> None:
    args = ["curate", "--input", str(inputs), "--output", "run", *ONE_PROCESS]
    dice = random.Random(SEED)
    ways, times_killed = (the_whole_group, the_command_alone, the_media_process), 0
    while times_killed < KILLS:
        way = ways[times_killed % len(ways)]
        if interrupted(args, tmp_path, dice.randint(1, 6), dice.uniform(0, 0.5), way) == "killed":
            times_killed += 1
            assert not (tmp_path / "run" / "run.json").exists() or tree(tmp_path / "run") == tree(curated)
        else:  # it was done before its moment came: begin anew
            assert tree(tmp_path / "run") == tree(curated)
            shutil.rmtree(tmp_path / "run")
    check_finished(args, tmp_path, curated)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kill", [one_worker, the_command_alone] if KILLS > 2 else [one_worker])
def test_a_worker_that_dies_ends_the_run_and_the_next_one_finishes_it(
    inputs: Path, curated: Path, tmp_path: Path, kill: Callable[[int, str], None]
) -> None:
    args = ["curate", "--input", str(inputs), "--output", "run", "--direct_num_workers=2"]
    args.append("--direct_running_mode=multi_processing")
    assert interrupted(args, tmp_path, 6, 0.1, kill) == "killed"
    assert not (tmp_path / "run" / "run.json").exists()
    check_finished([*args[:5], *ONE_PROCESS], tmp_path, curated)


def check_finished(args: list[str], cwd: Path, curated: Path) -> None:
    """The run, made once more, ends as the undisturbed one did, and leaves nothing of what was half-written."""
    done = run(*args, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    assert tree(cwd / "run") == tree(curated)
    left = [path for path in (cwd / "run").rglob(".*") if path.name != ".work"]
    assert left == [] and not (cwd / "run" / ".work" / "scratch").exists()
    again = run(*args, cwd=cwd)
    assert again.returncode == 0 and "nothing to do" in again.stdout, again.stderr[-2000:]
