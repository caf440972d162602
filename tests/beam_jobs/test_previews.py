"""Which clips get a picture for the report."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from beam_jobs.previews import PER_SIDE, limit_names, near_limits
from curation.ledger_rows import CLIPS, row_groups
from curation.report_ledger import CLIP_COLUMNS, MAX_NEAR, ClipSums
from curation.settings import FilterSettings
from schemas.records import Clip, Verdict
from schemas.states import ClipState
from tests.curation.synthetic_run import make_clips, write_run

FILTERS = FilterSettings(min_motion=0.4, max_watermark=0.7)
CLIP = replace(make_clips(2)[1], scores={"motion": 2.0, "watermark": 0.1}, keyframe_sha256="ab", verdict=None)
PICK = (CLIP.clip_id, "ab")


@pytest.mark.parametrize(
    ("verdict", "want"),
    [
        (Verdict(ClipState.KEPT), [("kept/min_motion", (2.0, PICK)), ("kept/max_watermark", (-0.1, PICK))]),
        (Verdict(ClipState.FILTERED, "shots", "min_motion", 0.3, 0.4), [("filtered/min_motion", (-0.3, PICK))]),
        (
            Verdict(ClipState.FILTERED, "watermark", "max_watermark", 0.8, 0.7),
            [("filtered/max_watermark", (0.8, PICK))],
        ),
        (Verdict(ClipState.FILTERED, "shots", "too_short"), []),
        (Verdict(ClipState.DUPLICATE, "dedup", "near_duplicate", duplicate_of="x"), []),
        (None, []),
    ],
    ids=["kept", "below", "above", "without-a-score", "copy", "undecided"],
)
def test_a_clip_stands_beside_the_limits_it_tells_of(verdict: Verdict | None, want: list[object]) -> None:
    assert list(near_limits(replace(CLIP, verdict=verdict), FILTERS)) == want


def test_limits_that_are_on() -> None:
    names = limit_names(FILTERS)
    assert {"min_motion", "max_watermark"} <= set(names)
    assert all(getattr(FILTERS, name) is not None for name in names)


def test_the_job_keeps_the_pictures_that_the_report_shows(tmp_path: Path) -> None:
    clips = [replace(clip, keyframe_sha256="ab") for clip in make_clips(180)]
    write_run(tmp_path)
    groups = row_groups(str(tmp_path), CLIPS, CLIP_COLUMNS)
    shown = ClipSums(groups, 180, {"min_motion": 0.4, "max_watermark": 0.7}, ()).nearest
    kept: dict[str, list[tuple[float, tuple[str, str]]]] = defaultdict(list)
    for clip in clips:
        for key, ranked in near_limits(clip, FILTERS):
            kept[key].append(ranked)
    assert PER_SIDE >= MAX_NEAR
    assert len(shown) == 4
    for (state, name), found in shown.items():
        nearest = {pick[0] for _, pick in sorted(kept[f"{state}/{name}"])[:PER_SIDE]}
        assert {clip_id for _, clip_id in found} <= nearest


def test_no_clip_is_lost_for_having_no_scores() -> None:
    bare: Clip = replace(CLIP, scores={}, verdict=Verdict(ClipState.KEPT))
    assert list(near_limits(bare, FILTERS)) == []
