"""Scenes for the watermark network: clean stretches of frames, varied, with things in them that look drawn.

Printed labels, textures and straight frames belong to the scene: they lie in perspective, carry its blur and move
with the camera. A network that has seen them only where a mark is drawn would take them for one.
"""

import math
import random

import cv2
import numpy as np

from curation.overlay_synthesis import text


def varied(frames: np.ndarray, height: int, width: int, generator: random.Random) -> np.ndarray:
    """A stretch (T h w) uint8 as another one (T height width): seen closer or from afar, turned, brighter, sharper.

    Some get a label, a texture or a frame into the scene, some black bars, some a moving camera. Half keep every pixel
    where the size allows it: all that is resampled is softer than a mark, and that must not be what is learnt.
    """
    if frames.shape[1:] == (height, width) and generator.random() < 0.5:
        return frames[:, :, ::-1] if generator.random() < 0.5 else frames
    if generator.random() < 0.3:
        frames = with_object(frames, generator)
    frames = _sharpness(_seen(frames, height, width, generator), generator)
    gain, lift = generator.uniform(0.7, 1.25), generator.uniform(-25, 25)
    frames = np.clip(frames.astype(np.float32) * gain + lift, 0, 255).astype(np.uint8)
    return _barred(frames, generator) if generator.random() < 0.1 else frames


def _seen(frames: np.ndarray, height: int, width: int, generator: random.Random) -> np.ndarray:
    """Through a camera that may turn, mirror and drift; beyond its edges the scene goes on mirrored."""
    fit = max(height / frames.shape[1], width / frames.shape[2])
    zoom = fit * generator.choice((1.0, generator.uniform(0.55, 1.4)))
    turn = generator.choice((0.0, 0.0, generator.uniform(-0.2, 0.2)))
    mirror = generator.choice((1.0, -1.0))
    drift_x, drift_y = (generator.uniform(-9, 9), generator.uniform(-5, 5)) if generator.random() < 0.35 else (0.0, 0.0)
    around = generator.uniform(0.3, 0.7) * frames.shape[2], generator.uniform(0.3, 0.7) * frames.shape[1]
    edge = cv2.BORDER_REFLECT_101
    cos, sin = zoom * math.cos(turn), zoom * math.sin(turn)
    seen = []
    for index, frame in enumerate(frames):
        matrix = np.array([[mirror * cos, -sin, 0], [mirror * sin, cos, 0]], np.float64)
        centre = matrix[:, :2] @ np.array(around)
        matrix[:, 2] = (width / 2 + index * drift_x - centre[0], height / 2 + index * drift_y - centre[1])
        seen.append(cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=edge))
    return np.stack(seen)


def _sharpness(frames: np.ndarray, generator: random.Random) -> np.ndarray:
    chance = generator.random()
    if chance < 0.35:  # large sources shrunk to analysis size are sharper than small ones
        amount = generator.uniform(0.3, 2.0)
        return np.stack([cv2.addWeighted(f, 1 + amount, cv2.GaussianBlur(f, (0, 0), 1.0), -amount, 0) for f in frames])
    if chance < 0.5:
        blur = generator.uniform(0.4, 1.2)
        return np.stack([cv2.GaussianBlur(frame, (0, 0), blur) for frame in frames])
    return frames


def _barred(frames: np.ndarray, generator: random.Random) -> np.ndarray:
    """With black bars above and below, or beside."""
    frames, share = frames.copy(), generator.uniform(0.06, 0.2)
    if generator.random() < 0.6:
        bar = round(frames.shape[1] * share)
        frames[:, :bar] = frames[:, -bar:] = 0
    else:
        bar = round(frames.shape[2] * share)
        frames[:, :, :bar] = frames[:, :, -bar:] = 0
    return frames


def with_object(frames: np.ndarray, generator: random.Random) -> np.ndarray:
    """With a printed label, a textured surface or a frame with straight edges somewhere in the scene."""
    height, width = frames.shape[1:]
    draw = generator.choice((_label, _texture, _texture, _frames))
    tone, cover = _in_perspective(*draw(generator), height, width, generator)
    return np.clip(frames * (1 - cover) + tone * cover + 0.5, 0, 255).astype(np.uint8)


def _label(generator: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """A few printed lines on paper, (h w) tones and cover."""
    paper, lines = generator.uniform(120, 255), [text(generator.randint(12, 24), generator) for _ in range(3)]
    lines = lines[: generator.randint(1, 3)]
    height, width = sum(line[1].shape[0] + 4 for line in lines) + 8, max(line[1].shape[1] for line in lines) + 12
    tone, top = np.full((height, width), paper, np.float32), 6
    for _, ink in lines:
        part = tone[top : top + ink.shape[0], 6 : 6 + ink.shape[1]]
        part *= 1 - generator.uniform(0.4, 0.9) * ink
        top += ink.shape[0] + 4
    return tone, np.ones_like(tone)


def _texture(generator: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Noise of a band of frequencies: leaves, granite, cloth."""
    noise = np.random.default_rng(generator.getrandbits(32)).standard_normal((90, 160)).astype(np.float32)
    fine = generator.uniform(0.5, 2.5)
    band = cv2.GaussianBlur(noise, (0, 0), fine) - cv2.GaussianBlur(noise, (0, 0), fine * generator.uniform(1.5, 4))
    tone = generator.uniform(60, 190) + band / (band.std() + 1e-6) * generator.uniform(8, 55)
    return np.clip(tone, 0, 255), np.ones_like(tone)


def _frames(generator: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Rows of boxes or slats: windows, shelves, keys."""
    tone = np.full((90, 160), generator.uniform(40, 220), np.float32)
    cover, ink = np.ones_like(tone), generator.uniform(0, 255)
    rows, columns = generator.randint(1, 6), generator.randint(1, 10)
    thick = generator.choice((-1, 1, 2))
    for row in range(rows):
        for column in range(columns):
            corner = (column * 160 // columns + 4, row * 90 // rows + 3)
            cv2.rectangle(tone, corner, (corner[0] + 150 // columns - 4, corner[1] + 84 // rows - 4), ink, thick)
    return tone, cover


def _in_perspective(
    tone: np.ndarray, cover: np.ndarray, height: int, width: int, generator: random.Random
) -> tuple[np.ndarray, np.ndarray]:
    """The object on a tilted surface, with the blur of a lens: (height width) tones and cover."""
    size = generator.uniform(0.2, 0.7) * min(height, width)
    scale = size / max(tone.shape)
    wide, tall = tone.shape[1] * scale, tone.shape[0] * scale
    left, top = generator.uniform(0, width - wide), generator.uniform(0, height - tall)
    corners = [(left, top), (left + wide, top), (left + wide, top + tall), (left, top + tall)]
    shaken = [
        (x + generator.uniform(-0.25, 0.25) * wide, y + generator.uniform(-0.25, 0.25) * tall) for x, y in corners
    ]
    source = np.array([(0, 0), (tone.shape[1], 0), (tone.shape[1], tone.shape[0]), (0, tone.shape[0])], np.float32)
    matrix = cv2.getPerspectiveTransform(source, np.array(shaken, np.float32))
    blur = generator.uniform(0.5, 1.1)
    seen = [
        cv2.GaussianBlur(cv2.warpPerspective(each, matrix, (width, height)), (0, 0), blur) for each in (tone, cover)
    ]
    whole = seen[0] / np.maximum(seen[1], 1e-3)
    return np.clip(whole, 0, 255), np.clip(seen[1], 0, 1)
