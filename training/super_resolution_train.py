"""`reelmill train super-resolution`: the upscaler of video tokens, from shards with two resolutions."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from schemas.shards import TokenSample
from training.batches import BatchLoader, BatchSettings
from training.enlarged_codes import Lows, low_inputs
from training.masked_tokens import MaskedOutput
from training.model_folder import export_model, tokenizer_dicts, tokenizer_of
from training.pixel_loss import PixelLoss
from training.settings import TRAIN_SUPER_RESOLUTION, SuperResolutionSettings
from training.shards import ShardDataset
from training.super_resolution import Condition, SuperResolution, SuperResolutionConfig
from training.text_condition import pad_text
from training.trainer_loop import StepLoss, Trainer, make_fabric


def condition_of(low_codes: Lows, texts: Sequence[np.ndarray], text_width: int, device: Any) -> Condition:
    """What is given of several samples; a sample without text has an empty row.

    Args:
        low_codes: (t h w) each, all of one shape.
        texts: (L D) each.
    """
    text, mask = pad_text(texts, text_width, device)
    low = torch.from_numpy(np.stack(low_codes).astype(np.int64)).to(device)
    use_low = torch.ones(len(low), dtype=torch.bool, device=device)
    return Condition(low, text, mask, use_low)


class SuperResolutionObjective:
    """Masked prediction of high-resolution codes."""

    forward_methods = ("loss", "masked_loss")

    def __init__(
        self, model: SuperResolution, settings: SuperResolutionSettings, members: tuple[str, str], rank: int = 0
    ):
        self.model, self.settings, self.members, self.rank = model, settings, members, rank
        self.val_loader: BatchLoader | None = None
        self.pixels: PixelLoss | None = None
        self.low_inputs: Callable[[Lows], Lows] = lambda lows: lows
        self.device: torch.device | str = "cpu"

    def inputs(self, samples: Sequence[TokenSample]) -> tuple[torch.Tensor, Condition]:
        """High-resolution codes (B t h w) and the condition."""
        low, high = self.members
        texts = [sample.arrays.get("text", np.zeros((0, 0), np.float16)) for sample in samples]
        codes = torch.from_numpy(np.stack([sample.arrays[high] for sample in samples]).astype(np.int64))
        lows = self.low_inputs([sample.arrays[low] for sample in samples])
        return codes.to(self.device), condition_of(lows, texts, self.model.config.text_width, self.device)

    def loss(self, model: Any, samples: list[TokenSample], step: int, micro_step: int) -> StepLoss:
        codes, condition = self.inputs(samples)
        generator = step_generator(self.settings.seed, step, micro_step, self.rank)
        pixels = self.pixels if step >= self.settings.pixel_from * self.settings.loop.steps else None
        output: MaskedOutput = model.loss(codes, condition, generator, pixels)
        return StepLoss(output.loss, codes.numel(), {"masked": float(output.mask_BN.float().mean())})

    def evaluate(self, model: Any) -> dict[str, float]:
        """Nats per masked token on the val split: with both conditions, and without the low resolution."""
        if self.val_loader is None:
            return {}
        loader = self.val_loader
        loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": 0})
        sums: dict[str, list[float]] = {"loss": [], "loss_without_low": []}
        for index, samples in enumerate(loader):
            if index >= self.settings.loop.eval_batches:
                break
            codes, condition = self.inputs(samples)
            blind = Condition(condition.low, condition.text, condition.text_mask, torch.zeros_like(condition.use_low))
            for name, given in (("loss", condition), ("loss_without_low", blind)):
                output = model.loss(codes, given, step_generator(self.settings.seed, index))
                sums[name].extend(output.nll_BN[output.mask_BN].tolist())
        return {name: float(np.mean(values)) for name, values in sums.items() if values}

    def export(self, output: Path, weights: Mapping[str, torch.Tensor]) -> None:
        export_model(self.model, output, weights)


def step_generator(*numbers: int) -> torch.Generator:
    """A generator on the CPU that is a function of the numbers."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
    return torch.Generator().manual_seed(seed)


def find_members(sample: TokenSample, settings: SuperResolutionSettings) -> tuple[str, str]:
    """Names of the low- and high-resolution codes in a sample.

    Raises:
        ValueError: the sample has not both.
    """
    sizes = ["x".join(str(side) for side in size) for size in sample.meta["resolutions"]]
    low = settings.low or sizes[0]
    above = sizes[sizes.index(low) + 1 :] if low in sizes else []
    high = settings.high or (above[0] if above else None)
    if low not in sizes or high not in sizes:
        raise ValueError(
            f"the shards hold {', '.join(sizes)}; low {low} and high {high or 'one above it'} are wanted: tokenize "
            "with --video.resolutions '[128x128, 256x256]', or name others with --low and --high"
        )
    members = tuple("video" if size == sizes[0] else f"video_{size}" for size in (low, high))
    return members[0], members[1]


def members_of_formats(sample: TokenSample, formats: dict[str, Any]) -> tuple[str, str]:
    """Names of the low- and high-resolution codes, by the grids that a model was trained on.

    Raises:
        ValueError: the sample has not both.
    """
    grids = {name: list(array.shape) for name, array in sample.arrays.items() if name.startswith("video")}
    names = [next((name for name in grids if grids[name] == formats.get(size)), None) for size in ("low", "high")]
    if names[0] is None or names[1] is None:
        raise ValueError(
            f"the model goes from {formats.get('low')} tokens to {formats.get('high')}; the shards hold "
            f"{', '.join(map(str, grids.values()))}: tokenize with the resolutions it was trained on"
        )
    return names[0], names[1]


def make_model(settings: SuperResolutionSettings, dataset: ShardDataset) -> tuple[SuperResolution, tuple[str, str]]:
    """A model with fresh weights, and the members it reads; the weights are a function of the seed."""
    info, sizes, sample = dataset.info, settings.model, dataset[0]
    members = find_members(sample, settings)
    video, text, empty = info.tokenizers["video"], info.tokenizers.get("text"), dataset.empty_caption
    if np.prod(sizes.factors) != video.codebook_size:
        raise ValueError(
            f"model.factors {sizes.factors} multiply to {np.prod(sizes.factors)}; the video tokenizer "
            f"{video.name!r} has {video.codebook_size} codes"
        )
    torch.manual_seed(settings.seed)
    grids = {name: list(sample.arrays[member].shape) for name, member in zip(("low", "high"), members, strict=True)}
    scale = [high // low for low, high in zip(grids["low"], grids["high"], strict=True)]
    config = SuperResolutionConfig(
        width=sizes.width, num_blocks=sizes.blocks, num_heads=sizes.heads, factors=sizes.factors,
        windows=sizes.windows, low_grid=sizes.low_grid, low_noise=sizes.low_noise,
        drop_text=sizes.drop_text, drop_low=sizes.drop_low,
        text_width=(text.width or 1) if text else 1, empty_text_length=1 if empty is None else len(empty),
        tokenizers=tokenizer_dicts(info.tokenizers, ("video", "text")), formats={**grids, "scale": scale},
    )  # fmt: skip
    model = SuperResolution(config)
    if empty is not None:
        model.empty_text.copy_(torch.from_numpy(empty))
    return model, members


def train(settings: SuperResolutionSettings, console: Console | None = None) -> dict[str, float]:
    """Trains the super-resolution model, or goes on with it; gives the last figures.

    Raises:
        FileNotFoundError: the data is no finished data set.
        ValueError: it lacks what the settings ask for, or does not fit the checkpoint.
    """
    output = Path(settings.output)
    everything = ShardDataset(settings.data, "train")
    model, members = make_model(settings, everything)
    read = (*members, "text")
    dataset = ShardDataset(settings.data, "train", members=read)
    output.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(settings.loop, output)
    batches = BatchSettings(
        settings.loop.batch_size, seed=settings.seed, group_by=members, shards_at_once=settings.loop.shards_at_once
    )
    loader = BatchLoader(dataset, batches, rank=fabric.global_rank, world_size=fabric.world_size)
    objective = SuperResolutionObjective(model, settings, members, fabric.global_rank)
    objective.device, objective.val_loader = fabric.device, _val_loader(settings, read, members)
    tokenizer = cache(lambda: tokenizer_of(everything, fabric.device))
    objective.low_inputs = low_inputs(model.config, tokenizer, fabric.device)
    if settings.pixel_weight:
        objective.pixels = PixelLoss(tokenizer(), model.factors, settings.pixel_weight)
    return Trainer(fabric, objective, loader, settings.loop, settings.optimizer, output, console).fit()


def _val_loader(
    settings: SuperResolutionSettings, read: tuple[str, ...], members: tuple[str, str]
) -> BatchLoader | None:
    try:
        dataset = ShardDataset(settings.data, "val", members=read)
    except ValueError:
        return None
    return BatchLoader(dataset, BatchSettings(settings.loop.batch_size, shuffle=False, group_by=members), epochs=1)


def main(argv: list[str]) -> int:
    """`reelmill train super-resolution …`."""
    settings, _ = TRAIN_SUPER_RESOLUTION.parse(argv)
    console = Console()
    figures = train(settings, console)
    loss = figures.get("loss", figures.get("train_loss"))
    shown = (
        "" if loss is None else f", {loss:.3f} nats per masked token{' on the val split' if 'loss' in figures else ''}"
    )
    console.print(
        f"super-resolution model in {settings.output} after {settings.loop.steps} steps{shown}", soft_wrap=True
    )
    return 0
