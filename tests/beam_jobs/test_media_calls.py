"""Cutting in parts at once: which parts, and that they give what one pass gives."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_jobs.child import CHILDREN
from beam_jobs.media_calls import cut_clips, parts_of
from curation.settings import CURATE
from media.decode import decode_frames
from schemas.records import Clip, CutClip, Span
from tests.beam_jobs.media_for_tests import make_video
from tests.beam_jobs.records_for_tests import clip, source

SHOT = "testsrc2=size=64x48:rate=10:duration=2.4"


@pytest.fixture
def for_one() -> Iterator[None]:
    yield
    CHILDREN.for_one = 1


@pytest.mark.parametrize(
    ("lengths_s", "at_once", "expected"),
    [
        ([1] * 40, 1, [40]),
        ([1] * 15, 2, [15]),
        ([1] * 16, 2, [8, 8]),
        ([1] * 40, 2, [10, 10, 10, 10]),
        ([30, 1, 1, 1], 2, [1, 3]),
        ([100], 2, [1]),
        ([], 2, [0]),
    ],
    ids=["one at a time", "short", "two", "most", "uneven", "one clip", "none"],
)
def test_parts_last_about_equally_long(lengths_s: list[int], at_once: int, expected: list[int]) -> None:
    clips = [clip(source(), 0, length_s * 1000) for length_s in lengths_s]
    assert [len(part) for part in parts_of(clips, at_once)] == expected


def test_parts_that_are_cut_at_once_give_the_same_bytes(tmp_path: Path, for_one: None) -> None:
    path = tmp_path / "video.mp4"
    make_video(path, (SHOT,) * 8, tone=True)
    frames = list(decode_frames(path))
    base = frames[0].time_base
    clips = [
        Clip(f"c{k}", "s", "u", "h", Span(frames[k].pts, frames[k + 20].pts, base.numerator, base.denominator, 20), 0)
        for k in range(3, len(frames) - 20, 21)
    ]
    settings = CURATE.parse(["--input", str(path), "--output", str(tmp_path)])[0]
    assert len(parts_of(clips, 2)) > 1
    found = []
    for at_once in (1, 2):
        CHILDREN.for_one = at_once
        cuts = cut_clips(str(path), clips, str(tmp_path / f"cut-{at_once}"), settings)
        found.append([cut.sha256 for cut in cuts if isinstance(cut, CutClip)])
    assert len(found[0]) == len(clips) and found[0] == found[1]
