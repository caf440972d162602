"""The data-set card: what it says, that it names every file, and that equal runs give equal bytes."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.card import UNKNOWN_LICENSE, build_card, card, licenses, name_of
from curation.report import build_report
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.run import ClipShard, RunInfo
from tests.curation.ledger_for_tests import KEPT, filtered, make_clip, write_ledger
from tests.curation.synthetic_run import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), 24)


def read(run: Path) -> dict:
    return json.loads(Path(build_card(str(run))).read_text())


def by_id(nodes: list[dict]) -> dict[str, dict]:
    return {node["@id"]: node for node in nodes}


def test_shards_and_ledger_are_named_by_their_hash(run: Path) -> None:
    files = by_id(read(run)["distribution"])
    ledger = (run / "ledger" / "clips-00000.parquet").read_bytes()
    assert files["clips/clips-00000.tar"]["sha256"] == "cd" * 32
    assert files["ledger/clips-00000.parquet"]["sha256"] == hashlib.sha256(ledger).hexdigest()
    assert files["ledger/clips-00000.parquet"]["contentSize"] == f"{len(ledger)} B"
    assert files["clips-mp4"]["containedIn"] == [{"@id": "clips/clips-00000.tar"}]


def test_every_column_of_the_ledger_is_a_field_that_can_be_read(run: Path) -> None:
    sets = by_id(read(run)["recordSet"])
    for kind, schema in (("clips", CLIPS_SCHEMA), ("sources", SOURCES_SCHEMA)):
        fields = sets[kind]["field"]
        assert [field["source"]["extract"]["column"] for field in fields] == schema.names
        (part,) = {field["source"]["fileObject"]["@id"] for field in fields}
        assert pq.read_schema(run / part).names == schema.names
    motion = by_id(sets["clips"]["field"])["clips/score_motion"]
    assert motion["dataType"] == "sc:Float"
    assert motion["description"].startswith("mean absolute luma change")


def test_what_people_read(run: Path) -> None:
    found = read(run)
    assert found["@type"] == "sc:Dataset"
    assert found["name"] == "videos"
    assert "Limits: max_watermark 0.7, min_motion 0.4." in found["description"]
    assert found["license"] == [UNKNOWN_LICENSE]


def test_equal_runs_give_equal_bytes_and_the_report_makes_it_too(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "elsewhere", 24)
    build_report(str(other))
    assert (other / "croissant.json").read_bytes() == Path(build_card(str(run))).read_bytes()


def test_licences_are_those_of_kept_clips(tmp_path: Path) -> None:
    slow = filtered("shots", "min_motion", 0.1, 0.4)
    clips = [
        replace(make_clip("a", KEPT), license="CC-BY-4.0"),
        make_clip("b", KEPT),
        replace(make_clip("c", slow), license="all rights reserved"),
    ]
    write_ledger(tmp_path, clips)
    assert licenses(str(tmp_path)) == ["CC-BY-4.0", UNKNOWN_LICENSE]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("data/my clips.csv", "my-clips"),
        ("gs://bucket/set.parquet", "set"),
        ("", "curated-clips"),
        ("a/*", "curated-clips"),
    ],
    ids=["spaces", "url", "none", "glob"],
)
def test_the_name_is_that_of_the_input(given: str, name: str) -> None:
    assert name_of(RunInfo("curate", {"input": given}, {}, {}, {}, {}, [])) == name


def test_a_ledger_in_parts_has_a_record_set_for_each_part() -> None:
    run = RunInfo("curate", {}, {}, {}, {}, {}, [ClipShard("clips-00000.tar", 1, 2, "00" * 32)])
    parts = {f"ledger/clips-0000{index}.parquet": (1, "00" * 32) for index in range(2)}
    found = card(run, parts, [])
    assert [node["name"] for node in found["recordSet"]] == ["clips-00000", "clips-00001"]
    identities = [node["@id"] for node in (*found["distribution"], *found["recordSet"])]
    assert len(set(identities)) == len(identities)
