"""Generation in tokens: samples with gaps in, whole samples out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from schemas.shards import TokenSample
from tokenize_shards.round_trip import decode_frames, decode_images, decode_sound
from training.commit import PaddedCodes
from training.decoding import decode as decode_tokens
from training.enlarged_codes import low_inputs
from training.generate_settings import SamplingSettings, SuperResolutionSampling
from training.lm import ReelLm, to_tensors
from training.model_folder import Tokenizers
from training.sampling import Sampler
from training.sequences import AUDIO, MOTION, TASKS, VISUAL, Layout, collate, token_kinds
from training.sequences import Sequence as TokenSequence
from training.super_resolution import SuperResolution
from training.super_resolution_sampling import upsample
from training.super_resolution_train import condition_of

Progress = Callable[[int], None]


def _quiet(done: int) -> None:
    """Progress that nobody watches."""


class Generator:
    """A language model with its tokenizers, and perhaps a super-resolution model."""

    def __init__(
        self, model: ReelLm, tokenizers: Tokenizers, device: torch.device, upscaler: SuperResolution | None = None
    ):
        self.model, self.tokenizers, self.device, self.upscaler = model, tokenizers, device, upscaler
        self.layout = Layout(model.vocabulary, model.config.temporal_stride, model.config.pad_given)

    @property
    def can_sound(self) -> bool:
        """Whether the model was trained to put sound to video."""
        return "v2a" in (self.model.config.tasks or ())

    @property
    def independent(self) -> bool:
        """Whether the steps of its videos are images of their own."""
        return bool((self.model.config.formats or {}).get("independent"))

    @property
    def empty_text(self) -> np.ndarray:
        """States (L D) float16 of the empty caption; none for a model without text."""
        if "text" not in self.tokenizers.infos:
            return np.zeros((0, 0), np.float16)
        return self.model.empty_text.cpu().numpy().astype(np.float16)

    def text_states(self, prompt: str) -> np.ndarray:
        """States (L D) of a prompt."""
        return self.tokenizers.text.encode([prompt])[0] if prompt else self.empty_text

    def blank(self, grid: Sequence[int], text: np.ndarray | None = None) -> TokenSample:
        """A sample of that token grid (t h w) in which all codes are still to come."""
        formats = self.model.config.formats or {}
        shapes = {"audio": formats.get("audio") or [self.model.config.audio_levels, 0]}
        shapes["motion"] = formats.get("motion") or [0]
        arrays = {"video": np.zeros(tuple(grid), np.uint32)}
        arrays |= {name: np.zeros(tuple(shape), np.uint16) for name, shape in shapes.items()}
        arrays["text"] = self.empty_text if text is None else text
        return TokenSample("generated", arrays, {"independent": self.independent})

    def complete(
        self,
        task: str,
        samples: Sequence[TokenSample],
        sampling: SamplingSettings,
        random: torch.Generator,
        *,
        given: int = 1,
        negative: np.ndarray | None = None,
        on_token: Progress = _quiet,
    ) -> list[TokenSample]:
        """The samples with the output of a task filled in.

        Args:
            samples: of one shape; what the task is to put out may hold anything.
            given: latent frames that a continuation is given.
            negative: states that guidance moves away from; None: those of the empty caption.
            on_token: called with the number of output tokens that each sample has.
        """
        samples = self.prepared(task, samples, given)
        rows = [self.layout.build(task, sample, given=given) for sample in samples]
        if sampling.guidance != 1.0 and TASKS[task].text and len(self.empty_text):
            away = self.empty_text if negative is None else negative
            rows += [self.layout.build(task, sample, given=given, text=away) for sample in samples]
        else:
            sampling = replace(sampling, guidance=1.0)
        plan = to_tensors(collate(rows), self.device)
        outputs = decode_tokens(self.model, plan, Sampler(sampling, random), on_token).cpu().numpy()
        done = zip(samples, rows, outputs, strict=False)  # the rows of guidance come last and are left out
        return [self._filled(sample, sequence, output) for sample, sequence, output in done]

    def prepared(self, task: str, samples: Sequence[TokenSample], given: int) -> Sequence[TokenSample]:
        """The samples with the codes of their padded videos, where the model reads those."""
        if not self.layout.pad_given or "given" not in TASKS[task].video_in:
            return samples
        return self._padded(samples, given)

    @cached_property
    def _padded(self) -> PaddedCodes:
        return PaddedCodes(self.tokenizers.video, self.device)

    def _filled(self, sample: TokenSample, sequence: TokenSequence, output: np.ndarray) -> TokenSample:
        places = sequence.places[sequence.prefix_length :]
        vocabulary = self.model.vocabulary
        kinds = token_kinds(output, vocabulary)
        arrays = {name: array.copy() for name, array in sample.arrays.items() if name in ("video", "audio", "motion")}
        arrays["video"][tuple(places[kinds == VISUAL].T)] = output[kinds == VISUAL] - vocabulary.visual_offset
        if (kinds == AUDIO).any():
            codes = (output[kinds == AUDIO] - vocabulary.audio_offset) % vocabulary.audio_codebook_size
            arrays["audio"][tuple(places[kinds == AUDIO, :2].T)] = codes
        if (kinds == MOTION).any():
            arrays["motion"][places[kinds == MOTION, 0]] = output[kinds == MOTION] - vocabulary.motion_offset
        return replace(sample, arrays={**sample.arrays, **arrays})

    def upscaled(
        self, codes_Bthw: np.ndarray, text: np.ndarray, sampling: SuperResolutionSampling, random: torch.Generator,
        on_step: Progress = _quiet,
    ) -> np.ndarray:  # fmt: skip
        """Codes at the super-resolution model's size."""
        assert self.upscaler is not None  # noqa: S101 (asked for only where there is one)
        config = self.upscaler.config
        if config.text_width != text.shape[-1] and len(text):
            raise ValueError(
                f"the super-resolution model takes text states of width {config.text_width}, the language model's have "
                f"{text.shape[-1]}; use models trained on the same shards"
            )
        lows = low_inputs(config, lambda: self.tokenizers.video, self.device)(list(codes_Bthw))
        condition = condition_of(lows, [text] * len(codes_Bthw), config.text_width, self.device)
        scale = (config.formats or {}).get("scale", [1, 2, 2])
        t, h, w = (size * factor for size, factor in zip(codes_Bthw.shape[1:], scale, strict=True))
        return upsample(self.upscaler, condition, (t, h, w), sampling, random, on_step).cpu().numpy().astype(np.uint32)

    def frames(self, codes_thw: np.ndarray) -> np.ndarray:
        """Pictures (T H W 3) uint8 of visual codes."""
        decode = decode_images if self.independent else decode_frames
        return decode(self.tokenizers.video, codes_thw, self.device)

    def sound(self, codes_QT: np.ndarray) -> np.ndarray:
        """Samples (T,) float32 of audio codes."""
        return decode_sound(self.tokenizers.audio, codes_QT, self.device)
