"""`reelmill generate`: files in, tokens through the language model, an mp4 with sound and a contact sheet out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, TextColumn

from media import storage
from media.encode import contact_sheet, jpeg_bytes, write_video
from schemas.shards import TokenSample
from tokenize_shards.base import default_device
from tokenize_shards.round_trip import encode_frames
from training.generate_inputs import Format, input_samples, model_format
from training.generate_settings import GENERATE, GenerateSettings
from training.generation import Generator
from training.lm import ReelLm
from training.model_folder import Tokenizers, load_model
from training.super_resolution import SuperResolution

COLUMNS = 8  # of the contact sheet


@dataclass
class Result:
    """One generated clip: pictures (T H W 3) uint8, and sound (T,) in [-1, 1] or None."""

    frames: np.ndarray
    sound: np.ndarray | None = None


class Session:
    """One call of the command: the models, the inputs, and the steps from one to the other."""

    def __init__(self, settings: GenerateSettings, console: Console):
        self.settings, self.console = settings, console
        device = default_device(None if settings.device == "auto" else settings.device)
        model, folder = load_model(ReelLm, settings.model, device)
        tokenizers = Tokenizers(model.config.tokenizers, folder, device)
        upscaler = self._upscaler(tokenizers, device)
        self.generator = Generator(model, tokenizers, device, upscaler)
        self.format = model_format(model, tokenizers, settings.size)
        self.random = torch.Generator().manual_seed(settings.seed)
        self._check_task()

    def _upscaler(self, tokenizers: Tokenizers, device: torch.device) -> SuperResolution | None:
        if self.settings.super_resolution is None:
            return None
        upscaler, folder = load_model(SuperResolution, self.settings.super_resolution, device)
        theirs, ours = ((infos or {}).get("video", {}) for infos in (upscaler.config.tokenizers, tokenizers.infos))
        if theirs.get("fingerprint") != ours.get("fingerprint"):
            raise ValueError(
                f"the models do not share a video tokenizer: the super-resolution model in {folder} takes codes of "
                f"{theirs.get('name')!r} {str(theirs.get('fingerprint'))[:12]}, the language model makes those of "
                f"{ours.get('name')!r} {str(ours.get('fingerprint'))[:12]}; use models trained on the same shards"
            )
        return upscaler

    def _check_task(self) -> None:
        task, known = self.settings.task, self.generator.model.config.tasks or []
        if task not in known:
            raise ValueError(
                f"the model in {self.settings.model} was not trained for {task}; it knows {', '.join(known)}"
            )
        if self.settings.duration_s is not None and "continue" not in known:
            raise ValueError(f"--duration_s needs a model trained for continue; this one knows {', '.join(known)}")

    def run(self) -> list[Result]:
        """Makes the clips."""
        settings, generator = self.settings, self.generator
        states = generator.text_states(settings.prompt)
        negative = generator.text_states(settings.negative_prompt)
        inputs = input_samples(settings, generator, self.format, states)
        plain = not settings.prompt and not settings.negative_prompt
        sampling = replace(settings.sampling, guidance=1.0) if plain else settings.sampling
        with self._progress(settings.task) as on_token:
            done = generator.complete(
                settings.task, inputs.samples, sampling, self.random, given=inputs.given, negative=negative,
                on_token=on_token,
            )  # fmt: skip
        if inputs.frames is not None:  # the pictures were given: only their sound is new
            return [Result(inputs.frames, generator.sound(sample.arrays["audio"])) for sample in done]
        results, lows = self._pictures(done, states)
        if settings.duration_s is not None:
            self._lengthen(results, lows, states, negative, sampling)
        self._add_sound(results, done, lows, inputs.sound)
        return results

    def _pictures(self, samples: list[TokenSample], states: np.ndarray) -> tuple[list[Result], list[np.ndarray]]:
        """The clips at their final size, and at the language model's."""
        stop = 1 if self.settings.task == "t2i" else None
        codes = np.stack([sample.arrays["video"][:stop] for sample in samples])
        lows = [self.generator.frames(grid) for grid in codes]
        return [Result(frames) for frames in self._enlarged(codes, lows, states)], lows

    def _enlarged(self, codes: np.ndarray, lows: list[np.ndarray], states: np.ndarray) -> list[np.ndarray]:
        if self.generator.upscaler is None:
            return lows
        with self._progress("super-resolution", "steps", self.settings.upsampling.steps) as on_step:
            high = self.generator.upscaled(codes, states, self.settings.upsampling, self.random, on_step)
        return [self.generator.frames(grid) for grid in high]

    def _lengthen(
        self, results: list[Result], lows: list[np.ndarray], states: np.ndarray, negative: np.ndarray, sampling: Any
    ) -> None:
        """Goes on from the last pixels, encoded anew, until the clips are long enough.

        Latent frames cannot be slid along: the first of a window must be a whole picture.
        """
        fmt = self.format
        wanted = round(Fraction(str(self.settings.duration_s)) * fmt.fps)
        given = fmt.given(self.settings.given_s)
        old = fmt.frames_of(given)
        while len(lows[0]) < wanted:
            tail = np.stack([frames[-old:] for frames in lows])
            codes = encode_frames(self.generator.tokenizers.video, tail, self.generator.device)
            samples = []
            for grid in codes:
                sample = self.generator.blank(fmt.grid, states)
                sample.arrays["video"][:given] = grid
                samples.append(sample)
            with self._progress(f"{float(len(lows[0]) / fmt.fps):.1f} s") as on_token:
                done = self.generator.complete(
                    "continue", samples, sampling, self.random, given=given, negative=negative, on_token=on_token
                )
            more, more_low = self._pictures(done, states)
            for index, result in enumerate(results):
                lows[index] = np.concatenate([lows[index], more_low[index][old:]])
                result.frames = np.concatenate([result.frames, more[index].frames[old:]])
        for index, result in enumerate(results):
            lows[index], result.frames = lows[index][:wanted], result.frames[:wanted]

    def _add_sound(
        self, results: list[Result], done: list[TokenSample], lows: list[np.ndarray], given: np.ndarray | None
    ) -> None:
        """The sound that was given or made with the pictures; else made for them, where the model can."""
        task, longer = self.settings.task, self.settings.duration_s is not None
        if given is not None and not longer:
            for result in results:
                result.sound = given
        elif task in ("t2av", "av_continue") and not longer:
            for result, sample in zip(results, done, strict=True):
                result.sound = self.generator.sound(sample.arrays["audio"])
        elif self.settings.sound and self.generator.can_sound and task != "t2i":
            for result, sound in zip(results, self._sound_for(lows), strict=True):
                result.sound = sound

    def _sound_for(self, lows: list[np.ndarray]) -> list[np.ndarray]:
        """Sound, window by window; the last window ends with the clip."""
        fmt, rate = self.format, self.generator.tokenizers.audio.sample_rate_hz
        total = len(lows[0])
        sounds = [np.zeros(round(Fraction(total) / fmt.fps * rate), np.float32) for _ in lows]
        missing = max(0, fmt.num_frames - total)  # a clip shorter than a window is heard as if its last frame stood
        lows = [np.pad(frames, ((0, missing), *[(0, 0)] * 3), mode="edge") for frames in lows]
        last = len(lows[0]) - fmt.num_frames
        starts = sorted({min(start, last) for start in range(0, len(lows[0]), fmt.num_frames)})
        for start in starts:
            windows = np.stack([frames[start : start + fmt.num_frames] for frames in lows])
            codes = encode_frames(self.generator.tokenizers.video, windows, self.generator.device)
            samples = [replace_video(self.generator.blank(fmt.grid), grid) for grid in codes]
            with self._progress("sound") as on_token:
                done = self.generator.complete("v2a", samples, self.settings.sampling, self.random, on_token=on_token)
            first = round(Fraction(start) / fmt.fps * rate)
            for sound, sample in zip(sounds, done, strict=True):
                heard = self.generator.sound(sample.arrays["audio"])[: len(sound) - first]
                sound[first : first + len(heard)] = heard
        return sounds

    @contextmanager
    def _progress(self, what: str, unit: str = "tokens", total: int | None = None) -> Iterator[Callable[[int], None]]:
        columns = (
            TextColumn("{task.description}"),
            TextColumn("{task.completed} " + unit),
            TextColumn("{task.fields[rate]}"),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as bar:
            task = bar.add_task(what, total=total, rate="")

            def update(done: int) -> None:
                elapsed = bar.tasks[0].elapsed or 1e-9
                bar.update(task, completed=done, rate=f"{done * self.settings.count / elapsed:,.0f} {unit}/s")

            yield update


def replace_video(sample: TokenSample, codes: np.ndarray) -> TokenSample:
    """The sample with these visual codes."""
    return replace(sample, arrays={**sample.arrays, "video": codes})


def write_results(results: list[Result], settings: GenerateSettings, fmt: Format, rate_hz: int | None) -> list[str]:
    """Writes every clip and its contact sheet; returns the paths of the clips."""
    paths = []
    for index, result in enumerate(results):
        path = settings.output if len(results) == 1 else f"{settings.output.removesuffix('.mp4')}-{index}.mp4"
        storage.makedirs(str(Path(path).parent))
        write_video(path, result.frames, fmt.fps, result.sound, rate_hz if result.sound is not None else None)
        sheet = jpeg_bytes(np.asarray(contact_sheet(result.frames, COLUMNS)))
        storage.write_bytes_atomic(path.removesuffix(".mp4") + ".jpg", sheet)
        paths.append(path)
    return paths


def main(argv: list[str]) -> int:
    """`reelmill generate …`."""
    settings, _ = GENERATE.parse(argv)
    console = Console()
    session = Session(settings, console)
    results = session.run()
    audible = any(result.sound is not None for result in results)
    rate_hz = session.generator.tokenizers.audio.sample_rate_hz if audible else None
    paths = write_results(results, settings, session.format, rate_hz)
    num_frames, height, width, _ = results[0].frames.shape
    console.print(
        f"{', '.join(paths)}: {num_frames} frames of {height}x{width}, {float(num_frames / session.format.fps):.3f} s, "
        f"{'with' if audible else 'without'} sound",
        soft_wrap=True,
    )
    return 0
