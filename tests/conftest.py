"""What all tests share: where the development media lies, and a skip with a reason where it does not."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a model hub
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

ENGINES = Path(__file__).parent / "engines"
SHARED_DATA = Path(os.environ.get("REELMILL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Runs on real engines take minutes of Java: they are collected where they are named (`make test-engines`)."""
    named = any(Path(arg.partition("::")[0]).resolve().is_relative_to(ENGINES) for arg in config.args)
    return True if collection_path == ENGINES and not named else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real development media: captioned clips, edited videos with cut positions, odd files."""
    if not (SHARED_DATA / "MANIFEST.csv").is_file():
        pytest.skip(f"no development media at {SHARED_DATA}; name its folder with REELMILL_TEST_DATA")
    return SHARED_DATA
