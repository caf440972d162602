"""Pictures and videos come back as they were, with equal bytes for equal input."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media.audio import read_audio
from media.decode import decode_frames
from media.encode import contact_sheet, image_from_jpeg, jpeg_bytes, write_video
from media.probe import probe


def moving_frames(count: int = 12, height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    frames = [np.stack([x * 3 + 8 * t, y * 4, 128 + 0 * x], -1) % 256 for t in range(count)]
    return np.stack(frames).astype(np.uint8)


def test_jpeg_round_trip() -> None:
    image = moving_frames(1)[0]
    data = jpeg_bytes(image)
    assert data == jpeg_bytes(image.copy())
    assert np.abs(image_from_jpeg(data).astype(int) - image).mean() < 6


@pytest.mark.parametrize("data", [b"", b"no jpeg", jpeg_bytes(moving_frames(1)[0])[:100]], ids=["empty", "text", "cut"])
def test_what_is_no_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a readable JPEG"):
        image_from_jpeg(data)


def test_contact_sheet_is_filled_by_rows() -> None:
    frames = [np.full((4, 6, 3), 50 * index, np.uint8) for index in range(5)]
    sheet = np.asarray(contact_sheet(frames, columns=3))
    assert sheet.shape == (8, 18, 3) and sheet[0, 17, 0] == 100 and sheet[4, 6, 0] == 200 and sheet[7, 17, 0] == 0


def test_video_and_sound_round_trip(tmp_path: Path) -> None:
    frames, rate = moving_frames(), 24_000
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate, dtype=np.float32)
    write_video(tmp_path / "v.mp4", frames, Fraction(12), tone.astype(np.float32), rate)
    facts = probe(tmp_path / "v.mp4")
    assert (facts.width, facts.height, facts.fps_num, facts.audio_sample_rate_hz) == (64, 48, 12, rate)
    decoded = list(decode_frames(tmp_path / "v.mp4"))
    assert [frame.time for frame in decoded] == [Fraction(k, 12) for k in range(12)]
    assert np.abs(np.stack([frame.image for frame in decoded]).astype(int) - frames).mean() < 6
    heard = read_audio(tmp_path / "v.mp4", 0, rate, rate)
    assert float(np.corrcoef(heard, tone)[0, 1]) > 0.99


def test_small_moving_pictures_give_equal_bytes_every_time(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (17, 8, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    digests = set()
    for _ in range(60):
        write_video(tmp_path / "v.mp4", frames, 8)
        digests.add((tmp_path / "v.mp4").read_bytes())
    assert len(digests) == 1


def test_equal_input_gives_equal_bytes_and_odd_sides_lose_a_line(tmp_path: Path) -> None:
    frames = moving_frames(5, 33, 45)
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, frames, 8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert (probe(tmp_path / "a.mp4").height, probe(tmp_path / "a.mp4").width) == (32, 44)


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        (np.zeros((2, 8, 8), np.uint8), "T H W 3"),
        (np.zeros((2, 8, 8, 3), np.float32), "uint8"),
        (np.zeros((2, 1, 8, 3), np.uint8), "2x2"),
    ],
    ids=["no channels", "floats", "one line"],
)
def test_wrong_frames_are_refused(tmp_path: Path, frames: np.ndarray, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        write_video(tmp_path / "v.mp4", frames, 8)
