"""Synthetic edits of single-shot clips: what the transition network learns from.

An edit is a row of shots with a transition between each and the next, all at 27 × 48. Within shots things happen that
are no transition (flashes, pans, shaking, freezes, things that pass by), so that the network learns to let them be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from curation.transition_network import HEIGHT, WIDTH

KINDS = {"cut": 0.44, "dissolve": 0.28, "fade": 0.12, "wipe": 0.06, "push": 0.03, "punch_in": 0.07}
SHORTEST, LONGEST = 5, 110  # frames of a shot
SAME = 1.5  # grey levels; scenes that differ by less cannot be told apart
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Footage:
    """The frames (T h w 3) uint8 of a single-shot clip, larger than 27 × 48, and what it resembles."""

    frames: np.ndarray
    group: str


@dataclass(frozen=True)
class Edit:
    """Frames and, for the gap after each, whether a transition has its middle there and whether one is under way."""

    frames: np.ndarray  # T 27 48 3, uint8
    middle: np.ndarray  # T, float32 of 0 and 1
    extent: np.ndarray  # T, float32 of 0 and 1
    weight: np.ndarray  # T, float32; 0 where nobody can tell


def edit(library: Sequence[Footage], length: int, generator: Generator) -> Edit:
    """A random edit of `length` frames."""
    start = int(generator.integers(0, 40))  # so that windows begin anywhere in a shot
    made = _Sequence(start + length)
    footage = _choose(library, None, generator)
    image = _shot(footage, _length(generator), generator)
    while made.add(image) < start + length:
        kind = str(generator.choice(list(KINDS), p=list(KINDS.values())))
        if kind == "punch_in":
            following = _shot(footage, _length(generator), generator, _closer(generator))
        else:
            footage = _choose(library, footage, generator)
            following = _shot(footage, _length(generator), generator)
        image = made.join(following, kind, generator)
    window = slice(start, start + length)
    return Edit(
        _finished(made.frames[window], generator), made.middle[window], made.extent[window], made.weight[window]
    )


class _Sequence:
    """Frames so far. A gradual transition mixes the end of what is there with the beginning of what follows."""

    def __init__(self, length: int):
        self._since = 0  # first frame that the scene of now has for itself
        self.frames = np.zeros((0, HEIGHT, WIDTH, 3), np.uint8)
        self.middle, self.extent = np.zeros(length + 1, np.float32), np.zeros(length + 1, np.float32)
        self.weight = np.ones(length + 1, np.float32)

    def add(self, shot: np.ndarray) -> int:
        """Appends frames; returns how many there are now."""
        self.frames = np.concatenate([self.frames, shot])
        return len(self.frames)

    def join(self, shot: np.ndarray, kind: str, generator: Generator) -> np.ndarray:
        """Marks a transition and mixes its frames into the end; returns what is still to be added of `shot`."""
        end = len(self.frames)
        alike = np.abs(self.frames[-1].astype(np.float32) - shot[0]).mean() < SAME
        longest = min(len(shot), end - self._since) - 2
        if kind in ("cut", "punch_in") or longest < 2:
            self._mark(end - 1, end - 1, alike)
            self._since = end
            return shot
        if kind == "fade":
            mixed, overlap = _fade(self.frames, shot, min(longest, 24), generator)
        else:
            count = int(np.clip(np.exp(generator.uniform(0, np.log(45))), 1, min(longest, 40)))
            mixed, overlap = _MIX[kind](self.frames[end - count :], shot[:count], generator), count
        first = end - overlap
        self.frames = np.concatenate([self.frames[:first], mixed])
        self._since = len(self.frames)
        self._mark(first - 1, self._since - 1, alike)
        return shot[overlap:]

    def _mark(self, first: int, last: int, alike: bool) -> None:
        """Gaps first … last are one transition."""
        middle, half = (first + last) // 2, (last - first + 1) // 8
        self.extent[max(first, 0) : last + 1] = 1
        self.middle[max(middle - half, 0) : middle + half + 1] = 1
        if alike:
            self.weight[max(first, 0) : last + 1] = 0


def _length(generator: Generator) -> int:
    return int(np.exp(generator.uniform(np.log(SHORTEST), np.log(LONGEST))))


def _choose(library: Sequence[Footage], before: Footage | None, generator: Generator) -> Footage:
    """Other footage than before; often of the same group, whose scenes are alike."""
    if generator.random() < 0.05:
        return _still(generator)
    if before is not None and generator.random() < 0.4:
        alike = [footage for footage in library if footage.group == before.group and footage is not before]
        if alike:
            return alike[int(generator.integers(len(alike)))]
    groups = sorted({footage.group for footage in library})
    group = groups[int(generator.integers(len(groups)))]
    rest = [footage for footage in library if footage.group == group and footage is not before]
    return rest[int(generator.integers(len(rest)))] if rest else _still(generator)


def _still(generator: Generator) -> Footage:
    """A card of one colour, a gradient or soft blotches, with bars like those of a title."""
    low, high = generator.integers(0, 256, (2, 3))
    if generator.random() < 0.4:
        low = high = generator.choice((0, 0, 0, 255)) * np.ones(3)
    shape = (2, 2) if generator.random() < 0.5 else (6, 8)
    mix = cv2.resize(generator.random(shape).astype(np.float32), (80, 45), interpolation=cv2.INTER_CUBIC)[..., None]
    card = np.clip(low + (high - low) * mix, 0, 255).astype(np.uint8)
    for _ in range(int(generator.integers(0, 4))):
        top, left = generator.integers(5, 38), generator.integers(5, 40)
        size = (int(left + generator.integers(5, 40)), int(top + generator.integers(1, 6)))
        cv2.rectangle(card, (int(left), int(top)), size, [int(v) for v in generator.integers(0, 256, 3)], -1)
    return Footage(card[None], "still")


# --- one shot -----------------------------------------------------------------------------------------------------


def _shot(
    footage: Footage, length: int, generator: Generator, zoom: tuple[float, float] = (0.0, 0.45)
) -> np.ndarray:  # fmt: skip
    """`length` frames of a clip by a camera, coloured, with what may happen in a shot. T 27 48 3, uint8."""
    source = _played(footage.frames, length, generator)
    frames = _filmed(source, _camera(length, zoom, generator))
    frames = _colored(frames, generator)
    if generator.random() < 0.4:
        happening = _HAPPENINGS[int(generator.integers(len(_HAPPENINGS)))]
        frames = happening(frames, generator)
    return frames


def _closer(generator: Generator) -> tuple[float, float]:
    low = generator.uniform(0.3, 0.5)
    return low, low + 0.1


def _played(frames: np.ndarray, length: int, generator: Generator) -> np.ndarray:
    """Frames at another speed, back and forth where the clip is too short, at times backwards or frozen."""
    speed = 1.0 if generator.random() < 0.4 else float(np.exp(generator.uniform(np.log(0.4), np.log(5))))
    if generator.random() < 0.04:
        speed = 0.0
    when = generator.integers(len(frames)) + np.floor(speed * np.arange(length) + generator.random()).astype(int)
    period = max(2 * (len(frames) - 1), 1)
    when = np.abs((when + len(frames) - 1) % period - (len(frames) - 1))
    return frames[when[::-1] if generator.random() < 0.2 else when]


def _camera(length: int, zoom: tuple[float, float], generator: Generator) -> np.ndarray:
    """(length, 4): x and y of the centre in [-1, 1] of the room left, zoom (share cut away), turn in degrees."""
    path = np.zeros((length, 4))
    path[:] = [generator.uniform(-1, 1), generator.uniform(-1, 1), generator.uniform(*zoom), 0]
    kind = generator.random()
    time = np.linspace(0, 1, length)[:, None]
    if kind < 0.25:  # slow move
        to = [generator.uniform(-1, 1), generator.uniform(-1, 1), generator.uniform(0.0, 0.5), generator.uniform(-6, 6)]
        path += (np.array(to) - path) * time
    elif kind < 0.4:  # whip: there within a few frames
        to = [generator.uniform(-1, 1), generator.uniform(-1, 1), generator.uniform(0.1, 0.5), 0]
        centre, width = generator.uniform(0, length), generator.uniform(1.5, 12)
        path += (np.array(to) - path) / (1 + np.exp(-(np.arange(length)[:, None] - centre) / width))
    if kind > 0.8:  # hand-held
        noise = generator.normal(size=(length, 4)) * [0.3, 0.3, 0.015, 1.0] * generator.uniform(0.2, 1.5)
        path += cv2.blur(noise, (1, int(generator.integers(1, 6))))
    path[:, :2] = np.clip(path[:, :2], -1, 1)
    path[:, 2] = np.clip(path[:, 2], 0.03, 0.6)
    return path


def _filmed(source: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """What the camera sees of the frames (T h w 3), as T 27 48 3 uint8."""
    height, width = source.shape[1:3]
    still = bool(np.all(camera == camera[0]))
    out = np.empty((len(source), HEIGHT, WIDTH, 3), np.uint8)
    for index, (image, (x, y, zoom, turn)) in enumerate(zip(source, camera, strict=True)):
        wide, tall = width * (1 - zoom), height * (1 - zoom)
        left, top = (width - wide) * (x + 1) / 2, (height - tall) * (y + 1) / 2
        if still:
            part = image[int(top) : int(top + tall) + 1, int(left) : int(left + wide) + 1]
            out[index] = cv2.resize(part, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        else:
            matrix = cv2.getRotationMatrix2D((left + wide / 2, top + tall / 2), turn, WIDTH / wide)
            matrix[:, 2] += [WIDTH / 2 - left - wide / 2, HEIGHT / 2 - top - tall / 2]
            cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), out[index], cv2.INTER_LINEAR, cv2.BORDER_REPLICATE)
    return out


def _colored(frames: np.ndarray, generator: Generator) -> np.ndarray:
    """Another exposure, contrast, white balance and saturation; at times mirrored or grey."""
    if generator.random() < 0.5:
        frames = frames[:, :, ::-1]
    if generator.random() < 0.3:
        return frames
    values: np.ndarray = frames.astype(np.float32)
    grey = (values @ _LUMA)[..., None]
    saturation = 0.0 if generator.random() < 0.1 else generator.uniform(0.4, 1.6)
    values = grey + (values - grey) * saturation
    gain = generator.uniform(0.35, 1.4) * generator.uniform(0.8, 1.2, 3)
    values = 255 * np.clip(values * gain / 255, 0, 1) ** generator.uniform(0.7, 1.5)
    return np.clip(values + generator.uniform(-20, 30), 0, 255).astype(np.uint8)


# --- what happens in a shot without ending it ---------------------------------------------------------------------


def _flash(frames: np.ndarray, generator: Generator) -> np.ndarray:
    """Light that comes at once and goes within a few frames, once or more often."""
    light = np.zeros(len(frames), np.float32)
    for _ in range(int(generator.integers(1, 4))):
        at, decay = int(generator.integers(len(frames))), generator.uniform(0.4, 3)
        light[at:] += generator.uniform(30, 255) * np.exp(-np.arange(len(frames) - at) / decay)
    return np.clip(frames + light[:, None, None, None], 0, 255).astype(np.uint8)


def _exposure(frames: np.ndarray, generator: Generator) -> np.ndarray:
    """Exposure that changes to another level, at once or slowly, and stays."""
    at, width = generator.uniform(0, len(frames)), generator.uniform(0.1, 10)
    step = 1 / (1 + np.exp(-np.clip((np.arange(len(frames)) - at) / width, -30, 30)))
    gain = 1 + step * (np.exp(generator.uniform(-0.7, 0.6)) - 1)
    return np.clip(frames * gain[:, None, None, None], 0, 255).astype(np.uint8)


def _flicker(frames: np.ndarray, generator: Generator) -> np.ndarray:
    gain = 1 + generator.normal(size=len(frames)) * generator.uniform(0.02, 0.25)
    return np.clip(frames * gain[:, None, None, None], 0, 255).astype(np.uint8)


def _freeze(frames: np.ndarray, generator: Generator) -> np.ndarray:
    """Frames that are repeated, as of a stream that stalls."""
    step = int(generator.integers(2, 12))
    return frames[np.arange(len(frames)) // step * step]


def _passing(frames: np.ndarray, generator: Generator) -> np.ndarray:
    """Something large that passes before the camera, soft at its edges."""
    frames = frames.copy()
    wide, tall = generator.uniform(6, 40), generator.uniform(8, 40)
    speed, at = generator.choice((-1, 1)) * generator.uniform(1, 14), generator.uniform(0, len(frames))
    y = generator.uniform(0, HEIGHT)
    color = generator.integers(0, 256, 3).astype(np.float32)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    for index in range(len(frames)):
        x = WIDTH / 2 + (index - at) * speed
        if -wide < x < WIDTH + wide:
            distance = ((columns - x) / wide * 2) ** 2 + ((rows - y) / tall * 2) ** 2
            cover = np.clip((1.2 - distance) * 3, 0, 1)[..., None]
            frames[index] = frames[index] * (1 - cover) + color * cover
    return frames


def _caption(frames: np.ndarray, generator: Generator) -> np.ndarray:
    """A bar with text that comes and goes."""
    frames = frames.copy()
    first, last = sorted(generator.integers(0, len(frames) + 1, 2))
    top, tall = int(generator.integers(0, HEIGHT - 3)), int(generator.integers(2, 9))
    left, right = sorted(generator.integers(0, WIDTH, 2))
    bar = generator.integers(0, 256, (min(tall, HEIGHT - top), max(right - left, 4), 1))
    room = frames[first:last, top : top + tall, left : left + bar.shape[1]]
    room[:] = 0.3 * room + 0.7 * bar[:, : room.shape[2]]
    return frames


_HAPPENINGS: tuple[Callable[[np.ndarray, Generator], np.ndarray], ...] = (
    _flash, _flash, _exposure, _flicker, _freeze, _passing, _passing, _caption,
)  # fmt: skip


# --- transitions --------------------------------------------------------------------------------------------------


def _progress(count: int, generator: Generator) -> np.ndarray:
    """Share of the second scene in each of `count` mixed frames, between 0 and 1, even or eased."""
    share = np.arange(1, count + 1) / (count + 1)
    return share * share * (3 - 2 * share) if generator.random() < 0.2 else share


def _dissolve(out: np.ndarray, into: np.ndarray, generator: Generator) -> np.ndarray:
    share = _progress(len(out), generator)[:, None, None, None]
    return np.round(out * (1 - share) + into * share).astype(np.uint8)


def _wipe(out: np.ndarray, into: np.ndarray, generator: Generator) -> np.ndarray:
    """An edge, hard or soft, that crosses the picture in some direction, or a circle that opens or closes."""
    rows, columns = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    angle = generator.choice((0, 90, 180, 270, 45, 135, generator.uniform(0, 360)))
    place = columns * np.cos(np.radians(angle)) + rows * np.sin(np.radians(angle))
    if generator.random() < 0.25:
        place = np.hypot(rows, columns) * generator.choice((-1, 1))
    place = (place - place.min()) / np.ptp(place)
    soft = generator.uniform(0.02, 0.5)
    share = _progress(len(out), generator)[:, None, None] * (1 + soft) - soft
    mask = np.clip((share + soft - place) / soft, 0, 1)[..., None]
    return np.round(out * (1 - mask) + into * mask).astype(np.uint8)


def _push(out: np.ndarray, into: np.ndarray, generator: Generator) -> np.ndarray:
    """The second scene shoves the first out, sideways or up and down."""
    axis, mixed = int(generator.integers(1, 3)), np.empty_like(out)
    backwards = generator.random() < 0.5
    for index, share in enumerate(_progress(len(out), generator)):
        pair = (into[index], out[index]) if backwards else (out[index], into[index])
        size = out.shape[axis]
        begin = round(size * ((1 - share) if backwards else share))
        mixed[index] = np.concatenate(pair, axis - 1).take(range(begin, begin + size), axis - 1)
    return mixed


def _fade(
    before: np.ndarray, after: np.ndarray, longest: int, generator: Generator
) -> tuple[np.ndarray, int]:  # fmt: skip
    """Frames of a fade to a colour, a while there, and out of it; and how many of each scene it takes up."""
    count = int(generator.integers(2, longest + 1))
    color = 0.0 if generator.random() < 0.75 else 255.0
    hold = int(generator.integers(0, 10))
    out, into = before[len(before) - count :], after[:count]
    share = _progress(count, generator)[:, None, None, None]
    there = np.full((hold, *out.shape[1:]), color)
    sides = [out * (1 - share) + color * share, there, color * (1 - share) + into * share]
    style = generator.random()
    if style < 0.15:
        sides[0] = np.full((1, *out.shape[1:]), color)  # straight to the colour, then out of it slowly
    return np.round(np.concatenate(sides)).astype(np.uint8), count


_MIX: dict[str, Callable[[np.ndarray, np.ndarray, Generator], np.ndarray]] = {
    "dissolve": _dissolve, "wipe": _wipe, "push": _push,
}  # fmt: skip


def _finished(frames: np.ndarray, generator: Generator) -> np.ndarray:
    """The edit as it comes out of a codec: noise, pulses at key frames, bars above and below, a logo."""
    values: np.ndarray = frames.astype(np.float32)
    if generator.random() < 0.5:
        values += generator.normal(size=values.shape).astype(np.float32) * generator.uniform(0.2, 3)
    if generator.random() < 0.3:
        every = int(generator.integers(8, 60))
        values[::every] += generator.normal(size=values[::every].shape) * generator.uniform(1, 4)
    values = np.clip(np.round(values), 0, 255).astype(np.uint8)
    if generator.random() < 0.15:
        bar = int(generator.integers(1, 6))
        values[:, :bar] = values[:, HEIGHT - bar :] = 0
    if generator.random() < 0.15:
        top, left = int(generator.integers(0, 22)), int(generator.integers(0, 40))
        values[:, top : top + 4, left : left + 7] = generator.integers(0, 256, 3)
    return values
