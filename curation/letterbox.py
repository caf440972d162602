"""The picture within its black bars, to the pixel."""

import cv2
import numpy as np

from curation.phash import borders
from schemas.records import Crop

LINE = 1 / 64  # of height or width: what the reduced frames of an analysis may be off by, and the least bar that counts

Border = tuple[float, float, float, float]  # black top, bottom, left and right, as shares of height and width


def crop_of(border: Border, picture: np.ndarray) -> Crop | None:
    """The rectangle within the bars; None where there are none.

    The border of a whole clip says where bars are, a full-size picture of it (H W 3, uint8) where exactly they end.
    Bars lie on both sides alike: black on one side only is a dark scene. The rectangle has even sides at even places,
    as 4:2:0 pictures need them.

    Args:
        border: of all frames of the clip, to within 1/64.
    """
    height, width = picture.shape[:2]
    exact = borders(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
    top, bottom = _bars(border[:2], exact[:2], height)
    left, right = _bars(border[2:], exact[2:], width)
    if not top + bottom + left + right:
        return None
    top, left = top + top % 2, left + left % 2
    inner = Crop(top, left, (height - bottom - top) // 2 * 2, (width - right - left) // 2 * 2)
    return inner if min(inner.height, inner.width) >= 16 else None


def cropped(picture: np.ndarray, crop: Crop) -> np.ndarray:
    """The rectangle of a picture (H W C)."""
    return np.ascontiguousarray(picture[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width])


def _bars(shares: tuple[float, ...], exact: tuple[int, ...], size: int) -> tuple[int, int]:
    """Lines of the bars at either end of an axis; (0, 0) where there is no pair of them."""
    if min(shares) < LINE or abs(shares[0] - shares[1]) > LINE:
        return 0, 0
    near, far = (
        round(float(np.clip(lines, (share - LINE) * size, (share + LINE) * size)))
        for share, lines in zip(shares, exact, strict=True)
    )
    return near, far
