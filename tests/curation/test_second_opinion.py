"""Doubts of the cascade: what is one, where it is worth a dear answer, and that the answer takes its place."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.shot_doubts import plain_edit
from curation import transnet
from curation.second_opinion import (
    AROUND,
    MARGIN,
    MOST,
    SURE,
    UNSURE,
    SecondOpinion,
    densely_edited,
    runs_above,
    windows,
)
from tests.curation.pictures import dissolve, scene

HIGH, LOW = (SURE + 1) / 2, (SURE + UNSURE) / 2  # a sure peak, a doubt


def head(length, peaks=(), doubts=()):
    middle = np.zeros(length, np.float32)
    middle[list(peaks)] = HIGH
    for first, last in doubts:
        middle[first:last] = LOW
    return middle


@pytest.fixture(scope="module")
def small_frames():
    """900 frames of 27 × 48: a new scene every 45, told apart by colour and pattern."""
    return np.concatenate([scene(45, seed)[:, ::2, ::2][:, :27, :48] for seed in range(20)])


@pytest.mark.parametrize(
    ("values", "gap", "expected"),
    [
        ([0, 0, 0], 1, []),
        ([1, 0, 0], 1, [(0, 1)]),
        ([0, 1, 0, 1, 1], 0, [(1, 2), (3, 5)]),
        ([0, 1, 0, 1, 1], 1, [(1, 5)]),
        ([1, 0, 0, 1], 1, [(0, 1), (3, 4)]),
    ],
    ids=["none", "at the start", "parted", "joined", "too far"],
)
def test_runs_above_a_limit(values, gap, expected):
    assert runs_above(np.array(values), 0.5, gap) == expected


@pytest.mark.parametrize(
    ("doubts", "expected"),
    [
        ([], []),
        ([(100, 110)], [((96, 114), [(96, 114)])]),
        ([(100, 110), (120, 140)], [((96, 144), [(96, 114), (116, 144)])]),
        ([(100, 110), (120, 150)], [((96, 114), [(96, 114)]), ((116, 154), [(116, 154)])]),
        ([(100, 190)], [((96, 146), [(96, 146)]), ((146, 194), [(146, 194)])]),
        ([(0, 10), (195, 200)], [((0, 14), [(0, 14)]), ((191, 200), [(191, 200)])]),
    ],
    ids=["none", "one", "two in one window", "two windows", "longer than a window", "at the ends"],
)
def test_doubts_share_windows(doubts, expected):
    assert windows(doubts, 200) == expected


@pytest.mark.parametrize(
    ("length", "peaks", "doubt", "dense"),
    [
        (2000, range(800, 1200, 100), (1030, 1040), True),
        (2000, range(800, 1100, 100), (1030, 1040), False),
        (2000, range(0, 700, 100), (1000, 1010), False),
        (2000, range(290, 510, 60), (10, 20), True),  # at the start, what comes later counts for what is missing
        (2000, range(1500, 1720, 60), (1980, 1990), True),
        (300, range(50, 250, 50), (20, 25), True),
        (300, [100], (20, 25), False),
    ],
    ids=["dense", "one too few", "far away", "start", "end", "short and dense", "short"],
)
def test_doubts_count_where_footage_is_densely_edited(length, peaks, doubt, dense):
    assert densely_edited(head(length, peaks, [doubt]), doubt) is dense


def test_nothing_is_asked_where_nothing_is_in_doubt_or_cuts_are_rare():
    for middle in (head(900, range(20, 900, 45)), head(900, [300, 600], [(400, 410)]), head(0)):
        second, untouched = SecondOpinion(), middle.copy()
        second.follow(middle, middle, lambda index: pytest.fail(f"frame {index} was looked at"), whole=True)
        second.give(middle, middle)
        assert np.array_equal(middle, untouched)


def test_the_answer_takes_the_place_of_the_doubt_and_does_not_depend_on_when_it_is_asked_for(small_frames):
    cuts = [cut for cut in range(44, 899, 45) if cut != 404]
    middle = head(900, cuts, [(403, 406), (428, 432)])  # a cut that is there, and one that is not
    given = []
    for steps in ([900], [*range(320, 900, 320), 900]):
        second, extent = SecondOpinion(), np.zeros(900, np.float32)
        for known in steps:
            second.follow(
                middle[:known], extent[:known], lambda index: small_frames[min(max(index, 0), 899)], whole=known == 900
            )
        assert second.oldest_needed >= 900 - AROUND - MOST - 2 * MARGIN
        after = middle.copy()
        second.give(after, extent)
        given.append((after, extent))
    assert all(np.array_equal(one, other) for one, other in zip(*given, strict=True))
    found = transnet.boundaries_from(*given[0], 0.5)
    assert [first for first, _ in found] == [cut + 1 for cut in sorted([*cuts, 404])]
    assert all(last - first <= 2 for first, last in found)
    assert given[0][0][428:432].max() < 0.5 and np.array_equal(given[0][0][440:], middle[440:])


def test_a_dissolve_is_marked_beyond_what_was_in_doubt():
    frames = dissolve(scene(60, 1), scene(60, 2), 20)[:, ::2, ::2][:, :27, :48]  # mixed frames 40–59
    middle = head(100, range(4, 24, 5), [(48, 52)])
    extent = np.zeros(100, np.float32)
    second = SecondOpinion()
    second.follow(middle, extent, lambda index: frames[min(max(index, 0), 99)], whole=True)
    second.give(middle, extent)
    first, last = transnet.boundaries_from(middle, extent, 0.5)[-1]
    assert 38 <= first <= 43 and 57 <= last <= 62


def test_plain_edits_say_where_their_shots_change():
    clips = [np.full((100, 27, 48, 3), value, np.uint8) for value in (40, 90, 140, 190)]
    frames, events = plain_edit(clips, np.random.default_rng(0))
    again, _ = plain_edit(clips, np.random.default_rng(0))
    assert np.array_equal(frames, again) and len(frames) >= 500
    assert {last - first for first, last in events} <= {0, 8, 12, 16, 24}
    assert all(before[1] < after[0] for before, after in pairwise(events))
    level = frames[:, 0, 0, 0].astype(int)
    changed = np.flatnonzero(np.diff(level))
    inside = [gap for gap in changed if any(first - 1 <= gap <= last for first, last in events)]
    assert len(changed) > 20 and len(inside) == len(changed)
