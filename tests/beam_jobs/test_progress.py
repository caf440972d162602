"""Progress: what worker processes have finished is seen while they work, and costs next to nothing."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from beam_jobs.heartbeat import FOLDER, Beat, beat, read_beats
from beam_jobs.progress import Progress, StageProgress, line, stages_of, table
from beam_jobs.units import Units

ANALYZE = Beat(items=100, reused=50, clips=300, video_s=7200.0, began=1000.0, last=1050.0)


WORKER = """
import os, time
from beam_jobs.heartbeat import beat
for number in range(10):
    beat("analyze", began=time.time(), items=1, clips=3, video_s=2.0, last=time.time())
    time.sleep(0.6 if number == 8 else 0)
os._exit(0)
"""


def test_workers_in_other_processes_are_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".work").mkdir()
    with Progress(Units.of(str(tmp_path)), {"analyze": 40}, every_s=0.05):
        processes = [subprocess.Popen([sys.executable, "-c", WORKER]) for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        time.sleep(0.3)
        assert read_beats(os.environ[FOLDER])["analyze"].items == 20
    told = capsys.readouterr().err
    assert "analysed 20/40 videos (60 clips, 0.01 h" in told
    assert FOLDER not in os.environ
    assert not (tmp_path / ".work" / "progress").exists()


def test_nobody_watches_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    beat("analyze", items=1)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_sums_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1-a.json").write_text("{")
    (tmp_path / "2-b.json").write_text(json.dumps({"analyze": {"items": 1}}))
    (tmp_path / "3-c.json").write_text(json.dumps({"cut": vars(Beat(items=2, began=5.0))}))
    assert read_beats(str(tmp_path)) == {"cut": Beat(items=2, began=5.0)}
    assert read_beats(str(tmp_path / "none")) == {}


def test_counting_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    began = time.process_time()
    for _ in range(10_000):
        beat("cut", items=1, video_s=1.0)
    assert (time.process_time() - began) / 10_000 < 50e-6  # a clip takes at least 50 ms


@pytest.mark.parametrize(
    ("beats", "totals", "want"),
    [
        pytest.param({}, {"analyze": 9}, "", id="nothing-yet"),
        pytest.param(
            {"analyze": ANALYZE}, {"analyze": 900},
            "    60 s  analysed 150/900 videos (300 clips, 2.00 h, 1/s, 12 min left)", id="first-stage",
        ),
        pytest.param(
            {"analyze": ANALYZE, "cut": Beat(items=20, video_s=36.0, began=1060.0, last=1099.0)}, {"analyze": 150},
            "    60 s  analysed 150/150 videos (300 clips, 2.00 h, 2/s), "
            "cut 20/≤300 clips (0.01 h, 0.5/s, at most 9 min left)", id="bounded-by-what-was-found",
        ),
        pytest.param({"tokenize": Beat(reused=7, began=1000.0)}, {"tokenize": 7},
                     "    60 s  tokenized 7/7 clips", id="all-reused"),
        pytest.param({"clip_score": Beat(items=1, began=1099.0)}, {}, "    60 s  clip score 1 clip (1/s)",
                     id="no-total"),
    ],
)  # fmt: skip
def test_lines(beats: dict[str, Beat], totals: dict[str, int], want: str) -> None:
    assert line(stages_of(beats, totals, now=1100.0), took_s=60) == want


@pytest.mark.parametrize(
    ("items", "seconds", "left"),
    [(50, 10, "10 s left"), (10, 100, "15 min left"), (1, 100, "2.8 h left"), (0, 100, ""), (100, 10, "")],
)
def test_what_is_left(items: int, seconds: float, left: str) -> None:
    stage = StageProgress("cut", Beat(items=items, began=1000.0), 100, False, 1000.0 + seconds)
    assert left in line([stage], 0) and ("left" in line([stage], 0)) is bool(left)


def test_the_table_has_a_row_for_each_stage() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    beats = {"analyze": ANALYZE, "cut": Beat(items=20, video_s=36.0, began=1060.0, last=1099.0)}
    console.print(table(stages_of(beats, {"analyze": 900}, 1100.0)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "150/900 videos" in shown and "300 clips" in shown and "20 clips" in shown
    assert len(shown.strip().splitlines()) == 2
