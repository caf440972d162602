"""Burnt-in text: the part of the picture where a text detector finds writing at the same place at several times.

The detector is PP-OCR's (Liao et al. 2020, "Real-time Scene Text Detection with Differentiable Binarization"), whose
weights come with RapidOCR; only the ONNX file of that package is used, by ONNX Runtime on one thread. Writing in the
scene counts as well where camera and thing stand: what it costs a clip is for the filters to say.
"""

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from curation.settings_models import EXTRA, TextSettings

TEXT, SURE = 0.3, 0.5  # probability of a pixel of text, and least mean of them in one piece of text
LEAST_SIDE = 3  # pixels of the detector's map
UNCLIP = 1.6  # the map shows the inner part of text; the whole is wider by its area over its outline, times this
STRIDE = 32  # the network's pictures have sides of whole multiples
LEAST_AREA = 5e-4  # of the picture: from here on, text counts as found


def text_weights(settings: TextSettings) -> Path:
    """The detector's ONNX file.

    Raises:
        FileNotFoundError: it is not there, or the package that holds it is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise FileNotFoundError(f"text.enabled needs onnxruntime; install {EXTRA}")
    if settings.model:
        if not Path(settings.model).is_file():
            raise FileNotFoundError(f"text.model {settings.model!r} is no file; name a text detector's ONNX file")
        return Path(settings.model)
    package = importlib.util.find_spec("rapidocr_onnxruntime")
    if package is None or package.origin is None:
        raise FileNotFoundError(
            f"text.enabled needs rapidocr-onnxruntime (Python below 3.13) or text.model; install {EXTRA}"
        )
    return Path(package.origin).parent / "models" / "ch_PP-OCRv4_det_infer.onnx"


class TextDetector:
    """Where text is in a picture.

    Args:
        weights: ONNX file of a network from pictures (1 3 H W), BGR in [-1, 1], to probabilities (1 1 H W).
        max_side: pixels of the longer side at which it looks; smaller pictures are enlarged.
    """

    def __init__(self, weights: Path, max_side: int):
        import onnxruntime  # of an extra: a run without this score needs none

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums on every machine
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._max_side = max_side

    def probabilities(self, picture: np.ndarray) -> np.ndarray:
        """(h w) float32 in [0, 1] that each place of the picture (H W 3) uint8 RGB is text; sides in whole 32s."""
        scale = self._max_side / max(picture.shape[:2])
        height, width = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in picture.shape[:2])
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(picture, (width, height), interpolation=how).astype(np.float32) / 127.5 - 1
        (found,) = self._session.run(
            None, {self._input: np.ascontiguousarray(small[:, :, ::-1].transpose(2, 0, 1)[None])}
        )
        return found[0, 0]


@cache
def detector(weights: str, max_side: int) -> TextDetector:
    """One for each process."""
    return TextDetector(Path(weights), max_side)


def text_area(pictures: Sequence[np.ndarray], settings: TextSettings) -> float:
    """Share in [0, 1] of the picture under text that all of a clip's pictures (H W 3, uint8 RGB) have in one place."""
    judge = detector(str(text_weights(settings)), settings.max_side)
    return covered(np.minimum.reduce([judge.probabilities(picture) for picture in pictures]))


def covered(probabilities: np.ndarray) -> float:
    """Share in [0, 1] of a map (h w) of text that lies in the boxes around its pieces."""
    inside = (probabilities > TEXT).astype(np.uint8)
    boxes = np.zeros_like(inside)
    for outline in cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[0]:
        centre, (wide, tall), turn = cv2.minAreaRect(outline)
        if min(wide, tall) < LEAST_SIDE or _mean_inside(probabilities, outline) < SURE:
            continue
        more = UNCLIP * wide * tall / (wide + tall)  # 2 × area × ratio / outline, at both sides
        box = cv2.boxPoints((centre, (wide + more, tall + more), turn))
        cv2.fillPoly(boxes, [box.round().astype(np.int32)], (1,))
    return float(boxes.mean())


def _mean_inside(probabilities: np.ndarray, outline: np.ndarray) -> float:
    left, top, wide, tall = cv2.boundingRect(outline)
    mask = np.zeros((tall, wide), np.uint8)
    cv2.fillPoly(mask, [outline - (left, top)], (1,))
    return float(cv2.mean(probabilities[top : top + tall, left : left + wide], mask)[0])
