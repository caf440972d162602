"""Synthetic watermarks drawn over clean frames: what the watermark network learns from.

The typeface DejaVu Sans Bold, which most tools take by default, is left out, as is the style `center` in training: a
network that finds them all the same knows marks, not only these.
"""

import math
import random
import string
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

STYLES = ("corner", "band", "logo", "emblem", "subtitle", "tiled", "center")
MIN_OPACITY, MAX_OPACITY = 0.18, 0.95
_WORDS = (
    "SAMPLE", "stock", "© 2024", "www.footage.tv", "Channel 7", "LIVE", "@travel_clips", "NEWS 24", "HD+", "demo",
    "Property of archive", "Shutter", "VideoHub", "free trial", "do not distribute", "mediabank.org", "watermark",
    "Evening Report", "tiny.tv/9281", "All rights reserved", "EXCLUSIVE", "00:14:27:03", "#roadtrip", "Subscribe!",
)  # fmt: skip
_FACES = (
    "DejaVuSans", "DejaVuSans-BoldOblique", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold",
    "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
    "cmb10", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
_ASCII_ONLY = ("cm",)  # faces with no more than ASCII
_HERSHEY = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)

Layer = tuple[np.ndarray, np.ndarray]  # grey levels and opacity, both (H W) float32, opacity in [0, 1]


def overlay(height: int, width: int, style: str, generator: random.Random) -> Layer:
    """A random mark of a style for pictures of a size, its whole opacity in [MIN_OPACITY, MAX_OPACITY]."""
    level, mask = _DRAW[style](height, width, generator)
    return level, mask * generator.uniform(MIN_OPACITY, MAX_OPACITY)


def apply(frames: np.ndarray, layer: Layer) -> np.ndarray:
    """Frames (T H W) uint8 with the mark over each."""
    level, opacity = layer
    return np.clip(frames * (1 - opacity) + level * opacity + 0.5, 0, 255).astype(np.uint8)


def recompressed(frames: np.ndarray, quality: int) -> np.ndarray:
    """Frames (T H W) uint8 through JPEG, whose noise is like that of a video codec's key frames."""
    coded = [cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for frame in frames]
    return np.stack([np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)) for data in coded])


def text(size: int, generator: random.Random) -> Layer:
    """Words of a height in pixels, with or without an outline, as a small picture."""
    word, light = _phrase(generator), generator.random() < 0.8
    mask = _stroked(word, size, generator) if generator.random() < 0.25 else _typeset(word, size, generator)
    ink: np.ndarray = mask.astype(np.float32) / 255
    level = np.full(mask.shape, generator.uniform(190, 255) if light else generator.uniform(0, 70), np.float32)
    if generator.random() < 0.35:  # an outline or shadow of the other tone
        wide = cv2.dilate(ink, np.ones((3, 3)))
        level = np.where(ink > 0.5, level, 255 - level).astype(np.float32)
        ink = np.asarray(wide, np.float32)
    return level, ink


def _phrase(generator: random.Random) -> str:
    """Words of marks, or letters and digits by chance, so that no words are learnt by heart."""
    if generator.random() < 0.45:
        word = generator.choice(_WORDS)
    else:
        letters = string.ascii_lowercase * 4 + string.digits
        lengths = (generator.randint(2, 9) for _ in range(generator.choice((1, 1, 2, 2, 3))))
        word = generator.choice((" ", " ", ".", "-", "_")).join(
            "".join(generator.choice(letters) for _ in range(length)) for length in lengths
        )
        word = word.title() if generator.random() < 0.4 else word
    return word.upper() if generator.random() < 0.3 else word


def _stroked(word: str, size: int, generator: random.Random) -> np.ndarray:
    face, scale = generator.choice(_HERSHEY), size / 26
    (width, height), base = cv2.getTextSize(word, face, scale, 1)
    mask = np.zeros((height + base + 4, width + 4), np.uint8)
    cv2.putText(mask, word, (2, height + 2), face, scale, 255, generator.choice((1, 1, 2)), cv2.LINE_AA)
    return mask


def _typeset(word: str, size: int, generator: random.Random) -> np.ndarray:
    face = generator.choice((*_FACES, ""))
    if face.startswith(_ASCII_ONLY):
        word = word.encode("ascii", "ignore").decode().strip() or "tv"
    font = _font(face, size)
    left, top, right, bottom = font.getbbox(word)
    picture = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(picture).text((2 - left, 2 - top), word, fill=255, font=font)
    return np.asarray(picture)


@lru_cache(maxsize=1024)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A typeface that comes with matplotlib, or Pillow's own for an empty name."""
    if not face:
        return ImageFont.load_default(size)  # type: ignore[return-value]
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")), size)


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


def _size(height: int, width: int, generator: random.Random, low: float, high: float) -> int:
    return max(7, round(min(height, width) * generator.uniform(low, high)))


def _corner(height: int, width: int, generator: random.Random) -> Layer:
    canvas, patch = _canvas(height, width), text(_size(height, width, generator, 0.05, 0.12), generator)
    margin = round(height * generator.uniform(0.01, 0.08))
    top = generator.choice((margin, height - margin - patch[0].shape[0]))
    left = generator.choice((margin, width - margin - patch[0].shape[1], (width - patch[0].shape[1]) // 2))
    _place(canvas, patch, top, max(left, 0))
    return canvas


def _band(height: int, width: int, generator: random.Random) -> Layer:
    canvas = _canvas(height, width)
    thick = round(min(height, width) * generator.uniform(0.08, 0.2))
    top = generator.choice((height - thick, height - thick - round(height * 0.06), 0))
    canvas[0][top : top + thick] = generator.choice((0, 20, 60, 230))
    canvas[1][top : top + thick] = generator.uniform(0.4, 1.0)
    level, ink = text(max(7, round(thick * generator.uniform(0.4, 0.8))), generator)
    bright = canvas[0][top, 0] < 128
    level = np.full_like(level, 245 if bright else 15)
    left = generator.choice((generator.randint(2, max(3, width // 3)), max(0, (width - level.shape[1]) // 2)))
    _place(canvas, (level, ink), top + (thick - level.shape[0]) // 2, left)
    return canvas


def _logo(height: int, width: int, generator: random.Random) -> Layer:
    """Words on or in a box or oval at a corner."""
    side = min(height, width)
    tall, wide = round(side * generator.uniform(0.1, 0.25)), round(side * generator.uniform(0.12, 0.5))
    picture, mask = np.zeros((tall, wide), np.uint8), np.zeros((tall, wide), np.uint8)
    tone, thickness = generator.choice((generator.randint(180, 255), generator.randint(40, 180))), (-1, 1, 2)
    thick = generator.choice(thickness)
    if generator.random() < 0.6:
        cv2.rectangle(mask, (1, 1), (wide - 2, tall - 2), 255, thick)
    else:
        half = (wide // 2, tall // 2)
        cv2.ellipse(mask, half, (half[0] - 1, half[1] - 1), 0, 0, 360, 255, thick, cv2.LINE_AA)
    picture[:] = tone
    level, ink = text(max(7, round(tall * generator.uniform(0.35, 0.6))), generator)
    patch = (picture.astype(np.float32), mask.astype(np.float32) / 255)
    other = 255 if tone < 128 else generator.choice((0, 255 - tone))
    _place(patch, (np.full_like(level, other if thick < 0 else tone), ink), (tall - level.shape[0]) // 2, 3)
    return _at_a_corner(height, width, patch, generator)


def _emblem(height: int, width: int, generator: random.Random) -> Layer:
    """A sign of simple forms without words, as a broadcaster's."""
    side = _size(height, width, generator, 0.09, 0.25)
    mask = np.zeros((side, side), np.uint8)
    for index in range(generator.randint(1, 4)):
        ink = 255 if index == 0 or generator.random() < 0.5 else 0
        thick = generator.choice((-1, -1, 1, 2))
        centre = (side // 2 + generator.randint(-side // 8, side // 8), side // 2)
        radius = max(2, round(side * generator.uniform(0.15, 0.48)))
        form = generator.choice(("disc", "box", "polygon", "arc"))
        if form == "disc":
            cv2.circle(mask, centre, radius, ink, thick, cv2.LINE_AA)
        elif form == "box":
            cv2.rectangle(
                mask, (centre[0] - radius, centre[1] - radius // 2), (centre[0] + radius, side - 3), ink, thick
            )
        elif form == "arc":
            start = generator.randrange(360)
            cv2.ellipse(mask, centre, (radius, radius), 0, start, start + 220, ink, max(2, side // 10), cv2.LINE_AA)
        else:
            cv2.fillPoly(mask, [_star(centre, radius, generator)], ink, cv2.LINE_AA)
    patch = (np.full((side, side), generator.uniform(170, 255), np.float32), mask.astype(np.float32) / 255)
    return _at_a_corner(height, width, patch, generator)


def _star(centre: tuple[int, int], radius: int, generator: random.Random) -> np.ndarray:
    """Corners (N 2) of a regular polygon or star."""
    corners, inner = 2 * generator.randint(3, 6), generator.uniform(0.4, 1.0)
    turn = generator.uniform(0, math.tau)
    angles = [turn + math.tau * corner / corners for corner in range(corners)]
    sizes = [radius * (inner if corner % 2 else 1.0) for corner in range(corners)]
    points = [(centre[0] + s * math.cos(a), centre[1] + s * math.sin(a)) for a, s in zip(angles, sizes, strict=True)]
    return np.array(points).round().astype(np.int32)


def _at_a_corner(height: int, width: int, patch: Layer, generator: random.Random) -> Layer:
    canvas = _canvas(height, width)
    margin = round(min(height, width) * generator.uniform(0.02, 0.1))
    top = generator.choice((margin, height - margin - patch[0].shape[0]))
    _place(canvas, patch, top, generator.choice((margin, width - margin - patch[0].shape[1])))
    return canvas


def _subtitle(height: int, width: int, generator: random.Random) -> Layer:
    canvas, size = _canvas(height, width), _size(height, width, generator, 0.06, 0.11)
    bottom = height - round(height * generator.uniform(0.03, 0.12))
    for line in range(generator.choice((1, 1, 2))):
        level, ink = text(size, generator)
        _place(canvas, (level, ink), bottom - round((line + 1) * 1.3 * size), max(0, (width - ink.shape[1]) // 2))
    return canvas


def _tiled(height: int, width: int, generator: random.Random) -> Layer:
    side = round(math.hypot(height, width)) + 20
    canvas, patch = _canvas(side, side), text(_size(height, width, generator, 0.06, 0.12), generator)
    step_y = round(patch[0].shape[0] * generator.uniform(1.8, 4))
    step_x = round(patch[0].shape[1] * generator.uniform(1.0, 1.8))
    for row, top in enumerate(range(0, side, step_y)):
        for left in range(-(row % 2) * step_x // 2, side, step_x):
            _place(canvas, patch, top, left)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), generator.choice((0, 20, 30, 45, -30)), 1.0)
    y, x = (side - height) // 2, (side - width) // 2
    ink = cv2.warpAffine(canvas[1], turn, (side, side))[y : y + height, x : x + width]
    tone = float(patch[0].max())  # warping mixes the tone with the empty canvas; one tone for all of the mark
    return np.full((height, width), tone, np.float32), ink


def _center(height: int, width: int, generator: random.Random) -> Layer:
    canvas, patch = _canvas(height, width), text(_size(height, width, generator, 0.1, 0.22), generator)
    _place(canvas, patch, (height - patch[0].shape[0]) // 2, (width - patch[0].shape[1]) // 2)
    return canvas


_DRAW: dict[str, Callable[[int, int, random.Random], Layer]] = {
    "corner": _corner, "band": _band, "logo": _logo, "emblem": _emblem, "subtitle": _subtitle, "tiled": _tiled,
    "center": _center,
}  # fmt: skip
