"""Frames come at their true times, upright, and the same whichever way they are reached."""

import subprocess
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.decode import decode_frames, reduced_size
from media.ffmpeg import ffmpeg_path
from media.normalize import orientation_of_matrix
from media.settings import DecodeLimits
from schemas.states import Rejection
from tests.media_factory import run

Media = Callable[[str], Path]
SEEKABLE = [
    "plain.mp4",
    "b_frames.mp4",
    "late.mp4",
    "vfr.mp4",
    "rot90.mp4",
    "vp9.webm",
    "mpeg4.avi",
    "ts.ts",
    "interlaced.mpg",
]


def times(path: Path, **options: object) -> list[Fraction]:
    return [frame.time for frame in decode_frames(path, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "start", "step"),
    [
        ("plain.mp4", 0, Fraction(1, 24)),
        ("b_frames.mp4", 0, Fraction(1, 24)),
        ("late.mp4", 10, Fraction(1, 24)),
        ("mpeg4.avi", None, Fraction(1, 24)),
        ("interlaced.mpg", None, Fraction(1, 25)),
    ],
)
def test_times_of_a_constant_rate_are_exact(media: Media, name: str, start: int | None, step: Fraction) -> None:
    found = times(media(name))
    assert len(found) == 2 / step and {b - a for a, b in pairwise(found)} == {step}
    assert start is None or found[0] == start


def test_times_of_a_variable_rate_are_those_of_the_frames_kept(media: Media) -> None:
    kept = [Fraction(n, 24) for n in range(48) if n % 3 == 0 or n % 20 < 7]
    assert times(media("vfr.mp4")) == kept


@pytest.mark.parametrize("name", ["plain.mp4", "rot90.mp4", "rot180.mp4", "odd.mkv"])
def test_pictures_are_those_that_ffmpeg_shows(media: Media, name: str) -> None:
    command = [ffmpeg_path(), "-v", "error", "-i", media(name), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    shown = subprocess.run(command, capture_output=True, check=True).stdout
    frames = np.stack([frame.image for frame in decode_frames(media(name))])
    expected = np.frombuffer(shown, np.uint8).reshape(frames.shape)
    assert np.abs(frames.astype(int) - expected).mean() < 2.5  # chroma is upsampled before or after turning


@pytest.mark.parametrize("name", SEEKABLE)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.55, 0.97])
def test_a_stretch_is_the_same_as_within_the_whole(media: Media, name: str, share: float) -> None:
    whole = list(decode_frames(media(name), max_side=32))
    first = int(share * len(whole))
    last = min(first + 5, len(whole) - 1)
    part = list(decode_frames(media(name), max_side=32, start_s=whole[first].time, end_s=whole[last].time))
    assert [frame.time for frame in part] == [frame.time for frame in whole[first:last]]
    if name != "interlaced.mpg":  # there, the first frame after a seek has no neighbour to be deinterlaced with
        assert all(np.array_equal(a.image, b.image) for a, b in zip(part, whole[first:last], strict=True))


def test_threads_change_nothing(media: Media) -> None:
    one, two = (list(decode_frames(media("b_frames.mp4"), threads=n)) for n in (1, 3))
    assert [f.pts for f in one] == [f.pts for f in two]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(
    ("name", "shape", "note"),
    [
        ("plain.mp4", (24, 32, 3), None),
        ("rot90.mp4", (32, 24, 3), "rotated:90"),
        ("wide_pixels.mp4", (16, 32, 3), "square_pixels:3/2"),
        ("interlaced.mpg", (32, 32, 3), "deinterlaced"),
        ("hdr.mp4", (24, 32, 3), "tone_mapped:pq"),
        ("ten_bit.mp4", (24, 32, 3), None),
    ],
)
def test_reduced_pictures_are_normal_and_it_is_noted(media: Media, name: str, shape: tuple, note: str | None) -> None:
    notes: Counter[str] = Counter()
    frames = list(decode_frames(media(name), max_side=32, notes=notes))
    assert {frame.image.shape for frame in frames} == {shape}
    assert set(notes) == ({note} if note else set())


def test_a_file_that_breaks_off_yields_what_is_there(broken: Media, media: Media) -> None:
    notes: Counter[str] = Counter()
    part = times(broken("cut_short.mkv"), notes=notes)
    assert 5 < len(part) < 48


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (DecodeLimits(max_frames=10), "too_many_frames"),
        (DecodeLimits(max_pixels=64 * 47), "picture_too_large"),
        (DecodeLimits(max_seconds=0.5), "too_long"),
        (DecodeLimits(max_wall_s=1e-9), "timed_out"),
    ],
)
def test_limits(media: Media, limits: DecodeLimits, reason: str) -> None:
    with pytest.raises(Rejection) as caught:
        times(media("plain.mp4"), limits=limits)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("size", "filters"), [("65520x16", "null"), ("16384x16", "setsar=5")], ids=["wide", "wide pixels"]
)
def test_a_side_that_no_jpeg_can_have(tmp_path: Path, size: str, filters: str) -> None:
    path = tmp_path / "wide.mkv"
    run("-f", "lavfi", "-i", f"color=size={size}:duration=0.2:rate=10", "-vf", filters, "-c:v", "ffv1", path)
    with pytest.raises(Rejection, match="side over 65500") as caught:
        times(path)
    assert caught.value.reason == "picture_too_large"


@pytest.mark.parametrize(
    ("matrix", "name"),
    [
        ((1, 0, 0, 0, 1), ""),
        ((0, 1, 0, -1, 0), "clock"),
        ((-1, 0, 0, 0, -1), "half"),
        ((0, -1, 0, 1, 0), "cclock"),
        ((-1, 0, 0, 0, 1), "hflip"),
        ((1, 0, 0, 0, -1), "vflip"),
        ((0, 1, 0, 1, 0), "cclock_flip"),
        ((0, -1, 0, -1, 0), "clock_flip"),
        ((5, 5, 0, -5, 5), ""),
    ],
)
def test_display_matrices(matrix: tuple[int, ...], name: str) -> None:
    assert orientation_of_matrix((*matrix, 0, 0, 0, 1)) == name


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))
def test_reduced_size_fits_and_keeps_the_aspect(height: int, width: int, max_side: int) -> None:
    new_height, new_width = reduced_size(height, width, max_side)
    assert max(new_height, new_width) == min(max_side, max(height, width))
    assert abs(new_height * width - new_width * height) <= max(height, width) or min(new_height, new_width) == 1
