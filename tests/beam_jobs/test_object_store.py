"""Runs whose input and output lie in an object store: a real S3 server on this machine."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from media import storage
from tests.beam_jobs.runs import ONE_PROCESS, command, environment, run, tree
from tests.beam_jobs.services import free_port, listens, running, wait_for

pytestmark = pytest.mark.long
BUCKET = "s3://reels"
MADE_ANEW = ("timings.json", "report.html")


@pytest.fixture(scope="module")
def bucket(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A bucket with the inputs in it; gives the file system."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'reelmill[s3]'")
    port, folder = free_port(), tmp_path_factory.mktemp("s3")
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "reel", "AWS_SECRET_ACCESS_KEY": "mill",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    server = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(server, folder / "server.log"), pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        wait_for(lambda: listens(port), folder / "server.log")
        s3fs.S3FileSystem.clear_instance_cache()
        store = s3fs.S3FileSystem()
        store.mkdir("reels")
        for path in sorted(inputs.iterdir()):
            store.put_file(str(path), f"reels/inputs/{path.name}")
        yield store
        s3fs.S3FileSystem.clear_instance_cache()


def objects(store: Any, prefix: str) -> dict[str, str]:
    """sha256 of every object of a run that must be the same in equal runs, by its path."""
    store.invalidate_cache()
    found = {path.removeprefix(f"{prefix}/"): path for path in store.find(prefix)}
    return {
        name: hashlib.sha256(store.cat_file(path)).hexdigest()
        for name, path in found.items()
        if not name.startswith(".work/") and name not in MADE_ANEW
    }


@pytest.fixture(scope="module")
def undisturbed(bucket: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    args = ["curate", "--input", f"{BUCKET}/inputs", "--output", f"{BUCKET}/run", *ONE_PROCESS]
    done = run(*args, cwd=tmp_path_factory.mktemp("run"))
    assert done.returncode == 0, done.stderr[-3000:]
    return objects(bucket, "reels/run")


def test_a_run_in_a_bucket_is_whole(undisturbed: dict[str, str], curated: Path) -> None:
    assert set(undisturbed) == set(tree(curated))


def test_a_run_killed_half_way_ends_with_the_same_bytes(
    bucket: Any, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    args = ["curate", "--input", f"{BUCKET}/inputs", "--output", f"{BUCKET}/killed", *ONE_PROCESS]
    kill_when_analysed(bucket, "reels/killed", args, tmp_path)
    assert not storage.exists(f"{BUCKET}/killed/run.json")
    storage.remove(f"{BUCKET}/killed/.work/run.lease")  # as the message of the next run would say
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert objects(bucket, "reels/killed") == undisturbed


def kill_when_analysed(store: Any, prefix: str, args: list[str], cwd: Path) -> None:
    """Starts a run and kills it with all its processes as soon as one input is analysed."""
    job = subprocess.Popen(
        command(*args), cwd=cwd, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 240
    while job.poll() is None and time.monotonic() < end:
        store.invalidate_cache()
        if store.find(f"{prefix}/.work/analyze"):
            break
        time.sleep(0.1)
    assert job.poll() is None, "the run ended before it could be killed"
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()


def test_tokens_of_a_bucket(
    bucket: Any, undisturbed: dict[str, str], model_flags: list[str], tokens: Path, tmp_path: Path
) -> None:
    args = ["tokenize", "--input", f"{BUCKET}/run", "--output", f"{BUCKET}/set", *model_flags, *ONE_PROCESS]
    done = run(*args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(objects(bucket, "reels/set")) == set(tree(tokens))
