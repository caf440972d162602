"""Published neural codecs through `transformers`: EnCodec, DAC and Mimi behind the `AudioTokenizer` protocol."""

import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, DacModel, EncodecModel, MimiModel
from transformers.utils import logging as transformers_logging

from tokenize_shards.base import check_indices, fingerprint

CODECS: dict[str, Any] = {"encodec": EncodecModel, "dac": DacModel, "mimi": MimiModel}


class TransformersCodec(nn.Module):
    """A codec of transformers; an `AudioTokenizer`. Sounds are coded one by one, so that none depends on another.

    Args:
        model: an EnCodec (24 kHz, mono), DAC or Mimi model.
        num_quantizers: the first so many levels are kept; None: all that the model has.

    Raises:
        ValueError: the codec is not mono, scales its input (the codes alone could then not be decoded), or has
            fewer levels than asked for.
    """

    def __init__(self, model: nn.Module, name: str, num_quantizers: int | None = None) -> None:
        super().__init__()
        config: Any = model.config
        self.model: Any = model
        self.kind = config.model_type
        self.name = name
        self.fingerprint = ""
        if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False):
            raise ValueError(f"{name} is a stereo codec with a scale beside its codes; a mono one is needed (24 kHz)")
        levels = config.n_codebooks if self.kind == "dac" else config.num_quantizers
        if num_quantizers is not None and not 1 <= num_quantizers <= levels:
            raise ValueError(f"{num_quantizers} levels of codes asked of {name}, which has 1 to {levels}")
        self.num_quantizers = num_quantizers or levels
        self.codebook_size = config.codebook_size
        self.sample_rate_hz = config.sampling_rate
        self.hop = _hop(config)

    def num_codes(self, num_samples: int) -> int:
        """Samples / hop, rounded down; the samples beyond the last whole hop are not coded."""
        return num_samples // self.hop

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """B 1 T in [-1, 1] → B Q T' int64.

        Raises:
            ValueError: fewer samples than one hop, or more than one channel.
        """
        codes = self.num_codes(audio.shape[-1])
        if audio.dim() != 3 or audio.shape[1] != 1 or codes < 1:
            raise ValueError(f"sound of shape {tuple(audio.shape)}; this codec takes B x 1 x T, T at least {self.hop}")
        audio = audio[:, :, : codes * self.hop].to(self.device)
        return torch.cat([self._encode_one(sound)[:, : self.num_quantizers, :codes] for sound in audio.split(1)])

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """B Q' T' int64, the first Q' ≤ Q levels → B 1 T'·hop float32 in [-1, 1]."""
        check_indices(codes, self.codebook_size)
        if not 1 <= codes.shape[1] <= self.num_quantizers:
            raise ValueError(f"{codes.shape[1]} levels of codes; this codec has {self.num_quantizers}")
        samples = codes.shape[2] * self.hop
        sounds = [self._decode_one(part).reshape(1, 1, -1) for part in codes.to(self.device).split(1)]
        # DAC's paddings of odd strides give a few samples less or more than whole hops
        return torch.cat([F.pad(sound, (0, samples - sound.shape[2])) for sound in sounds]).clamp_(-1, 1)

    def _encode_one(self, sound: Tensor) -> Tensor:
        if self.kind == "encodec":
            return self.model.encode(sound, bandwidth=self.model.config.target_bandwidths[-1]).audio_codes[0]
        return self.model.encode(sound).audio_codes

    def _decode_one(self, codes: Tensor) -> Tensor:
        if self.kind == "encodec":
            return self.model.decode(codes[None], [None]).audio_values
        return self.model.decode(audio_codes=codes).audio_values

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device


def _hop(config: Any) -> int:
    if config.model_type == "mimi":
        return round(config.sampling_rate / config.frame_rate)
    return math.prod(config.upsampling_ratios if config.model_type == "encodec" else config.downsampling_ratios)


def load_transformers_codec(folder: Path, name: str, levels: str = "") -> TransformersCodec | None:
    """The codec of a folder that `save_pretrained` made; None where it is not one of `CODECS`.

    Args:
        levels: how many levels of codes to keep, as text; empty keeps all.

    Raises:
        ValueError: the folder has no safetensors weights, or the codec is not one we can take.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in CODECS:
        return None
    if levels and not levels.isdigit():
        raise ValueError(f"{name}: {levels!r} is no number of levels; write NAME#8 to keep the first 8")
    transformers_logging.disable_progress_bar()
    try:
        settings = AutoConfig.from_pretrained(folder)
        model = CODECS[kind].from_pretrained(folder, config=settings, dtype=torch.float32, use_safetensors=True)
    except OSError as error:
        raise ValueError(f"{folder} does not load as {kind}: {str(error).splitlines()[0]}") from error
    codec = TransformersCodec(model, name, int(levels) if levels else None)
    identity = {"config": config, "num_quantizers": codec.num_quantizers}
    codec.fingerprint = fingerprint(identity, *sorted(folder.glob("*.safetensors")))
    return codec.eval()
