"""A video tokenizer published as two TorchScript files, as NVIDIA's Cosmos discrete tokenizers are.

    encoder.jit   video B 3 T H W in [-1, 1] → codes B t h w, alone or first of a tuple
    decoder.jit   codes B t h w → video

Strides are measured by running the encoder once. TorchScript holds a program as well as weights, and loading the files
runs it: take them only from where you would take code.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenize_shards.base import causal_grid, check_indices, fingerprint

PAIR = ("encoder.jit", "decoder.jit")
MODEL_TYPE = "torchscript"
COSMOS_CODES = 64_000  # finite scalar quantization of (8, 8, 8, 5, 5, 5) levels, in every discrete Cosmos tokenizer
_PROBE_SIDE, _PROBE_FRAMES = 64, 17


class TorchScriptTokenizer(nn.Module):
    """An encoder and a decoder in TorchScript; a `VideoTokenizer`."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, codebook_size: int, strides: tuple[int, int], name: str
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.codebook_size = codebook_size
        self.temporal_stride, self.spatial_stride = strides
        self.name = name
        self.fingerprint = ""
        self.bit_order: str | None = None
        self.code_type = _codes(encoder, _blank(encoder, 1)).dtype

    def grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(t, h, w); ValueError for a size that does not fit the strides."""
        return causal_grid(num_frames, height, width, self.temporal_stride, self.spatial_stride)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        """B 3 T H W in [-1, 1] → B t h w int64, one clip at a time: bytes do not depend on the batch."""
        self.grid(*video.shape[2:])
        place, kind = _home(self.encoder)
        return torch.cat([_codes(self.encoder, part) for part in video.to(place, kind).split(1)]).long()

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """B t h w int64 → B 3 T H W float32 in [-1, 1]."""
        check_indices(indices, self.codebook_size)
        indices = indices.to(_home(self.encoder)[0], self.code_type)
        with torch.jit.optimized_execution(False):
            parts = [self.decoder(part) for part in indices.split(1)]
        return torch.cat([part[0] if isinstance(part, tuple) else part for part in parts]).float().clamp_(-1, 1)


def load_torchscript_pair(folder: Path) -> TorchScriptTokenizer:
    """The tokenizer of a folder with `encoder.jit` and `decoder.jit`.

    A `config.json` beside them may say `codebook_size` where the files do not tell it.

    Raises:
        ValueError: a file is not TorchScript, the encoder gives no codes, or the number of codes is not known.
    """
    encoder, decoder = (_load(folder / name) for name in PAIR)
    try:
        strides = _measure_strides(encoder)
    except (RuntimeError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            f"{folder}/encoder.jit does not turn a video (1 x 3 x {_PROBE_FRAMES} x {_PROBE_SIDE} x {_PROBE_SIDE}) "
            f"into codes (1 x t x h x w): {str(error).strip().splitlines()[-1]}"
        ) from error
    size = _codebook_size(folder, encoder)
    model = TorchScriptTokenizer(encoder, decoder, size, strides, folder.name)
    files = [folder / name for name in PAIR]
    model.fingerprint = fingerprint({"model_type": MODEL_TYPE, "codebook_size": size}, *files)
    return model.eval()


def _load(path: Path) -> nn.Module:
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise ValueError(f"{path} does not load as TorchScript: {str(error).splitlines()[0]}") from error


def _home(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    for tensor in module.parameters():
        return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def _blank(encoder: nn.Module, frames: int) -> Tensor:
    place, kind = _home(encoder)
    return torch.zeros(1, 3, frames, _PROBE_SIDE, _PROBE_SIDE, device=place, dtype=kind)


def _codes(encoder: nn.Module, video: Tensor) -> Tensor:
    """The encoder's codes. Without the profiling executor, whose first runs may round otherwise than later ones."""
    with torch.no_grad(), torch.jit.optimized_execution(False):
        made = encoder(video)
    codes = made[0] if isinstance(made, tuple | list) else made
    if codes.is_floating_point() or codes.dim() != 4:
        raise TypeError(f"it gives {codes.dtype} of shape {tuple(codes.shape)}, not codes: a continuous tokenizer?")
    return codes


def _measure_strides(encoder: nn.Module) -> tuple[int, int]:
    image, clip = _codes(encoder, _blank(encoder, 1)), _codes(encoder, _blank(encoder, _PROBE_FRAMES))
    if image.shape[1] != 1:
        raise TypeError(f"an image gives {image.shape[1]} latent frames; frame 0 must stand alone")
    return (_PROBE_FRAMES - 1) // (clip.shape[1] - 1), _PROBE_SIDE // image.shape[3]


def _codebook_size(folder: Path, encoder: nn.Module) -> int:
    """From config.json, from the quantizer's own table of levels, or, for Cosmos, what its paper says."""
    config: Any = {}
    if (folder / "config.json").is_file():
        config = json.loads((folder / "config.json").read_text())
    if isinstance(config, Mapping) and isinstance(config.get("codebook_size"), int):
        return config["codebook_size"]
    for name, levels in encoder.named_buffers():
        if name.rsplit(".", 1)[-1].strip("_") == "levels" and levels.dim() == 1:
            return math.prod(levels.tolist())
    if "cosmos" in str(folder).lower():
        return COSMOS_CODES
    raise ValueError(
        f"the files in {folder} do not say how many codes there are; add a config.json with "
        '{"codebook_size": 64000} or whatever the number is'
    )
