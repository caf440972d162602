"""Shot detectors on pictures with known cuts, and candidate stretches from boundaries."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector, HashDetector, HistogramDetector

from benchmarks.shot_detection import measure_dense
from curation.settings import DETECTORS, ClipSettings, ShotSettings
from curation.shots import (
    Boundary,
    detector_fingerprint,
    find_shots,
    find_stretches,
    make_detector,
    merge_runs,
    to_span,
)
from curation.transnet import boundaries_from
from tests.curation.pictures import dissolve, scene


def detect(frames, **settings):
    detector = make_detector(ShotSettings(**settings))
    for frame in frames:
        detector.push(frame)
    return detector.finish()


@pytest.fixture(scope="module")
def edited():
    """Three scenes: a hard cut at frame 14, another at 33."""
    return np.concatenate([scene(14, 1), scene(19, 2), scene(17, 3)])


@pytest.mark.parametrize("detector", ["cascade", "adaptive", "content", "hash", "transnetv2"])
def test_hard_cuts_are_found_on_the_frame(edited, detector):
    assert detect(edited, detector=detector) == [(14, 14), (33, 33)]


def test_histogram_finds_the_cuts_among_others(edited):
    assert {(14, 14), (33, 33)} <= set(detect(edited, detector="histogram", threshold=0.3))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adaptive", AdaptiveDetector(min_scene_len=0)),
        ("content", ContentDetector(min_scene_len=0)),
        ("histogram", HistogramDetector(min_scene_len=0)),
        ("hash", HashDetector(min_scene_len=0)),
    ],
    ids=["adaptive", "content", "histogram", "hash"],
)
def test_detectors_agree_with_the_library_called_directly(edited, name, reference):
    cuts = []
    for index, frame in enumerate(edited):
        cuts += [cut.frame_num for cut in reference.process_frame(FrameTimecode(index, 24.0), frame[..., ::-1].copy())]
    assert detect(edited, detector=name) == merge_runs([cut for cut in cuts if cut])


def test_a_fade_through_black_is_one_boundary_over_the_dark_frames():
    down, up = np.linspace(1, 0, 10), np.linspace(0, 1, 10)
    first, second = scene(40, 1).astype(float), scene(40, 2).astype(float)
    first[-10:] *= down[:, None, None, None]
    second[:10] *= up[:, None, None, None]
    ((begin, end),) = detect(np.concatenate([first, second]).astype(np.uint8), detector="threshold")
    assert 36 <= begin < 40 < end <= 44


@pytest.mark.parametrize("detector", ["cascade", "transnetv2"])
def test_networks_mark_the_extent_of_a_dissolve(detector):
    frames = dissolve(scene(32, 1), scene(32, 2), 14)  # mixed frames 18–31
    ((first, last),) = detect(frames, detector=detector)
    assert 16 <= first <= 21 and 29 <= last <= 34


@pytest.mark.parametrize("detector", DETECTORS)
def test_no_frames_and_one_frame_have_no_boundary(detector):
    assert detect([], detector=detector) == []
    if detector != "transnetv2":  # which takes seconds for each window
        assert detect(scene(1, 0), detector=detector) == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_fingerprints_name_what_decides(detector):
    assert len(detector_fingerprint(ShotSettings(detector=detector))) > 8


@pytest.mark.parametrize(
    ("single", "many", "expected"),
    [
        ([0, 0, 0.9, 0, 0], [0, 0, 0.9, 0, 0], [(3, 3)]),
        ([0, 0, 0.9, 0, 0, 0], [0, 0.9, 0.9, 0.9, 0, 0], [(2, 4)]),
        ([0.9, 0, 0, 0, 0.9], [0.9, 0, 0, 0, 0.9], [(1, 1)]),
        ([0, 0.9, 0.9, 0, 0], [0, 0, 0, 0, 0], [(2, 3)]),
        ([0, 0, 0], [0.9, 0.9, 0.9], []),
    ],
    ids=["hard", "gradual", "last-frame", "no-extent", "extent-alone"],
)
def test_boundaries_from_the_two_heads(single, many, expected):
    assert boundaries_from(np.array(single), np.array(many), 0.5) == expected


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        ([], []),
        ([5], [(5, 5)]),
        ([5, 6, 7, 20], [(5, 7), (20, 20)]),
        ([5, 7, 10], [(5, 7), (10, 10)]),
        ([6, 5, 5], [(5, 6)]),
    ],
    ids=["none", "one", "run", "gap", "order"],
)
def test_runs_of_cuts_are_one_transition(cuts, expected):
    assert merge_runs(cuts) == expected


def test_close_cuts_join_where_a_minimum_is_set():
    times = np.arange(100) / 10
    assert find_shots([(10, 10), (14, 15), (50, 50)], times) == [Boundary(10, 10), Boundary(14, 15), Boundary(50, 50)]
    assert find_shots([(10, 10), (14, 15), (50, 50)], times, 0.5) == [Boundary(10, 15), Boundary(50, 50)]


def stretches(boundaries, pts, end_pts=None, time_base=1 / 24, **settings):
    end = pts[-1] + 1 if end_pts is None else end_pts
    found = find_stretches([Boundary(*b) for b in boundaries], pts, end, time_base, ClipSettings(**settings))
    return [(s.first, s.last, s.shot_index) for s in found]


def test_trimming_by_frames_at_cuts_and_past_the_whole_of_a_dissolve():
    found = stretches([(20, 20), (50, 60)], range(100), trim_frames=1, trim_gradual_frames=3)
    assert found == [(0, 19, 0), (21, 47, 1), (63, 100, 2)]


def test_a_shot_that_trimming_empties_is_none():
    assert stretches([(20, 20), (22, 22)], range(50), trim_frames=1) == [(0, 19, 0), (23, 50, 2)]


def test_long_shots_are_split_into_equal_parts():
    found = stretches([], range(240), min_duration_s=1.0, max_duration_s=4.0)
    assert [last - first for first, last, _ in found] == [80, 80, 80]
    assert [index for *_, index in found] == [0, 0, 0]


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=200),
    st.sets(st.integers(1, 199), max_size=8),
    st.sampled_from([None, 2.0, 0.5]),
)
def test_stretches_are_in_order_apart_and_no_longer_than_allowed(steps, cuts, longest):
    pts = np.cumsum(steps).tolist()
    end = pts[-1] + 5
    boundaries = [Boundary(cut, cut) for cut in sorted(cuts) if cut < len(pts)]
    settings = ClipSettings(min_duration_s=0.0, max_duration_s=longest, trim_frames=0)
    found = find_stretches(boundaries, pts, end, 1 / 24, settings)
    assert sum(s.last - s.first for s in found) == len(pts)  # without trims nothing is lost
    assert all(a.last <= b.first for a, b in pairwise(found))
    for stretch in found:
        span = to_span(stretch, pts, end, 1, 24)
        assert span.num_frames == sum(span.start_pts <= tick < span.end_pts for tick in pts)
        assert longest is None or span.duration_s <= longest + 1e-9 or span.num_frames == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("detector", "least"),
    [
        ("adaptive", {"f1": 0.85, "gradual": 0.3}),
        ("histogram", {"f1": 0.85, "gradual": 0.9}),
        ("cascade", {"f1": 0.98, "gradual": 0.95, "pure": 0.98, "kept": 0.9}),
    ],
)
def test_real_edits(shared_data, detector, least):
    """Boundaries and clips on the 11 edited videos of the development media, of which no detector has learnt."""
    tallies, _ = measure_dense(shared_data, [detector])
    tally = tallies[detector]
    assert tally.total == 164
    for name, value in least.items():
        assert getattr(tally, name) >= value, name
