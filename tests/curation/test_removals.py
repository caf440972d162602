"""Tombstones: what they bar, what they leave alone, and what is kept of what they barred."""

from dataclasses import replace
from pathlib import Path

import pytest

from curation.removals import (
    Removals,
    hash_words,
    hashes_of,
    read_removals,
    removed_clip,
    removed_clip_row,
    removed_source_row,
    write_removals,
)
from schemas.identity import source_id
from schemas.records import Caption, Clip, Source, Span, clip_row
from schemas.removals import RemovedRow
from tests.curation.ledger_for_tests import CONTENT, URI, make_clip, padded

OTHER = "cd" * 32
LOOKS = tuple(0x0123456789ABCDEF * (index + 1) % 2**64 for index in range(10))
WHOLE = RemovedRow("source", source_id(URI), URI, CONTENT, None, None, None, "asked")
PART = replace(WHOLE, removed_id=source_id(URI, 2.0, 4.0), start_s=2.0, end_s=4.0)
CLIP = RemovedRow("clip", padded("1"), URI, CONTENT, 0.0, 1.0, hash_words(LOOKS), "asked")


def source(uri: str = URI, start_s: float | None = None, end_s: float | None = None) -> Source:
    return Source(source_id(uri, start_s, end_s), uri, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize(
    ("row", "given", "content", "barred"),
    [
        pytest.param(WHOLE, source(), None, True, id="by-id"),
        pytest.param(WHOLE, source(start_s=1.0), None, True, id="a-part-of-its-address"),
        pytest.param(WHOLE, source("b.mp4"), CONTENT, True, id="its-content-elsewhere"),
        pytest.param(WHOLE, source("b.mp4"), OTHER, False, id="other-content"),
        pytest.param(WHOLE, source("b.mp4"), None, False, id="other-address"),
        pytest.param(PART, source(start_s=2.5, end_s=3.0), None, True, id="within-its-bounds"),
        pytest.param(PART, source(start_s=2.5), None, False, id="beyond-its-bounds"),
        pytest.param(PART, source(), CONTENT, False, id="more-than-its-bounds"),
        pytest.param(CLIP, source(), CONTENT, False, id="a-clip-bars-no-source"),
    ],
)
def test_sources(row: RemovedRow, given: Source, content: str | None, barred: bool) -> None:
    assert (Removals((row,)).source(given, content) is not None) == barred


def clip(name: str, content: str = CONTENT, start: int = 0, end: int = 24, phash: tuple[int, ...] = ()) -> Clip:
    span = Span(start, end, 1, 24, end - start)
    return replace(make_clip(name), content_sha256=content, span=span, phash=phash)


@pytest.mark.parametrize(
    ("given", "barred"),
    [
        (clip("1", OTHER), True),
        (clip("2", start=12, end=36), True),
        (clip("2", start=24, end=48), False),
        (clip("2", OTHER), False),
        (clip("2", OTHER, phash=(LOOKS[0] ^ 0b111, *LOOKS[1:])), True),
        (clip("2", OTHER, phash=tuple(value ^ 0xFFFFFFFF for value in LOOKS)), False),
    ],
    ids=["by-id", "overlap", "next-to-it", "other", "looks-like-it", "looks-unlike-it"],
)
def test_clips(given: Clip, barred: bool) -> None:
    assert (Removals((CLIP,), near_distance=8.0).clip(given) is not None) == barred


def test_looks_count_only_where_near_copies_do() -> None:
    given = clip("2", OTHER, phash=LOOKS)
    assert Removals((CLIP,), near_distance=8.0).clip(given) == CLIP
    assert Removals((CLIP,)).clip(given) is None


def test_a_source_bars_its_clips_under_any_settings() -> None:
    assert Removals((WHOLE,)).clip(clip("9", start=240, end=480)) == WHOLE
    assert Removals((PART,)).clip(clip("9", start=96, end=120)) is None


def test_what_is_kept_of_a_clip_is_the_same_from_the_clip_and_from_its_row() -> None:
    given = clip("1").with_scores(motion=1.0, clip_score=0.3, caption_words=2.0)
    given = replace(given, caption=Caption("a dog", "manifest", "ok"), keyframe_sha256="ef" * 32)
    ended = removed_clip(given, CLIP)
    assert ended.scores == {"motion": 1.0}
    assert not ended.keyframe_sha256
    row = removed_clip_row(clip_row(given, "clips-00000.tar"), CLIP)
    assert {name: value for name, value in row.items() if value is not None} == {
        name: value for name, value in clip_row(ended).items() if value is not None
    }
    assert (row["state"], row["stage"], row["reason"], row["caption"]) == ("filtered", "removed", "takedown", None)
    assert removed_clip_row(row, CLIP) == row


def test_of_a_source_nothing_is_kept_but_that_it_was_there() -> None:
    row = removed_source_row(source(), WHOLE)
    assert (row.state, row.stage, row.reason, row.content_sha256) == ("done", "removed", "takedown", None)


def test_tombstones_survive_the_disk_in_any_order(tmp_path: Path) -> None:
    assert not read_removals(str(tmp_path))
    write_removals(str(tmp_path), [CLIP, WHOLE, CLIP])
    first = (tmp_path / "ledger" / "removed-00000.parquet").read_bytes()
    assert read_removals(str(tmp_path)).rows == (CLIP, WHOLE)
    write_removals(str(tmp_path), [WHOLE, CLIP])
    assert (tmp_path / "ledger" / "removed-00000.parquet").read_bytes() == first


@pytest.mark.parametrize("phash", [(), LOOKS], ids=["none", "ten"])
def test_hashes_as_words(phash: tuple[int, ...]) -> None:
    assert hashes_of(hash_words(phash)) == phash
