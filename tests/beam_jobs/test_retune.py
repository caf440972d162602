"""The what-if told and made so: what `--apply` gives is what the replay said."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from beam_jobs import curate
from beam_jobs.retune import main
from tests.beam_jobs.runs import ONE_PROCESS, ledger, timings, tree


@pytest.fixture
def copy_of_run(curated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(curated, tmp_path / "run"))


def outcomes(folder: Path) -> Counter[str]:
    rows = ledger(folder, "clips")
    return Counter("/".join(part for part in (row["state"], row["stage"], row["reason"]) if part) for row in rows)


def middle_motion(folder: Path) -> float:
    kept = sorted(row["score_motion"] for row in ledger(folder, "clips") if row["state"] == "kept")
    return (kept[len(kept) // 2 - 1] + kept[len(kept) // 2]) / 2


def test_a_what_if_changes_nothing_and_apply_gives_what_it_said(
    copy_of_run: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, limit = tree(copy_of_run), str(middle_motion(copy_of_run))
    assert main(["--run", str(copy_of_run), "--filters.min_motion", limit, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert tree(copy_of_run) == before
    assert told["changes"] == {"filters.min_motion": {"before": None, "after": float(limit)}}
    assert told["lost"]["clips"] > 0
    assert told["near"]["min_motion"]["passes"] and told["near"]["min_motion"]["misses"]
    assert main(["--run", str(copy_of_run), "--filters.min_motion", limit, "--apply", *ONE_PROCESS]) == 0
    assert {name: count["clips"] for name, count in told["after"].items()} == outcomes(copy_of_run)
    assert "items" not in timings(copy_of_run)["analyze"]
    assert "items" not in timings(copy_of_run)["cut"]
    assert main(["--run", str(copy_of_run), "--filters.min_motion", "null", "--apply", *ONE_PROCESS]) == 0
    assert tree(copy_of_run) == before


def test_limits_that_are_left_out_stay(copy_of_run: Path, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--input", str(inputs), "--output", str(copy_of_run), "--filters.max_luma", "0.99"]
    assert curate.main([*args, *ONE_PROCESS]) == 0
    capsys.readouterr()
    assert main(["--run", str(copy_of_run), "--filters.min_motion", "0.0"]) == 0
    shown = capsys.readouterr().out
    assert "filters.min_motion: off → 0" in shown
    assert "max_luma" not in shown
    with pytest.raises(ValueError, match=r"min_luma 1\.5 is above filters\.max_luma 0\.99"):
        main(["--run", str(copy_of_run), "--filters.min_luma", "1.5"])


def test_without_changes_it_says_what_to_try(curated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(curated)]) == 0
    assert "no limit differs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--filters.min_motoin", "1"], "did you mean '--filters.min_motion'"),
        (["--direct_num_workers=1"], "go with --apply only"),
        (["--input", "x"], "only with --apply"),
        (["--examples", "-1"], "examples -1"),
    ],
    ids=["misspelt", "beam-flag", "input", "examples"],
)
def test_wrong_usage(curated: Path, flags: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        main(["--run", str(curated), *flags])
