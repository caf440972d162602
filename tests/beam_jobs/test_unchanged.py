"""When a run has nothing to do: only where its inputs, settings, code and files are what they were."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.unchanged import Finished, forget, key_of, remember, settled, unchanged
from schemas.records import Source


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A folder as a run leaves it."""
    run = tmp_path / "run"
    (run / "ledger").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "ledger" / "clips-00000.parquet").write_text("rows")
    (run / "timings.json").write_text("1")
    remember(str(run), "run.json", Finished("key", 1, "all there"))
    return run


def test_a_run_that_stands_is_known(finished: Path) -> None:
    assert unchanged(str(finished), "run.json", "key") == Finished("key", 1, "all there")
    (finished / "timings.json").write_text("22")
    (finished / "notes of mine.txt").write_text("x")
    assert unchanged(str(finished), "run.json", "key") is not None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda run: (run / "run.json").write_text("[]"), id="other-manifest"),
        pytest.param(lambda run: (run / "run.json").unlink(), id="no-manifest"),
        pytest.param(lambda run: (run / "ledger" / "clips-00000.parquet").unlink(), id="file-gone"),
        pytest.param(lambda run: (run / "ledger" / "clips-00000.parquet").write_text("row"), id="file-shorter"),
        pytest.param(lambda run: forget(str(run)), id="begun-again"),
    ],
)
def test_a_run_that_does_not_stand(finished: Path, change: Callable[[Path], object]) -> None:
    change(finished)
    assert unchanged(str(finished), "run.json", "key") is None


def test_another_run_and_no_run_are_not_this_one(finished: Path, tmp_path: Path) -> None:
    assert unchanged(str(finished), "run.json", "other") is None
    assert unchanged(str(tmp_path / "nothing"), "run.json", "key") is None


def test_the_key_is_that_of_settings_and_inputs_as_they_are_now(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    sources = [Source("a", str(path)), Source("b", "https://example.com/b.mp4")]
    key = key_of(({"limit": 1},), sources)
    assert key == key_of(({"limit": 1},), sources)
    others = [key_of(({"limit": 2},), sources), key_of(({"limit": 1},), sources[:1])]
    os.utime(path, ns=(0, 0))
    others.append(key_of(({"limit": 1},), sources))
    path.unlink()
    others.append(key_of(({"limit": 1},), sources))
    assert len({key, *others}) == 5


@pytest.mark.parametrize(
    ("counts", "all_local", "expected"),
    [
        ({"sources.done": 3, "clips.kept": 2}, False, True),
        ({"sources.failed:analyze/undecodable": 1, "clips.failed:cut/frame_count_mismatch": 1}, False, True),
        ({"sources.failed:fetch/not_found": 1}, True, True),
        ({"sources.failed:fetch/not_found": 1}, False, False),
        ({"sources.failed:fetch/http_503": 1}, False, False),
        ({"sources.failed:fetch/unreadable": 1}, True, False),
        ({"sources.failed:analyze/timed_out": 1}, True, False),
        ({"clips.failed:cut/decoder_died": 1}, True, False),
        ({"clips.failed:caption/internal_error": 1}, True, False),
        ({"clips.filtered:filters/min_motion": 5}, False, True),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again(counts: dict[str, int], all_local: bool, expected: bool) -> None:
    assert settled(counts, all_local) is expected
