"""Structure: flow that points the right way, depth as the library gives it, nothing that looks ahead."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from tests.tokenize_shards import tiny_models
from tokenize_shards.loading import load_video_tokenizer
from tokenize_shards.structure import (
    MAX_FLOW,
    DisFlow,
    StructureEncoder,
    TransformersDepth,
    load_structure_encoder,
    nearness,
    structure_video,
)

torch.set_num_threads(1)


def pan(dx: int, dy: int, frames: int = 5, height: int = 64, width: int = 96) -> np.ndarray:
    """A clip (T H W 3) of a smooth picture whose content moves by (dx, dy) pixels a frame, to the right and down."""
    room = frames * max(abs(dx), abs(dy), 1)
    size = (width + 2 * room, height + 2 * room)
    coarse = np.random.default_rng(0).integers(0, 255, (size[1] // 8, size[0] // 8, 3), np.uint8)
    scene = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    places = [(room - k * dy, room - k * dx) for k in range(frames)]
    return np.stack([scene[y : y + height, x : x + width] for y, x in places])


class Brightness:
    """A depth model without weights: what is brighter is nearer."""

    fingerprint = "brightness"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return frames.mean(axis=3).astype(np.float32)


@pytest.mark.parametrize(("dx", "dy"), [(2, 0), (-3, 0), (0, 2), (0, -2), (2, -2), (0, 0)])
def test_flow_of_a_pan_is_its_motion(dx: int, dy: int) -> None:
    video = structure_video(pan(dx, dy), DisFlow())
    assert video.shape == (5, 64, 96, 3)
    assert not video[0].any()
    assert not video[..., 2].any()
    inner = video[1:, 16:-16, 16:-16, :2] * MAX_FLOW * 96
    assert np.median(inner[..., 0]) == pytest.approx(dx, abs=0.3)
    assert np.median(inner[..., 1]) == pytest.approx(dy, abs=0.3)


def test_values_lie_in_range_and_a_prefix_is_a_prefix() -> None:
    clip = np.concatenate([pan(9, 0), pan(-9, 3)])  # a cut in the middle: large flow, another range of depth
    video = structure_video(clip, DisFlow(), Brightness())
    assert video.dtype == np.float32
    assert float(np.abs(video).max()) <= 1
    for frames in (1, 3, 7):
        assert np.array_equal(structure_video(clip[:frames], DisFlow(), Brightness()), video[:frames])


def test_nearness_by_hand() -> None:
    first = np.linspace(0, 100, 101, dtype=np.float32).reshape(1, 1, 101)
    made = nearness(np.concatenate([first, first + 48]))
    assert made[0, 0, [0, 2, 50, 98, 100]] == pytest.approx([-1, -1, 0, 1, 1], abs=1e-5)
    assert made[1, 0, [2, 50]] == pytest.approx([0, 1], abs=1e-5)
    assert nearness(np.full((2, 3, 3), 7, np.float32)) == pytest.approx(0)


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A depth-estimation transformer with random weights."""
    folder = tmp_path_factory.mktemp("depth")
    torch.manual_seed(0)
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
    )
    DPTForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_depth_is_the_librarys(depth_folder: Path) -> None:
    depth = TransformersDepth(depth_folder, "cpu")
    clip = pan(2, 0, frames=2)
    found = depth(clip)
    model = DPTForDepthEstimation.from_pretrained(depth_folder).eval()
    processor = DPTImageProcessor.from_pretrained(depth_folder)
    with torch.no_grad():
        outputs = model(**processor(images=list(clip), return_tensors="pt"))
    expected = processor.post_process_depth_estimation(outputs, target_sizes=[(64, 96)] * 2)
    for frame in range(2):
        torch.testing.assert_close(torch.from_numpy(found[frame]), expected[frame]["predicted_depth"])
    assert np.array_equal(depth(clip[1:])[0], found[1])


class Shift(nn.Module):
    """A flow network that says the same for every pixel: the mean difference of the two frames, and 3."""

    def forward(self, first: Tensor, second: Tensor) -> list[Tensor]:
        flow = torch.zeros(1, 2, first.shape[2], first.shape[3])
        flow[:, 0] = (second - first).mean()
        flow[:, 1] = 3.0
        return [torch.zeros_like(flow), flow]


def test_a_flow_network_in_torchscript(tmp_path: Path, depth_folder: Path) -> None:
    torch.jit.script(Shift()).save(str(tmp_path / "flow.jit"))
    tokenizer = load_video_tokenizer(tiny_models.save_video_tokenizer(tmp_path / "video"), "cpu")
    encoder = load_structure_encoder(tokenizer, str(tmp_path / "flow.jit"), str(depth_folder), "cpu")
    clip = np.zeros((2, 16, 16, 3), np.uint8)
    clip[1] = 51
    flow = encoder.flow(clip)
    assert flow[1, 4, 4] == pytest.approx([0.4, -3], abs=1e-5)
    assert not flow[0].any()
    with pytest.raises(FileNotFoundError, match="leave it out for DIS"):
        load_structure_encoder(tokenizer, str(tmp_path / "none.jit"))
    (tmp_path / "text.jit").write_text("no program")
    with pytest.raises(ValueError, match="TorchScript"):
        load_structure_encoder(tokenizer, str(tmp_path / "text.jit"))
    with pytest.raises(ValueError, match="does not load as a depth model"):
        load_structure_encoder(tokenizer, None, str(tmp_path))


def test_codes_are_those_of_the_video_tokenizer(tmp_path: Path) -> None:
    tokenizer = load_video_tokenizer(tiny_models.save_video_tokenizer(tmp_path / "video"), "cpu")
    encoder, deep = StructureEncoder(tokenizer), StructureEncoder(tokenizer, depth=Brightness())
    clip = pan(2, 1, frames=5)
    codes = deep.encode(clip)
    assert codes.shape == (2, 8, 12)
    video = torch.from_numpy(structure_video(clip, DisFlow(), Brightness())).permute(3, 0, 1, 2)[None]
    assert torch.equal(codes, tokenizer.encode(video)[0])
    assert torch.equal(deep.encode(clip[:1]), codes[:1])
    assert encoder.codebook_size == tokenizer.codebook_size
    assert len({encoder.fingerprint, deep.fingerprint, tokenizer.fingerprint}) == 3
    with pytest.raises(ValueError, match="uint8"):
        encoder.encode(clip.astype(np.float32))
