"""Inputs that several tests share, and one curated run of them, made once."""

from pathlib import Path

import pytest

from beam_jobs.curate import main
from tests.beam_jobs.media_for_tests import make_inputs
from tests.beam_jobs.runs import ONE_PROCESS


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs of every fate; `STATES` says which."""
    return make_inputs(tmp_path_factory.mktemp("media") / "inputs")


@pytest.fixture(scope="session")
def curated(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over `inputs`, in one process. Tests do not change it."""
    output = tmp_path_factory.mktemp("curated") / "run"
    assert main(["--input", str(inputs), "--output", str(output), *ONE_PROCESS]) == 0
    return output
