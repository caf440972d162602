"""Duplicates: which copies meet, which one stays, and that the order of arrival never matters."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.duplicates import (
    Fingerprinted,
    band_keys,
    best_source,
    exact_key,
    mean_distance,
    near_duplicates,
    quality,
    same_clip,
)
from schemas.records import Clip, Source, Span
from schemas.states import ClipState

HASHES = tuple(random.Random(0).getrandbits(64) for _ in range(10))  # five frames, and what moves there


def flipped(hashes, bits, seed=1):
    generator = random.Random(seed)
    return tuple(value ^ sum(1 << bit for bit in generator.sample(range(64), bits)) for value in hashes)


def make_clip(clip_id="c", source_id="s", **scores):
    return Clip(clip_id, source_id, "a.mp4", "0" * 64, Span(0, 48, 1, 24, 48), 0, scores=scores)


def test_equal_bytes_with_other_bounds_are_not_copies():
    first, second = Source("a", "a.mp4"), Source("b", "b.mp4", start_s=1.0)
    assert exact_key(first, "00") == exact_key(Source("c", "c.mp4"), "00")
    assert exact_key(first, "00") != exact_key(second, "00")
    assert exact_key(first, "00") != exact_key(first, "01")


def test_the_source_with_a_caption_is_kept():
    sources = [Source("a", "a.mp4"), Source("b", "b.mp4", caption="hello"), Source("c", "c.mp4")]
    assert best_source(sources).source_id == "b"
    assert best_source([sources[2], sources[0]]).source_id == "a"


def test_one_clip_id_is_kept_once():
    kept, copy = same_clip([make_clip(source_id="b"), make_clip(source_id="a")])
    assert kept.source_id == "a" and kept.verdict is None
    assert (copy.verdict.state, copy.verdict.reason, copy.verdict.duplicate_of) == (
        ClipState.DUPLICATE,
        "same_clip",
        "c",
    )


@pytest.mark.parametrize(
    ("frames", "motion", "distance"),
    [
        ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), 0.0),
        ((2, 4, 8, 12, 14), (0, 0, 0, 0, 0), 8.0),
        ((0, 0, 0, 0, 0), (2, 4, 8, 12, 14), 8.0),
        ((1, 1, 1, 1, 1), (2, 4, 8, 12, 15), 8.2),
        ((2, 4, 8, 12, 15), (1, 1, 1, 1, 1), 8.2),
    ],
    ids=["equal", "frames", "motion", "motion-apart", "frames-apart"],
)
def test_near_is_up_to_the_mean_distance_of_frames_and_of_motion(frames, motion, distance):
    copy = tuple(flipped([value], count)[0] for value, count in zip(HASHES, frames + motion, strict=True))
    assert mean_distance(HASHES, copy) == mean_distance(copy, HASHES) == distance
    clips = [Fingerprinted("a", HASHES, (1.0,)), Fingerprinted("b", copy, (0.0,))]
    assert near_duplicates(clips, 8.0) == ({"b": "a"} if distance <= 8 else {})


@pytest.mark.parametrize(
    ("still", "distance"), [(1, 16 / 5), (2, 32 / 5), (3, 48 / 5), (5, 16.0)], ids=["one", "two", "three", "all"]
)
def test_what_moves_in_one_clip_only_counts_as_half(still, distance):
    copy = HASHES[:5] + (0,) * still + HASHES[5 + still :]
    assert mean_distance(HASHES, copy) == mean_distance(copy, HASHES) == distance
    assert mean_distance(copy, copy) == 0


def test_three_flipped_bits_always_share_a_bucket():
    for seed in range(200):  # one frame and its motion
        assert set(band_keys(HASHES[:2])) & set(band_keys(flipped(HASHES[:2], 3, seed)))


def test_flat_pictures_meet_nobody():
    assert band_keys((0, 0)) == []
    assert near_duplicates([Fingerprinted("a", (0,) * 10, ()), Fingerprinted("b", (0,) * 10, ())], 8.0) == {}


def test_clips_with_unlike_numbers_of_hashes_are_not_compared():
    assert mean_distance(HASHES, HASHES[:4]) == mean_distance((), ()) == mean_distance((1,), (1,)) == 64.0


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"watermark": 0.1, "height": 100, "width": 100}, {"watermark": 0.9, "height": 1000, "width": 1000}),
        ({"height": 720, "width": 1280}, {"height": 360, "width": 640}),
        ({"height": 720, "width": 1280}, {"height": 720, "width": 1280, "letterbox": 0.25}),
        ({"height": 720, "width": 1280, "loudness_dbfs": -60.0}, {"height": 720, "width": 1280, "sharpness": 90.0}),
        ({"height": 720, "width": 1280, "sharpness": 90.0}, {"height": 720, "width": 1280, "sharpness": 80.0}),
    ],
    ids=["unmarked", "larger", "without-bars", "with-sound", "sharper"],
)
def test_the_best_copy(better, worse):
    assert quality(make_clip(**better)) > quality(make_clip(**worse))


@settings(deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_arrival_does_not_matter_and_copies_name_a_kept_clip(seed):
    generator = random.Random(seed)
    groups = [tuple(generator.getrandbits(64) for _ in range(4)) for _ in range(4)]
    clips = [
        Fingerprinted(f"{g}-{i}", flipped(hashes, generator.randrange(2), generator.random()), (float(i % 2),))
        for g, hashes in enumerate(groups)
        for i in range(3)
    ]
    found = near_duplicates(clips, 8.0)
    assert set(found) == {f"{g}-{i}" for g in range(4) for i in (0, 2)}  # the odd one is the better copy
    assert not set(found.values()) & set(found)
    assert all(copy[0] == kept[0] for copy, kept in found.items())
    generator.shuffle(clips)
    assert near_duplicates(clips, 8.0) == found
