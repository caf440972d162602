"""Videos longer than a window: each window is given the last pixels of what there is, encoded anew.

    window 1   |■■■■■■■■■■■■■■■■■|
    window 2           |▒▒▒▒▒▒▒▒▒■■■■■■■■|          ▒ given, ■ new
    window 3                   |▒▒▒▒▒▒▒▒▒■■■■■■■■|

Latent frames cannot be slid along: the first of a window must be a whole picture. So 1 + k·stride frames are given.
A story changes its prompt on the way (Phenaki, arXiv 2210.02399, section 2.3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import yaml

from training.generate_inputs import Format

Make = Callable[[np.ndarray, np.ndarray | None], np.ndarray]
"""(text states, codes (B k h w) of what is given or None) → codes (B t h w) of a window."""


@dataclass(frozen=True)
class Part:
    """A stretch of a story: what it shows (text states L D), and how many frames it lasts."""

    states: np.ndarray
    num_frames: int


@dataclass
class Result:
    """One generated clip: pictures (T H W 3) uint8, sound (T,) in [-1, 1] or None, and the rate, if not the model's."""

    frames: np.ndarray
    sound: np.ndarray | None = None
    fps: Fraction | None = None


class Reel:
    """Clips side by side that grow window by window.

    Attributes:
        lows: pictures (T H W 3) uint8 of each clip at the size of the generator.
        frames: the same, at their final size.
    """

    def __init__(
        self,
        fmt: Format,
        decode: Callable[[np.ndarray], np.ndarray],
        encode: Callable[[np.ndarray], np.ndarray],
        enlarge: Callable[[np.ndarray, np.ndarray], list[np.ndarray]] | None = None,
    ):
        self.format, self.decode, self.encode, self.enlarge = fmt, decode, encode, enlarge
        self.lows: list[np.ndarray] = []
        self.frames: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.lows[0]) if self.lows else 0

    def add(self, codes_Bthw: np.ndarray, states: np.ndarray, skip: int = 0) -> None:
        """Appends a window, without its first `skip` frames: those were given."""
        lows = [self.decode(codes)[skip:] for codes in codes_Bthw]
        large = [frames[skip:] for frames in self.enlarge(codes_Bthw, states)] if self.enlarge else lows
        self.lows = _joined(self.lows, lows)
        self.frames = _joined(self.frames, large)

    def cut(self, num_frames: int) -> None:
        """Drops what follows the first `num_frames`."""
        self.lows, self.frames = ([clip[:num_frames] for clip in clips] for clips in (self.lows, self.frames))

    def go_on(self, part: Part, make: Make, given: int) -> None:
        """Grows by the frames of a part, each window given about `given` latent frames of what there is."""
        wanted = len(self) + part.num_frames
        while len(self) < wanted:
            if not len(self):
                self.add(make(part.states, None), part.states)
                continue
            latents = max(1, min(given, 1 + (len(self) - 1) // self.format.temporal_stride))
            old = self.format.frames_of(latents)
            known = self.encode(np.stack([clip[-old:] for clip in self.lows]))
            self.add(make(part.states, known), part.states, skip=old)
        self.cut(wanted)


def _joined(before: list[np.ndarray], after: list[np.ndarray]) -> list[np.ndarray]:
    return [np.concatenate(pair) for pair in zip(before, after, strict=True)] if before else after


def read_story(path: str, fps: Fraction) -> list[tuple[str, int]]:
    """Prompts and their numbers of frames, from a YAML or JSON list of `{prompt, duration_s}`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such list.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    wanted = "a list of `- {prompt: TEXT, duration_s: SECONDS}` is wanted"
    try:
        parts = yaml.safe_load(Path(path).read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}; {wanted}") from error
    if not isinstance(parts, list) or not parts:
        raise ValueError(f"{path} is no story; {wanted}")
    story = []
    for number, part in enumerate(parts, 1):
        if not isinstance(part, dict) or set(part) != {"prompt", "duration_s"}:
            raise ValueError(f"part {number} of {path} is {part!r}; {wanted}")
        prompt, seconds = part["prompt"], part["duration_s"]
        if not isinstance(prompt, str) or not isinstance(seconds, int | float) or round(seconds * fps) < 1:
            raise ValueError(f"part {number} of {path} is {part!r}; {wanted}, at least one frame long")
        story.append((prompt, round(Fraction(str(seconds)) * fps)))
    return story


def parts_of(story: Sequence[tuple[str, int]], states: Callable[[str], np.ndarray]) -> list[Part]:
    """The story with its prompts encoded."""
    return [Part(states(prompt), num_frames) for prompt, num_frames in story]
