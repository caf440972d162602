"""Takedowns from a run and its token data set: what goes, what stays, what a later run does, and being stopped."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_jobs import curate, remove
from beam_jobs.ledger_counts import count_ledger
from beam_jobs.products import Products
from beam_jobs.takedown import rewrite_shard
from beam_jobs.tombstones import read_targets
from curation.find import find
from curation.history import history
from curation.removals import read_removals
from media.parquet import read_parquet
from media.tar import read_samples, read_tar, write_tar
from schemas.run import RunInfo
from tests.beam_jobs.conftest import Tokenize
from tests.beam_jobs.runs import ONE_PROCESS, environment, ledger, tree


@pytest.fixture
def run(curated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(curated, tmp_path / "run"))


@pytest.fixture
def token_set(tokens: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tokens, tmp_path / "set"))


def kept_of(run: Path, name: str) -> list[str]:
    rows = [row for row in ledger(run, "clips") if row["state"] == "kept" and row["uri"].endswith(name)]
    return sorted(row["clip_id"] for row in rows)


def members(run: Path) -> set[str]:
    return {key for path in run.rglob("*.tar") for key, _ in read_samples(path)}


def units_with(run: Path, text: str) -> Iterator[str]:
    for path in sorted((run / ".work").rglob("*")):
        if path.is_file() and path.parts[-3] in ("cut", "tokens") and text.encode() in path.read_bytes():
            yield str(path)


def manifest(run: Path) -> RunInfo:
    return RunInfo.from_json((run / "run.json").read_text())


def test_the_ledger_adds_up_to_what_the_job_counted(curated: Path) -> None:
    info = manifest(curated)
    assert count_ledger(str(curated)) == (info.counts, info.hours)


def test_a_clip_goes_from_shards_ledger_previews_and_units(run: Path, token_set: Path) -> None:
    gone, *stay = kept_of(run, "silent.mp4") + kept_of(run, "edited.mp4")
    before = manifest(run)
    assert remove.main(["--run", str(run), gone[:10], "--tokens", str(token_set)]) == 0
    rows = {row["clip_id"]: row for row in ledger(run, "clips")}
    assert (rows[gone]["state"], rows[gone]["stage"], rows[gone]["shard"]) == ("filtered", "removed", None)
    assert gone not in members(run)
    assert set(stay) <= members(run)
    assert not list(units_with(run, gone))
    info = manifest(run)
    assert info.counts["clips.kept"] == before.counts["clips.kept"] - 1
    assert info.shards[0].num_clips == before.shards[0].num_clips - 1
    assert info.shards[0].num_bytes == (run / "clips" / info.shards[0].name).stat().st_size
    assert not (run / ".work" / "removal.json").exists()
    assert gone not in {row["clip_id"] for row in read_parquet(str(token_set / "samples-*.parquet")).to_pylist()}
    assert not any(key.startswith(gone) for key in members(token_set))
    assert not list(units_with(token_set, gone))


def test_a_later_run_is_equal_and_brings_nothing_back(
    run: Path, token_set: Path, inputs: Path, tokenize: Tokenize, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = kept_of(run, "silent.mp4")[0]
    assert remove.main(["--run", str(run), gone, "--tokens", str(token_set)]) == 0
    taken, taken_tokens = tree(run), tree(token_set)
    assert curate.main(["--input", str(inputs), "--output", str(run), *ONE_PROCESS]) == 0
    assert tree(run) == taken
    assert tokenize(token_set, "--input", str(run)) == 0
    assert tree(token_set) == taken_tokens
    wider = ["--clips.min_duration_s", "0.3", "--clips.trim_frames", "0", "--dedup.near", "false"]
    assert curate.main(["--input", str(inputs), "--output", str(run), *wider, *ONE_PROCESS]) == 0
    again = [row for row in ledger(run, "clips") if row["uri"].endswith("silent.mp4")]
    assert again and {row["reason"] for row in again} == {"takedown"}


def test_an_input_goes_with_its_copies_under_other_names(run: Path, inputs: Path) -> None:
    row, clips = find(str(run), "edited.mp4")[1][0], kept_of(run, "edited.mp4")
    assert remove.main(["--run", str(run), row["uri"], "--reason", "asked by its author"]) == 0
    sources = {Path(row["uri"]).name: row for row in ledger(run, "sources")}
    for name in ("edited.mp4", "copy_of_edited.mp4"):
        assert (sources[name]["state"], sources[name]["reason"], sources[name]["num_clips"]) == ("done", "takedown", 0)
    rows = ledger(run, "clips")
    assert not [row for row in rows if row["uri"].endswith("edited.mp4")]
    smaller = {row["reason"] for row in rows if row["uri"].endswith("smaller.mp4")}
    assert "takedown" in smaller and "near_duplicate" not in smaller
    assert {row.reason for row in read_removals(str(run)).rows} == {"asked by its author"}
    told = dict(history(str(run), row["source_id"]).sections)["removals"]
    assert told == [(row["source_id"], "source removed: asked by its author")]
    assert history(str(run), clips[0][:12]).sections[-1][1] == [(clips[0], "clip removed: asked by its author")]
    taken = tree(run)
    assert curate.main(["--input", str(inputs), "--output", str(run), *ONE_PROCESS]) == 0
    assert tree(run) == taken


def test_a_new_file_that_looks_like_it_is_not_let_in(run: Path, inputs: Path, tmp_path: Path) -> None:
    from media.ffmpeg import run_ffmpeg

    gone = kept_of(run, "silent.mp4")
    for name in gone:
        assert remove.main(["--run", str(run), name]) == 0
    folder = tmp_path / "more"
    folder.mkdir()
    source = next(inputs.glob("silent.mp4"))
    run_ffmpeg(["-i", str(source), "-vf", "scale=128:96", "-crf", "28", "-threads", "1", str(folder / "again.mp4")])
    assert curate.main(["--input", str(folder), "--output", str(run), *ONE_PROCESS]) == 1
    assert {row["reason"] for row in ledger(run, "clips")} == {"takedown"}


@pytest.mark.parametrize(("copies", "stays"), [("false", True), ("true", False)], ids=["alone", "with-copies"])
def test_what_a_copy_is_a_copy_of_goes_with_it_unless_told_otherwise(run: Path, copies: str, stays: bool) -> None:
    copy = next(row for row in ledger(run, "clips") if row["state"] == "duplicate")
    assert remove.main(["--run", str(run), copy["clip_id"], "--copies", copies]) == 0
    assert (copy["duplicate_of"] in members(run)) == stays


def test_a_dry_run_touches_nothing(run: Path, token_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, gone = tree(run), kept_of(run, "silent.mp4")[0]
    assert remove.main(["--run", str(run), gone, "--tokens", str(token_set), "--dry_run"]) == 0
    assert "would be gone: 1 clips" in capsys.readouterr().out
    assert tree(run) == before


def test_twice_is_once(run: Path) -> None:
    gone = kept_of(run, "silent.mp4")[0]
    assert remove.main(["--run", str(run), gone]) == 0
    once = tree(run)
    assert remove.main(["--run", str(run), gone]) == 0
    assert tree(run) == once


def kill_at(stop: str, args: list[str]) -> None:
    """Runs the command in a process that is killed just before a file with `stop` in its path gets its name."""
    code = (
        "import os, sys\n"
        "def hook(event, args):\n"
        f"    if event == 'os.rename' and {stop!r} in str(args[1]):\n        os.kill(os.getpid(), 9)\n"
        f"sys.addaudithook(hook)\nfrom beam_jobs.remove import main\nmain({args!r})\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=Path(__file__).parents[2], timeout=300)
    assert killed.returncode == -9


@pytest.mark.parametrize("stop", ["clips/clips-00000.tar", "ledger/clips-00000.parquet", "run.json"])
def test_killed_and_run_again_it_ends_as_if_nothing_had_been(run: Path, stop: str, tmp_path: Path) -> None:
    gone, other = kept_of(run, "silent.mp4")[0], shutil.copytree(run, tmp_path / "other")
    assert remove.main(["--run", str(other), gone]) == 0
    kill_at(stop, ["--run", str(run), gone])
    assert read_removals(str(run))
    assert remove.main(["--run", str(run), gone]) == 0
    assert tree(run) == tree(other)


def test_killed_and_curated_again_what_was_to_go_stays_away(run: Path, inputs: Path) -> None:
    gone = kept_of(run, "silent.mp4")[0]
    kill_at("run.json", ["--run", str(run), gone])
    assert not (run / "run.json").exists()
    assert curate.main(["--input", str(inputs), "--output", str(run), *ONE_PROCESS]) == 0
    assert gone not in members(run)


@pytest.mark.long
def test_killed_within_a_token_data_set(run: Path, token_set: Path, tmp_path: Path) -> None:
    gone = kept_of(run, "silent.mp4")[0]
    other, other_set = shutil.copytree(run, tmp_path / "other"), shutil.copytree(token_set, tmp_path / "other-set")
    assert remove.main(["--run", str(other), gone, "--tokens", str(other_set)]) == 0
    kill_at("dataset.json", ["--run", str(run), gone, "--tokens", str(token_set)])
    assert remove.main(["--run", str(run), gone, "--tokens", str(token_set)]) == 0
    assert tree(token_set) == tree(other_set)


def test_a_shard_of_which_nothing_is_left_goes(tmp_path: Path) -> None:
    write_tar(tmp_path / "clips" / "clips-00000.tar", [("aa.mp4", b"1"), ("aa.json", b"{}"), ("bb.mp4", b"2")])
    files = Products(str(tmp_path), "run.json")
    left = rewrite_shard(files, "clips/clips-00000.tar", ["aa"])
    assert left is not None and left[2] == 1
    assert [name for name, _ in read_tar(tmp_path / "clips" / "clips-00000.tar")] == ["bb.mp4"]
    assert rewrite_shard(files, "clips/clips-00000.tar", ["aa", "bb"]) is None
    assert not list((tmp_path / "clips").iterdir())


def test_a_manifest_of_ids_and_addresses(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent, edited = kept_of(run, "silent.mp4")[0], kept_of(run, "edited.mp4")[0]
    path = tmp_path / "takedowns.csv"
    path.write_text(f"clip_id,url\n{silent},\n{edited},\n,https://example.org/never-seen.mp4\n")
    assert remove.main(["--run", str(run), str(path)]) == 0
    assert not {silent, edited} & members(run)
    assert "https://example.org/never-seen.mp4" in {row.uri for row in read_removals(str(run)).rows}
    path.write_text("clip_id\n" + "f" * 20 + "\n")
    before = tree(run)
    with pytest.raises(ValueError, match=r"1 clip_id that the run does not have.*nothing was removed"):
        remove.main(["--run", str(run), str(path)])
    assert tree(run) == before


def test_targets_of_every_form(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc\n\n def \n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"source_id": "s"}) + "\n" + json.dumps({"path": "v.mp4"}) + "\n")
    (tmp_path / "c.csv").write_text("caption\na dog\n")
    assert read_targets(str(tmp_path / "a.txt"))[0][None] == {"abc", "def"}
    ids, addresses = read_targets(str(tmp_path / "b.jsonl"))
    assert (ids["sources"], addresses) == ({"s"}, {str(tmp_path / "v.mp4")})
    with pytest.raises(ValueError, match="row 1 has no clip_id"):
        read_targets(str(tmp_path / "c.csv"))


@pytest.mark.parametrize(
    ("args", "message"),
    [(["f" * 20], "has no source or clip"), (["."], "has no source or clip"), ([], "--target is missing")],
    ids=["unknown", "a-folder", "nothing"],
)
def test_wrong_usage(curated: Path, args: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        remove.main(["--run", str(curated), *args])


def test_folders_that_are_no_run_or_data_set(curated: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run\.json in"):
        remove.main(["--run", str(tmp_path), "abc"])
    with pytest.raises(FileNotFoundError, match=r"no dataset\.json in"):
        remove.main(["--run", str(curated), "abc", "--tokens", str(tmp_path)])
