"""Histories: what a name means, what is said of a source and of each kind of clip."""

import json
from pathlib import Path

import pytest

from curation.explain import main, text
from curation.find import find, nearest_ids
from curation.history import History, history
from schemas.identity import source_id
from schemas.records import Caption
from tests.curation.ledger_for_tests import KEPT, URI, copy_of, filtered, make_clip, padded, write_ledger

SLOW = filtered("shots", "min_motion", 0.3, 0.4)


@pytest.fixture
def run(tmp_path: Path) -> str:
    clips = [
        make_clip("aa1", KEPT, motion=0.5, luma=0.5),
        make_clip("aa2", SLOW, motion=0.3),
        make_clip("bb3", copy_of(padded("cc4")), motion=0.9),
        make_clip("cc4", copy_of(padded("aa1")), motion=0.9),
    ]
    settings = {"filters": {"min_motion": 0.4, "min_clip_score": 0.2}}
    write_ledger(tmp_path, clips, settings, {"clip_score": "run", "caption": "not run: no caption.model is set"})
    return str(tmp_path)


def section(found: History, name: str) -> dict[str, str]:
    return dict(dict(found.sections).get(name, []))


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ("aa1", "clips"),
        (padded("aa2"), "clips"),
        (source_id(URI)[:8], "sources"),
        (URI, "sources"),
        ("a.mp4", "sources"),
    ],
    ids=["prefix", "id", "source-prefix", "uri", "file-name"],
)
def test_what_a_name_means(run: str, wanted: str, kind: str) -> None:
    found, rows = find(run, wanted)
    assert found == kind
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("aa", "'aa' is not unique: clip aa1.*; clip aa2"),
        ("aa100000000000000009", "did you mean clip aa100000000000000000"),
        ("b.mp4", "has no source or clip 'b.mp4'; report.html"),
        (" ", "the id is empty"),
    ],
    ids=["not-unique", "near", "nothing", "empty"],
)
def test_a_name_that_means_nothing_or_several(run: str, wanted: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(run, wanted)


def test_nearest_ids_want_six_digits_in_ten(run: str) -> None:
    assert nearest_ids(run, "f" * 20) == []
    assert nearest_ids(run, "not an id") == []


def test_a_kept_clip(run: str) -> None:
    found = history(run, "aa1")
    assert [name for name, _ in found.sections] == [
        "input", "fetch", "clip", "scores", "caption", "verdict", "copies of it", "media",
    ]  # fmt: skip
    assert section(found, "scores")["motion"] == "0.5  (within min 0.4)"
    assert section(found, "scores")["luma"] == "0.5  (no limit)"
    assert section(found, "scores")["clip_score"].endswith("there was nothing to take")
    assert section(found, "caption")["text"] == "none: not run: no caption.model is set"
    assert section(found, "media") == {"shard": "clips/clips-00000.tar", "key": padded("aa1")}
    assert list(section(found, "copies of it")) == [padded("cc4")]


def test_a_clip_that_a_limit_stopped(run: str) -> None:
    found = history(run, "aa2")
    assert section(found, "scores")["motion"] == "0.3  (misses min 0.4)"
    assert "the clip ended before, filtered: shots/min_motion" in section(found, "scores")["clip_score"]
    assert section(found, "verdict")["score"] == "0.3 against 0.4"


def test_the_chain_of_copies_ends_at_the_original(run: str) -> None:
    assert list(section(history(run, "bb3"), "duplicate of")) == [padded("cc4"), padded("aa1")]


def test_a_source_lists_its_clips(run: str) -> None:
    found = history(run, URI)
    assert found.kind == "source"
    assert set(section(found, "clips")) == {padded(name) for name in ("aa1", "aa2", "bb3", "cc4")}
    assert section(found, "fetch")["sha256"] == "ab" * 32


def test_captions_do_not_command_the_terminal(tmp_path: Path) -> None:
    from dataclasses import replace

    clip = replace(make_clip("aa1"), caption=Caption("\x1b[2Jgone\nfake: line", "manifest", "ok"))
    write_ledger(tmp_path, [clip])
    shown = text(history(str(tmp_path), "aa1"))
    assert "\x1b" not in shown
    assert "gone fake: line" in shown


def test_the_command_prints_text_or_json(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", run, "aa1"]) == 0
    assert capsys.readouterr().out.startswith(f"clip {padded('aa1')}\n\ninput\n")
    assert main(["--run", run, "aa1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == padded("aa1")


def test_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no finished run"):
        history(str(tmp_path), "aa1")
