"""Keyframes that move by motion codes, from the formula to the command."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from reelmill import main as reelmill
from schemas.shards import TokenizerInfo
from tests.tokenize_shards import tiny_models
from tokenize_shards.loading import load_motion_tokenizer, load_video_tokenizer, save_tokenizer
from tokenize_shards.motion import MotionConfig, MotionTokenizer
from tokenize_shards.motion_vectors import pixels_per_frame
from training.lm import ReelLm, ReelLmConfig
from training.model_folder import export_model, tokenizer_dicts
from training.motion_render import moved

PIXEL = 1 / pixels_per_frame(np.ones((1, 1, 1, 2), np.float32), 32, 48)[0, 0, 0]
"""(2,) What a motion map holds for one pixel to the right, and down, in frames of 32x48."""


def squares() -> np.ndarray:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[8:16, 8:16] = 255
    return picture


def test_everything_moves_by_the_sum_of_its_motion():
    motion = np.zeros((4, 20, 36, 2), np.float32)
    motion[1:] = PIXEL * [3, 1]  # three pixels to the right and one down, in each frame but the first
    frames = moved(squares(), motion)
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(frame, np.roll(squares(), (number, 3 * number), axis=(0, 1)), atol=1)


def test_what_does_not_move_stays():
    motion = np.zeros((3, 20, 36, 2), np.float32)
    motion[:, :, 24:] = PIXEL * [2, 0]  # the right third alone
    frames = moved(squares(), motion)
    np.testing.assert_array_equal(frames[-1][:, :24], squares()[:, :24])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random language model of one keyframe and its motion, or of two that take turns."""
    root = tmp_path_factory.mktemp("motion")
    tiny_models.save_video_tokenizer(root / "video")
    torch.manual_seed(0)
    config = MotionConfig(width=8, heads=2, codebook_size=16)
    save_tokenizer(MotionTokenizer(config, name="motion"), root / "motion")
    video, motion = load_video_tokenizer(root / "video"), load_motion_tokenizer(root / "motion")
    infos = {
        "video": TokenizerInfo(str(root / "video"), video.fingerprint, 2**18, "little", (4, 8, 8)),
        "motion": TokenizerInfo(str(root / "motion"), motion.fingerprint, 16),
    }
    for name, frames in (("one", 1), ("two", 2)):
        formats = {
            "num_frames": frames, "fps": [1, 4], "grids": {"32x48": [frames, 4, 6]}, "audio": None,
            "independent": True, "motion": [frames * motion.num_codes],
        }  # fmt: skip
        lm = ReelLm(
            ReelLmConfig(
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                text_width=1,
                motion_codebook_size=16,
                tokenizers=tokenizer_dicts(infos, ("video", "motion")),
                formats=formats,
                tasks=["keyframe_motion", "image_motion"],
            )
        )
        (root / name).mkdir()
        export_model(lm, root / name, lm.state_dict())
    Image.fromarray(squares()).save(root / "picture.png")
    return root


@pytest.mark.parametrize(("name", "frames"), [("one", 24), ("two", 48)])
def test_generate_moves_keyframes(name: str, frames: int, model: Path, tmp_path: Path):
    picture = str(model / "picture.png")
    for task, inputs in (("keyframe_motion", []), ("image_motion", ["--image", picture])):
        output = tmp_path / f"{task}.mp4"
        words = ["generate", "--model", str(model / name), "--task", task, *inputs, "--output", str(output)]
        assert reelmill([*words, "--device", "cpu", "--sampling.temperature", "0"]) == 0
        with av.open(str(output)) as container:
            assert len(list(container.decode(video=0))) == frames
            assert container.streams.video[0].average_rate == 6


def test_a_length_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["generate", "--model", str(model / "one"), "--task", "keyframe_motion", "--duration_s", "9"]
    assert reelmill([*words, "--output", str(tmp_path / "x.mp4"), "--device", "cpu"]) == 2
    assert "leave --duration_s out" in capsys.readouterr().err
