"""Perceptual hashes: 64 bits that stay nearly the same when a picture is scaled, re-encoded or letterboxed."""

import cv2
import numpy as np

SIZE = 32  # the picture is reduced to 32 × 32; of its cosine transform the 8 × 8 lowest frequencies are kept
LOW = 8
FLAT_STD = 2.0  # grey levels; below it there is no picture to tell apart, and the hash is 0
STILL_STD = 0.7  # the same for the difference from the mean picture
_BLACK_MEAN, _BLACK_MAX = 10.0, 40.0  # grey levels of a line of border: coding noise rings beside the picture


def borders(gray: np.ndarray) -> tuple[int, int, int, int]:
    """Black lines at (top, bottom, left, right) of (H W) uint8; all 0 where the whole picture is black."""
    top, bottom = _dark_ends(gray, axis=1)
    left, right = _dark_ends(gray, axis=0)
    if top + bottom >= gray.shape[0] or left + right >= gray.shape[1]:
        return 0, 0, 0, 0
    return top, bottom, left, right


def _dark_ends(gray: np.ndarray, axis: int) -> tuple[int, int]:
    """How many lines are black from either end; lines are rows for axis 1, columns for axis 0."""
    mean = cv2.reduce(gray, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
    peak = gray.max(axis)  # OpenCV takes ten times as long
    lit = np.flatnonzero((mean > _BLACK_MEAN) | (peak > _BLACK_MAX))
    if not len(lit):
        return len(mean), 0
    return int(lit[0]), int(len(mean) - 1 - lit[-1])


def reduced(gray: np.ndarray, border: tuple[int, int, int, int] = (0, 0, 0, 0)) -> np.ndarray:
    """The picture (H W) uint8 within its border at 32 × 32, uint8."""
    top, bottom, left, right = border
    inner = gray[top : gray.shape[0] - bottom, left : gray.shape[1] - right]
    return cv2.resize(inner, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def phash(small: np.ndarray, flat_std: float = FLAT_STD) -> int:
    """Hash in [0, 2^64) of a picture `reduced` to 32 × 32; 0 where it is flat.

    The sign of each of the 64 lowest frequencies of the cosine transform against their median (Zauner 2010,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", section 3.2).
    """
    if cv2.meanStdDev(small)[1][0, 0] < flat_std:
        return 0
    low = cv2.dct(small.astype(np.float32))[:LOW, :LOW].ravel()
    bits = low > np.sort(low[1:])[(LOW * LOW - 1) // 2]  # the median of 63: numpy's own takes ten times as long
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def motion_hash(small: np.ndarray, mean: np.ndarray) -> int:
    """Hash of where and how a reduced picture differs from the mean (32 × 32) of its clip; 0 where nothing moved.

    It tells apart two takes of one scene by a camera that stands, and what an overlay adds cancels.
    """
    return phash(small - mean, STILL_STD)


def distance(first: int, second: int) -> int:
    """Bits, of 64, in which two hashes differ."""
    return (first ^ second).bit_count()
