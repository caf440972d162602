"""`reelmill train lm`: the language model from token shards."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from schemas.shards import TokenSample
from tokenize_shards.base import VideoTokenizer
from training.batches import BatchLoader, BatchSettings
from training.commit import REGIONS, PaddedCodes, commit_codes_of_tokens
from training.lm import LmOutput, PictureLoss, ReelLm, ReelLmConfig, TensorBatch, to_tensors
from training.model_folder import export_model, tokenizer_dicts, tokenizer_of
from training.pixel_loss import PixelLoss
from training.sequences import AUDIO, MOTION, SPECIAL, TASKS, VISUAL, Layout, SequenceBatch, collate, find_task, missing
from training.settings import TRAIN_LM, LmSettings
from training.shards import ShardDataset
from training.trainer_loop import StepLoss, Trainer, make_fabric

MEMBERS = ("video", "audio", "text", "motion", "structure")
KIND_NAMES = {SPECIAL: "special", VISUAL: "visual", AUDIO: "audio", MOTION: "motion"}


class TaskMix:
    """Chooses the task of a step: one for all samples, so that a batch needs no padding (VideoPoet, section 4.3)."""

    def __init__(self, weights: dict[str, float], image_share: Sequence[float] | None, steps: int):
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        for name in self.weights:
            find_task(name)
        self.image_share, self.steps = image_share, steps

    def at(self, step: int, names: Sequence[str]) -> np.ndarray:
        """Probabilities of the tasks named, at a step."""
        weights = np.array([self.weights[name] for name in names])
        images = np.array([TASKS[name].video_out == "first" for name in names])
        if self.image_share is not None and images.any() and not images.all():
            start, end, switch = self.image_share
            share = start if step < switch * self.steps else end
            weights = np.where(images, share * weights / weights[images].sum(), weights)
            weights = np.where(~images, (1 - share) * weights / weights[~images].sum(), weights)
        return weights / weights.sum()

    def feasible(self, samples: Sequence[TokenSample]) -> list[str]:
        """Tasks that every sample can serve; conditions of in- and outpainting are made when they are needed."""
        return [name for name in self.weights if not any(self._lack(name, sample) for sample in samples)]

    @staticmethod
    def _lack(name: str, sample: TokenSample) -> str:
        whole = {**sample.arrays, "commit": sample.arrays.get("video", np.empty(0))}
        return missing(name, replace(sample, arrays=whole))

    def choose(self, step: int, samples: Sequence[TokenSample], rng: np.random.Generator) -> str:
        """A task for these samples; ValueError where they can serve none."""
        names = self.feasible(samples)
        if not names:
            lacks = "; ".join(f"{name}: {missing(name, samples[0])}" for name in self.weights)
            raise ValueError(
                f"sample {samples[0].key} can serve none of the tasks ({lacks}); give others a weight in `tasks`"
            )
        return str(rng.choice(names, p=self.at(step, names)))


class LmObjective:
    """Next-token prediction of the output, one task for each step."""

    forward_methods: tuple[str, ...] = ()

    def __init__(self, model: ReelLm, settings: LmSettings, empty_text: np.ndarray | None, rank: int = 0):
        self.model, self.settings, self.empty_text, self.rank = model, settings, empty_text, rank
        self.mix = TaskMix(settings.tasks, settings.image_share, settings.loop.steps)
        self.layout = Layout(model.vocabulary, model.config.temporal_stride, model.config.pad_given)
        self.val_loader: BatchLoader | None = None
        self.video_tokenizer: VideoTokenizer | None = None
        self.padded: PaddedCodes | None = None
        self.pixels: PixelLoss | None = None
        self._pixels_from = settings.pixel_from * settings.loop.steps
        self.device: torch.device | str = "cpu"

    def loss(self, model: Any, samples: list[TokenSample], step: int, micro_step: int) -> StepLoss:
        shared = np.random.default_rng((self.settings.seed, step, micro_step))  # all ranks take the same task
        task = self.mix.choose(step, samples, shared)
        given = draw_given(samples[0], shared)
        samples = self.prepare(task, samples, given, shared)
        own = np.random.default_rng((self.settings.seed, step, micro_step, self.rank))
        batch = self.batch(task, samples, given, own, self.settings.drop_text)
        pictures = self.picture_loss(task, samples) if step >= self._pixels_from else None
        output: LmOutput = model(self._noisy(to_tensors(batch, self.device), own), pictures)
        return StepLoss(output.loss, batch.num_targets, {f"loss_{task}": float(output.nll_BO.mean())})

    def picture_loss(self, task: str, samples: Sequence[TokenSample]) -> PictureLoss | None:
        """The error of the pictures that the likeliest codes make, where a task goes on from given ones."""
        if self.pixels is None or find_task(task).video_out != "rest":
            return None
        codes_Bthw = torch.from_numpy(np.stack([sample.arrays["video"] for sample in samples]).astype(np.int64))
        codes_Bthw, pixels = codes_Bthw.to(self.device), self.pixels
        batch, _, height, width = codes_Bthw.shape
        return lambda logits: pixels(
            [each.view(batch, -1, height, width, each.shape[-1]) for each in logits], codes_Bthw
        )

    def _noisy(self, batch: TensorBatch, rng: np.random.Generator) -> TensorBatch:
        if not self.settings.noise:
            return batch
        vocabulary = self.model.vocabulary
        first, last = vocabulary.visual_offset, vocabulary.visual_offset + vocabulary.visual_size
        return batch.with_noise(
            self.settings.noise, first, last, torch.Generator().manual_seed(int(rng.integers(2**62)))
        )

    def batch(
        self, task: str, samples: Sequence[TokenSample], given: int, rng: np.random.Generator, drop_text: float
    ) -> SequenceBatch:
        """The sequences of a step; a share of the captions is replaced by the empty one."""
        dropped = rng.random(len(samples)) < drop_text
        return collate(
            [
                self.layout.build(task, sample, given=given, text=self.empty_text if drop else None)
                for sample, drop in zip(samples, dropped, strict=True)
            ]
        )

    def prepare(self, task: str, samples: list[TokenSample], given: int, rng: np.random.Generator) -> list[TokenSample]:
        """The samples with the codes of their masked or padded videos, where the task wants those.

        What is masked is drawn.
        """
        if "given" in find_task(task).video_in and self.padded is not None:
            return self.padded(samples, given)
        if "commit" not in find_task(task).video_in or self.video_tokenizer is None:
            return samples
        region = str(rng.choice(REGIONS))
        videos = np.stack([sample.arrays["video"] for sample in samples])
        codes = commit_codes_of_tokens(self.video_tokenizer, videos, task, region, torch.device(self.device))
        return [
            replace(sample, arrays={**sample.arrays, "commit": commit})
            for sample, commit in zip(samples, codes, strict=True)
        ]

    def evaluate(self, model: Any) -> dict[str, float]:
        """Nats per token on the val split, over all tasks, by kind of token and by task."""
        if self.val_loader is None:
            return {}
        sums: dict[str, list[float]] = {}
        for index, samples in enumerate(self._val_batches(self.val_loader)):
            rng = np.random.default_rng((self.settings.seed, 0, index))
            for task in self.mix.feasible(samples):
                given = draw_given(samples[0], rng)
                ready = self.prepare(task, samples, given, rng)
                batch = to_tensors(self.batch(task, ready, given, rng, 0.0), self.device)
                for name, nll in by_kind(model(batch)).items():
                    sums.setdefault(name, []).extend(nll)
                    if name == "loss":
                        sums.setdefault(f"loss_{task}", []).extend(nll)
        return {name: float(np.mean(values)) for name, values in sums.items()}

    def _val_batches(self, loader: BatchLoader) -> Iterator[list[TokenSample]]:
        loader.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": 0})
        for index, samples in enumerate(loader):
            if index >= self.settings.loop.eval_batches:
                return
            yield samples

    def export(self, output: Path, weights: Mapping[str, torch.Tensor]) -> None:
        export_model(self.model, output, weights)


def draw_given(sample: TokenSample, rng: np.random.Generator) -> int:
    """How many latent frames are given in this step: any number that leaves at least one."""
    return int(rng.integers(1, max(2, len(sample.arrays["video"]))))


def by_kind(output: LmOutput) -> dict[str, list[float]]:
    """Nats of all output tokens ("loss") and of each kind."""
    nll, kinds = output.nll_BO.flatten(), output.kinds_BO.flatten()
    found = {f"nats_{name}": nll[kinds == kind] for kind, name in KIND_NAMES.items()}
    return {"loss": nll.tolist()} | {name: values.tolist() for name, values in found.items() if len(values)}


def formats_of(dataset: ShardDataset) -> dict[str, Any]:
    """The clips of a data set: frames, rate, token grids by picture size, whether the frames are images of their own,
    shapes of audio and motion codes; what generation offers."""
    info = dataset.info
    grids: dict[str, list[int]] = {}
    for first, _ in dataset.shard_ranges:
        sample = dataset[first]
        size = "x".join(str(side) for side in sample.meta["resolution"])
        grids.setdefault(size, list(sample.arrays["video"].shape))
    found: dict[str, list[int] | None] = {"audio": None, "motion": None}
    for kind in found.keys() & info.tokenizers.keys():
        shapes = (shape for place in dataset.shard_ranges for (shape,) in dataset.shapes(range(*place), (kind,)))
        found[kind] = next((list(shape) for shape in shapes if shape[-1]), None)
    independent = bool(dataset[0].meta.get("independent"))
    return {"num_frames": info.num_frames, "fps": list(info.fps), "grids": grids, "independent": independent, **found}


def grouping(dataset: ShardDataset) -> tuple[str, ...]:
    """Members whose shapes must be equal in a batch."""
    return tuple(kind for kind in MEMBERS if kind != "text" and kind in dataset.info.tokenizers)


def servable_tasks(weights: dict[str, float], dataset: ShardDataset) -> list[str]:
    """Tasks with a weight that the data set can train; what the model will say it knows."""
    has = {"video", "commit"} | set(dataset.info.members)
    has -= {kind for kind in ("audio", "motion") if formats_of(dataset)[kind] is None}
    wanted = {name: find_task(name) for name, weight in weights.items() if weight > 0}
    return sorted(
        name
        for name, task in wanted.items()
        if (not task.audio_in and not task.audio_out) or "audio" in has
        if not task.motion or "motion" in has
        if has.issuperset(kind for kind in task.video_in if kind in ("commit", "structure"))
    )


def make_model(settings: LmSettings, dataset: ShardDataset) -> ReelLm:
    """A model with fresh weights, fit for the data set; the weights are a function of the seed."""
    info, sizes = dataset.info, settings.model
    video, audio, text, motion = (info.tokenizers.get(kind) for kind in ("video", "audio", "text", "motion"))
    if video is None:
        raise ValueError("the data set has no video tokens; the language model needs them")
    if np.prod(sizes.visual_factors) != video.codebook_size:
        raise ValueError(
            f"model.visual_factors {sizes.visual_factors} multiply to {np.prod(sizes.visual_factors)}; the video "
            f"tokenizer {video.name!r} has {video.codebook_size} codes"
        )
    empty = dataset.empty_caption
    torch.manual_seed(settings.seed)
    config = ReelLmConfig(
        hidden_size=sizes.width, num_hidden_layers=sizes.layers, num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads, intermediate_size=sizes.mlp_width, visual_factors=sizes.visual_factors,
        text_width=(text.width or 1) if text else 1, empty_text_length=1 if empty is None else len(empty),
        audio_levels=audio.num_quantizers if audio else 1, audio_codebook_size=audio.codebook_size if audio else 1,
        motion_codebook_size=motion.codebook_size if motion else 0,
        temporal_stride=video.strides[0] if video.strides else 4, pad_given=sizes.pad_given,
        max_position_embeddings=32768,
        tokenizers=tokenizer_dicts(info.tokenizers, MEMBERS), formats=formats_of(dataset),
        tasks=servable_tasks(settings.tasks, dataset),
    )  # fmt: skip
    model = ReelLm(config)
    if empty is not None:
        model.empty_text.copy_(torch.from_numpy(empty))
    if sizes.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def commit_tokenizer(settings: LmSettings, dataset: ShardDataset, device: torch.device) -> VideoTokenizer | None:
    """The video tokenizer, where training needs it: for masked and padded videos, and for decoded pictures.

    Raises:
        ValueError: the one at hand is not the one that made the shards.
    """
    needing = {"commit", "given"} if settings.model.pad_given else {"commit"}
    asked = [find_task(name).video_in for name, weight in settings.tasks.items() if weight > 0]
    if not settings.pixel_weight and not any(needing & set(inputs) for inputs in asked):
        return None
    return tokenizer_of(dataset, device)


def val_loader(settings: LmSettings | Any, members: Sequence[str], group_by: tuple[str, ...]) -> BatchLoader | None:
    """Batches of the val split in their order; None where the data has no val split."""
    try:
        dataset = ShardDataset(settings.data, "val", members=members)
    except ValueError:
        return None
    return BatchLoader(dataset, BatchSettings(settings.loop.batch_size, shuffle=False, group_by=group_by), epochs=1)


def train(settings: LmSettings, console: Console | None = None) -> dict[str, float]:
    """Trains the language model, or goes on with it; gives the last figures.

    Raises:
        FileNotFoundError: the data is no finished data set.
        ValueError: it lacks what the settings ask for, or does not fit the checkpoint.
    """
    output = Path(settings.output)
    dataset = ShardDataset(settings.data, "train", members=MEMBERS)
    output.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(settings.loop, output)
    group_by = grouping(dataset)
    batches = BatchSettings(
        settings.loop.batch_size, seed=settings.seed, group_by=group_by, shards_at_once=settings.loop.shards_at_once
    )
    loader = BatchLoader(dataset, batches, rank=fabric.global_rank, world_size=fabric.world_size)
    objective = LmObjective(make_model(settings, dataset), settings, dataset.empty_caption, fabric.global_rank)
    objective.device, objective.val_loader = fabric.device, val_loader(settings, MEMBERS, group_by)
    objective.video_tokenizer = commit_tokenizer(settings, dataset, fabric.device)
    if settings.model.pad_given and objective.video_tokenizer is not None:
        objective.padded = PaddedCodes(objective.video_tokenizer, fabric.device)
    if settings.pixel_weight:
        if dataset[0].meta.get("independent"):
            raise ValueError(
                "pixel_weight needs videos; the steps of these samples are images of their own: set it to 0"
            )
        objective.pixels = PixelLoss(objective.video_tokenizer, settings.model.visual_factors, settings.pixel_weight)
    trainer = Trainer(fabric, objective, loader, settings.loop, settings.optimizer, output, console)
    return trainer.fit()


def main(argv: list[str]) -> int:
    """`reelmill train lm …`."""
    settings, _ = TRAIN_LM.parse(argv)
    console = Console()
    figures = train(settings, console)
    loss = figures.get("loss", figures.get("train_loss"))
    shown = "" if loss is None else f", {loss:.3f} nats per token{' on the val split' if 'loss' in figures else ''}"
    console.print(f"language model in {settings.output} after {settings.loop.steps} steps{shown}", soft_wrap=True)
    return 0
