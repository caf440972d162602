"""Figures of a super-resolution model on held-out clips: what the low resolution tells it, and pixels by bicubic."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from media.commandline import settings_dict
from schemas.shards import TokenSample
from tokenize_shards.base import default_device
from tokenize_shards.round_trip import decode_frames
from training.batches import BatchLoader, BatchSettings
from training.enlarged_codes import bicubic, low_inputs
from training.evaluate_settings import EvaluateSettings
from training.metrics import compared, mean_figures
from training.model_folder import Tokenizers, load_model
from training.shards import ShardDataset
from training.super_resolution import Condition, SuperResolution
from training.super_resolution_sampling import upsample
from training.super_resolution_train import condition_of, members_of_formats, step_generator


class UpscalerEvaluation:
    """A model, the samples it is judged on, and the figures."""

    def __init__(self, settings: EvaluateSettings):
        self.settings = settings
        self.device = default_device(None if settings.device == "auto" else settings.device)
        self.model, self.folder = load_model(SuperResolution, settings.model, self.device)
        infos = self.model.config.tokenizers or {}
        self.expected = {kind: info["fingerprint"] for kind, info in infos.items()}
        self.tokenizers = Tokenizers(infos, self.folder, self.device)
        everything = ShardDataset(settings.data, settings.split, expected=self.expected)
        self.low, self.high = members_of_formats(everything[0], self.model.config.formats or {})
        self.low_inputs = low_inputs(self.model.config, lambda: self.tokenizers.video, self.device)
        read = (self.low, self.high, "text")
        self.dataset = ShardDataset(settings.data, settings.split, expected=self.expected, members=read)

    def figures(self) -> dict[str, Any]:
        """All figures, and the protocol they were made by."""
        batches = BatchSettings(self.settings.batch_size, shuffle=False, group_by=(self.low, self.high))
        loader = BatchLoader(self.dataset, batches, epochs=1)
        groups: list[list[TokenSample]] = list(itertools.islice(loader, -(-self.settings.limit // batches.batch_size)))
        found: dict[str, Any] = {"masked": self.masked_figures(groups)}
        chosen = list(itertools.chain.from_iterable(groups))[: self.settings.generate]
        if chosen:
            found["pixels"] = self.pixel_figures(chosen)
        protocol = {
            **settings_dict(self.settings), "samples": sum(map(len, groups)), "formats": self.model.config.formats,
        }  # fmt: skip
        return {**found, "protocol": protocol, "tokenizers": self.expected}

    def _inputs(self, samples: Sequence[TokenSample]) -> tuple[torch.Tensor, Condition]:
        codes = np.stack([sample.arrays[self.high] for sample in samples]).astype(np.int64)
        texts = [sample.arrays.get("text", np.zeros((0, 0), np.float16)) for sample in samples]
        lows = self.low_inputs([sample.arrays[self.low] for sample in samples])
        condition = condition_of(lows, texts, self.model.config.text_width, self.device)
        return torch.from_numpy(codes).to(self.device), condition

    @torch.inference_mode()
    def masked_figures(self, groups: Sequence[Sequence[TokenSample]]) -> dict[str, float]:
        """Nats per masked token with the low resolution, with that of another clip, and without, at the same masks."""
        sums: dict[str, list[float]] = {"nats": [], "nats_with_another_low": [], "nats_without_low": []}
        for index, samples in enumerate(groups):
            codes, condition = self._inputs(samples)
            nobody = torch.zeros_like(condition.use_low)
            others = condition._replace(low=condition.low.roll(1, dims=0))
            for name, given in zip(sums, (condition, others, condition._replace(use_low=nobody)), strict=True):
                if name == "nats_with_another_low" and len(samples) < 2:
                    continue
                output = self.model.loss(codes, given, step_generator(self.settings.seed, index))
                sums[name].extend(output.nll_BN[output.mask_BN].tolist())
        return {name: float(np.mean(values)) for name, values in sums.items() if values} | {"tokens": len(sums["nats"])}

    def pixel_figures(self, samples: Sequence[TokenSample]) -> dict[str, float]:
        """PSNR and SSIM against the decoded high resolution: of the model's, and of the enlarged low resolution."""
        random = torch.Generator().manual_seed(self.settings.seed)
        rows = []
        for sample in samples:
            codes, condition = self._inputs([sample])
            grid = (codes.shape[1], codes.shape[2], codes.shape[3])
            made = upsample(self.model, condition, grid, self.settings.upsampling, random)[0].cpu().numpy()
            truth, low, own = (
                decode_frames(self.tokenizers.video, each, self.device)
                for each in (sample.arrays[self.high], sample.arrays[self.low], made)
            )
            rows.append({**compared(own, truth), **compared(bicubic(low, *truth.shape[1:3]), truth, "bicubic_")})
        return {**mean_figures(rows), "samples": len(rows)}
