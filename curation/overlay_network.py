"""A small network that sees overlays in the mean gradients of a shot."""

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from curation.devices import one_thread
from curation.weights_identity import SHIPPED

WEIGHTS_DIR = SHIPPED / "watermark"
LEAST = 1e-6  # nothing is surer than this
TOP = 8  # places whose mean decides: a small mark fills as many


class OverlayNetwork(nn.Module):
    """Logit that an overlay lies over a picture, from its mean gradients.

    A static camera leaves the gradients of the scene as well as those of a mark, so what counts is both how still a
    place is beside the rest of the picture and whether its edges look drawn.
    """

    def __init__(self, width: int = 8):
        super().__init__()
        self.width = width
        self.stem = nn.Sequential(
            _block(4, width, 5, 2), _block(width, 2 * width, 3, 2), _block(2 * width, 2 * width, 3, 1),
            _block(2 * width, 3 * width, 3, 2), _block(3 * width, 3 * width, 3, 1),
        )  # fmt: skip
        self.place = nn.Sequential(nn.Conv2d(6 * width, 2 * width, 1), nn.ReLU(), nn.Conv2d(2 * width, 1, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B) from `as_input` (B 4 H W)."""
        local = self.stem(maps)  # B 3W h w
        context = local.mean((2, 3), keepdim=True).expand_as(local)
        logits = self.place(torch.cat([local, context], 1)).flatten(1)  # B h*w
        return logits.topk(min(TOP, logits.shape[1]), dim=1).values.mean(1)


def _block(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def as_input(x: Tensor, y: Tensor, size: Tensor) -> Tensor:
    """Mean gradients x, y and mean gradient size, each (… H W) in grey levels per pixel, as (… 4 H W) of order 1."""
    stay = torch.sqrt(x * x + y * y) / (size + 0.5)
    return torch.stack([torch.asinh(x), torch.asinh(y), torch.asinh(size), stay], dim=-3)


@dataclass(frozen=True)
class Calibration:
    """From logits to probabilities, for data of which a tenth is marked: log odds = scale × logit + bias.

    Args:
        text_found: what is added to the log odds where text stays in the picture.
        text_absent: what is added where none does.
    """

    scale: float = 1.0
    bias: float = 0.0
    text_found: float = 0.0
    text_absent: float = 0.0


@cache
def load(folder: str = str(WEIGHTS_DIR)) -> tuple[OverlayNetwork, Calibration]:
    """The network, ready to judge."""
    config = json.loads((Path(folder) / "config.json").read_text())
    network = OverlayNetwork(config.pop("width"))
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.eval(), Calibration(**config)


def save(network: OverlayNetwork, folder: Path, calibration: Calibration) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    numbers = {name: round(value, 4) for name, value in asdict(calibration).items()}
    config = {"width": network.width, **numbers}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


@torch.inference_mode()
def probability(x: np.ndarray, y: np.ndarray, size: np.ndarray) -> float:
    """Calibrated probability in [0, 1] from mean gradients (H W) float32."""
    network, calibration = load()
    planes = (torch.from_numpy(np.ascontiguousarray(plane, np.float32)) for plane in (x, y, size))
    with one_thread():
        logit = network(as_input(*planes)[None])
    return float(torch.sigmoid(calibration.scale * logit[0] + calibration.bias))


def with_text(watermark: float, found: bool) -> float:
    """Probability in [0, 1] of a mark, given what the network says and whether text stays in the picture.

    The two look at different things, so their evidence adds up as log odds.
    """
    _, calibration = load()
    odds = math.log(max(watermark, LEAST) / max(1 - watermark, LEAST))
    odds += calibration.text_found if found else calibration.text_absent
    return 1 / (1 + math.exp(-odds))
