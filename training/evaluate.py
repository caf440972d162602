"""`reelmill evaluate`: figures of a model on held-out clips, with the protocol written beside them."""

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from media import storage
from media.commandline import settings_dict
from schemas.shards import TokenSample
from tokenize_shards.base import default_device
from training.baselines import CodeBaselines
from training.batches import BatchLoader, BatchSettings
from training.decoding import choose_ids
from training.evaluate_sets import SetEvaluation
from training.evaluate_settings import EVALUATE, EvaluateSettings
from training.evaluate_super_resolution import UpscalerEvaluation
from training.generate_inputs import Format, model_format
from training.generation import Generator
from training.lm import LmOutput, ReelLm, TensorBatch, to_tensors
from training.lm_train import KIND_NAMES, MEMBERS, draw_given, grouping
from training.metrics import compared, matching_figures, mean_figures, psnr_db
from training.model_folder import Tokenizers, load_model, model_type
from training.sequences import MOTION, SPECIAL, VISUAL, collate, missing
from training.shards import ShardDataset
from training.super_resolution import SuperResolutionConfig

MAX_BASELINE_CLIPS = 20_000


class Evaluation:
    """A model, the samples it is judged on, and the figures."""

    def __init__(self, settings: EvaluateSettings):
        self.settings = settings
        device = default_device(None if settings.device == "auto" else settings.device)
        self.model, self.folder = load_model(ReelLm, settings.model, device)
        infos = self.model.config.tokenizers or {}
        self.expected = {kind: info["fingerprint"] for kind, info in infos.items()}
        self.dataset = ShardDataset(settings.data, settings.split, expected=self.expected, members=MEMBERS)
        self.generator = Generator(self.model, Tokenizers(infos, self.folder, device), device)
        self.tasks = [
            name for name in settings.tasks or self.model.config.tasks or [] if name not in ("inpaint", "outpaint")
        ]

    def figures(self) -> dict[str, Any]:
        """All figures, and the protocol they were made by."""
        samples = list(itertools.chain.from_iterable(self.batches()))
        found: dict[str, Any] = {"tokens": self.token_figures(), "baselines": self.baseline_figures(samples)}
        if "t2v" in self.tasks and self.settings.captions:
            found["captions"] = self.caption_figures(samples)
        if "continue" in self.tasks and self.settings.generate:
            fmt = model_format(self.model, self.generator.tokenizers, None)
            found["future"] = self.future_figures(samples, fmt)
        if self.settings.features.wanted:
            fmt = model_format(self.model, self.generator.tokenizers, None)
            found["sets"] = SetEvaluation(self.settings, self.generator, fmt).figures(samples)
        protocol = {**settings_dict(self.settings), "samples": len(samples), "formats": self.model.config.formats}
        return {**found, "protocol": protocol, "tokenizers": self.expected}

    def batches(self) -> Iterator[list[TokenSample]]:
        """The samples in their order, those of one shape together, up to the limit."""
        batches = BatchSettings(self.settings.batch_size, shuffle=False, group_by=grouping(self.dataset))
        left = self.settings.limit
        for samples in BatchLoader(self.dataset, batches, epochs=1):
            yield samples[:left]
            left -= len(samples)
            if left <= 0:
                return

    @torch.inference_mode()
    def token_figures(self) -> dict[str, dict[str, float]]:
        """By task and kind of token: nats, bits, share of tokens that are the likeliest, and how many."""
        sums: dict[tuple[str, str], list[tuple[float, bool]]] = {}
        for index, samples in enumerate(self.batches()):
            rng = np.random.default_rng((self.settings.seed, index))
            for task in self.tasks:
                given = draw_given(samples[0], rng)
                if any(missing(task, sample, given) for sample in samples):
                    continue
                batch = self._batch(task, samples, given)
                output: LmOutput = self.model(batch)
                right = self._likeliest(batch) == batch.outputs
                for kind, name in KIND_NAMES.items():
                    where = output.kinds_BO == kind
                    pairs = zip(output.nll_BO[where].tolist(), right[where].tolist(), strict=True)
                    sums.setdefault((task, name), []).extend(pairs)
        return {f"{task}/{kind}": _summary(pairs) for (task, kind), pairs in sums.items() if pairs}

    def _batch(
        self, task: str, samples: Sequence[TokenSample], given: int = 1, texts: Sequence[np.ndarray] | None = None
    ) -> TensorBatch:
        chosen: list[np.ndarray | None] = [None] * len(samples)
        if texts is not None:
            chosen = list(texts)
        ready = self.generator.prepared(task, samples, given)
        rows = [
            self.generator.layout.build(task, sample, given=given, text=text)
            for sample, text in zip(ready, chosen, strict=True)
        ]
        return to_tensors(collate(rows), self.generator.device)

    def _likeliest(self, batch: TensorBatch) -> torch.Tensor:
        """(B, O): the greedy choice at each output position, given the true tokens before it."""
        model, outputs = self.model, batch.outputs
        rows = model.hidden(batch, batch.ids.shape[1] - 1)[:, batch.prefix_length - 1 :].flatten(0, 1)
        ids = outputs.flatten()
        kinds, best = model.kinds(ids), ids.clone()
        best[kinds == VISUAL] = (
            model.visual.choose(rows[kinds == VISUAL], lambda logits: logits.argmax(-1))
            + model.vocabulary.visual_offset
        )
        size = model.config.audio_codebook_size
        levels = (ids - model.vocabulary.audio_offset).div(size, rounding_mode="floor")
        for level in range(model.config.audio_levels):
            where = (levels == level).nonzero().squeeze(1)
            if len(where):
                code = model.audio_logits(rows[where], level).argmax(-1)
                best[where] = code + model.vocabulary.audio_offset + level * size
        motion = (kinds == MOTION).nonzero().squeeze(1)
        if len(motion):
            best[motion] = choose_ids(model, rows[motion], MOTION, 0, lambda logits: logits.argmax(-1))
        special = (kinds == SPECIAL).nonzero().squeeze(1)
        best[special] = (rows[special] @ model.backbone.embed_tokens.weight.T).argmax(-1)
        return best.view(outputs.shape)

    def baseline_figures(self, samples: Sequence[TokenSample]) -> dict[str, float]:
        """Nats per visual token of what needs no network, on the same samples."""
        train = ShardDataset(self.settings.data, "train", members=["video"], meta=False)
        grids = (sample.arrays["video"] for sample in itertools.islice(train, MAX_BASELINE_CLIPS))
        baselines = CodeBaselines(grids, self.model.vocabulary.visual_size)
        videos = [sample.arrays["video"] for sample in samples]
        return {
            "uniform_nats": math.log(self.model.vocabulary.visual_size),
            "unigram_nats": float(np.mean(np.concatenate([baselines.unigram_nats(v).ravel() for v in videos]))),
            "previous_frame_nats": float(np.mean(np.concatenate([baselines.copy_nats(v).ravel() for v in videos]))),
        }

    @torch.inference_mode()
    def caption_figures(self, samples: Sequence[TokenSample]) -> dict[str, float]:
        """How often a clip, all its windows together, has the lower loss under its own caption than under another's."""
        clips: dict[str, list[TokenSample]] = {}
        for sample in samples:
            if len(sample.arrays["text"]):
                clips.setdefault(sample.meta["clip_id"], []).append(sample)
        chosen = [clips[clip_id] for clip_id in sorted(clips)[: self.settings.captions]]
        texts = [windows[0].arrays["text"] for windows in chosen]
        losses = [sum(self._under_captions(window, texts) for window in windows) for windows in chosen]
        return matching_figures(np.array(losses), [windows[0].meta["caption"] for windows in chosen])

    def _under_captions(self, sample: TokenSample, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Nats (C) of a sample under each of the captions (L D)."""
        found = []
        for start in range(0, len(texts), self.settings.batch_size):
            part = texts[start : start + self.settings.batch_size]
            batch = self._batch("t2v", [sample] * len(part), texts=part)
            found += self.model(batch).nll_BO.sum(dim=1).tolist()
        return np.array(found)

    def future_figures(self, samples: Sequence[TokenSample], fmt: Format) -> dict[str, float]:
        """PSNR and SSIM of generated futures against the decoded truth, beside copying the last given frame.

        Figures of the mean picture of several draws begin with `mean_`.
        """
        given = fmt.given(self.settings.given_s)
        first = fmt.frames_of(given)
        random = torch.Generator().manual_seed(self.settings.seed)
        chosen = [sample for sample in samples if sample.arrays["video"].shape == fmt.grid][: self.settings.generate]
        rows = []
        for start in range(0, len(chosen), self.settings.batch_size):
            part = chosen[start : start + self.settings.batch_size]
            done = self.generator.complete("continue", part, self.settings.sampling, random, given=given)
            drawn = [
                self.generator.complete("continue", part, self.settings.drawing, random, given=given)
                for _ in range(self.settings.draws)
            ]
            for index, sample in enumerate(part):
                made, truth = (self._frames(each, first) for each in (done[index], sample))
                last = self.generator.frames(sample.arrays["video"][:given])[-1:]
                copied = np.repeat(last, len(truth), axis=0)
                row = {**compared(made, truth), **compared(copied, truth, "copy_")}
                row["better_share"] = float(psnr_db(made, truth) > psnr_db(copied, truth))
                if drawn:
                    mean = np.mean([self._frames(future[index], first) for future in drawn], axis=0)
                    mean = mean.round().astype(np.uint8)
                    row |= compared(mean, truth, "mean_")
                    row["mean_better_share"] = float(psnr_db(mean, truth) > psnr_db(copied, truth))
                rows.append(row)
        return {**mean_figures(rows), "samples": len(rows), "given_frames": first, "frames": fmt.num_frames}

    def _frames(self, sample: TokenSample, first: int) -> np.ndarray:
        return self.generator.frames(sample.arrays["video"])[first:]


def _summary(pairs: Sequence[tuple[float, bool]]) -> dict[str, float]:
    nats = float(np.mean([nll for nll, _ in pairs]))
    return {
        "nats": nats, "bits": nats / math.log(2), "accuracy": float(np.mean([right for _, right in pairs])),
        "tokens": len(pairs),
    }  # fmt: skip


def table_of(figures: dict[str, Any]) -> Table:
    """The figures of tokens for a person."""
    table = Table("task / tokens", "nats", "bits", "accuracy", "tokens")
    for name, row in figures["tokens"].items():
        table.add_row(name, f"{row['nats']:.3f}", f"{row['bits']:.3f}", f"{row['accuracy']:.3f}", str(row["tokens"]))
    for name, nats in figures["baselines"].items():
        table.add_row(f"baseline: {name.removesuffix('_nats')}", f"{nats:.3f}", f"{nats / math.log(2):.3f}", "", "")
    return table


def main(argv: list[str]) -> int:
    """`reelmill evaluate …`."""
    settings, _ = EVALUATE.parse(argv)
    console = Console()
    evaluation: Evaluation | UpscalerEvaluation
    if model_type(settings.model) == SuperResolutionConfig.model_type:
        evaluation = UpscalerEvaluation(settings)
    else:
        evaluation = Evaluation(settings)
    figures = evaluation.figures()
    output = settings.output or str(evaluation.folder / "evaluation.json")
    storage.makedirs(str(Path(output).parent))
    text = json.dumps(figures, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    storage.write_bytes_atomic(output, text.encode())
    if "tokens" in figures:
        console.print(table_of(figures))
    for name in sorted(figures.keys() - {"tokens", "baselines", "tokenizers", "protocol"}):
        values = {key: row["value"] if isinstance(row, dict) else row for key, row in figures[name].items()}
        words = [f"{key} {value:.4g}" for key, value in values.items()]
        console.print(f"{name}: " + ", ".join(words), soft_wrap=True)
    console.print(f"figures of {figures['protocol']['samples']} samples in {output}", soft_wrap=True)
    return 0
