"""FVD, FAD, CLIPSIM and inception score of what a language model makes of the captions and pictures of a split.

real  clips of the split, decoded from their tokens, so that the tokenizer's loss counts for neither side
made  as many, from their captions (t2v); sound from their pictures (v2a)
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from schemas.shards import TokenSample
from training.evaluate_settings import EvaluateSettings
from training.features import AudioNetwork, ClipNetwork, VideoNetwork
from training.generate_inputs import Format
from training.generation import Generator
from training.metrics import clip_similarity, frechet_distance, inception_score


class SetEvaluation:
    """Networks and the figures that they give."""

    def __init__(self, settings: EvaluateSettings, generator: Generator, fmt: Format):
        self.settings, self.generator, self.format = settings, generator, fmt
        wanted, device = settings.features, generator.device
        size = wanted.frame_size
        self.video = VideoNetwork(wanted.video, device, size) if wanted.video else None
        self.classifier = VideoNetwork(wanted.classifier, device, size, classify=True) if wanted.classifier else None
        self.audio = AudioNetwork(wanted.audio, device) if wanted.audio else None
        self.clip = ClipNetwork(wanted.clip, device) if wanted.clip else None

    def figures(self, samples: Sequence[TokenSample]) -> dict[str, Any]:
        """By name: the value and the protocol it was made by."""
        chosen = [sample for sample in samples if sample.arrays["video"].shape == self.format.grid]
        chosen = chosen[: self.settings.features.samples]
        found: dict[str, Any] = {}
        if self.video or self.classifier or self.clip:
            found |= self._of_pictures(chosen)
        if self.audio:
            found |= self._of_sound([sample for sample in chosen if sample.arrays["audio"].size])
        return found

    def _of_pictures(self, chosen: Sequence[TokenSample]) -> dict[str, Any]:
        made, real, classes, similar, real_similar = [], [], [], [], []
        for sample, done in zip(chosen, self._made("t2v", chosen), strict=True):
            clip, truth = (self.generator.frames(each.arrays["video"]) for each in (done, sample))
            if self.video:
                made.append(self.video(clip))
                real.append(self.video(truth))
            if self.classifier:
                classes.append(self.classifier(clip))
            if self.clip and sample.meta.get("caption"):
                text = self.clip.text(sample.meta["caption"])
                similar.append(clip_similarity(self.clip.frames(clip), text))
                real_similar.append(clip_similarity(self.clip.frames(truth), text))
        found: dict[str, Any] = {}
        if self.video:
            found["fvd"] = self._figure(frechet_distance(np.stack(made), np.stack(real)), self.video.about, len(made))
        if self.classifier:
            found["inception_score"] = self._figure(
                inception_score(np.stack(classes)), self.classifier.about, len(classes)
            )
        if self.clip and similar:
            real_mean = {"value_of_real": float(np.mean(real_similar))}
            found["clipsim"] = self._figure(float(np.mean(similar)), self.clip.about, len(similar)) | real_mean
        return found

    def _of_sound(self, chosen: Sequence[TokenSample]) -> dict[str, Any]:
        network, rate = self.audio, self.generator.tokenizers.audio.sample_rate_hz
        assert network is not None  # noqa: S101 (called only where there is one)
        rows = [
            [network(self.generator.sound(each.arrays["audio"]), rate) for each in (done, sample)]
            for sample, done in zip(chosen, self._made("v2a", chosen), strict=True)
        ]
        if len(rows) < 2:
            return {}
        made, real = (np.stack(side) for side in zip(*rows, strict=True))
        return {"fad": self._figure(frechet_distance(made, real), network.about, len(rows)) | {"sample_rate_hz": rate}}

    def _made(self, task: str, chosen: Sequence[TokenSample]) -> Iterator[TokenSample]:
        """The samples with what the model makes for them."""
        known = self.generator.model.config.tasks or []
        if task not in known:
            raise ValueError(f"these figures need a model trained for {task}; this one knows {', '.join(known)}")
        random = torch.Generator().manual_seed(self.settings.seed)
        for start in range(0, len(chosen), self.settings.batch_size):
            part = chosen[start : start + self.settings.batch_size]
            yield from self.generator.complete(task, part, self.settings.sampling, random)

    def _figure(self, value: float, about: dict[str, str], count: int) -> dict[str, Any]:
        fmt = self.format
        return {
            "value": value, **about, "n": count, "frames": fmt.num_frames, "fps": str(fmt.fps),
            "height": fmt.height, "width": fmt.width, "frame_size": self.settings.features.frame_size,
            "real": f"{self.settings.split} split, decoded from tokens", "sampling": asdict(self.settings.sampling),
        }  # fmt: skip
