"""Videos added later add shards and rename none; what makes another data set is planned anew."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs import tokenize_job
from beam_jobs.curate import main
from beam_jobs.products import Products
from beam_jobs.standing import NOTHING_STANDS, read_standing, same_settings, standing
from media.parquet import read_parquet
from media.shard_plan import generation_of, shard_name
from media.tar import read_samples
from tests.beam_jobs.media_for_tests import make_video
from tests.beam_jobs.runs import ONE_PROCESS, command, environment, ledger, tree
from training.shards import ShardDataset

LATER = {
    "later.mp4": ("life=size=160x120:rate=10:seed=7:mold=10:ratio=0.2,trim=duration=2.4",),
    "last.mp4": ("cellauto=size=160x120:rate=10:seed=3,trim=duration=2.4",),
}

Grow = Callable[..., Path]


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos that are not among the first inputs."""
    folder = tmp_path_factory.mktemp("later")
    for name, shots in LATER.items():
        make_video(folder / name, shots, tone=False)
    return folder


@pytest.fixture
def grow(curated: Path, inputs: Path, later: Path, tmp_path: Path) -> Grow:
    """Curates the first inputs and some of the later ones into a folder: by default a copy of the first run."""

    def call(extra: Iterable[str], *flags: str, run: Path | None = None, without: str = "") -> Path:
        if run is None:
            run = Path(shutil.copytree(curated, tmp_path / "run"))
        paths = [path for path in sorted(inputs.iterdir()) if path.name != without] + [later / name for name in extra]
        manifest = tmp_path / "manifest.csv"
        manifest.write_text("path\n" + "".join(f"{path}\n" for path in paths))
        assert main(["--input", str(manifest), "--output", str(run), *ONE_PROCESS, *flags]) == 0
        return run

    return call


def shards(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "clips").iterdir())}


def keys(run: Path) -> list[str]:
    return [key for path in sorted((run / "clips").iterdir()) for key, _ in read_samples(path)]


def test_later_videos_add_shards_and_change_none(curated: Path, grow: Grow) -> None:
    first = shards(curated)
    run = grow(["later.mp4"])
    second = shards(run)
    assert {name: second[name] for name in first} == first
    assert sorted(second.keys() - first.keys()) == ["clips-g01-00000.tar"]
    kept = {row["clip_id"]: row["shard"] for row in ledger(run, "clips") if row["state"] == "kept"}
    assert sorted(keys(run)) == sorted(kept)
    assert {Path(row["uri"]).name for row in ledger(run, "clips") if row["shard"] == "clips-g01-00000.tar"} == {
        "later.mp4"
    }
    assert [shard["name"] for shard in json.loads((run / "run.json").read_text())["shards"]] == sorted(second)
    assert {f"clips/{name}" for name in second} <= {
        each["@id"] for each in json.loads((run / "croissant.json").read_text())["distribution"]
    }
    before = tree(run)
    assert tree(grow(["later.mp4"], run=run)) == before
    third = shards(grow(["later.mp4", "last.mp4"], run=run))
    assert {name: third[name] for name in second} == second
    assert sorted(third.keys() - second.keys()) == ["clips-g02-00000.tar"]


def test_a_video_that_is_gone_leaves_its_shard_and_no_other(curated: Path, grow: Grow) -> None:
    run = grow(["later.mp4"])
    grown = shards(run)
    smaller = shards(grow(["later.mp4"], run=run, without="silent.mp4"))
    assert smaller["clips-g01-00000.tar"] == grown["clips-g01-00000.tar"]
    assert smaller.keys() == grown.keys()
    gone = {row["clip_id"] for row in ledger(curated, "clips") if Path(row["uri"]).name == "silent.mp4"}
    assert sorted(keys(run)) == sorted(
        {row["clip_id"] for row in ledger(run, "clips") if row["state"] == "kept"} - gone
    )
    emptied = shards(grow([], run=run, without="silent.mp4"))
    assert sorted(emptied) == ["clips-00000.tar"]
    assert emptied["clips-00000.tar"] == smaller["clips-00000.tar"]


def test_other_limits_plan_all_anew(grow: Grow, tmp_path: Path) -> None:
    flags = ["--filters.max_motion", "1e9"]
    grown = grow(["later.mp4"])
    assert sorted(shards(grown)) == ["clips-00000.tar", "clips-g01-00000.tar"]
    fresh = grow(["later.mp4"], *flags, run=tmp_path / "fresh")
    assert tree(grow(["later.mp4"], *flags, run=grown)) == tree(fresh)


def test_a_run_that_was_stopped_goes_on_from_what_stood_before_it(grow: Grow) -> None:
    run = grow(["later.mp4"])
    want = tree(run)
    (run / "run.json").unlink()
    (run / "clips" / "clips-g01-00000.tar").unlink()
    for path in (run / "ledger").iterdir():
        path.unlink()
    assert tree(grow(["later.mp4"], run=run)) == want


def kill_when(path: Path, args: list[str], cwd: Path) -> None:
    """Starts a command and kills it, with its processes, as soon as a file is there."""
    process = subprocess.Popen(command(*args), cwd=cwd, env=environment(), start_new_session=True)
    while not path.exists() and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.long
def test_killed_while_it_adds_a_generation(grow: Grow, tmp_path: Path) -> None:
    run = grow(["later.mp4"])
    want = tree(run)
    shutil.rmtree(run)
    shutil.copytree(grow([], run=tmp_path / "first"), run)
    grow(["later.mp4"], run=tmp_path / "elsewhere")  # leaves the manifest with the later video
    args = ["curate", "--input", "manifest.csv", "--output", "run", *ONE_PROCESS]
    kill_when(run / ".work" / "products" / "clips__clips-g01-00000.tar.json", args, tmp_path)
    assert tree(grow(["later.mp4"], run=run)) == want


def test_token_shards_grow_likewise(
    grow: Grow, tokens: Path, model_flags: list[str], tmp_path: Path, inputs: Path
) -> None:
    folder, run = Path(shutil.copytree(tokens, tmp_path / "tokens")), grow(["later.mp4", "last.mp4"])
    first = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    args = ["--input", str(run), "--output", str(folder), *model_flags, *ONE_PROCESS]
    assert tokenize_job.main(args) == 0
    second = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    assert {name: second[name] for name in first} == first
    added = second.keys() - first.keys()
    assert added and all(generation_of(name) == 1 for name in added)
    rows = read_parquet(str(folder / "samples-*.parquet")).to_pylist()
    assert sum(len(ShardDataset(folder, split=split)) for split in {row["split"] for row in rows}) == len(rows)
    assert {row["shard"] for row in rows} == set(second)
    before = tree(folder)
    assert tokenize_job.main(args) == 0
    assert tree(folder) == before


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1, "input": "x"}, {"a": 1, "input": "y"}, True),
        ({"a": {"b": [1, 2]}}, {"a": {"b": (1, 2)}}, True),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, False),
        ({"a": 1}, {"a": 1, "new": 5}, True),
        ({"a": None}, {"a": {"b": 1}}, False),
    ],
    ids=["equal", "input", "tuple", "nested", "added", "switched-on"],
)
def test_same_settings(before: dict[str, object], now: dict[str, object], same: bool) -> None:
    assert same_settings(before, now) is same


@pytest.mark.parametrize(
    ("name", "generation"),
    [("clips-00012.tar", 0), ("clips-g01-00000.tar", 1), ("val-g12-100000.tar", 12), ("g07-00000.tar", 0)],
)
def test_generations_of_names(name: str, generation: int) -> None:
    assert generation_of(name) == generation


def test_names_sort_in_order_and_later_generations_rename_none() -> None:
    names = [shard_name("train", 0), shard_name("train", 11), shard_name("train", 0, generation=1)]
    assert names == ["train-00000.tar", "train-00011.tar", "train-g01-00000.tar"]
    assert names == sorted(names)


def test_places_are_kept_until_the_manifest_says_otherwise(tmp_path: Path) -> None:
    files = Products(str(tmp_path), "dataset.json")

    def write(places: dict[str, str], seed: int) -> None:
        table = pa.table({"key": list(places), "shard": list(places.values()), "split": ["train"] * len(places)})
        pq.write_table(table, tmp_path / "samples-00000.parquet")
        (tmp_path / "dataset.json").write_text(json.dumps({"settings": {"seed": seed}, "samples": list(places)}))

    def places(seed: int = 0) -> dict[str, str]:
        found = standing(files, "samples-*.parquet", "key", {"seed": seed})
        return {key: shard for part in found.parts for key, shard in read_standing(part)}

    assert standing(files, "samples-*.parquet", "key", {"seed": 0}) == NOTHING_STANDS
    write({"a": "train-00000.tar", "b": "train-g02-00000.tar"}, 0)
    assert standing(files, "samples-*.parquet", "key", {"seed": 0}).generation == 3
    assert places() == {"a": "train-00000.tar", "b": "train-g02-00000.tar"}
    assert places(seed=1) == {}
    (tmp_path / "dataset.json").unlink()
    (tmp_path / "samples-00000.parquet").unlink()
    assert places() == {"a": "train-00000.tar", "b": "train-g02-00000.tar"}
    write({"c": "val-00000.tar"}, 0)
    assert places() == {"c": "val-00000.tar"}
    assert len(list((tmp_path / ".work" / "standing").glob("*.parquet"))) == 1
