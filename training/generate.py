"""`reelmill generate`: files in, tokens through the language model, an mp4 with sound and a contact sheet out."""

from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from media import storage
from media.encode import contact_sheet, jpeg_bytes, write_video
from schemas.shards import TokenSample
from tokenize_shards.base import default_device
from tokenize_shards.motion_vectors import FPS as MOTION_FPS
from tokenize_shards.round_trip import encode_frames
from training.generate_inputs import Format, input_samples, model_format, with_video
from training.generate_settings import GENERATE, GenerateSettings, SamplingSettings
from training.generation import Generator, Progress
from training.generation_progress import progress
from training.lm import ReelLm
from training.maskgit import MaskGitConfig
from training.maskgit_generate import MaskedSession
from training.model_folder import Tokenizers, load_model, model_type
from training.motion_render import rendered
from training.reel import Part, Reel, Result, parts_of, read_story
from training.sequences import TASKS
from training.super_resolution import SuperResolution

COLUMNS = 8  # of the contact sheet


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
        self.tokenizers = tokenizers
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
        needed = ("t2v", "continue") if task == "story" else (self.token_task,)
        if not set(needed) <= set(known):
            raise ValueError(
                f"the model in {self.settings.model} was not trained for {' and '.join(needed)}; it knows "
                f"{', '.join(known)}"
            )
        if self.settings.duration_s is not None and task in ("keyframe_motion", "image_motion"):
            raise ValueError(f"--task {task} makes what the model's samples hold; leave --duration_s out")
        if self.settings.duration_s is not None and "continue" not in known:
            raise ValueError(f"--duration_s needs a model trained for continue; this one knows {', '.join(known)}")

    @property
    def token_task(self) -> str:
        """The model's task for what is asked."""
        with_first = self.settings.task == "stylize" and self.settings.image is not None
        return "stylize_first" if with_first else self.settings.task

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
                self.token_task, inputs.samples, sampling, self.random, given=inputs.given, negative=negative,
                on_token=on_token,
            )  # fmt: skip
        if inputs.frames is not None:  # the pictures were given: only their sound is new
            return [Result(inputs.frames, generator.sound(sample.arrays["audio"])) for sample in done]
        if TASKS[self.token_task].motion:
            return [Result(rendered(sample, generator), fps=MOTION_FPS) for sample in done]
        stop = 1 if settings.task == "t2i" else None
        reel = self._reel()
        reel.add(np.stack([sample.arrays["video"][:stop] for sample in done]), states)
        if settings.duration_s is not None:
            wanted = round(Fraction(str(settings.duration_s)) * self.format.fps)
            reel.cut(wanted)
            self._go_on(reel, [Part(states, wanted - len(reel))], negative, sampling)
        results = [Result(frames) for frames in reel.frames]
        self._add_sound(results, done, reel.lows, inputs.sound)
        return results

    def tell(self) -> list[Result]:
        """Makes the clips of a story."""
        settings, generator = self.settings, self.generator
        story = read_story(settings.story or "", self.format.fps)
        reel = self._reel()
        negative = generator.text_states(settings.negative_prompt)
        self._go_on(reel, parts_of(story, generator.text_states), negative, settings.sampling)
        results = [Result(frames) for frames in reel.frames]
        self._add_sound(results, [], reel.lows, None)
        return results

    def _reel(self) -> Reel:
        generator = self.generator
        enlarge = self._enlarged if generator.upscaler is not None else None
        return Reel(self.format, generator.frames, self._encode, enlarge)

    def _encode(self, frames_BTHWC: np.ndarray) -> np.ndarray:
        return encode_frames(self.generator.tokenizers.video, frames_BTHWC, self.generator.device)

    def _enlarged(self, codes: np.ndarray, states: np.ndarray) -> list[np.ndarray]:
        with self._progress("super-resolution", "steps", self.settings.upsampling.steps) as on_step:
            high = self.generator.upscaled(codes, states, self.settings.upsampling, self.random, on_step)
        return [self.generator.frames(grid) for grid in high]

    def _go_on(self, reel: Reel, parts: list[Part], negative: np.ndarray, sampling: SamplingSettings) -> None:
        """Lets the reel grow by some parts."""
        generator, fmt = self.generator, self.format

        def make(states: np.ndarray, known: np.ndarray | None) -> np.ndarray:
            blank, given = generator.blank(fmt.grid, states), 0 if known is None else known.shape[1]
            samples = [blank] * self.settings.count
            if known is not None:
                samples = [with_video(blank, codes) for codes in known]
            with self._progress(f"{float(len(reel) / fmt.fps):.1f} s") as on_token:
                done = generator.complete(
                    "continue" if given else "t2v", samples, sampling, self.random, given=given or 1,
                    negative=negative, on_token=on_token,
                )  # fmt: skip
            return np.stack([sample.arrays["video"] for sample in done])

        for part in parts:
            reel.go_on(part, make, fmt.given(self.settings.given_s))

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
            codes = self._encode(windows)
            samples = [with_video(self.generator.blank(fmt.grid), grid) for grid in codes]
            with self._progress("sound") as on_token:
                done = self.generator.complete("v2a", samples, self.settings.sampling, self.random, on_token=on_token)
            first = round(Fraction(start) / fmt.fps * rate)
            for sound, sample in zip(sounds, done, strict=True):
                heard = self.generator.sound(sample.arrays["audio"])[: len(sound) - first]
                sound[first : first + len(heard)] = heard
        return sounds

    def _progress(self, what: str, unit: str = "tokens", total: int | None = None) -> AbstractContextManager[Progress]:
        return progress(self.console, what, unit, total, self.settings.count)


def write_results(results: list[Result], settings: GenerateSettings, fmt: Format, rate_hz: int | None) -> list[str]:
    """Writes every clip and its contact sheet; returns the paths of the clips."""
    paths = []
    for index, result in enumerate(results):
        path = settings.output if len(results) == 1 else f"{settings.output.removesuffix('.mp4')}-{index}.mp4"
        storage.makedirs(str(Path(path).parent))
        write_video(
            path, result.frames, result.fps or fmt.fps, result.sound, rate_hz if result.sound is not None else None
        )
        sheet = jpeg_bytes(np.asarray(contact_sheet(result.frames, COLUMNS)))
        storage.write_bytes_atomic(path.removesuffix(".mp4") + ".jpg", sheet)
        paths.append(path)
    return paths


def main(argv: list[str]) -> int:
    """`reelmill generate …`."""
    settings, _ = GENERATE.parse(argv)
    console = Console()
    session: Session | MaskedSession
    if model_type(settings.model) == MaskGitConfig.model_type:
        session = MaskedSession(settings, console)
    else:
        session = Session(settings, console)
    results = session.tell() if settings.task == "story" else session.run()
    audible = any(result.sound is not None for result in results)
    rate_hz = session.tokenizers.audio.sample_rate_hz if audible else None
    paths = write_results(results, settings, session.format, rate_hz)
    num_frames, height, width, _ = results[0].frames.shape
    seconds = float(num_frames / (results[0].fps or session.format.fps))
    console.print(
        f"{', '.join(paths)}: {num_frames} frames of {height}x{width}, {seconds:.3f} s, "
        f"{'with' if audible else 'without'} sound",
        soft_wrap=True,
    )
    return 0
