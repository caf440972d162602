"""`train motion-tokenizer`: maps of clips, a camera's motion added, exact resume, a folder that loads."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from media.encode import write_video
from tests.tokenize_shards.test_motion import pan
from tokenize_shards.loading import load_motion_tokenizer
from tokenize_shards.motion_vectors import motion_pictures
from training.checkpoints import latest_checkpoint
from training.clips_data import ClipSource
from training.motion_data import camera_motion, motion_batch, motion_maps
from training.motion_tokenizer import main
from training.motion_tokenizer_task import same_direction
from training.settings_motion import MotionClips

torch.set_num_threads(1)


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    flags = {
        "data": data, "output": output, "size": "tiny", "name": "mine",
        "model": "{width: 8, heads: 1, blocks: [0, 0, 0, 1], codebook_size: 64, code_width: 8}",
        "held_back.names": '["sub/*"]',
        "clips.rates": "[6,12]", "optimisation.steps": 4, "optimisation.batch_size": 2,
        "optimisation.learning_rate": 0.002, "optimisation.warmup_steps": 2, "optimisation.ema_decay": 0.5,
        "losses.quantizer_start": 2, "running.threads": 1, "running.device": "cpu", "running.validate_every": 2,
        "running.log_every": 2, "running.checkpoint_every": 2,
    }  # fmt: skip
    return [*(f"--{key}={value}" for key, value in flags.items()), *more]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pans of 5 s at 12 fps, one of them held back."""
    folder = tmp_path_factory.mktemp("motion") / "clips"
    for name, dx in (("a", 2), ("sub/b", -2)):
        write_video(folder / f"{name}.mp4", pan(dx, 0, height=64, width=96, frames=60), 12)
    return folder


def test_trains_goes_on_where_it_stopped_and_loads(clips: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(clips, whole)) == 0
    assert main(arguments(clips, parts, "--running.keep_checkpoints=9")) == 0
    last = latest_checkpoint(parts)
    assert last is not None
    shutil.rmtree(last)  # as if killed after the checkpoint of step 2
    shutil.rmtree(parts / "tokenizer")
    assert main(arguments(clips, parts, "--running.keep_checkpoints=9")) == 0
    first, second = (load_file(out / "tokenizer" / "model.safetensors") for out in (whole, parts))
    assert all(torch.equal(first[key], second[key]) for key in first)
    tokenizer = load_motion_tokenizer(whole / "tokenizer", "cpu")
    held_back = json.loads((whole / "metrics.json").read_text())
    assert (tokenizer.name, tokenizer.fingerprint) == ("mine", held_back["fingerprint"])
    assert set(held_back["held_back"]) == {"snr_db", "same_direction", "codes_used", "perplexity"}
    assert list((whole / "tensorboard").glob("events*"))


def test_maps_of_a_clip(clips: Path) -> None:
    source = ClipSource("a.mp4", path=clips / "a.mp4")
    slow, fast = (motion_maps(source, Fraction(rate), Fraction(1)) for rate in (6, 12))
    assert (len(slow), len(fast)) == (2, 3 + 1)
    assert slow[0].shape == (24, 20, 36, 2) and slow[0].dtype == np.float16
    ratio = np.median(slow[0][1:, ..., 0]) / np.median(fast[0][1:, ..., 0])
    assert ratio == pytest.approx(2, abs=0.3)  # at half the rate everything moves twice as far
    assert motion_maps(source, Fraction(4), Fraction(1)) == []
    assert np.array_equal(motion_maps(source, Fraction(12), Fraction(1), limit=2)[1], fast[2])


def test_batches_follow_their_generator_and_mirror_rightly() -> None:
    right = np.zeros((24, 20, 36, 2), np.float16)
    right[1:, :, :18, 0] = 2  # the left half moves to the right
    clips = MotionClips(pan_share=0)
    batch = motion_batch([right], clips, 16, torch.Generator().manual_seed(0))
    mirrored = [bool(motion[1, 0, -1, 0] == -2) for motion in batch]
    assert 0 < sum(mirrored) < 16
    assert all(float(motion[1, 0, 0, 0]) == (0 if flag else 2) for motion, flag in zip(batch, mirrored, strict=True))
    with_camera = [
        motion_batch([right], MotionClips(pan_share=1), 4, torch.Generator().manual_seed(1)) for _ in range(2)
    ]
    assert torch.equal(*with_camera)
    assert not with_camera[0][:, 0].any()


def test_a_camera_pans_and_zooms_within_its_speed() -> None:
    moves = [camera_motion(20, 36, 3.0, torch.Generator().manual_seed(seed)) for seed in range(30)]
    centre = torch.stack([motion[1:, 9:11, 17:19].mean(dim=(1, 2)) for motion in moves])
    assert float(centre.abs().max()) <= 3.01
    assert min(int((centre[..., axis].mean(dim=1) * sign > 0.5).sum()) for axis in (0, 1) for sign in (1, -1)) > 2


def test_directions_count_where_something_moves() -> None:
    original = torch.zeros(1, 24, 20, 36, 2)
    assert same_direction(original, original) == 1
    original[:, 1:, :10, :, 0] = 1
    turned = original.clone()
    turned[:, 1:12] = turned[:, 1:12].flip(-1)  # down instead of to the right
    assert same_direction(original, turned) == pytest.approx(12 / 23)


def test_colours_tell_directions() -> None:
    motion = np.zeros((1, 2, 2, 2), np.float32)
    motion[0, 0, 0], motion[0, 0, 1] = (9, 0), (-9, 0)
    (picture,) = motion_pictures(motion, scale=1)
    assert picture[0].tolist() == [[255, 0, 0], [0, 255, 255]]
    assert picture[1].tolist() == [[255, 255, 255]] * 2


def test_models_of_another_shape_are_refused(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"motion maps of clips are \(24, 20, 36\)"):
        main([*arguments(clips, tmp_path)[:3], "--data", str(clips), "--output", str(tmp_path), "--model={frames: 16}"])
