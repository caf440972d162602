"""The same bytes whatever the runner and the number of workers."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.beam_jobs.runs import run, tree
from tests.beam_jobs.services import portable_flags, prism_binary

RUNNERS = ("processes", "threads", "portable", "prism")


@contextmanager
def flags_of(runner: str, folder: Path) -> Iterator[list[str]]:
    if runner == "processes":
        yield ["--direct_num_workers=3", "--direct_running_mode=multi_processing"]
    elif runner == "threads":
        yield ["--direct_num_workers=3", "--direct_running_mode=multi_threading"]
    elif runner == "prism":
        yield ["--runner=PrismRunner", f"--prism_location={prism_binary()}"]
    else:
        with portable_flags(folder) as flags:
            yield flags


@pytest.mark.long
@pytest.mark.parametrize("runner", RUNNERS)
def test_both_jobs_give_the_bytes_of_one_process(
    runner: str, inputs: Path, curated: Path, tokens: Path, model_flags: list[str], tmp_path: Path
) -> None:
    with flags_of(runner, tmp_path) as flags:
        done = run("curate", "--input", str(inputs), "--output", "run", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert tree(tmp_path / "run") == tree(curated)
        done = run("tokenize", "--input", "run", "--output", "set", *model_flags, *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        assert tree(tmp_path / "set") == tree(tokens)
