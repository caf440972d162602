"""Inputs that several tests share, and one curated run of them, made once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.beam_jobs.media_for_tests import make_inputs
from tests.beam_jobs.runs import ONE_PROCESS

Tokenize = Callable[..., int]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs of every fate; `STATES` says which."""
    return make_inputs(tmp_path_factory.mktemp("media") / "inputs")


@pytest.fixture(scope="session")
def curated(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over `inputs`, in one process. Tests do not change it."""
    from beam_jobs import curate

    output = tmp_path_factory.mktemp("curated") / "run"
    assert curate.main(["--input", str(inputs), "--output", str(output), *ONE_PROCESS]) == 0
    return output


@pytest.fixture(scope="session")
def model_flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Small random tokenizers, and windows short enough for the inputs."""
    from tests.tokenize_shards import tiny_models

    folder = tmp_path_factory.mktemp("models")
    return [
        "--video.tokenizer", tiny_models.save_video_tokenizer(folder / "video"),
        "--audio.tokenizer", tiny_models.save_audio_tokenizer(folder / "audio"),
        "--text.encoder", tiny_models.save_text_encoder(folder / "text"),
        "--video.resolutions", "[32x32, 64x64]", "--split.val_fraction", "0.5", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="session")
def tokenize(curated: Path, model_flags: list[str]) -> Tokenize:
    """Runs the command on the curated run, in one process."""
    from beam_jobs import tokenize_job

    def call(output: Path, *flags: str) -> int:
        return tokenize_job.main(["--input", str(curated), "--output", str(output), *model_flags, *ONE_PROCESS, *flags])

    return call


@pytest.fixture(scope="session")
def tokens(tokenize: Tokenize, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished token data set. Tests do not change it."""
    output = tmp_path_factory.mktemp("tokens") / "set"
    assert tokenize(output) == 0
    return output
