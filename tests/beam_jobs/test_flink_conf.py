"""Flink's own settings on their way from flags and the profile to the job server."""

import os
from pathlib import Path

import pytest
import yaml

from beam_jobs.flink_conf import flink_conf, flink_conf_folder
from beam_jobs.runner import beam_options
from media.engine_settings import EngineSettings

PROFILE = Path(__file__).parents[2] / "media" / "configs" / "flink.yaml"


def profile_flags() -> list[str]:
    return EngineSettings(**yaml.safe_load(PROFILE.read_text())["engine"]).as_flags()


def test_the_job_server_gets_the_profiles_settings_and_those_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("FLINK_CONF_DIR", raising=False)
    options = beam_options([*profile_flags(), "--flink_conf=restart-strategy.fixed-delay.attempts: 9"], 1)
    with flink_conf_folder(options):
        folder = Path(os.environ["FLINK_CONF_DIR"])
        written = yaml.safe_load((folder / "flink-conf.yaml").read_text())
    assert written["restart-strategy.type"] == "fixed-delay"
    assert written["restart-strategy.fixed-delay.attempts"] == 9
    assert "FLINK_CONF_DIR" not in os.environ and not folder.exists()


def test_a_folder_of_the_users_own_counts_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLINK_CONF_DIR", str(tmp_path))
    with flink_conf_folder(beam_options(profile_flags(), 1)):
        assert os.environ["FLINK_CONF_DIR"] == str(tmp_path)
    assert os.environ["FLINK_CONF_DIR"] == str(tmp_path) and not list(tmp_path.iterdir())


def test_without_settings_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLINK_CONF_DIR", raising=False)
    with flink_conf_folder(beam_options(["--runner=FlinkRunner"], 1)):
        assert "FLINK_CONF_DIR" not in os.environ


def test_a_job_is_restarted_after_the_dead_worker_is_forgotten() -> None:
    flags = yaml.safe_load(PROFILE.read_text())["engine"]["flags"]
    number, unit = flink_conf(flags["flink_conf"])["restart-strategy.fixed-delay.delay"].split()
    assert unit == "s" and int(number) * 1000 > flags["environment_cache_millis"]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("restart-strategy.type=fixed-delay", id="equals-sign"),
        pytest.param("restart-strategy.type:fixed-delay", id="no-space"),
        pytest.param("restart-strategy.type: ", id="no-value"),
        pytest.param("a: b\nc: d", id="two-lines"),
    ],
)
def test_what_is_no_setting_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is not KEY: VALUE"):
        beam_options(["--runner=FlinkRunner", f"--flink_conf={line}"], 1)
