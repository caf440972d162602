"""SoundStream (arXiv 2107.03312): a causal convolutional codec with residual vector quantization.

    sound B 1 T ── encoder (strides 2, 4, 5, 8) ── D channels at T/320 ── RVQ ── codes B Q T'
    codes ── sum of code vectors ── decoder (8, 5, 4, 2) ── sound B 1 T'·320

No sample of the output depends on codes, and no code on samples, that come later.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from tokenize_shards.base import Quantized, check_indices
from tokenize_shards.causal import Stream
from tokenize_shards.residual_vq import ResidualVQ
from tokenize_shards.soundstream_layers import Activation, CausalConv1d, CausalUpsample1d, Codec, ResidualUnit


@dataclass(frozen=True)
class SoundStreamConfig:
    """The shape of the codec. The defaults are SoundStream at the rate VideoPoet uses (arXiv 2312.14125 §3.1).

    Attributes:
        channels: width of the first layer; doubled at each stride.
        strides: downsampling of each block; their product is the hop.
        dilations: of the residual units of each block.
        width: D, channels of the latents and of the code vectors.
        num_quantizers: Q, levels of codes.
        codebook_size: codes a level.
        sample_rate_hz: of the sound.
    """

    channels: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    dilations: tuple[int, ...] = (1, 3, 9)
    width: int = 512
    num_quantizers: int = 4
    codebook_size: int = 1024
    sample_rate_hz: int = 16_000

    def __post_init__(self) -> None:
        if not 1 <= self.num_quantizers <= 64:
            raise ValueError(f"num_quantizers is {self.num_quantizers}; from 1 to 64 are possible")
        if min(self.strides) < 1 or min(self.dilations) < 1:
            raise ValueError(f"strides {self.strides} and dilations {self.dilations} must be positive")

    @property
    def hop(self) -> int:
        """Samples a code."""
        return math.prod(self.strides)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "SoundStreamConfig":
        """From JSON or YAML, where tuples are lists; ValueError for a key that is not a field."""
        unknown = set(fields) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(
                f"unknown SoundStream settings {sorted(unknown)}; known: {sorted(cls.__dataclass_fields__)}"
            )
        tupled: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**tupled)


TINY = SoundStreamConfig(channels=16, width=64)
BASE = SoundStreamConfig()
SIZES = {"tiny": TINY, "base": BASE}


def build_encoder(config: SoundStreamConfig) -> Codec:
    """Sound to latents: B 1 T → B D T/hop."""
    width = config.channels
    layers: list[nn.Module] = [CausalConv1d(1, width, 7)]
    for stride in config.strides:
        layers += [ResidualUnit(width, dilation) for dilation in config.dilations]
        layers += [Activation(), CausalConv1d(width, 2 * width, 2 * stride, stride)]
        width *= 2
    return Codec([*layers, Activation(), CausalConv1d(width, config.width, 3)])


def build_decoder(config: SoundStreamConfig) -> Codec:
    """Latents to sound: B D T' → B 1 T'·hop."""
    width = config.channels * 2 ** len(config.strides)
    layers: list[nn.Module] = [CausalConv1d(config.width, width, 7)]
    for stride in reversed(config.strides):
        layers += [Activation(), CausalUpsample1d(width, width // 2, stride)]
        width //= 2
        layers += [ResidualUnit(width, dilation) for dilation in config.dilations]
    return Codec([*layers, Activation(), CausalConv1d(width, 1, 7)])


def start_with_unit_gain(codec: Codec) -> None:
    """Starting weights with which every convolution hands noise on as loud as it came, and no offsets.

    Torch's own are √3 quieter at each layer and have offsets: after thirty layers these are all that is left, every
    sound has the same codes, and training ends in silence.
    """
    for layer in codec.modules():
        if isinstance(layer, nn.Conv1d | nn.ConvTranspose1d):
            taps = layer.kernel_size[0] // (layer.stride[0] if isinstance(layer, nn.ConvTranspose1d) else 1)
            nn.init.normal_(layer.weight, std=(layer.in_channels * taps) ** -0.5)
            nn.init.zeros_(cast(Tensor, layer.bias))


def start_as_cosine_codec(encoder: Codec, decoder: Codec, config: SoundStreamConfig) -> None:
    """Starting weights with which encoder and decoder are a block cosine transform and its inverse.

    A deep network without norms that starts at random needs long to hand anything on. Instead, the strided
    convolutions gather the samples of a frame in order, the last of them takes their lowest cosines, and the decoder
    undoes it; residual branches begin at zero. Values stay small on the way, where ELU is nearly the identity. What
    is not on this path keeps its random weights.

    Where a level is too narrow to gather its samples, the random start is kept.
    """
    gathered = [math.prod(config.strides[: n + 1]) for n in range(len(config.strides))]
    widths = [config.channels * 2 ** (n + 1) for n in range(len(config.strides))]
    if any(samples > width for samples, width in zip(gathered[:-1], widths[:-1], strict=True)):
        return
    for unit in [*encoder.modules(), *decoder.modules()]:
        if isinstance(unit, ResidualUnit):
            nn.init.zeros_(unit.point.conv.weight)
    down = [layer for layer in encoder.layers if isinstance(layer, CausalConv1d)]
    up = [layer for layer in decoder.layers if isinstance(layer, CausalConv1d | CausalUpsample1d)][::-1]
    loudness = config.hop**0.5
    _put(down[0], torch.ones(1, 1, 1), 0.1)
    _put(up[0], torch.ones(1, 1, 1), 10.0)
    for level, stride in enumerate(config.strides):
        before, rows = gathered[level] // stride, min(gathered[level], widths[level])
        last = level == len(config.strides) - 1
        basis = cosines(gathered[level])[:rows] if last else torch.eye(gathered[level])
        taps = basis.view(rows, stride, before).transpose(1, 2)  # sample number = tap · before + channel
        _put(down[level + 1], taps, 1 / loudness if last else 1.0)
        _put(up[level + 1], taps, loudness if last else 1.0)
    kept = torch.eye(min(config.width, rows)).unsqueeze(2)
    _put(down[-1], kept, 10 * loudness)
    _put(up[-1], kept, 0.1 / loudness, outputs=rows)


def cosines(size: int) -> Tensor:
    """The orthonormal cosine transform (DCT-II), size x size, lowest frequency first."""
    n = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * (n[None] + 0.5) * n[:, None]) * (2 / size) ** 0.5
    basis[0] /= 2**0.5
    return basis.float()


@torch.no_grad()
def _put(layer: nn.Module, taps: Tensor, scale: float, outputs: int = 0) -> None:
    """Makes the first outputs of a layer exactly `taps` (coarse, fine, time) of its first inputs at the present frame.

    Args:
        outputs: how many outputs read nothing else; by default those of `taps`.
    """
    coarse, fine, length = taps.shape
    weight = cast(nn.Conv1d, layer.conv).weight
    if isinstance(layer, CausalUpsample1d):  # weight (in, out, time): from coarse to fine
        weight[:, : outputs or fine] = 0
        weight[:coarse, :fine, :length] = scale * taps
    else:
        weight[: outputs or coarse] = 0
        weight[:coarse, :fine, weight.shape[2] - length :] = scale * taps


class SoundStream(nn.Module):
    """The SoundStream codec; an `AudioTokenizer`."""

    model_type = "soundstream"

    def __init__(self, config: SoundStreamConfig = BASE, name: str = "soundstream") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.fingerprint = ""
        self.encoder = build_encoder(config)
        self.quantizer = ResidualVQ(config.width, config.num_quantizers, config.codebook_size)
        self.decoder = build_decoder(config)
        start_with_unit_gain(self.encoder)
        start_with_unit_gain(self.decoder)
        start_as_cosine_codec(self.encoder, self.decoder, config)
        self.codebook_size = config.codebook_size
        self.num_quantizers = config.num_quantizers
        self.sample_rate_hz = config.sample_rate_hz
        self.hop = config.hop

    def config_dict(self) -> dict[str, Any]:
        """What `config.json` holds besides the name and the type."""
        return asdict(self.config)

    def num_codes(self, num_samples: int) -> int:
        """Samples / hop, rounded down; the samples beyond the last whole hop are not coded."""
        return num_samples // self.hop

    def forward(self, audio: Tensor) -> tuple[Tensor, Quantized]:
        """Reconstruction (B 1 T) and quantized latents with their losses, for training; T a multiple of the hop."""
        quantized = self.quantizer(self.encoder(audio))
        return self.decoder(quantized.values), quantized

    @torch.no_grad()
    def encode(self, audio: Tensor, stream: Stream | None = None) -> Tensor:
        """B 1 T in [-1, 1] → B Q T' int64, with all levels.

        Args:
            stream: continue where the last piece of the same sound ended; pieces must be multiples of the hop.

        Raises:
            ValueError: fewer samples than one hop, more than one channel, or an uneven piece of a stream.
        """
        codes = self.num_codes(audio.shape[-1])
        if audio.dim() != 3 or audio.shape[1] != 1 or codes < 1:
            raise ValueError(f"sound of shape {tuple(audio.shape)}; this codec takes B x 1 x T, T at least {self.hop}")
        if stream is not None and audio.shape[2] % self.hop:
            raise ValueError(f"a piece of {audio.shape[2]} samples; pieces of a stream are multiples of {self.hop}")
        audio = audio[:, :, : codes * self.hop].to(self.device)
        parts = audio.split(1) if stream is None and audio.device.type == "cpu" else (audio,)
        return torch.cat([self._quantize(self.encoder(part, stream)) for part in parts])

    @torch.no_grad()
    def decode(self, codes: Tensor, stream: Stream | None = None) -> Tensor:
        """B Q' T' int64, the first Q' ≤ Q levels → B 1 T'·hop in [-1, 1]."""
        check_indices(codes, self.codebook_size)
        latents = self.quantizer.decode(codes.to(self.device))
        parts = latents.split(1) if stream is None and latents.device.type == "cpu" else (latents,)
        return torch.cat([self.decoder(part, stream) for part in parts]).clamp_(-1, 1)

    def _quantize(self, latents: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("call eval() before encode: in training mode the quantizer learns from what it codes")
        return self.quantizer.encode(latents)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.quantizer.codebooks.device
