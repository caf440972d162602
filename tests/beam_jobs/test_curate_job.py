import json
import shutil
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
import webdataset

from beam_jobs.curate import main
from beam_jobs.unchanged import forget
from media.tar import read_samples
from schemas.run import RunInfo
from schemas.states import ClipState
from tests.beam_jobs.media_for_tests import STATES
from tests.beam_jobs.runs import ONE_PROCESS, ledger, timings, tree


@pytest.fixture
def copy_of_run(curated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(curated, tmp_path / "run"))


def test_every_input_ends_as_it_must(curated: Path) -> None:
    rows = {Path(row["uri"]).name: row for row in ledger(curated, "sources")}
    assert {name: row["state"] for name, row in rows.items()} == STATES | {
        "edited.mp4": rows["edited.mp4"]["state"], "copy_of_edited.mp4": rows["copy_of_edited.mp4"]["state"],
    }  # fmt: skip
    assert sorted(rows[name]["state"] for name in ("edited.mp4", "copy_of_edited.mp4")) == ["done", "duplicate"]
    assert {name: rows[name]["reason"] for name in ("empty.mp4", "page.mp4", "sound.mp4")} == {
        "empty.mp4": "empty_file", "page.mp4": "not_media", "sound.mp4": "no_video_stream",
    }  # fmt: skip


def test_every_clip_ends_in_one_state_and_the_sums_are_told(curated: Path) -> None:
    rows = ledger(curated, "clips")
    run = RunInfo.from_json((curated / "run.json").read_text())
    states = Counter(row["state"] for row in rows)
    assert states["kept"] >= 3
    assert states["duplicate"] >= 1  # the smaller re-encoding
    assert {state: run.counts.get(f"clips.{state}", 0) for state in ClipState} == {
        state: states[state] for state in ClipState
    }
    assert run.counts["clips.candidates"] == len(rows)
    assert all(row["duplicate_of"] for row in rows if row["state"] == "duplicate")
    assert run.stages["caption"].startswith("not run: ")


def test_kept_clips_play_and_have_the_frames_of_their_span(curated: Path, tmp_path: Path) -> None:
    kept = {row["clip_id"]: row for row in ledger(curated, "clips") if row["state"] == "kept"}
    seen = set()
    for shard in sorted((curated / "clips").glob("*.tar")):
        for key, members in read_samples(shard):
            path = tmp_path / f"{key}.mp4"
            path.write_bytes(members["mp4"])
            with av.open(str(path)) as container:
                frames = list(container.decode(video=0))
            assert len(frames) == kept[key]["num_frames"]
            assert kept[key]["shard"] == shard.name
            assert json.loads(members["json"])["clip_id"] == key
            seen.add(key)
    assert seen == set(kept)


def test_the_shards_open_in_webdataset(curated: Path) -> None:
    shards = [str(path) for path in sorted((curated / "clips").glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert samples
    assert all({"mp4", "jpg", "json"} <= sample.keys() for sample in samples)


def test_spans_do_not_overlap_and_are_exact(curated: Path) -> None:
    rows = [row for row in ledger(curated, "clips") if row["uri"].endswith("edited.mp4")]
    spans = sorted(
        tuple(row[end] * Fraction(row["time_base_num"], row["time_base_den"]) for end in ("start_pts", "end_pts"))
        for row in rows
    )
    assert len(spans) >= 3
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_previews_hold_small_pictures_of_every_outcome(curated: Path) -> None:
    ids = {row["clip_id"] for row in ledger(curated, "clips")}
    found = [key for path in (curated / "previews").glob("*.tar") for key, _ in read_samples(path)]
    assert found
    assert set(found) <= ids


def times_of_change(folder: Path) -> dict[Path, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "run.lock")
    return {path: path.stat().st_mtime_ns for path in files}


def test_again_and_nothing_is_even_begun(copy_of_run: Path, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = times_of_change(copy_of_run)
    assert main(["--input", str(inputs), "--output", str(copy_of_run), *ONE_PROCESS]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert times_of_change(copy_of_run) == before


def test_a_file_that_is_gone_is_made_again(copy_of_run: Path, inputs: Path) -> None:
    before = tree(copy_of_run)
    next(iter(sorted((copy_of_run / "clips").glob("*.tar")))).unlink()
    assert main(["--input", str(inputs), "--output", str(copy_of_run), *ONE_PROCESS]) == 0
    assert tree(copy_of_run) == before


def test_again_and_nothing_is_redone_and_no_byte_differs(copy_of_run: Path, inputs: Path) -> None:
    forget(str(copy_of_run))  # else nothing would be begun
    before = tree(copy_of_run)
    times = {path: path.stat().st_mtime_ns for path in copy_of_run.rglob("*.tar")}
    assert main(["--input", str(inputs), "--output", str(copy_of_run), *ONE_PROCESS]) == 0
    assert tree(copy_of_run) == before
    assert {path: path.stat().st_mtime_ns for path in copy_of_run.rglob("*.tar")} == times
    stages = timings(copy_of_run)
    assert "items" not in stages["cut"]
    assert stages["analyze"]["reused"] == len(STATES)


def test_a_threshold_changed_redoes_filtering_and_what_follows_only(copy_of_run: Path, inputs: Path) -> None:
    args = ["--input", str(inputs), "--output", str(copy_of_run), *ONE_PROCESS]
    before = tree(copy_of_run)
    kept = [row for row in ledger(copy_of_run, "clips") if row["state"] == "kept"]
    limit = sorted(row["score_motion"] for row in kept)[0] + 0.001
    assert main([*args, "--filters.min_motion", str(limit)]) == 0
    rows = {row["clip_id"]: row for row in ledger(copy_of_run, "clips")}
    dropped = [row for row in rows.values() if row["reason"] == "min_motion"]
    assert dropped and all(row["score"] < limit and row["threshold"] == limit for row in dropped)
    assert "items" not in timings(copy_of_run)["analyze"]
    assert "items" not in timings(copy_of_run)["cut"]
    assert main(args) == 0
    assert tree(copy_of_run) == before


def test_reference_mode_writes_spans_and_no_media(copy_of_run: Path, inputs: Path) -> None:
    args = ["--input", str(inputs), "--output", str(copy_of_run), "--clips.mode", "reference"]
    assert main([*args, *ONE_PROCESS]) == 0
    assert not list((copy_of_run / "clips").glob("*.tar"))
    kept = [row for row in ledger(copy_of_run, "clips") if row["state"] == "kept"]
    assert kept and all(row["shard"] is None for row in kept)


def test_small_shards_are_numbered_in_the_order_of_ids(copy_of_run: Path, inputs: Path) -> None:
    args = ["--input", str(inputs), "--output", str(copy_of_run), "--shards.max_bytes", "65536", *ONE_PROCESS]
    assert main(args) == 0
    shards = sorted((copy_of_run / "clips").glob("*.tar"))
    keys = [key for shard in shards for key, _ in read_samples(shard)]
    assert len(shards) > 1
    assert keys == sorted(keys)
    assert [shard.name for shard in shards] == [f"clips-{index:05d}.tar" for index in range(len(shards))]


def test_nothing_kept_is_a_failed_run_that_can_be_looked_at(
    copy_of_run: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--input", str(inputs), "--output", str(copy_of_run), "--filters.min_height", "5000", *ONE_PROCESS]
    assert main(args) == 1
    assert "nothing was kept" in capsys.readouterr().out
    assert (copy_of_run / "report.html").is_file()
    assert {row["reason"] for row in ledger(copy_of_run, "clips")} == {"min_height"}


def test_more_failures_than_allowed_fail_the_run(
    copy_of_run: Path, inputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--input", str(inputs), "--output", str(copy_of_run), "--max_failures", "2", *ONE_PROCESS]
    assert main(args) == 1
    lines = capsys.readouterr().out.strip().splitlines()
    assert "--max_failures allows 2" in lines[-1]
    assert lines[-2].startswith("7 videos: 3 done, 1 duplicate, 3 failed · ")
    assert lines[-2].endswith(f"→ {copy_of_run} (report.html)")


def test_the_plan_counts_what_is_finished(copy_of_run: Path, inputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(copy_of_run)
    args = ["--input", str(inputs), "--output", str(copy_of_run), "--plan"]
    assert main(args) == 0
    rows = {
        cells[1]: cells[2:4]
        for cells in ([cell.strip() for cell in line.split("│")] for line in capsys.readouterr().out.splitlines())
        if len(cells) > 4
    }
    assert rows["analyze"] == [str(len(STATES)), "0"]
    assert rows["cut"][1] == "0"
    assert tree(copy_of_run) == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(["--nonsense=1"], "--nonsense=1", id="unknown-flag"),
        pytest.param(["--input", "no/such/place"], "no/such/place", id="no-input"),
    ],
)
def test_wrong_usage_harms_nothing(copy_of_run: Path, inputs: Path, flags: list[str], message: str) -> None:
    before = tree(copy_of_run)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main(["--input", str(inputs), "--output", str(copy_of_run), *flags])
    assert tree(copy_of_run) == before
