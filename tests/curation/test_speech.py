"""Speech: Silero's network through our blocks, compared with its package's own, and on sounds that are none."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from curation.speech import FRAME, speech_probabilities, speech_share, speech_weights
from media.audio import read_audio
from media.ffmpeg import ffmpeg_path
from media.probe import probe

RATE = 16_000


def sound(kind: str, seconds: float = 3.0) -> np.ndarray:
    times = np.arange(round(RATE * seconds)) / RATE
    generator = np.random.default_rng(0)
    made = {
        "silence": np.zeros(len(times)),
        "noise": 0.1 * generator.standard_normal(len(times)),
        "chord": 0.1 * sum(np.sin(2 * np.pi * pitch * times) for pitch in (220.0, 277.2, 329.6)),
    }
    return np.clip(made[kind], -1, 1).astype(np.float32)


@pytest.mark.parametrize("kind", ["silence", "noise", "chord"])
def test_other_sounds_are_no_speech(kind):
    assert speech_share(sound(kind), 0.5) < 0.05


def test_blocks_are_the_package_s_own():
    sequence_vad = pytest.importorskip("silero_vad.sequence_vad")
    model = sequence_vad.SileroVADSequence(str(speech_weights()))
    for seconds in (0.01, 1.0, 20.0):  # less than a frame; one block; two blocks
        samples = sound("noise", seconds) + sound("chord", seconds)
        expected = model.audio_forward(samples)
        assert len(expected) == -(-len(samples) // FRAME)
        assert np.array_equal(speech_probabilities(samples), expected)


def test_a_voice_is_speech(tmp_path: Path):
    program = shutil.which("espeak-ng")
    if program is None:
        pytest.skip("espeak-ng, which would speak, is not installed")
    text = "The quick brown fox jumps over the lazy dog, and the dog sleeps on."
    subprocess.run([program, "-w", tmp_path / "voice.wav", text], check=True, timeout=60)
    ffmpeg = [
        ffmpeg_path(),
        "-v",
        "error",
        "-i",
        tmp_path / "voice.wav",
        "-f",
        "f32le",
        "-ac",
        "1",
        "-ar",
        str(RATE),
        "-",
    ]
    voice = np.frombuffer(subprocess.run(ffmpeg, check=True, capture_output=True, timeout=60).stdout, np.float32)
    half = np.concatenate([voice, np.zeros_like(voice)])
    assert speech_share(voice, 0.5) > 0.7
    assert 0.4 < speech_share(half, 0.5) / speech_share(voice, 0.5) < 0.6


def test_films_without_a_voice(shared_data: Path):
    for name in ("mdn_elf", "sam2_02_cups", "road_solidWhiteRight"):
        path = shared_data / "clips_audio" / f"{name}.mp4"
        facts = probe(path)
        samples = read_audio(path, facts.start_pts * facts.time_base_num / facts.time_base_den, 5 * RATE, RATE)
        assert speech_share(samples, 0.5) < 0.05
