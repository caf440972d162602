"""Watermark classifiers of single pictures by others, in place of the shipped network.

Two forms are known: the weight file of LAION's (https://github.com/LAION-AI/LAION-5B-WatermarkDetection: an
EfficientNet-B3 with a head of three layers, whose first class is `watermark`), and any classifier that timm saved, as a
local folder or on the hub, whose labels name one class `watermark`.
"""

from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import cv2
import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from curation.devices import one_thread

LAION_SIDE = 320
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def laion_network() -> nn.Module:
    """LAION's architecture without weights."""
    network = timm.create_model("efficientnet_b3", pretrained=False, num_classes=2)
    network.classifier = nn.Sequential(
        nn.Linear(1536, 625), nn.ReLU(), nn.Dropout(0.3), nn.Linear(625, 256), nn.ReLU(), nn.Linear(256, 2)
    )
    return network


class WatermarkClassifier:
    """A classifier of single pictures, on one thread of the CPU.

    Args:
        model: weight file of LAION's classifier (.safetensors, or a state dict of PyTorch), a folder that timm saved,
            or OWNER/NAME on the hub.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it is none that tells watermarks.
    """

    def __init__(self, model: str):
        path = Path(model)
        if path.is_file():
            self._network, self._mark = _with_weights(path), 0
            self._side, self._mean, self._std = LAION_SIDE, _MEAN, _STD
        else:
            self._network, self._mark = _of_timm(model)
            config = timm.data.resolve_data_config({}, model=self._network)
            self._side, self._mean, self._std = config["input_size"][1], config["mean"], config["std"]
        self._network.eval()

    @torch.inference_mode()
    def probability(self, picture: np.ndarray) -> float:
        """Probability in [0, 1] of a watermark in a picture (H W 3) uint8 RGB, which is squeezed to a square."""
        how = cv2.INTER_AREA if min(picture.shape[:2]) > self._side else cv2.INTER_LINEAR
        small = cv2.resize(picture, (self._side, self._side), interpolation=how).astype(np.float32) / 255
        normal = (small - np.array(self._mean, np.float32)) / np.array(self._std, np.float32)
        with one_thread():
            logits = self._network(torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))[None])[0]
        if len(logits) == 1:
            return float(torch.sigmoid(logits[0]))
        return float(torch.softmax(logits, 0)[self._mark])


@cache
def classifier(model: str) -> WatermarkClassifier:
    """One for each process."""
    return WatermarkClassifier(model)


def _with_weights(path: Path) -> nn.Module:
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        network = laion_network()
        network.load_state_dict(weights)
    except (RuntimeError, AttributeError, TypeError, UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"watermark.model {path} does not hold LAION's watermark classifier: {reason}") from error
    return network


def _of_timm(model: str) -> tuple[nn.Module, int]:
    """A network by timm's description of it, and the index of its class `watermark`."""
    local = Path(model).is_dir()
    if not local and (model.count("/") != 1 or model.startswith(("/", "."))):
        raise FileNotFoundError(f"watermark.model {model} is neither a file, nor a folder, nor OWNER/NAME on the hub")
    try:
        network = timm.create_model(f"{'local-dir' if local else 'hf-hub'}:{model}", pretrained=True)
    except (OSError, RuntimeError, KeyError) as error:
        raise FileNotFoundError(f"watermark.model {model} cannot be loaded by timm: {error}") from error
    described: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    labels = [str(name).lower().replace(" ", "_") for name in described.get("label_names") or ()]
    if network.num_classes == 1:
        return network, 0
    if "watermark" not in labels:
        raise ValueError(f"watermark.model {model} has no class `watermark` but {', '.join(labels) or 'no labels'}")
    return network, labels.index("watermark")
