"""The doctor: true about what is there, useful about what is not."""

from pathlib import Path

import pytest

from beam_jobs.doctor import Check, DoctorSettings, all_checks, main


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    settings = DoctorSettings(models=["nobody/no-such-model", str(Path(__file__).parent)])
    return {f"{check.group}/{check.name}": check for check in all_checks(settings)}


@pytest.mark.parametrize(
    "name",
    [
        "python/python", "python/packages", "libraries/torch", "libraries/decord", "ffmpeg/program",
        "ffmpeg/encoder libx264", "ffmpeg/encoder aac", "ffmpeg/decoder h264", "machine/free disk",
        "built-in tokenizers/magvit2-tiny", "built-in tokenizers/cvivit-tiny", "built-in tokenizers/soundstream-tiny",
        "built-in tokenizers/motion-tiny",
        "beam/apache-beam",
    ],
)  # fmt: skip
def test_what_the_core_needs_is_here(checks: dict[str, Check], name: str) -> None:
    assert checks[name].needed
    assert checks[name].there, checks[name].says


def test_every_check_that_can_fail_says_what_to_do(checks: dict[str, Check]) -> None:
    assert [name for name, check in checks.items() if not check.there and not check.fix] == []


def test_models_that_are_not_here(checks: dict[str, Check]) -> None:
    assert checks["models/nobody/no-such-model"].says == "not on this machine"
    assert checks[f"models/{Path(__file__).parent}"].says == "no config.json in it"


def test_an_ffmpeg_that_is_not_one_ends_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--ffmpeg", str(tmp_path / "ffmpeg")]) == 1
    out = capsys.readouterr().out
    assert "MISSING  program" in out
    assert "missing: program" in out
