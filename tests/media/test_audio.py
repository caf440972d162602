"""Sound lies on the same timeline as the pictures, to the sample."""

import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from media.audio import MonoReader, _positioned, loudness_dbfs, read_audio, read_audio_native
from tests.media_factory import run

Media = Callable[[str], Path]
RATE = 44_100


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video whose sound is silent but for a click of 10 ms at each half second."""
    folder = tmp_path_factory.mktemp("clicks")
    samples = np.zeros(3 * RATE, np.int16)
    for half in range(6):
        at = half * RATE // 2
        samples[at : at + RATE // 100] = 20_000
    with wave.open(str(folder / "clicks.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    run("-f", "lavfi", "-i", "testsrc2=s=32x32:r=24:d=3", "-i", folder / "clicks.wav", "-c:v", "ffv1", "-c:a", "flac",
        folder / "clicks.mkv")  # fmt: skip
    return folder / "clicks.mkv"


@pytest.mark.parametrize("rate", [44_100, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1), Fraction(7, 4)])
def test_clicks_are_where_they_are(clicks: Path, rate: int, start: Fraction) -> None:
    samples = read_audio(clicks, start, rate, rate)
    assert samples.shape == (rate,) and samples.dtype == np.float32
    loud = np.flatnonzero(np.abs(samples) > 0.3)
    begins = loud[np.flatnonzero(np.diff(loud, prepend=-rate) > rate // 10)]
    expected = [float(Fraction(half, 2) - start) * rate for half in range(7) if start <= Fraction(half, 2) < start + 1]
    assert begins == pytest.approx(expected, abs=rate / 1000)


@pytest.mark.parametrize("rate", [44_100, 16_000])
@pytest.mark.parametrize("starts", [(0, 0.5, 1, 2), (0, 2.4), (2, 1.95, 0.3), (1, 9, 1)], ids=str)
def test_one_reader_reads_what_several_would(clicks: Path, rate: int, starts: tuple[float, ...]) -> None:
    exact = clicks.with_suffix(".wav")  # whose positions no container has rounded
    with MonoReader(exact) as reader:
        for start in starts:
            np.testing.assert_array_equal(
                reader.read(start, rate // 2, rate), read_audio(exact, start, rate // 2, rate)
            )


def test_a_stretch_is_the_same_whatever_was_read_before(tmp_path: Path) -> None:
    noise = tmp_path / "noise.m4a"  # which AAC makes up anew, from where decoding began
    run("-f", "lavfi", "-i", "anoisesrc=d=12:a=0.3:seed=1", "-c:a", "aac", "-b:a", "48k", noise)

    def last(*before: int) -> np.ndarray:
        with MonoReader(noise) as reader:
            return [reader.read(start, 16_000, 16_000) for start in (*before, 9)][-1]

    alone = last()
    assert np.abs(alone).max() > 0.1
    for before in ((0,), (1, 2), (8,)):
        np.testing.assert_array_equal(last(*before), alone)


@pytest.mark.parametrize("name", ["plain.mp4", "late.mp4", "mpeg4.avi", "ts.ts"])
def test_a_stretch_is_the_same_as_within_the_whole(media: Media, name: str) -> None:
    zero = 10 if name == "late.mp4" else 0
    whole, rate = read_audio_native(media(name), zero, zero + 2)
    part, _ = read_audio_native(media(name), zero + Fraction(3, 2), zero + 2)
    assert whole.shape == (1, 2 * rate) and np.abs(whole).max() > 0.05
    assert np.abs(whole[:, -part.shape[1] :] - part).max() < 0.02


def test_there_is_silence_where_the_stream_has_no_sound(media: Media) -> None:
    samples = read_audio(media("late_sound.mkv"), 0, 3 * RATE, RATE)
    onset = int(np.flatnonzero(np.abs(samples) > 0.001)[0])
    assert onset == pytest.approx(RATE / 2, abs=RATE / 500)
    assert np.abs(samples[: RATE // 2 - 100]).max() == 0 and np.abs(samples[-RATE // 4 :]).max() == 0
    assert np.abs(read_audio(media("plain.mp4"), -1, RATE // 2, RATE)).max() == 0


def test_without_sound_there_are_no_samples(media: Media) -> None:
    assert read_audio(media("odd.mkv"), 0, 100, 16_000).shape == (0,)
    assert read_audio_native(media("odd.mkv"), 0, 1) is None


@pytest.mark.parametrize(
    ("samples", "level"),
    [(np.ones(10), 0.0), (np.full(10, 0.1), -20.0), (np.zeros(10), -120.0), (np.zeros(0), -120.0)],
    ids=["full", "tenth", "silence", "none"],
)
def test_loudness(samples: np.ndarray, level: float) -> None:
    assert loudness_dbfs(samples) == pytest.approx(level, abs=1e-6)


def sound_frame(rate: int, pts: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ones((1, 100), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, pts, Fraction(1, 1000)
    return frame


def test_a_frame_of_a_form_that_no_sound_has_is_a_gap() -> None:
    damaged = sound_frame(0, 100)
    with pytest.raises(av.FFmpegError):
        av.AudioResampler(format="fltp", layout="stereo", rate=1000).resample(sound_frame(0, 100))
    frames = iter([sound_frame(1000, 0), damaged, sound_frame(1000, 200)])
    found = [(position, samples.shape) for position, samples in _positioned(frames, 1000, "stereo", 0)]
    assert found == [(0, (2, 100)), (200, (2, 100))]
