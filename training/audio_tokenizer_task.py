"""What the tokenizer loop does for sound: random stretches, SoundStream's losses, SI-SDR and mel distance."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tokenize_shards.loading import load_audio_tokenizer
from tokenize_shards.soundstream import SIZES, SoundStream, SoundStreamConfig
from training.clips_data import audio_batch, held_back_test, load_audio
from training.discriminators import AudioDiscriminators
from training.losses import MultiScaleMel, feature_matching, hinge_discriminator, hinge_generator
from training.settings_tokenizers import AudioTokenizerTraining
from training.tokenizer_loop import TokenizerLoop, make_fabric


def build_model(settings: AudioTokenizerTraining) -> SoundStream:
    """The model of the settings, with fresh weights or those of `start_from`."""
    config = SoundStreamConfig.from_dict({**asdict(SIZES[settings.size]), **settings.model})
    model = SoundStream(config, settings.name)
    model.quantizer.commitment_weight = settings.losses.commitment_weight
    model.quantizer.min_usage = settings.losses.min_code_usage
    model.quantizer.dropout = settings.losses.code_dropout
    if settings.start_from:
        source = cast(nn.Module, load_audio_tokenizer(settings.start_from, "cpu"))
        try:
            model.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise ValueError(f"start_from {settings.start_from} is another network: {error}") from error
    return model


class AudioTask:
    """Batches, losses and measures of a SoundStream tokenizer; a `TokenizerTask`."""

    def __init__(self, settings: AudioTokenizerTraining, device: torch.device) -> None:
        self.settings = settings
        self.model = build_model(settings).to(device)
        self.train_sounds, self.val_sounds = load_audio(
            Path(settings.data), self.model.sample_rate_hz, settings.sounds, held_back_test(settings.held_back)
        )
        codes = self.model.num_codes(round(settings.sounds.duration_s * self.model.sample_rate_hz))
        if codes < 1:
            raise ValueError(f"sounds.duration_s {settings.sounds.duration_s} is shorter than one code")
        self.length = codes * self.model.hop
        losses = settings.losses
        self.mel = MultiScaleMel(self.model.sample_rate_hz, losses.mel_windows).to(device)
        self.adversary = AudioDiscriminators().to(device) if losses.adversarial_weight else None
        self.adversary_start = losses.adversarial_start
        self._reconstruction: Tensor | None = None

    def batch(self, step: int, generator: torch.Generator) -> Tensor:
        """B 1 T in [-1, 1]."""
        return audio_batch(self.train_sounds, self.settings.optimisation.batch_size, self.length, generator)

    def losses(self, model: nn.Module, adversary: nn.Module | None, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Mel, waveform, commitment, adversarial and feature losses (SoundStream, arXiv 2107.03312 §III-E)."""
        weights = self.settings.losses
        self.model.quantizer.active = step >= weights.quantizer_start
        reconstruction, quantized = model(batch)
        reconstruction = reconstruction.float()
        losses = {"mel": weights.mel_weight * self.mel(reconstruction, batch), **quantized.losses}
        if weights.waveform_weight:
            losses["waveform"] = weights.waveform_weight * F.l1_loss(reconstruction, batch)
        if adversary is not None:
            fake_logits, fake_features = adversary(reconstruction)
            with torch.no_grad():
                _, real_features = adversary(batch)
            losses["adversarial"] = weights.adversarial_weight * hinge_generator(fake_logits)
            losses["features"] = weights.feature_weight * feature_matching(real_features, fake_features)
        losses["_si_sdr_db"] = si_sdr(reconstruction.detach(), batch).mean()
        self._reconstruction = reconstruction.detach()
        return losses

    def adversary_losses(self, model: nn.Module, adversary: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        """The hinge loss of the four discriminators."""
        real, _ = adversary(batch)
        fake, _ = adversary(cast(Tensor, self._reconstruction))
        return {"discriminator": hinge_discriminator(real, fake)}

    def validate(self, model: nn.Module, limit: int, writer: SummaryWriter | None, step: int) -> dict[str, float]:
        """SI-SDR in dB and mel distance with all levels of codes, the same with one, and use of the codes."""
        sounds = self.val_sounds[: limit or None]
        if not sounds:
            return {}
        tokenizer = cast(SoundStream, model)
        rows = [self._measure(tokenizer, sound, writer if n < 4 else None, n, step) for n, sound in enumerate(sounds)]
        measures = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name != "codes"}
        codes = torch.cat([cast(Tensor, row["codes"]) for row in rows], dim=1)
        measures["perplexity_level_1"] = perplexity(codes[0], tokenizer.codebook_size)
        measures[f"perplexity_level_{len(codes)}"] = perplexity(codes[-1], tokenizer.codebook_size)
        return measures

    def _measure(
        self, tokenizer: SoundStream, sound: np.ndarray, writer: SummaryWriter | None, number: int, step: int
    ) -> dict[str, Any]:
        audio = torch.from_numpy(sound.astype(np.float32) / 32767)[None, None, : 10 * tokenizer.sample_rate_hz]
        audio = F.pad(audio, (0, max(0, tokenizer.hop - audio.shape[2])))
        codes = tokenizer.encode(audio)
        decoded = tokenizer.decode(codes).cpu()
        coarse = tokenizer.decode(codes[:, :1]).cpu()
        audio = audio[:, :, : decoded.shape[2]]
        if writer is not None:
            writer.add_audio(f"val/{number}", decoded[0], step, tokenizer.sample_rate_hz)
        mel = self.mel.cpu()
        row = {
            "si_sdr_db": float(si_sdr(decoded, audio)),
            "mel_distance": float(mel(decoded, audio)),
            "si_sdr_db_1_level": float(si_sdr(coarse, audio)),
            "mel_distance_1_level": float(mel(coarse, audio)),
            "codes": codes[0].cpu(),
        }
        self.mel.to(next(self.model.parameters()).device)
        return row

    def extra_state(self) -> dict[str, Any]:
        """Nothing beyond the modules."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to take back."""


def si_sdr(reconstruction: Tensor, audio: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019): B 1 T, both → B."""
    fake, real = reconstruction.squeeze(1), audio.squeeze(1)
    scale = (fake * real).sum(dim=1, keepdim=True) / real.square().sum(dim=1, keepdim=True).clamp_min(1e-8)
    target = scale * real
    noise = (fake - target).square().sum(dim=1).clamp_min(1e-8)
    return 10 * (target.square().sum(dim=1).clamp_min(1e-8) / noise).log10()


def perplexity(codes: Tensor, codebook_size: int) -> float:
    """exp of the entropy of code use, from 1 (one code) to `codebook_size` (all alike)."""
    share = torch.bincount(codes.flatten(), minlength=codebook_size).double()
    share = share / share.sum()
    return float((-(share * share.clamp_min(1e-12).log()).sum()).exp())


def train(settings: AudioTokenizerTraining) -> dict[str, float]:
    """Trains (or goes on with) a codec and exports OUTPUT/tokenizer; gives the held-back measures."""
    fabric: Fabric = make_fabric(settings.running)
    task = AudioTask(settings, fabric.device)
    loop = TokenizerLoop(task, settings.optimisation, settings.running, Path(settings.output), fabric)
    return loop.run()
