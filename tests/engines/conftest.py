"""The inputs and runs of one process that the engines' runs are held against, and the engines' job servers."""

from pathlib import Path

import pytest

from tests.beam_jobs.conftest import curated, inputs, model_flags, tokenize, tokens
from tests.engines.services import job_server_jar

__all__ = ["curated", "inputs", "model_flags", "tokenize", "tokens"]


@pytest.fixture(scope="session")
def spark_jar() -> Path:
    return job_server_jar("spark")


@pytest.fixture(scope="session")
def flink_jar() -> Path:
    return job_server_jar("flink")
