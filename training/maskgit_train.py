"""`reelmill train maskgit`: the masked transformer from token shards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from schemas.shards import TokenSample
from training.batches import BatchLoader, BatchSettings
from training.lm_train import formats_of, val_loader
from training.masked_tokens import MaskedOutput
from training.maskgit import MaskGit, MaskGitConfig
from training.masking import training_mask
from training.model_folder import export_model, tokenizer_dicts
from training.settings import TRAIN_MASKGIT, MaskGitSettings
from training.shards import ShardDataset
from training.super_resolution_train import step_generator
from training.text_condition import drop_text, pad_text
from training.trainer_loop import StepLoss, Trainer, make_fabric

MEMBERS = ("video", "text")
TASKS = ("unconditional", "t2v", "t2i", "i2v", "continue", "story")


class MaskGitObjective:
    """Masked prediction of video and image tokens."""

    forward_methods: tuple[str, ...] = ("masked_loss",)

    def __init__(self, model: MaskGit, settings: MaskGitSettings, rank: int = 0):
        self.model, self.settings, self.rank = model, settings, rank
        self.val_loader: BatchLoader | None = None
        self.device: torch.device | str = "cpu"

    def loss(self, model: Any, samples: list[TokenSample], step: int, micro_step: int) -> StepLoss:
        shared = np.random.default_rng((self.settings.seed, step, micro_step))  # all ranks take the same kind
        image = shared.random() < self.settings.image_share
        frames = 1 if image else len(samples[0].arrays["video"])
        known = 0
        if not image and frames > 1 and shared.random() < self.settings.continue_share:
            known = int(shared.integers(1, frames))
        generator = step_generator(self.settings.seed, step, micro_step, self.rank)
        codes, text, mask = self.inputs(samples, frames)
        drop = (torch.rand(len(codes), generator=generator) < self.settings.drop_text).to(codes.device)
        text, mask = drop_text(text, mask, self.model.empty_text, drop)
        hidden = hidden_tokens(codes, known, generator)
        output: MaskedOutput = model.masked_loss(codes, hidden, text, mask)
        kind = "image" if image else "continue" if known else "video"
        return StepLoss(output.loss, codes.numel(), {f"loss_{kind}": float(output.loss.detach())})

    def inputs(
        self, samples: Sequence[TokenSample], frames: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes (B t h w) of the first latent frames, text states and their mask."""
        codes = np.stack([sample.arrays["video"][:frames] for sample in samples]).astype(np.int64)
        texts = [sample.arrays.get("text", np.zeros((0, 0), np.float16)) for sample in samples]
        return torch.from_numpy(codes).to(self.device), *pad_text(texts, self.model.config.text_width, self.device)

    def evaluate(self, model: Any) -> dict[str, float]:
        """Nats per hidden token of whole windows of the val split."""
        if self.val_loader is None:
            return {}
        loader = self.val_loader
        loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": 0})
        nats: list[float] = []
        for index, samples in enumerate(loader):
            if index >= self.settings.loop.eval_batches:
                break
            codes, text, mask = self.inputs(samples)
            hidden = hidden_tokens(codes, 0, step_generator(self.settings.seed, index))
            nats.extend(model.masked_loss(codes, hidden, text, mask).nll_BN[hidden].tolist())
        return {"loss": float(np.mean(nats))}

    def export(self, output: Path, weights: Mapping[str, torch.Tensor]) -> None:
        export_model(self.model, output, weights)


def hidden_tokens(codes_Bthw: torch.Tensor, known_frames: int, generator: torch.Generator) -> torch.Tensor:
    """(B, N) bool: a random share, by the cosine schedule, of the tokens after the known latent frames."""
    batch, _, h, w = codes_Bthw.shape
    num_known = known_frames * h * w
    mask = torch.zeros(batch, codes_Bthw[0].numel(), dtype=torch.bool)
    mask[:, num_known:] = training_mask(batch, mask.shape[1] - num_known, generator)
    return mask.to(codes_Bthw.device)


def make_model(settings: MaskGitSettings, dataset: ShardDataset) -> MaskGit:
    """A model with fresh weights, fit for the data set; the weights are a function of the seed."""
    info, sizes, empty = dataset.info, settings.model, dataset.empty_caption
    video, text = info.tokenizers["video"], info.tokenizers.get("text")
    if np.prod(sizes.factors) != video.codebook_size:
        raise ValueError(
            f"model.factors {sizes.factors} multiply to {np.prod(sizes.factors)}; the video tokenizer "
            f"{video.name!r} has {video.codebook_size} codes"
        )
    torch.manual_seed(settings.seed)
    config = MaskGitConfig(
        width=sizes.width, num_layers=sizes.layers, num_heads=sizes.heads, factors=sizes.factors,
        text_width=(text.width or 1) if text else 1, empty_text_length=1 if empty is None else len(empty),
        tokenizers=tokenizer_dicts(info.tokenizers, MEMBERS), tasks=list(TASKS),
        formats={**formats_of(dataset), "audio": None, "motion": None},
    )  # fmt: skip
    model = MaskGit(config)
    if empty is not None:
        model.empty_text.copy_(torch.from_numpy(empty))
    return model


def train(settings: MaskGitSettings, console: Console | None = None) -> dict[str, float]:
    """Trains the masked transformer, or goes on with it; gives the last figures.

    Raises:
        FileNotFoundError: the data is no finished data set.
        ValueError: it lacks what the settings ask for, or does not fit the checkpoint.
    """
    output = Path(settings.output)
    dataset = ShardDataset(settings.data, "train", members=MEMBERS)
    model = make_model(settings, ShardDataset(settings.data, "train"))
    output.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(settings.loop, output)
    batches = BatchSettings(
        settings.loop.batch_size, seed=settings.seed, group_by=("video",), shards_at_once=settings.loop.shards_at_once
    )
    loader = BatchLoader(dataset, batches, rank=fabric.global_rank, world_size=fabric.world_size)
    objective = MaskGitObjective(model, settings, fabric.global_rank)
    objective.device, objective.val_loader = fabric.device, val_loader(settings, MEMBERS, ("video",))
    return Trainer(fabric, objective, loader, settings.loop, settings.optimizer, output, console).fit()


def main(argv: list[str]) -> int:
    """`reelmill train maskgit …`."""
    settings, _ = TRAIN_MASKGIT.parse(argv)
    console = Console()
    figures = train(settings, console)
    loss = figures.get("loss", figures.get("train_loss"))
    shown = (
        "" if loss is None else f", {loss:.3f} nats per masked token{' on the val split' if 'loss' in figures else ''}"
    )
    console.print(f"masked transformer in {settings.output} after {settings.loop.steps} steps{shown}", soft_wrap=True)
    return 0
