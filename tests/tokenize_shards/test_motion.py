"""Motion vectors of real encodings point the right way; 135 codes carry them."""

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from media.encode import write_video
from tokenize_shards.loading import load_motion_tokenizer, save_tokenizer
from tokenize_shards.motion import BASE, SIZES, MotionConfig, MotionTokenizer
from tokenize_shards.motion_vectors import FRAMES, block_motion, motion_map, pixels_per_frame, read_motion

torch.set_num_threads(1)

DIRECTIONS = {"right": (5, 0), "left": (-5, 0), "down": (0, 4), "up": (0, -4), "slanting": (3, -3), "still": (0, 0)}
SMALL = MotionConfig(width=32, heads=2, blocks=(1, 1, 1, 1), codebook_size=64, code_width=8)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random picture (H W 3)."""
    coarse = np.random.default_rng(seed).integers(0, 255, (-(-height // 12), -(-width // 12), 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def pan(dx: int, dy: int, height: int = 160, width: int = 288, frames: int = FRAMES, seed: int = 0) -> np.ndarray:
    """A clip (T H W 3) whose content moves by (dx, dy) pixels a frame, to the right and down."""
    room = frames * max(abs(dx), abs(dy), 1)
    scene = picture(height + 2 * room, width + 2 * room, seed)
    places = [(room - k * dy, room - k * dx) for k in range(frames)]
    return np.stack([scene[y : y + height, x : x + width] for y, x in places])


@pytest.mark.parametrize("name", DIRECTIONS)
def test_vectors_of_a_pan_are_its_motion(name: str) -> None:
    dx, dy = DIRECTIONS[name]
    motion = motion_map(pan(dx, dy))
    assert motion.shape == (24, 20, 36, 2)
    assert motion.dtype == np.float32
    assert not motion[0].any()
    pixels = pixels_per_frame(motion, 160, 288)
    for frame in range(1, 24):  # 12 too, though it is a key frame
        assert np.median(pixels[frame, ..., 0]) == pytest.approx(dx, abs=0.6)
        assert np.median(pixels[frame, ..., 1]) == pytest.approx(dy, abs=0.6)


def test_blocks_of_odd_sizes_and_bad_input() -> None:
    motion = block_motion(pan(3, 0, height=101, width=131, frames=5))
    assert motion.shape == (5, 7, 9, 2)
    assert np.median(motion[1:, 1:-1, 1:-1, 0]) == pytest.approx(3 / 130, abs=0.5 / 130)
    with pytest.raises(ValueError, match="uint8"):
        block_motion(np.zeros((2, 16, 16, 3), np.float32))


def test_one_thing_moves_and_the_rest_is_still() -> None:
    clip = np.repeat(picture(160, 288)[None], FRAMES, axis=0)
    for frame in range(FRAMES):
        clip[frame, 48:112, 32 + 4 * frame : 96 + 4 * frame] = picture(64, 64, seed=1)
    pixels = pixels_per_frame(motion_map(clip), 160, 288)
    half = pixels[11]  # the thing covers columns 76 to 140 of 288, rows 48 to 112 of 160
    assert half[8:12, 12:15, 0].mean() == pytest.approx(4, abs=0.8)
    assert np.abs(half[:, 26:]).max() < 0.6


def test_a_file_is_read_at_6_fps_from_where_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "pan.mp4"
    write_video(path, pan(1, 0, frames=112), 24)
    motion = read_motion(path, Fraction(1, 2))
    assert motion.shape == (24, 20, 36, 2)
    assert np.array_equal(motion, read_motion(path, Fraction(1, 2)))
    pixels = pixels_per_frame(motion, 160, 288)  # four frames of the file are one of the map
    assert np.median(pixels[1:, ..., 0]) == pytest.approx(4, abs=0.6)


def test_shapes_and_counts_of_the_paper() -> None:
    assert (BASE.grid, BASE.codebook_size, BASE.code_width) == ((3, 5, 9), 1024, 32)
    torch.manual_seed(0)
    model = MotionTokenizer(SIZES["tiny"]).eval()
    assert model.num_codes == 135
    indices = model.encode(torch.randn(2, 24, 20, 36, 2))
    assert indices.shape == (2, 135)
    assert int(indices.max()) < 1024
    assert model.decode(indices).shape == (2, 24, 20, 36, 2)
    with pytest.raises(ValueError, match="this tokenizer takes"):
        model.encode(torch.zeros(1, 24, 36, 20, 2))
    with pytest.raises(ValueError, match="B x 135"):
        model.decode(indices[:, 1:])


def test_folders(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = MotionTokenizer(SMALL, name="mine").eval()
    fingerprint = save_tokenizer(model, tmp_path)
    loaded: Any = load_motion_tokenizer(tmp_path, "cpu")
    assert (loaded.fingerprint, loaded.name, loaded.config) == (fingerprint, "mine", SMALL)
    motion = torch.randn(1, 24, 20, 36, 2)
    assert torch.equal(loaded.encode(motion), model.encode(motion))


def coarse(dx: int, dy: int, seed: int = 0) -> torch.Tensor:
    """The map of a pan, its first 8 frames averaged to 4 x 4 cells, of about unit size."""
    motion = motion_map(pan(dx, dy, height=96, width=160, seed=seed)).reshape(24, 4, 5, 4, 9, 2)
    return torch.from_numpy(motion.mean(axis=(2, 4)))[:8] / 4


def test_pans_keep_their_direction_through_the_codes() -> None:
    """Trained for a moment on pans; those of other pictures and speeds decode to their own direction."""
    torch.manual_seed(0)
    maps = torch.stack(
        [coarse(*move) for speed in (3, 6) for move in ((speed, 0), (-speed, 0), (0, speed), (0, -speed))]
    )
    model = MotionTokenizer(dataclasses.replace(SMALL, frames=8, height=4, map_width=4, decay=0.8)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(70):
        model.quantizer.active = step >= 40  # codes start from latents that mean something
        decoded, quantized = model(maps)
        loss = (decoded - maps).square().mean() + quantized.loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((decoded - maps).detach().square().mean()) < 0.3 * float(maps.square().mean())
    model.eval()
    for dx, dy in ((5, 0), (-5, 0), (0, 4), (0, -4)):
        across, down = model.decode(model.encode(coarse(dx, dy, seed=9)[None]))[0, 1:].mean(dim=(0, 1, 2)).tolist()
        along, aside = (across, down) if dx else (down, across)
        assert along * (dx or dy) > 0
        assert abs(along) > 3 * abs(aside)


@pytest.mark.parametrize(("dx", "dy"), [(6, 0), (-6, 0), (0, 4), (0, -4)], ids=["right", "left", "down", "up"])
def test_the_shipped_weights_keep_the_direction_of_pans(dx: int, dy: int) -> None:
    model = load_motion_tokenizer("motion-tiny", "cpu")
    original = motion_map(pan(dx, dy, seed=5))
    decoded = model.decode(model.encode(torch.from_numpy(original)[None]))[0].numpy()
    pixels = np.median(pixels_per_frame(decoded[1:], 160, 288), axis=(0, 1, 2))
    along, aside = (pixels[0], pixels[1]) if dx else (pixels[1], pixels[0])
    assert along * (dx or dy) > 0
    assert abs(along) > 2 * abs(aside)
