"""The synthetic sounds that soundstream-tiny was trained on: speech by espeak-ng, tones, sweeps and noises.

    python tokenize_shards/weights/make_sounds.py OUTPUT_FOLDER

Needs the `espeak-ng` program (its voices are GPL-3.0; the sound it makes is not covered by its licence). The
same seed gives the same texts, voices and signals.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
VOICES = ("en-us", "en-gb", "en-gb-scotland", "de", "fr", "es", "it", "nl", "pt-br", "pl", "sv", "tr", "ru", "fi", "hu")
VARIANTS = ("", "+f1", "+f2", "+f3", "+f4", "+m1", "+m2", "+m3", "+m4", "+m7", "+croak", "+whisper")
WORDS = (
    "the quick brown fox jumps over a lazy dog while seven bright birds watch from an old wooden fence near water "
    "open drawer pick up red block and place it beside blue bowl then close door slowly music begins again tomorrow "
    "people walk along narrow streets under heavy rain children laugh engines hum distant thunder rolls across hills"
)


def speech(folder: Path, number: int, draw: np.random.Generator) -> None:
    """One sentence of random words in a random voice, pitch and speed."""
    text = " ".join(draw.choice(WORDS.split(), size=int(draw.integers(8, 16))))
    voice = str(draw.choice(VOICES)) + str(draw.choice(VARIANTS))
    pitch, speed = int(draw.integers(20, 85)), int(draw.integers(120, 210))
    target = folder / f"speech_{number:04d}.wav"
    command = ["espeak-ng", "-v", voice, "-p", str(pitch), "-s", str(speed), "-w", str(target), text]
    subprocess.run(command, check=True, capture_output=True)


def tones(draw: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """A chord of harmonic notes with decays, or a sweep."""
    time = np.arange(round(seconds * RATE)) / RATE
    if draw.random() < 0.3:
        low, high = draw.uniform(60, 400), draw.uniform(800, 7000)
        return 0.5 * np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * seconds)))
    signal = np.zeros_like(time)
    for _ in range(int(draw.integers(1, 5))):
        base, start, decay = draw.uniform(70, 1200), draw.uniform(0, seconds / 2), draw.uniform(0.5, 6)
        envelope = np.where(time >= start, np.exp(-decay * (time - start)), 0)
        for harmonic in range(1, 7):
            if base * harmonic < RATE / 2:
                phase = draw.uniform(0, 2 * np.pi)
                signal += envelope * np.sin(2 * np.pi * base * harmonic * time + phase) / harmonic**1.2
    return 0.6 * signal / max(1e-6, np.abs(signal).max())


def noise(draw: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """Noise with a random spectral slope and a slowly moving loudness."""
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(draw.standard_normal(count))
    slope = draw.uniform(0, 1.2)
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** slope
    signal = np.fft.irfft(spectrum, count)
    loudness = np.interp(np.arange(count), np.linspace(0, count, 12), draw.uniform(0.05, 1, 12))
    return 0.6 * loudness * signal / np.abs(signal).max()


def main(folder: Path, seed: int = 0) -> None:
    """480 sentences, 120 tones and 60 noises as 16-bit WAV files."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for number in range(480):
        speech(folder, number, draw)
    for kind, make, count in (("tones", tones, 120), ("noise", noise, 60)):
        for number in range(count):
            soundfile.write(folder / f"{kind}_{number:03d}.wav", make(draw), RATE, subtype="PCM_16")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
