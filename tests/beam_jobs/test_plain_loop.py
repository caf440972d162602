"""The loop that Beam's cost is measured against does the same work: its files have the bytes of the job."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.beam_jobs.runs import environment, tree

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_it_gives_the_bytes_of_the_job(inputs: Path, curated: Path, tmp_path: Path) -> None:
    args = ["--input", str(inputs), "--output", str(tmp_path / "run"), "--direct_num_workers=1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._plain_loop", *args], cwd=ROOT, env=environment(), capture_output=True,
        text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert tree(tmp_path / "run") == tree(curated)
