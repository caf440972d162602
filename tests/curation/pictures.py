"""Moving pictures of known content, made without files."""

from pathlib import Path

import numpy as np

from media.encode import write_video


def scene(num_frames: int, seed: int, height: int = 72, width: int = 128, speed: int = 1) -> np.ndarray:
    """Smooth random shapes that drift sideways: (T H W 3) uint8. Scenes of different seeds share nothing."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, : 2 * width]
    picture = np.zeros((height, 2 * width, 3))
    base = generator.uniform(40, 200, 3)
    for _ in range(40):
        cy, cx, radius = generator.uniform(0, height), generator.uniform(0, 2 * width), generator.uniform(3, 25)
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * radius**2))
        picture += blob[..., None] * generator.uniform(-90, 90, 3)
    picture = np.clip(picture + base, 0, 255).astype(np.uint8)
    offsets = [min(speed * t % (2 * width), -speed * t % (2 * width)) for t in range(num_frames)]  # there and back
    return np.stack([picture[:, offset : offset + width] for offset in offsets])


def dissolve(first: np.ndarray, second: np.ndarray, length: int) -> np.ndarray:
    """The two scenes (T H W 3) with the last and first `length` frames mixed into each other."""
    share = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    mixed = ((1 - share) * first[-length:] + share * second[:length]).round().astype(np.uint8)
    return np.concatenate([first[:-length], mixed, second[length:]])


def make_video(path: Path, frames: np.ndarray, fps: int = 24, sound: bool = False, crf: int = 18) -> Path:
    audio = 0.1 * np.sin(np.arange(16_000 * len(frames) // fps) / 8).astype(np.float32) if sound else None
    write_video(path, frames, fps, audio, 16_000 if sound else None, crf=crf)
    return path
