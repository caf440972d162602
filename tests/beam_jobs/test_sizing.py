import json
from pathlib import Path
from typing import Any

import pytest

from beam_jobs.sizing import SizeSettings, costs_of, main

STAGES = {
    "analyze": {"unit": "videos", "seconds": 720.0, "items": 4},
    "caption": {"unit": "clips", "seconds": 10.0, "items": 10, "reused": 10},
    "cut": {"unit": "clips", "reused": 3},
}


def write_run(folder: Path, hours: float = 2.0, stages: dict[str, Any] = STAGES) -> str:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"hours": {"sources": hours}}))
    (folder / "timings.json").write_text(json.dumps({"wall_s": 1.0, "stages": stages}))
    return str(folder)


def test_hours_per_thousand_hours_of_source(tmp_path: Path) -> None:
    costs = {cost.stage: cost for cost in costs_of(SizeSettings(write_run(tmp_path / "run"), gpu=True))}
    assert set(costs) == {"analyze", "caption"}
    assert costs["analyze"].hours == pytest.approx(720 / 3600 / 2 * 1000)
    assert not costs["analyze"].on_gpu
    assert costs["caption"].hours == pytest.approx(20 / 3600 / 2 * 1000), "what was reused costs as much"
    assert costs["caption"].on_gpu


def test_the_table_says_how_many_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = write_run(tmp_path / "set", stages={"shards": {"seconds": 1.0, "items": 1}})
    assert main([write_run(tmp_path / "run"), "--tokens", tokens, "--hours", "240", "--days", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "token shards" in said
    assert "240 source hours in 1 days, all workers busy: 1.0 vCPUs" in said


@pytest.mark.parametrize(
    ("hours", "stages", "message"),
    [
        pytest.param(0.0, STAGES, "no hours of video", id="empty"),
        pytest.param(1.0, {"cut": STAGES["cut"]}, "name a first run", id="all-reused"),
    ],
)
def test_runs_that_say_nothing(hours: float, stages: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        costs_of(SizeSettings(write_run(tmp_path / "run", hours, stages)))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="folder of a finished run"):
        costs_of(SizeSettings(str(tmp_path)))
