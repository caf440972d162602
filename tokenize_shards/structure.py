"""Structure for stylisation (VideoPoet, arXiv 2312.14125): optical flow and depth as a three-channel video.

    channel 0, 1   how the content of each pixel moved since the frame before, to the right and down
    channel 2      nearness (inverse depth), by a depth-estimation model; zero without one

Everything lies in [-1, 1], so that the tokenizer of ordinary video takes it, and nothing looks ahead: the structure of
a prefix is the prefix of the structure.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForDepthEstimation
from transformers.utils import logging as transformers_logging

from tokenize_shards.base import VideoTokenizer, default_device, fingerprint
from tokenize_shards.loading import resolve

CODE_VERSION = 1
MAX_FLOW = 0.1  # of the longer side, since the frame before: what becomes 1
_FAR, _NEAR = 0.02, 0.98  # quantiles of the first frame's nearness that become -1 and 1


class FlowModel(Protocol):
    """Optical flow between neighbouring frames."""

    fingerprint: str

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Frames (T H W 3) uint8 → (T H W 2) float32: pixels to the right and down since the frame before."""
        ...


class DepthModel(Protocol):
    """Depth of single frames."""

    fingerprint: str

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Frames (T H W 3) uint8 → (T H W) float32: larger is nearer, in any unit."""
        ...


class DisFlow:
    """OpenCV's dense inverse search (arXiv 1603.03590), which needs no weights."""

    def __init__(self) -> None:
        self.fingerprint = fingerprint({"flow": "dis-medium", "opencv": cv2.__version__})

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """As `FlowModel`; zero for the first frame."""
        gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        flow = np.zeros((*frames.shape[:3], 2), np.float32)
        for number in range(1, len(frames)):
            search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # it would remember the last flow
            back = search.calc(gray[number], gray[number - 1], None)  # type: ignore[call-overload]
            flow[number] = -back
        return flow


class TorchScriptFlow:
    """A network such as RAFT in one TorchScript file: (1 3 H W, 1 3 H W) in [-1, 1] → flow 1 2 H W in pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not TorchScript.
    """

    def __init__(self, path: Path, device: str | torch.device | None = None) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no flow network {path}; export one with torch.jit, or leave it out for DIS")
        self.device = default_device(device)
        try:
            self.model = torch.jit.load(str(path), map_location=self.device).eval()
        except RuntimeError as error:
            raise ValueError(f"{path} does not load as TorchScript: {str(error).splitlines()[0]}") from error
        self.fingerprint = fingerprint({"flow": "torchscript"}, path)

    @torch.no_grad()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """As `FlowModel`; zero for the first frame."""
        video = torch.from_numpy(frames).to(self.device).permute(0, 3, 1, 2) / 127.5 - 1
        flow = np.zeros((*frames.shape[:3], 2), np.float32)
        with torch.jit.optimized_execution(False):
            for number in range(1, len(frames)):
                made = self.model(video[number : number + 1], video[number - 1 : number])
                last = made[-1] if isinstance(made, tuple | list) else made  # RAFT gives each of its refinements
                flow[number] = -last[0].float().permute(1, 2, 0).cpu().numpy()
        return flow


class TransformersDepth:
    """A depth-estimation model of transformers (DPT/MiDaS, Depth Anything, …), frame by frame.

    Args:
        name_or_path: a folder that `save_pretrained` of the model and of its image processor made, or a hub id.

    Raises:
        FileNotFoundError: there is no such folder or hub repository within reach.
        ValueError: it holds no depth-estimation model.
    """

    def __init__(self, name_or_path: str | Path, device: str | torch.device | None = None) -> None:
        folder = resolve(name_or_path, "none")
        transformers_logging.disable_progress_bar()
        self.device = default_device(device)
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(folder)
            model: Any = AutoModelForDepthEstimation.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} does not load as a depth model: {str(error).splitlines()[0]}") from error
        self.model = model.eval().requires_grad_(False).to(self.device)
        configs = [json.loads(path.read_text()) for path in sorted(folder.glob("*config.json"))]
        self.fingerprint = fingerprint({"depth": configs}, *sorted(folder.glob("*.safetensors")))

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """As `DepthModel`; in the model's own unit."""
        height, width = frames.shape[1:3]
        depth = np.empty(frames.shape[:3], np.float32)
        for number, frame in enumerate(frames):
            pixels = self.processor(images=frame, return_tensors="pt")["pixel_values"].to(self.device)
            found = self.model(pixel_values=pixels).predicted_depth[:, None].float()
            sized = F.interpolate(found, (height, width), mode="bicubic", align_corners=False)
            depth[number] = sized[0, 0].cpu().numpy()
        return depth


def structure_video(frames: np.ndarray, flow: FlowModel, depth: DepthModel | None = None) -> np.ndarray:
    """Frames (T H W 3) uint8 → (T H W 3) float32 in [-1, 1]: flow to the right, flow down, nearness.

    Raises:
        ValueError: not such frames.
    """
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"frames are T H W 3 of uint8, not {frames.shape} of {frames.dtype}")
    video = np.zeros(frames.shape, np.float32)
    video[..., :2] = np.clip(flow(frames) / (MAX_FLOW * max(frames.shape[1:3])), -1, 1)
    if depth is not None:
        video[..., 2] = nearness(depth(frames))
    return video


def nearness(depth: np.ndarray) -> np.ndarray:
    """Depth (T H W) → [-1, 1]. The first frame sets the scale of all, since a later one must not change what is before.

    A first frame without any depth at all (a plain wall) gives zeros there.
    """
    far, near = np.quantile(depth[0], [_FAR, _NEAR])
    if near - far < 1e-6 * max(abs(near), abs(far), 1e-6):
        far, near = far - 0.5, far + 0.5
    return np.clip(2 * (depth - far) / (near - far) - 1, -1, 1).astype(np.float32)


class StructureEncoder:
    """Structure tokens: the codes that a video tokenizer gives flow and depth.

    Args:
        tokenizer: the one that the clip's own tokens come from.
    """

    def __init__(self, tokenizer: VideoTokenizer, flow: FlowModel | None = None, depth: DepthModel | None = None):
        self.tokenizer = tokenizer
        self.flow: FlowModel = flow or DisFlow()
        self.depth = depth
        self.codebook_size = tokenizer.codebook_size
        parts = {
            "tokenizer": tokenizer.fingerprint,
            "flow": self.flow.fingerprint,
            "depth": depth.fingerprint if depth is not None else None,
            "scale": [MAX_FLOW, _FAR, _NEAR],
            "code": CODE_VERSION,
        }
        self.fingerprint = fingerprint(parts)

    def encode(self, frames: np.ndarray) -> Tensor:
        """Frames (T H W 3) uint8 at the tokenizer's size → codes (t h w) int64 on the CPU."""
        video = structure_video(frames, self.flow, self.depth)
        tensor = torch.from_numpy(video).permute(3, 0, 1, 2)[None].contiguous()
        return self.tokenizer.encode(tensor)[0].cpu()


def load_structure_encoder(
    tokenizer: VideoTokenizer,
    flow: str | None = None,
    depth: str | None = None,
    device: str | torch.device | None = None,
) -> StructureEncoder:
    """The encoder of settings.

    Args:
        flow: None for OpenCV's DIS, or a TorchScript file.
        depth: None for flow alone, or the folder or hub id of a depth-estimation model.
    """
    flow_model: FlowModel = TorchScriptFlow(Path(flow), device) if flow else DisFlow()
    return StructureEncoder(tokenizer, flow_model, TransformersDepth(depth, device) if depth else None)
