"""Feature networks of FVD, FAD, CLIPSIM and the inception score: TorchScript files, or models of transformers.

A figure is only as comparable as its network and its input, so each network says what it is in `about`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
)
from transformers.utils import logging as transformers_logging

from tokenize_shards.base import fingerprint
from tokenize_shards.loading import resolve

# What the I3D that StyleGAN-V and its followers share takes besides the clip: features, of pixels as they are.
_I3D_OPTIONS = {"rescale": False, "resize": False, "return_features": True}


class _Network:
    """A TorchScript file or a model of transformers, on a device.

    Raises:
        FileNotFoundError: there is no such file, folder or hub repository within reach.
        ValueError: it does not load.
    """

    def __init__(self, name: str, auto_class: Any, device: torch.device):
        self.name, self.device = name, device
        self.script = name.endswith((".pt", ".ts", ".torchscript"))
        transformers_logging.disable_progress_bar()
        if self.script:
            if not Path(name).is_file():
                raise FileNotFoundError(f"no feature network {name}; name a TorchScript file, a folder or a hub id")
            files, self.folder = [Path(name)], Path(name).parent
        else:
            self.folder = resolve(name, "none")
            files = sorted([*self.folder.glob("*.json"), *self.folder.glob("*.safetensors")])
        try:
            self.model: Any = torch.jit.load(name, device) if self.script else self._pretrained(auto_class)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"feature network {name} does not load: {str(error).splitlines()[0]}") from error
        self.model.eval()
        self.about = {"network": name, "fingerprint": fingerprint({}, *files)}

    def _pretrained(self, auto_class: Any) -> Any:
        return auto_class.from_pretrained(self.folder, use_safetensors=True, dtype=torch.float32).to(self.device)

    def _run_script(self, inputs: Tensor) -> np.ndarray:
        """(D,): the first output, what is left of time and space averaged."""
        known = {argument.name for argument in self.model.forward.schema.arguments}
        options = _I3D_OPTIONS if known.issuperset(_I3D_OPTIONS) else {}
        with torch.jit.optimized_execution(False):
            made = self.model(inputs.to(self.device), **options)
        made = made[0] if isinstance(made, tuple | list) else made
        return made.float().reshape(-1, made.shape[-1]).mean(dim=0).cpu().numpy()


class VideoNetwork(_Network):
    """Features of clips, or classes where `classify`.

    Args:
        frame_size: side in pixels that frames are resized to for TorchScript; a model of transformers brings its own.
    """

    def __init__(self, name: str, device: torch.device, frame_size: int = 224, classify: bool = False):
        super().__init__(name, AutoModelForVideoClassification if classify else AutoModel, device)
        self.frame_size, self.classify = frame_size, classify
        self.processor: Any = None if self.script else AutoImageProcessor.from_pretrained(self.folder)

    @torch.inference_mode()
    def __call__(self, clip_THWC: np.ndarray) -> np.ndarray:
        """(T H W 3) uint8 → features (D,), or the probabilities of classes (K,)."""
        row = self._of_script(clip_THWC) if self.script else self._of_transformers(clip_THWC)
        return torch.from_numpy(row).double().softmax(0).numpy() if self.classify else row

    def _of_script(self, clip_THWC: np.ndarray) -> np.ndarray:
        frames = torch.from_numpy(np.ascontiguousarray(clip_THWC)).permute(0, 3, 1, 2).float() / 127.5 - 1
        side = (self.frame_size, self.frame_size)
        sized = F.interpolate(frames, side, mode="bilinear", align_corners=False, antialias=True)
        return self._run_script(sized.permute(1, 0, 2, 3)[None])

    def _of_transformers(self, clip_THWC: np.ndarray) -> np.ndarray:
        count = getattr(self.model.config, "num_frames", len(clip_THWC))
        chosen = clip_THWC[np.linspace(0, len(clip_THWC) - 1, count).round().astype(int)]
        pixels = self.processor(list(chosen), return_tensors="pt")["pixel_values"]
        pixels = pixels if pixels.dim() == 5 else pixels[None]
        output = self.model(pixel_values=pixels.to(self.device))
        row = output.logits[0] if self.classify else output.last_hidden_state[0].mean(dim=0)
        return row.float().cpu().numpy()


class AudioNetwork(_Network):
    """Features of sound."""

    def __init__(self, name: str, device: torch.device):
        super().__init__(name, AutoModel, device)
        self.extractor: Any = None if self.script else AutoFeatureExtractor.from_pretrained(self.folder)

    @torch.inference_mode()
    def __call__(self, sound_T: np.ndarray, rate_hz: int) -> np.ndarray:
        """Mono samples (T,) in [-1, 1] → features (D,), the mean over time."""
        if self.script:
            return self._run_script(torch.from_numpy(np.ascontiguousarray(sound_T, np.float32))[None])
        wanted = self.extractor.sampling_rate
        if wanted != rate_hz:
            sound_T = resampled(sound_T, round(len(sound_T) * wanted / rate_hz))
        inputs = self.extractor(sound_T.astype(np.float32), sampling_rate=wanted, return_tensors="pt").to(self.device)
        return self.model(**inputs).last_hidden_state[0].mean(dim=0).float().cpu().numpy()


def resampled(sound_T: np.ndarray, count: int) -> np.ndarray:
    """The sound in so many samples, by its spectrum: what the lower of the two rates cannot hold is left out."""
    return np.fft.irfft(np.fft.rfft(sound_T)[: count // 2 + 1], count) * (count / len(sound_T))


class ClipNetwork(_Network):
    """Joint embeddings of frames and captions, by a CLIP model of transformers."""

    def __init__(self, name: str, device: torch.device):
        if name.endswith((".pt", ".ts", ".torchscript")):
            raise ValueError(f"CLIPSIM wants a CLIP model of transformers (a folder or hub id), not {name}")
        super().__init__(name, AutoModel, device)
        self.processor: Any = AutoProcessor.from_pretrained(self.folder)

    @torch.inference_mode()
    def frames(self, clip_THWC: np.ndarray) -> np.ndarray:
        """(T H W 3) uint8 → (T, D)."""
        inputs = self.processor(images=list(clip_THWC), return_tensors="pt")
        return _embedding(self.model.get_image_features(pixel_values=inputs["pixel_values"].to(self.device)))

    @torch.inference_mode()
    def text(self, caption: str) -> np.ndarray:
        """(D,)"""
        inputs = self.processor(text=[caption], return_tensors="pt", truncation=True).to(self.device)
        return _embedding(self.model.get_text_features(**inputs))[0]


def _embedding(output: Any) -> np.ndarray:
    """The projected rows, whichever way this version of transformers gives them."""
    tensor = output if isinstance(output, Tensor) else output.pooler_output
    return tensor.float().cpu().numpy()
