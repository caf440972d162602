"""A small network that marks cuts, dissolves, fades and wipes in frames of 27 × 48."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from curation.devices import one_thread
from curation.weights_identity import SHIPPED

WEIGHTS_DIR = SHIPPED / "transitions"
HEIGHT, WIDTH = 27, 48
DILATIONS = (1, 2, 4, 8)
# Frames that are compared with each other, counted from the frame before a gap: 1 is the first after it.
COMPARED = (-24, -16, -11, -7, -5, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12, 17, 25)
NUM_COLORS = 8**3  # 8 levels along each of red, green and blue
EMBEDDING = 32


class TransitionNetwork(nn.Module):
    """Two logits for the gap after each frame: whether a transition has its middle there, whether it is under way.

    Two views are joined. Dilated convolutions over time (as in TransNetV2, arXiv 2008.04838, section 3) see how
    each place changes; similarities of whole frames up to 25 apart, by colour and by learnt embeddings (its section
    3.2), see whether the scene that was before is still there afterwards.
    """

    def __init__(self, width: int = 16):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 5, stride=3, padding=2)
        self.early = _Dilated(width, width // 2)
        self.middle = nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1)
        self.late = _Dilated(2 * width, 3 * width // 4)
        self.last = nn.Conv2d(3 * width, 2 * width, 3, stride=2, padding=1)
        self.places = nn.Sequential(nn.Linear(2 * width * 12, 48), nn.ReLU(inplace=True))
        self.embed = nn.Linear(width * 12, EMBEDDING)
        pairs = len(COMPARED) * (len(COMPARED) - 1) // 2
        self.compare = nn.Sequential(nn.Linear(2 * pairs, 48), nn.ReLU(inplace=True))
        self.join = nn.Conv1d(96, 64, 3, padding=1)
        self.steps = nn.ModuleList(nn.Conv1d(64, 64, 3, padding=step, dilation=step) for step in (1, 2, 4, 8))
        self.heads = nn.Conv1d(64, 2, 1)
        for layer in (self.stem, *self.early.branches, self.middle, *self.late.branches, self.last):
            nn.init.kaiming_normal_(layer.weight)  # there is no normalisation that would right the scale

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B T 2) from frames (B T 27 48 3) uint8."""
        batch, length = frames.shape[:2]
        images = frames.flatten(0, 1).permute(0, 3, 1, 2).float().div_(128).sub_(1)  # B*T 3 27 48
        stem = F.relu_(self.stem(images))  # B*T W 9 16
        x = F.relu_(self.middle(self.early(stem, length)))  # B*T 2W 5 8
        x = F.relu_(self.last(self.late(x, length)))  # B*T 2W 3 4
        places = self.places(x.flatten(1))  # B*T 48
        embedded = self.embed(F.avg_pool2d(stem, (3, 4)).flatten(1))
        compared = self.compare(_similarities(embedded.view(batch, length, -1), histograms(frames)))  # B T 48
        x = torch.cat([places.view(batch, length, -1), compared], -1).transpose(1, 2)
        x = F.relu_(self.join(x))  # B 64 T
        for step in self.steps:
            x = x + F.relu_(step(x))
        return self.heads(x).transpose(1, 2)


class _Dilated(nn.Module):
    """Four convolutions along time only, with dilations 1, 2, 4 and 8, side by side."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(inputs, outputs, (3, 1), padding=(step, 0), dilation=(step, 1)) for step in DILATIONS
        )

    def forward(self, x: Tensor, length: int) -> Tensor:
        """(B*T C h w) → (B*T 4*outputs h w)."""
        height, width = x.shape[2:]
        x = x.permute(0, 2, 3, 1).reshape(-1, length, height * width, x.shape[1]).permute(0, 3, 1, 2)  # B C T h*w
        x = F.relu_(torch.cat([branch(x) for branch in self.branches], 1))
        return x.permute(0, 2, 3, 1).reshape(-1, height, width, x.shape[1]).permute(0, 3, 1, 2)


def histograms(frames: Tensor) -> Tensor:
    """Square roots of the colour histograms (B T 512) of frames (B T 27 48 3) uint8; each of norm 1."""
    batch, length = frames.shape[:2]
    red, green, blue = (frames >> 5).flatten(2, 3).unbind(-1)  # B T 1296
    bins = (red.short() << 6 | green.short() << 3 | blue).long()
    counts = torch.zeros(batch, length, NUM_COLORS, device=frames.device)
    counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=torch.float32))
    return (counts / bins.shape[2]).sqrt()


def _similarities(embedded: Tensor, colors: Tensor) -> Tensor:
    """Cosines of all pairs of the frames `COMPARED` around each gap, (B T 2*pairs); frames beyond an end repeat it."""
    length = embedded.shape[1]
    embedded = F.normalize(embedded, dim=-1)
    both = torch.stack([embedded @ embedded.transpose(1, 2), colors @ colors.transpose(1, 2)], -1)  # B T T 2
    around = torch.arange(length)[:, None] + torch.tensor(COMPARED)
    around = around.clamp(0, length - 1)
    i, j = torch.triu_indices(len(COMPARED), len(COMPARED), 1)
    flat = (around[:, i] * length + around[:, j]).flatten()  # T*pairs
    return both.flatten(1, 2)[:, flat].reshape(-1, length, 2 * len(i))


@cache
def load(folder: str = str(WEIGHTS_DIR)) -> TransitionNetwork:
    """The trained network, for use."""
    config = json.loads((Path(folder) / "config.json").read_text())
    network = TransitionNetwork(config["width"])
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval()


def save(network: TransitionNetwork, folder: Path, *, width: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"width": width}, indent=2) + "\n")


@torch.inference_mode()
def probabilities(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Middle and extent of transitions, each (T,) in [0, 1], for the gap after each frame (27 48 3) uint8 RGB."""
    window = torch.from_numpy(np.stack(frames))[None]
    with one_thread():
        both = torch.sigmoid(load()(window)[0])
    return both[:, 0].numpy(), both[:, 1].numpy()
