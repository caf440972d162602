"""ffmpeg runs quietly, fails with its own words, and never outlives its time."""

import time
from pathlib import Path

import pytest

from media.ffmpeg import ffmpeg_path, ffmpeg_version, run_ffmpeg
from schemas.states import Rejection


def test_the_wheels_ffmpeg_is_found_and_says_its_version() -> None:
    assert ffmpeg_version(ffmpeg_path()).startswith("ffmpeg version")


def test_a_named_program_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ffmpeg_path(str(tmp_path / "nowhere"))
    (tmp_path / "no-program").write_text("x")
    with pytest.raises(RuntimeError, match="does not run"):
        ffmpeg_version(str(tmp_path / "no-program"))


def test_failure_is_a_rejection_with_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(Rejection, match="No such file") as caught:
        run_ffmpeg(["-i", str(tmp_path / "none.mp4"), "-f", "null", "-"])
    assert caught.value.reason == "ffmpeg_failed"


def test_an_ffmpeg_that_hangs_is_stopped() -> None:
    start = time.monotonic()
    with pytest.raises(Rejection) as caught:
        run_ffmpeg(["-re", "-f", "lavfi", "-i", "testsrc2=duration=60", "-f", "null", "-"], timeout_s=1)
    assert caught.value.reason == "ffmpeg_timed_out" and time.monotonic() - start < 10
