"""Workers with other code than the job was submitted with."""

import pickle
import shutil
from pathlib import Path

import pytest

from beam_jobs import same_code
from beam_jobs.run_pipeline import _cause
from beam_jobs.same_code import check_same_code, code_here
from beam_jobs.units import Units
from tests.beam_jobs.runs import run
from tests.beam_jobs.services import portable_flags

ROOT = Path(__file__).parents[2]


def test_the_code_says_release_source_beam_and_python() -> None:
    said = code_here()
    assert said.startswith("reelmill ") and "(code " in said and "Beam " in said and "Python 3." in said
    check_same_code(said)


def test_a_value_comes_back_in_the_same_code() -> None:
    units = Units("/run/.work")
    assert pickle.loads(pickle.dumps(units)) == units


def test_other_code_is_refused_and_both_are_named() -> None:
    travelling = pickle.dumps(Units("/run/.work"))
    other = travelling.replace(code_here()[-12:].encode(), b"Python 9.999"[-12:])
    assert other != travelling
    with pytest.raises(RuntimeError, match=r"this worker has reelmill .*submitted with reelmill .*9\.999; give the"):
        pickle.loads(other)


def test_a_step_that_the_workers_do_not_have_is_explained() -> None:
    error = RuntimeError("Traceback\nAttributeError: Can't get attribute 'SplitShots' on <module 'beam_jobs.cut'>")
    assert "restart the worker pool" in _cause(error)
    assert "restart the worker pool" not in _cause(RuntimeError("OSError: No space left on device"))


@pytest.mark.long
def test_a_pool_of_workers_with_other_code_ends_the_job(inputs: Path, tmp_path: Path) -> None:
    for package in same_code._PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "other" / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other" / "curation" / "analysis.py").open("a") as file:
        file.write("\n# another version\n")
    with portable_flags(tmp_path, workers_in=tmp_path / "other") as flags:
        done = run("curate", "--input", str(inputs / "silent.mp4"), "--output", "run", *flags, cwd=tmp_path)
    assert done.returncode == 1
    assert "this worker has reelmill" in done.stderr and code_here() in done.stderr, done.stderr[-3000:]
    assert not (tmp_path / "run" / "run.json").exists()
