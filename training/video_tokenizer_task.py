"""What the tokenizer loop does for video: batches of windows, MAGVIT-v2's losses, PSNR and use of the bits."""

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

from tokenize_shards import cvivit, magvit2
from tokenize_shards.cosine_vq import CosineVQ
from tokenize_shards.cvivit import CViViT, CViViTConfig
from tokenize_shards.loading import load_video_tokenizer
from tokenize_shards.magvit2 import Magvit2, Magvit2Config
from tokenize_shards.quantizers import LFQ, LFQLossConfig, annealed, bit_use
from training.clips_data import centre_crop, crop_batch, held_back_test, load_video_windows, spread
from training.discriminators import VideoDiscriminator
from training.inflation import inflate
from training.losses import (
    LeCam,
    PerceptualLoss,
    non_saturating_discriminator,
    non_saturating_generator,
    r1_penalty,
)
from training.settings_tokenizers import VideoLosses, VideoTokenizerTraining
from training.tokenizer_loop import TokenizerLoop, make_fabric


def build_model(settings: VideoTokenizerTraining) -> Magvit2 | CViViT:
    """The model of the settings, with fresh weights or those of `start_from`.

    Raises:
        ValueError: the architecture has no such size, a field of `model` does not exist, or `start_from` does not fit.
    """
    model = _fresh_model(settings)
    if isinstance(model.quantizer, CosineVQ):
        model.quantizer.commitment_weight = settings.losses.commitment_weight
        model.quantizer.min_usage = settings.losses.min_code_usage
    if settings.start_from:
        source = cast(nn.Module, load_video_tokenizer(settings.start_from, "cpu"))
        model.load_state_dict(inflate(source.state_dict(), model.state_dict()))
    return model


def _fresh_model(settings: VideoTokenizerTraining) -> Magvit2 | CViViT:
    losses = settings.losses
    quantizer = LFQLossConfig(
        entropy_weight=losses.entropy_weight,
        diversity=losses.diversity,
        commitment_weight=losses.commitment_weight,
        temperature=losses.temperature,
        group_bits=losses.group_bits,
        max_tokens=losses.entropy_tokens,
    )
    name, size = settings.name or settings.architecture, settings.size
    if settings.architecture == "magvit2":
        return Magvit2(Magvit2Config.from_dict({**asdict(magvit2.SIZES[size]), **settings.model}), quantizer, name)
    if size not in cvivit.SIZES:
        raise ValueError(f"C-ViViT has no size {size!r}, only {', '.join(cvivit.SIZES)}")
    return CViViT(CViViTConfig.from_dict({**asdict(cvivit.SIZES[size]), **settings.model}), quantizer, name)


class VideoTask:
    """Batches, losses and measures of a MAGVIT-v2 or C-ViViT tokenizer; a `TokenizerTask`."""

    def __init__(self, settings: VideoTokenizerTraining, device: torch.device) -> None:
        self.settings = settings
        self.model = build_model(settings).to(device).to(memory_format=torch.channels_last_3d)
        clips = settings.clips
        self.model.grid(clips.num_frames, clips.crop, clips.crop)
        self.model.grid(clips.num_frames, clips.resolution, clips.resolution)
        self.train_windows, self.val_windows = load_video_windows(
            Path(settings.data), clips, held_back_test(settings.held_back)
        )
        losses = settings.losses
        self.adversary = VideoDiscriminator().to(device) if losses.adversarial_weight else None
        self.adversary_start = losses.adversarial_start
        self.perceptual = PerceptualLoss(losses.perceptual_trunk).to(device) if losses.perceptual_trunk else None
        self.lecam = LeCam()
        self._reconstruction: Tensor | None = None

    def crop(self, step: int) -> tuple[int, int]:
        """(crop, batch size) at a step: larger crops, fewer of them, towards the end."""
        clips, optimisation = self.settings.clips, self.settings.optimisation
        if clips.final_crop and step >= (1 - clips.final_share) * optimisation.steps:
            batch = optimisation.batch_size * clips.crop**2 // clips.final_crop**2
            return clips.final_crop, max(1, batch)
        return clips.crop, optimisation.batch_size

    def batch(self, step: int, generator: torch.Generator) -> Tensor:
        """B 3 T crop crop in [-1, 1]."""
        crop, size = self.crop(step)
        batch = crop_batch(self.train_windows, size, self.settings.clips.num_frames, crop, generator)
        return batch.contiguous(memory_format=torch.channels_last_3d)

    def losses(self, model: nn.Module, adversary: nn.Module | None, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Reconstruction, code, perceptual and adversarial losses (MAGVIT-v2, arXiv 2310.05737)."""
        weights = self.settings.losses
        if isinstance(self.model.quantizer, LFQ):
            self.model.quantizer.entropy_factor = annealed(
                1.0, step, weights.entropy_anneal_ratio, weights.entropy_anneal_steps
            )
        else:
            self.model.quantizer.active = step >= weights.quantizer_start
        reconstruction, quantized = model(batch)
        reconstruction = reconstruction.float()
        losses = {"reconstruction": _reconstruction_loss(reconstruction, batch, weights), **quantized.losses}
        if self.perceptual is not None:
            losses["perceptual"] = weights.perceptual_weight * self.perceptual(reconstruction, batch)
        if adversary is not None:
            losses["adversarial"] = weights.adversarial_weight * non_saturating_generator(adversary(reconstruction))
        losses["_psnr_db"] = psnr(reconstruction.detach(), batch).mean()
        self._reconstruction = reconstruction.detach()
        return losses

    def adversary_losses(self, model: nn.Module, adversary: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Non-saturating loss, LeCAM, and R1 every few steps."""
        weights = self.settings.losses
        real, fake = adversary(batch).float(), adversary(cast(Tensor, self._reconstruction)).float()
        losses = {"discriminator": non_saturating_discriminator(real, fake)}
        if weights.lecam_weight:
            losses["lecam"] = weights.lecam_weight * self.lecam(real, fake)
        if weights.r1_weight and step % weights.r1_every == 0:
            losses["r1"] = weights.r1_weight * weights.r1_every * r1_penalty(adversary, batch)
        return losses

    def validate(self, model: nn.Module, limit: int, writer: SummaryWriter | None, step: int) -> dict[str, float]:
        """PSNR in dB (mean over frames), and how the codes are used."""
        windows = spread(self.val_windows, limit) if limit else self.val_windows
        if not windows:
            return {}
        tokenizer = cast(Magvit2 | CViViT, model)
        decibels, codes = [], []
        for position, window in enumerate(windows):
            video = centre_crop(window, self.settings.clips.resolution)
            indices = tokenizer.encode(video)
            decoded = tokenizer.decode(indices).cpu()
            decibels.append(float(psnr(decoded, video).mean()))
            codes.append(indices.cpu().flatten())
            if writer is not None and position < 4:
                writer.add_image(f"val/{position}", side_by_side(video, decoded), step, dataformats="HWC")
        return {"psnr_db": float(np.mean(decibels)), **code_use(torch.cat(codes), tokenizer)}

    def extra_state(self) -> dict[str, Any]:
        """The moving averages of LeCAM."""
        return {"lecam_real": self.lecam.real, "lecam_fake": self.lecam.fake}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes `extra_state` back."""
        self.lecam.real, self.lecam.fake = state["lecam_real"], state["lecam_fake"]


def code_use(codes: Tensor, tokenizer: Magvit2 | CViViT) -> dict[str, float]:
    """How many codes occur and their perplexity; of lookup-free ones also the bits' mean entropy and the share of
    bits with at least 0.9 bit."""
    counts = codes.unique(return_counts=True)[1].double()
    share = counts / counts.sum()
    measures = {"codes_used": float(len(counts)), "perplexity": float((-(share * share.log()).sum()).exp())}
    if isinstance(tokenizer.quantizer, LFQ):
        use = bit_use(codes, tokenizer.config.num_bits, tokenizer.config.bit_order)
        measures |= {"bit_entropy": float(use.mean()), "bits_above_0.9": float((use >= 0.9).double().mean())}
    return measures


def _reconstruction_loss(reconstruction: Tensor, batch: Tensor, weights: VideoLosses) -> Tensor:
    loss = F.mse_loss if weights.reconstruction == "l2" else F.l1_loss
    return weights.reconstruction_weight * loss(reconstruction, batch)


def psnr(reconstruction: Tensor, video: Tensor) -> Tensor:
    """PSNR in dB of each frame: B 3 T H W in [-1, 1], both → B T; 100 dB where they are equal."""
    error = ((reconstruction - video) / 2).square().mean(dim=(1, 3, 4))
    return -10 * error.clamp_min(1e-10).log10()


def side_by_side(video: Tensor, decoded: Tensor) -> np.ndarray:
    """The first, middle and last frame above their reconstructions: uint8 (2H 3W 3)."""
    frames = [0, video.shape[2] // 2, video.shape[2] - 1]
    rows = [torch.cat([clip[0, :, frame] for frame in frames], dim=2) for clip in (video, decoded)]
    picture = (torch.cat(rows, dim=1) + 1) * 127.5
    return picture.clamp(0, 255).round().byte().permute(1, 2, 0).numpy()


def train(settings: VideoTokenizerTraining) -> dict[str, float]:
    """Trains (or goes on with) a tokenizer and exports OUTPUT/tokenizer; gives the held-back measures."""
    fabric: Fabric = make_fabric(settings.running)
    task = VideoTask(settings, fabric.device)
    loop = TokenizerLoop(task, settings.optimisation, settings.running, Path(settings.output), fabric)
    return loop.run()
