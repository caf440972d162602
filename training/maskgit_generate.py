"""`reelmill generate` with a masked transformer: windows, continuations and stories, without sound."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from media.windows import resize_and_crop
from tokenize_shards.base import default_device
from tokenize_shards.round_trip import decode_frames, encode_frames
from training.generate_inputs import last_frames, model_format, read_picture
from training.generate_settings import GenerateSettings
from training.generation_progress import progress
from training.maskgit import MaskGit, sample_window
from training.model_folder import Tokenizers, load_model
from training.reel import Part, Reel, Result, parts_of, read_story
from training.text_condition import pad_text


class MaskedSession:
    """One call of the command: model, inputs, and the steps from one to the other."""

    def __init__(self, settings: GenerateSettings, console: Console):
        self.settings, self.console = settings, console
        if settings.super_resolution is not None:
            raise ValueError("--super_resolution is for language models; leave it out with a MaskGIT model")
        self.device = default_device(None if settings.device == "auto" else settings.device)
        self.model, folder = load_model(MaskGit, settings.model, self.device)
        known = self.model.config.tasks or []
        if settings.task not in known:
            raise ValueError(f"the model in {settings.model} cannot do {settings.task}; it knows {', '.join(known)}")
        self.tokenizers = Tokenizers(self.model.config.tokenizers, folder, self.device)
        self.format = model_format(self.model, self.tokenizers, settings.size)
        self.random = torch.Generator().manual_seed(settings.seed)

    def text_states(self, prompt: str) -> np.ndarray:
        """States (L D) of a prompt; those of the empty caption for none."""
        return self.tokenizers.text.encode([prompt])[0] if prompt else self.model.empty_text.cpu().numpy()

    def run(self) -> list[Result]:
        """Makes the clips of every task but stories."""
        settings, fmt = self.settings, self.format
        states, reel = self.text_states(settings.prompt), self._reel()
        wanted = round(Fraction(str(settings.duration_s)) * fmt.fps) if settings.duration_s else fmt.num_frames
        if settings.task == "t2i":
            wanted = 1
        frames = self._given_frames()
        if frames is not None:
            known = self._encode(np.stack([frames] * settings.count))
            reel.add(self._window(states, known), states)
            reel.cut(wanted)
        reel.go_on(Part(states, wanted - len(reel)), self._window, fmt.given(settings.given_s))
        return [Result(clip) for clip in reel.frames]

    def tell(self) -> list[Result]:
        """Makes the clips of a story."""
        reel, fmt = self._reel(), self.format
        for part in parts_of(read_story(self.settings.story or "", fmt.fps), self.text_states):
            reel.go_on(part, self._window, fmt.given(self.settings.given_s))
        return [Result(clip) for clip in reel.frames]

    def _given_frames(self) -> np.ndarray | None:
        """Pictures (T H W 3) to go on from: the image, or the end of the video."""
        settings, fmt = self.settings, self.format
        if settings.task == "i2v":
            return resize_and_crop(read_picture(settings.image or "")[None], fmt.height, fmt.width)
        if settings.task == "continue":
            return last_frames(settings, Path(settings.video or ""), fmt)
        return None

    def _reel(self) -> Reel:
        return Reel(self.format, lambda codes: decode_frames(self.tokenizers.video, codes, self.device), self._encode)

    def _encode(self, frames_BTHWC: np.ndarray) -> np.ndarray:
        return encode_frames(self.tokenizers.video, frames_BTHWC, self.device)

    def _window(self, states: np.ndarray, known: np.ndarray | None) -> np.ndarray:
        count, settings = self.settings.count, self.settings
        frames = 1 if settings.task == "t2i" else self.format.grid[0]
        codes = np.zeros((count, frames, *self.format.grid[1:]), np.int64)
        known_frames = 0 if known is None else known.shape[1]
        if known is not None:
            codes[:, :known_frames] = known
        text, mask = pad_text([states] * count, self.model.config.text_width, self.device)
        with progress(self.console, settings.task, "steps", settings.masked.steps) as on_step:
            made = sample_window(
                self.model, text, mask, torch.from_numpy(codes).to(self.device), known_frames, settings.masked,
                self.random, on_step,
            )  # fmt: skip
        return made.cpu().numpy().astype(np.uint32)
