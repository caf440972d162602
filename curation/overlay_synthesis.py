"""Synthetic watermarks drawn over clean frames: what the watermark network learns from."""

import math
import random
import string
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

STYLES = ("corner", "band", "logo", "tiled", "center")
_WORDS = (
    "SAMPLE", "preview only", "stock", "© 2024", "www.footage.tv", "Channel 7", "LIVE", "@travel_clips", "NEWS 24",
    "Property of archive", "demo", "Shutter", "VideoHub", "free trial", "do not distribute", "mediabank.org", "HD+",
    "watermark", "Evening Report", "tiny.tv/9281",
)  # fmt: skip
_HERSHEY = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)

Layer = tuple[np.ndarray, np.ndarray]  # grey levels and opacity, both (H W) float32, opacity in [0, 1]


def overlay(height: int, width: int, style: str, generator: random.Random) -> Layer:
    """A random mark of a style for pictures of a size, with its whole opacity between 0.2 and 0.95."""
    level, mask = _DRAW[style](height, width, generator)
    return level, mask * generator.uniform(0.2, 0.95)


def apply(frames: np.ndarray, layer: Layer) -> np.ndarray:
    """Frames (T H W) uint8 with the mark over each."""
    level, opacity = layer
    return np.clip(frames * (1 - opacity) + level * opacity + 0.5, 0, 255).astype(np.uint8)


def recompressed(frames: np.ndarray, quality: int) -> np.ndarray:
    """Frames (T H W) uint8 through JPEG, whose noise is like that of a video codec's key frames."""
    coded = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for frame in frames]
    return np.stack([np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)) for data in coded])


def _word(generator: random.Random) -> str:
    """A word that marks have, or any letters."""
    if generator.random() < 0.5:
        letters = string.ascii_uppercase if generator.random() < 0.5 else string.ascii_letters + string.digits + "@.©/-"
        lengths = [generator.randint(2, 9) for _ in range(generator.randint(1, 3))]
        return " ".join("".join(generator.choices(letters, k=length)) for length in lengths)
    word = generator.choice(_WORDS)
    return word.upper() if generator.random() < 0.3 else word


def _text(size: int, generator: random.Random) -> Layer:
    """A word with or without an outline, as a small picture."""
    word, light = _word(generator), generator.random() < 0.8
    if generator.random() < 0.4:
        face, scale = generator.choice(_HERSHEY), size / 26
        (w, h), base = cv2.getTextSize(word, face, scale, 1)
        mask = np.zeros((h + base + 4, w + 4), np.uint8)
        cv2.putText(mask, word, (2, h + 2), face, scale, 255, generator.choice((1, 1, 2)), cv2.LINE_AA)
    else:
        font = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox(word)
        picture = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
        ImageDraw.Draw(picture).text((2 - left, 2 - top), word, fill=255, font=font)
        mask = np.asarray(picture)
    ink: np.ndarray = mask.astype(np.float32) / 255
    level = np.full(mask.shape, generator.uniform(200, 255) if light else generator.uniform(0, 60), np.float32)
    if generator.random() < 0.4:  # an outline or shadow of the other tone
        wide = cv2.dilate(ink, np.ones((3, 3)))
        level = np.where(ink > 0.5, level, 255 - level).astype(np.float32)
        ink = np.asarray(wide, np.float32)
    return level, ink


def _place(canvas: Layer, patch: Layer, top: int, left: int) -> None:
    height, width = canvas[0].shape
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + patch[0].shape[0], height), min(left + patch[0].shape[1], width)
    if y0 >= y1 or x0 >= x1:
        return
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    ink = patch[1][part]
    canvas[0][y0:y1, x0:x1] = np.where(ink > 0, patch[0][part], canvas[0][y0:y1, x0:x1])
    canvas[1][y0:y1, x0:x1] = np.maximum(canvas[1][y0:y1, x0:x1], ink)


def _canvas(height: int, width: int) -> Layer:
    return np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)


def _size(height: int, generator: random.Random, low: float, high: float) -> int:
    return max(7, round(height * generator.uniform(low, high)))


def _corner(height: int, width: int, generator: random.Random) -> Layer:
    canvas, patch = _canvas(height, width), _text(_size(height, generator, 0.05, 0.12), generator)
    margin = round(height * generator.uniform(0.01, 0.08))
    top = generator.choice((margin, height - margin - patch[0].shape[0]))
    left = generator.choice((margin, width - margin - patch[0].shape[1], (width - patch[0].shape[1]) // 2))
    _place(canvas, patch, top, left)
    return canvas


def _band(height: int, width: int, generator: random.Random) -> Layer:
    canvas = _canvas(height, width)
    thick = round(height * generator.uniform(0.08, 0.18))
    top = generator.choice((height - thick, height - thick - round(height * 0.06), 0))
    canvas[0][top : top + thick] = generator.choice((0, 20, 60, 230))
    canvas[1][top : top + thick] = generator.uniform(0.4, 1.0)
    level, ink = _text(_size(thick, generator, 0.5, 0.8), generator)
    bright = canvas[0][top, 0] < 128
    level = np.full_like(level, 245 if bright else 15)
    _place(canvas, (level, ink), top + (thick - level.shape[0]) // 2, generator.randint(2, max(3, width // 3)))
    return canvas


def _logo(height: int, width: int, generator: random.Random) -> Layer:
    canvas = _canvas(height, width)
    tall, wide = round(height * generator.uniform(0.1, 0.25)), round(height * generator.uniform(0.12, 0.5))
    picture, mask = np.zeros((tall, wide), np.uint8), np.zeros((tall, wide), np.uint8)
    tone, thickness = generator.randint(180, 255), generator.choice((-1, 1, 2))
    if generator.random() < 0.6:
        cv2.rectangle(mask, (1, 1), (wide - 2, tall - 2), 255, thickness)
    else:
        cv2.ellipse(
            mask, (wide // 2, tall // 2), (wide // 2 - 1, tall // 2 - 1), 0, 0, 360, 255, thickness, cv2.LINE_AA
        )
    picture[:] = tone
    level, ink = _text(max(7, round(tall * generator.uniform(0.35, 0.6))), generator)
    patch = (picture.astype(np.float32), mask.astype(np.float32) / 255)
    _place(patch, (np.full_like(level, 255 - tone if thickness < 0 else tone), ink), (tall - level.shape[0]) // 2, 3)
    margin = round(height * generator.uniform(0.02, 0.1))
    _place(
        canvas,
        patch,
        generator.choice((margin, height - margin - tall)),
        generator.choice((margin, width - margin - wide)),
    )
    return canvas


def _tiled(height: int, width: int, generator: random.Random) -> Layer:
    side = round(math.hypot(height, width)) + 20
    canvas, patch = _canvas(side, side), _text(_size(height, generator, 0.06, 0.12), generator)
    step_y = round(patch[0].shape[0] * generator.uniform(1.8, 4))
    step_x = round(patch[0].shape[1] * generator.uniform(1.1, 1.8))
    for row, top in enumerate(range(0, side, step_y)):
        for left in range(-(row % 2) * step_x // 2, side, step_x):
            _place(canvas, patch, top, left)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), generator.choice((0, 20, 30, 45, -30)), 1.0)
    y, x = (side - height) // 2, (side - width) // 2
    level, ink = (cv2.warpAffine(plane, turn, (side, side)) for plane in canvas)
    window = (slice(y, y + height), slice(x, x + width))
    tone = float(patch[0].max())  # warping mixes the tone with the empty canvas; one tone for all of the mark
    return np.full((height, width), tone, np.float32) * (level[window] >= 0), ink[window]


def _center(height: int, width: int, generator: random.Random) -> Layer:
    canvas, patch = _canvas(height, width), _text(_size(height, generator, 0.1, 0.22), generator)
    _place(canvas, patch, (height - patch[0].shape[0]) // 2, (width - patch[0].shape[1]) // 2)
    return canvas


_DRAW: dict[str, Callable[[int, int, random.Random], Layer]] = {
    "corner": _corner, "band": _band, "logo": _logo, "tiled": _tiled, "center": _center,
}  # fmt: skip
