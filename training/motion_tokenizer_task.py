"""What the tokenizer loop does for motion: batches of motion maps, their squared error, direction and use of codes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tokenize_shards.loading import load_motion_tokenizer
from tokenize_shards.motion import SIZES, MotionConfig, MotionTokenizer
from tokenize_shards.motion_vectors import FRAMES, GRID, motion_pictures
from training.clips_data import held_back_test, spread
from training.motion_data import load_motion, motion_batch
from training.settings_motion import MotionTokenizerTraining
from training.tokenizer_loop import TokenizerLoop, make_fabric

MOVING = 0.5
"""Motion in the tokenizer's unit from which the direction of a cell counts."""


def build_model(settings: MotionTokenizerTraining) -> MotionTokenizer:
    """The model of the settings, with fresh weights or those of `start_from`.

    Raises:
        ValueError: a field of `model` does not exist or asks for maps of another shape, or `start_from` does not fit.
    """
    config = MotionConfig.from_dict({**asdict(SIZES[settings.size]), **settings.model})
    if config.shape != (FRAMES, *GRID):
        raise ValueError(
            f"motion maps of clips are {(FRAMES, *GRID)}; a model of {config.shape} cannot learn from them"
        )
    model = MotionTokenizer(config, settings.name)
    model.quantizer.commitment_weight = settings.losses.commitment_weight
    model.quantizer.min_usage = settings.losses.min_code_usage
    if settings.start_from:
        try:
            model.load_state_dict(load_motion_tokenizer(settings.start_from, "cpu").state_dict())
        except RuntimeError as error:
            raise ValueError(f"start_from {settings.start_from} is another network: {error}") from error
    return model


class MotionTask:
    """Batches, losses and measures of a motion tokenizer; a `TokenizerTask` without an adversary."""

    adversary_start = 0
    adversary: nn.Module | None = None

    def __init__(self, settings: MotionTokenizerTraining, device: torch.device) -> None:
        self.settings = settings
        self.model = build_model(settings).to(device)
        self.train_maps, self.val_maps = load_motion(
            Path(settings.data), settings.clips, held_back_test(settings.held_back)
        )

    def batch(self, step: int, generator: torch.Generator) -> Tensor:
        """B 24 20 36 2."""
        return motion_batch(self.train_maps, self.settings.clips, self.settings.optimisation.batch_size, generator)

    def losses(self, model: nn.Module, adversary: nn.Module | None, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Squared error of the maps, and commitment."""
        self.model.quantizer.active = step >= self.settings.losses.quantizer_start
        decoded, quantized = model(batch)
        error = F.mse_loss(decoded.float(), batch)
        return {
            "reconstruction": error,
            **quantized.losses,
            "_snr_db": 10 * (batch.square().mean() / error.detach()).log10(),
        }

    def adversary_losses(self, model: nn.Module, adversary: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        """Never called: there is no adversary."""
        return {}

    def validate(self, model: nn.Module, limit: int, writer: SummaryWriter | None, step: int) -> dict[str, float]:
        """Signal-to-noise ratio in dB over held-back maps, how often moving cells keep direction, and use of codes."""
        maps = spread(self.val_maps, limit) if limit else self.val_maps
        if not maps:
            return {}
        tokenizer = cast(MotionTokenizer, model)
        originals, decoded, codes = [], [], []
        for position, motion in enumerate(maps):
            original = torch.from_numpy(motion.astype(np.float32))
            indices = tokenizer.encode(original[None])
            back = tokenizer.decode(indices)[0].cpu()
            originals.append(original)
            decoded.append(back)
            codes.append(indices.cpu().flatten())
            if writer is not None and position < 4:
                writer.add_image(f"val/{position}", side_by_side(original, back), step, dataformats="HWC")
        return measures(torch.stack(originals), torch.stack(decoded), torch.cat(codes))

    def extra_state(self) -> dict[str, Any]:
        """Nothing beyond the modules."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to take back."""


def measures(originals: Tensor, decoded: Tensor, codes: Tensor) -> dict[str, float]:
    """Of maps (B 24 20 36 2), both, and all their codes."""
    noise = (originals - decoded).square().sum().clamp_min(1e-12)
    share = codes.unique(return_counts=True)[1].double() / len(codes)
    return {
        "snr_db": float(10 * (originals.square().sum().clamp_min(1e-12) / noise).log10()),
        "same_direction": same_direction(originals, decoded),
        "codes_used": float(len(share)),
        "perplexity": float((-(share * share.log()).sum()).exp()),
    }


def same_direction(originals: Tensor, decoded: Tensor) -> float:
    """Share of the cells that move (by `MOVING` or more) whose decoded motion is within 45° of their own; 1 if none."""
    moving = originals.norm(dim=-1) >= MOVING
    if not bool(moving.any()):
        return 1.0
    cosine = F.cosine_similarity(originals[moving], decoded[moving], dim=-1)
    return float((cosine >= 0.5**0.5).double().mean())


def side_by_side(original: Tensor, decoded: Tensor) -> np.ndarray:
    """Three frames of a map as colours above those of its reconstruction: uint8 (H W 3)."""
    frames = [1, FRAMES // 2, FRAMES - 1]
    rows = [np.concatenate(list(motion_pictures(motion[frames].numpy())), axis=1) for motion in (original, decoded)]
    return np.concatenate(rows)


def train(settings: MotionTokenizerTraining) -> dict[str, float]:
    """Trains (or goes on with) a motion tokenizer and exports OUTPUT/tokenizer; gives the held-back measures."""
    fabric = make_fabric(settings.running)
    task = MotionTask(settings, fabric.device)
    loop = TokenizerLoop(task, settings.optimisation, settings.running, Path(settings.output), fabric)
    return loop.run()
