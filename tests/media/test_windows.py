"""Random access gives the very frames that decoding in order gives."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.decode import Frame, decode_frames
from media.windows import FrameIndex, FrameReader, num_windows, read_frame, read_window, resize_and_crop
from schemas.states import Rejection

Media = Callable[[str], Path]
BY_DECORD = ["plain.mp4", "b_frames.mp4", "late.mp4", "vfr.mp4", "vp9.webm", "mpeg4.avi"]
BY_PYAV = ["rot90.mp4", "odd.mkv", "wide_pixels.mp4", "ten_bit.mp4", "hdr.mp4", "interlaced.mpg", "ts.ts"]


def nearest(frames: list[Frame], time: Fraction) -> Frame:
    return min(frames, key=lambda frame: (abs(frame.time - time), frame.time))


@pytest.mark.parametrize("name", BY_DECORD + BY_PYAV)
def test_frames_at_times_are_those_of_decoding_in_order(media: Media, name: str) -> None:
    whole = list(decode_frames(media(name)))
    end = whole[-1].time - whole[0].time
    wanted = [whole[0].time + end * k / 7 for k in (3, 0, 6, 7, 1)] + [whole[0].time - 1, whole[-1].time + 1]
    expected = np.stack([nearest(whole, time).image for time in wanted])
    reader = FrameReader(media(name))
    assert (reader._decord is not None) == (name in BY_DECORD)
    assert np.array_equal(reader.frames_at(wanted), expected)
    assert np.array_equal(FrameReader(media(name), use_decord=False).frames_at(wanted), expected)
    assert np.array_equal(read_frame(media(name), wanted[0]), expected[0])


def test_a_window_takes_the_frames_nearest_to_its_grid(media: Media) -> None:
    whole = list(decode_frames(media("vfr.mp4")))
    start = whole[3].time
    window = read_window(media("vfr.mp4"), start, 9, Fraction(8), 24, 24)
    images = np.stack([nearest(whole, start + Fraction(k, 8)).image for k in range(9)])
    assert np.array_equal(window, resize_and_crop(images, 24, 24))


def test_of_two_frames_equally_near_the_earlier_is_taken(media: Media) -> None:
    index = FrameReader(media("plain.mp4")).index
    assert [index.nearest(Fraction(k, 48)) for k in range(6)] == [0, 0, 1, 1, 2, 2]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=20, unique=True), st.fractions(-60, 60))
def test_nearest_is_nearest(pts: list[int], time: Fraction) -> None:
    ordered = tuple(sorted(pts))
    index = FrameIndex(ordered, Fraction(1), None, True)  # type: ignore[arg-type]
    assert ordered[index.nearest(time)] == min(ordered, key=lambda p: (abs(p - time), p))


@pytest.mark.parametrize(
    ("duration", "num_frames", "fps", "count"),
    [(Fraction(17, 8), 17, 8, 1), (Fraction(17, 8) - Fraction(1, 10**6), 17, 8, 0), (10, 17, 8, 4), (0, 1, 8, 0)],
)
def test_num_windows(duration: Fraction, num_frames: int, fps: int, count: int) -> None:
    assert num_windows(duration, num_frames, fps) == count


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 14), (14, 8), (96, 96), (48, 64)])
def test_resizing_covers_and_keeps_the_centre(height: int, width: int) -> None:
    frames = np.zeros((2, 48, 64, 3), np.uint8)
    frames[:, 16:32, 24:40] = 255
    out = resize_and_crop(frames, height, width)
    assert out.shape == (2, height, width, 3)
    assert out[0, height // 2, width // 2, 0] == 255
    assert abs(float(out[0, :, :, 0].T[::-1].mean()) - float(out[0, ::-1, :, 0].mean())) < 1


def test_shrinking_averages_so_that_nothing_aliases() -> None:
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    out = resize_and_crop(stripes, 16, 16)
    assert out.min() >= 126 and out.max() <= 129


def test_what_cannot_be_opened_is_a_rejection(broken: Media) -> None:
    with pytest.raises(Rejection):
        read_frame(broken("no_header.mp4"), 0)
