"""Perceptual hashes: what they do not see, and what they tell apart."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from curation.measurements import Measurements
from curation.phash import borders, distance, motion_hash, phash, reduced
from tests.curation.pictures import scene


def picture(seed: int) -> np.ndarray:
    return cv2.cvtColor(scene(1, seed, 144, 256)[0], cv2.COLOR_RGB2GRAY)


def of(gray: np.ndarray) -> int:
    return phash(reduced(gray, borders(gray)))


@pytest.mark.parametrize(
    "change",
    [
        lambda p: cv2.resize(p, (128, 72), interpolation=cv2.INTER_AREA),
        lambda p: np.pad(p, ((30, 30), (0, 0))),
        lambda p: np.pad(p, ((0, 0), (40, 40))),
        lambda p: cv2.imdecode(cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_GRAYSCALE),
        lambda p: np.clip(p * 0.8 + 20, 0, 255).astype(np.uint8),
    ],
    ids=["half-size", "letterbox", "pillarbox", "re-encoded", "brighter"],
)
def test_a_copy_has_nearly_the_same_hash_and_another_picture_has_not(change):
    first = picture(1)
    assert distance(of(first), of(change(first))) <= 8
    assert distance(of(first), of(picture(2))) > 16


def test_flat_pictures_and_what_stands_have_no_hash():
    flat = np.full((60, 80), 90, np.uint8)
    assert of(flat) == 0
    small = reduced(picture(1))
    assert motion_hash(small, small.astype(np.float64)) == 0


def test_motion_is_the_same_under_a_mark_and_another_in_another_take():
    takes = scene(30, 3, 144, 256, 4), scene(30, 4, 144, 256, 4)
    marked = takes[0].copy()
    marked[:, 100:130, 20:200] = 255

    def moving(frames: np.ndarray) -> list[int]:
        small = [reduced(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in frames]
        mean = np.mean(small, axis=0)
        return [motion_hash(each, mean) for each in small[::6]]

    bits = [np.mean(list(map(distance, moving(takes[0]), moving(other)))) for other in (marked, takes[1])]
    assert bits[0] < 14 < 20 < bits[1]


def test_hashes_of_a_stretch_are_those_of_its_frames_then_of_its_motion():
    measurements = Measurements()
    frames = scene(24, 5, 72, 128, 3)
    for index, frame in enumerate(frames):
        measurements.push(frame, index, Fraction(1, 8))
    hashes = measurements.hashes(0, 24, 3)
    small = [reduced(gray, borders(gray)) for gray in (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames)]
    picked = [small[index] for index in (4, 11, 19)]
    assert hashes[:3] == tuple(phash(each) for each in picked)
    assert hashes[3:] == tuple(motion_hash(each, np.mean(small, axis=0)) for each in picked)
    assert measurements.hashes(0, 1, 3)[3:] == (0, 0, 0)
