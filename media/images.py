"""Still pictures from files of any of the usual formats, as they are meant to be seen."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from schemas.states import Rejection

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 100_000_000


def image_from_bytes(data: bytes) -> np.ndarray:
    """The picture (H W 3) uint8 RGB: turned as its EXIF orientation says, on white where it is transparent.

    Of several pictures in one file the first.

    Raises:
        Rejection: `empty_file`; `not_image`, for what is none of `FORMATS` or is damaged; `too_large`.
    """
    if not data:
        raise Rejection("empty_file", "the image has no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are checked here
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > MAX_PIXELS:
                raise Rejection("too_large", f"an image of {image.height}x{image.width} is over {MAX_PIXELS} pixels")
            return np.asarray(_opaque(ImageOps.exif_transpose(image)))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise Rejection("not_image", f"{len(data)} bytes are not a readable image: {error}") from error


def _opaque(image: Image.Image) -> Image.Image:
    """RGB of any mode."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = Image.fromarray((np.asarray(image, np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page.convert("RGB")
