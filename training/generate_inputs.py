"""What `reelmill generate` is given: files read, sized and tokenized as the model's samples were."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from transformers import PreTrainedModel

from media.audio import read_audio
from media.probe import probe
from media.windows import FrameReader, read_window, resize_and_crop
from schemas.shards import TokenSample
from schemas.states import Rejection
from tokenize_shards.base import VideoTokenizer
from tokenize_shards.round_trip import encode_frames, encode_sound
from training.commit import commit_codes, region_mask
from training.generate_settings import GenerateSettings
from training.generation import Generator
from training.model_folder import Tokenizers


@dataclass(frozen=True)
class Format:
    """The clips a model makes.

    Attributes:
        grid: (t, h, w) of the tokens of one window.
        num_frames: of one window.
        fps: frames per second, exact.
        height: in pixels.
        width: in pixels.
        temporal_stride: frames a latent frame.
    """

    grid: tuple[int, int, int]
    num_frames: int
    fps: Fraction
    height: int
    width: int
    temporal_stride: int

    def given(self, seconds: float) -> int:
        """Latent frames that stand for about so many seconds: at least one, and at least one fewer than a window."""
        frames = max(1, round(seconds * self.fps))
        return max(1, min(self.grid[0] - 1, 1 + (frames - 1) // self.temporal_stride))

    def frames_of(self, latent_frames: int) -> int:
        """Frames that so many latent frames stand for."""
        return 1 + self.temporal_stride * (latent_frames - 1)


def model_format(model: PreTrainedModel, tokenizers: Tokenizers, size: str | None) -> Format:
    """The format of that size, HEIGHTxWIDTH; None: the first the model was trained on."""
    formats = model.config.formats or {}
    sizes = list(formats.get("grids", {}))
    chosen = size or (sizes[0] if sizes else "")
    if chosen not in sizes:
        raise ValueError(f"the model was trained on {', '.join(sizes) or 'no size'}; --size {chosen} is none of them")
    height, width = (int(side) for side in chosen.split("x"))
    num_frames, stride = formats["num_frames"], tokenizers.video.temporal_stride
    t, h, w = tokenizers.video.grid(1 if formats.get("independent") else num_frames, height, width)
    if formats.get("independent"):
        t, stride = num_frames, 1
    return Format((t, h, w), num_frames, Fraction(*formats["fps"]), height, width, stride)


@dataclass(frozen=True)
class Inputs:
    """Samples with what is given in them.

    Attributes:
        given: latent frames that are given to a continuation.
        frames: pictures that stay as they are, where only sound is asked for.
        sound: samples that stay as they are, where only pictures are asked for.
    """

    samples: list[TokenSample]
    given: int = 1
    frames: np.ndarray | None = None
    sound: np.ndarray | None = None


def input_samples(settings: GenerateSettings, generator: Generator, fmt: Format, states: np.ndarray) -> Inputs:
    """Reads the files that the task needs.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: it cannot be read, or is too short.
    """
    blank = generator.blank(fmt.grid, states)
    try:
        inputs = _READERS.get(settings.task, _from_nothing)(settings, generator, fmt, blank)
    except Rejection as rejection:
        raise ValueError(f"{settings.video or settings.audio or settings.image}: {rejection}") from rejection
    return replace(inputs, samples=inputs.samples * settings.count)


def _from_nothing(settings: GenerateSettings, generator: Generator, fmt: Format, blank: TokenSample) -> Inputs:
    return Inputs([blank])


def _from_image(settings: GenerateSettings, generator: Generator, fmt: Format, blank: TokenSample) -> Inputs:
    picture = read_picture(settings.image or "")
    frames = resize_and_crop(picture[None], fmt.height, fmt.width)
    return Inputs([with_video(blank, _encode(generator, frames))])


def _from_video_start(settings: GenerateSettings, generator: Generator, fmt: Format, blank: TokenSample) -> Inputs:
    """For continuations: the last second, or what follows `start_s`, with its sound."""
    path, given = _existing(settings.video), fmt.given(settings.given_s)
    frames = last_frames(settings, path, fmt)
    start = _start(settings, path, Fraction(fmt.frames_of(given)) / fmt.fps, from_end=True)
    sample = with_video(blank, _encode(generator, frames))
    if settings.task == "av_continue":
        sample = _with_sound(sample, generator, _read_sound(path, start, generator, fmt), path)
    return Inputs([sample], given)


def _from_whole_video(settings: GenerateSettings, generator: Generator, fmt: Format, blank: TokenSample) -> Inputs:
    frames = _window(settings, fmt)
    return Inputs([with_video(blank, _encode(generator, frames))], frames=frames)


def _from_masked_video(settings: GenerateSettings, generator: Generator, fmt: Format, blank: TokenSample) -> Inputs:
    frames = _window(settings, fmt)
    if settings.mask is not None:
        white = resize_and_crop(read_picture(settings.mask)[None], fmt.height, fmt.width)[0].mean(axis=-1) > 127
        known = np.broadcast_to(~white, frames.shape[:3])
    else:
        inside = region_mask(settings.region, *frames.shape[:3])
        known = ~inside if settings.task == "inpaint" else inside
    codes = commit_codes(generator.tokenizers.video, frames[None], known, generator.device)[0]
    return Inputs([replace(blank, arrays={**blank.arrays, "commit": codes})])


def _from_structure(settings: GenerateSettings, generator: Generator, fmt: Format, blank: TokenSample) -> Inputs:
    """Flow and depth of a video, and the first frame of the result where there is a picture."""
    frames = _window(settings, fmt)
    encoder = generator.tokenizers.structure(settings.structure.flow, settings.structure.depth)
    codes = encoder.encode(frames).numpy().astype(np.uint32)
    sample = replace(blank, arrays={**blank.arrays, "structure": codes})
    if settings.image is not None:
        first = resize_and_crop(read_picture(settings.image)[None], fmt.height, fmt.width)
        sample = with_video(sample, _encode(generator, first))
    return Inputs([sample])


def _from_sound(settings: GenerateSettings, generator: Generator, fmt: Format, blank: TokenSample) -> Inputs:
    path = _existing(settings.audio)
    sound = _read_sound(path, Fraction(str(settings.start_s or 0)), generator, fmt)
    return Inputs([_with_sound(blank, generator, sound, path)], sound=sound)


_READERS = {
    "i2v": _from_image,
    "image_motion": _from_image,
    "stylize": _from_structure,
    "continue": _from_video_start,
    "av_continue": _from_video_start,
    "v2a": _from_whole_video,
    "inpaint": _from_masked_video,
    "outpaint": _from_masked_video,
    "a2v": _from_sound,
}


def read_picture(path: str) -> np.ndarray:
    """(H W 3) uint8 of a picture, or of the first frame of a video.

    Raises:
        FileNotFoundError: there is no such file.
        Rejection: it is neither.
    """
    file = _existing(path)
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError:
        return FrameReader(file).frames_at([Fraction(0)])[0]


def last_frames(settings: GenerateSettings, path: Path, fmt: Format) -> np.ndarray:
    """(T H W 3) uint8: what a continuation is given, the end of the video or what follows `start_s`."""
    count = fmt.frames_of(fmt.given(settings.given_s))
    start = _start(settings, _existing(str(path)), Fraction(count) / fmt.fps, from_end=True)
    return read_window(path, start, count, fmt.fps, fmt.height, fmt.width)


def _window(settings: GenerateSettings, fmt: Format) -> np.ndarray:
    """(T H W 3) uint8: as many frames of the video as the model makes."""
    path = _existing(settings.video)
    start = _start(settings, path, Fraction(fmt.num_frames) / fmt.fps)
    return read_window(path, start, fmt.num_frames, fmt.fps, fmt.height, fmt.width)


def _existing(path: str | None) -> Path:
    if not path or not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return Path(path)


def _start(settings: GenerateSettings, path: Path, length: Fraction, from_end: bool = False) -> Fraction:
    """Where to read from; ValueError where so much does not follow."""
    probed = probe(path)
    duration = Fraction(str(probed.duration_s)) if probed.duration_s is not None else None
    if settings.start_s is not None:
        start = Fraction(str(settings.start_s))
    else:
        start = max(Fraction(0), duration - length) if from_end and duration is not None else Fraction(0)
    if duration is not None and start + length > duration + Fraction(1, 4):
        raise ValueError(
            f"{path} lasts {float(duration):.3f} s; {float(length):.3f} s from {float(start):.3f} s are wanted: choose "
            "another --start_s, or a longer video"
        )
    return start


def _read_sound(path: Path, start: Fraction, generator: Generator, fmt: Format) -> np.ndarray:
    tokenizer = generator.tokenizers.audio
    num_samples = round(Fraction(fmt.num_frames) / fmt.fps * tokenizer.sample_rate_hz)
    return read_audio(path, start, num_samples, tokenizer.sample_rate_hz)


def _with_sound(sample: TokenSample, generator: Generator, sound: np.ndarray, path: Path) -> TokenSample:
    if not sound.size:
        raise ValueError(f"{path} has no sound; this task needs some")
    codes = encode_sound(generator.tokenizers.audio, sound, generator.device)
    return replace(sample, arrays={**sample.arrays, "audio": codes})


def with_video(sample: TokenSample, codes_thw: np.ndarray) -> TokenSample:
    """The sample with its first latent frames filled in."""
    video = sample.arrays["video"].copy()
    video[: len(codes_thw)] = codes_thw
    return replace(sample, arrays={**sample.arrays, "video": video})


def _encode(generator: Generator, frames: np.ndarray) -> np.ndarray:
    tokenizer: VideoTokenizer = generator.tokenizers.video
    return encode_frames(tokenizer, frames[None], generator.device)[0]
