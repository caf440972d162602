"""Shot boundaries by a cascade: what cannot be a transition is passed over, a small network judges the rest."""

from itertools import groupby

import cv2
import numpy as np

from curation.transition_network import HEIGHT, WEIGHTS_DIR, WIDTH, load, probabilities
from curation.transnet import boundaries_from
from curation.weights_identity import weights_fingerprint

LAG = 24  # frames; two scenes meet within any stretch of this length that holds a transition's middle
DOUBT = 2.0  # grey levels between frames LAG apart; below it no scene has given way to another
BLOCK, MOST_BLOCKS = 64, 3  # frames that are judged or passed over together; blocks in one window of the network
MARGIN = 32  # frames the network sees, and does not judge, on either side
EXTENT_THRESHOLD = 0.5  # of the head that marks every frame of a transition


class CascadeDetector:
    """Boundaries where the transition network's middle head passes the threshold; its other head gives their extent.

    Blocks of 64 frames in which no frame differs from the one 24 before it, as where a standing camera sees little
    happen, are passed over. What the network sees depends on the frames alone. At most 350 frames of 27 × 48 are
    held, with two probabilities for each frame seen.
    """

    def __init__(self, threshold: float = 0.5):
        self._threshold = threshold
        self._held: list[np.ndarray] = []
        self._first = 0  # index of the first frame held
        self._doubted: list[bool] = []  # block by block
        self._judged = 0  # blocks whose probabilities are known
        self._middle: list[np.ndarray] = []
        self._extent: list[np.ndarray] = []
        self._num_frames = 0
        load()  # missing weights are a broken installation: say so before any work

    @staticmethod
    def fingerprint() -> str:
        """Of the weights."""
        return weights_fingerprint(str(WEIGHTS_DIR))

    def push(self, image: np.ndarray) -> None:
        self._held.append(_small(image))
        self._num_frames += 1
        index = self._num_frames - 1
        if index % BLOCK == 0:
            self._doubted.append(False)
        if self._differs(index):
            for block in range(max(index - LAG, 0) // BLOCK, index // BLOCK + 1):
                self._doubted[block] = True
        if self._num_frames >= (self._judged + MOST_BLOCKS) * BLOCK + MARGIN:
            self._judge(self._judged + MOST_BLOCKS)

    def finish(self) -> list[tuple[int, int]]:
        while self._judged < len(self._doubted):
            self._judge(min(self._judged + MOST_BLOCKS, len(self._doubted)))
        if not self._num_frames:
            return []
        middle, extent = np.concatenate(self._middle), np.concatenate(self._extent)
        found = boundaries_from(middle, extent, self._threshold, EXTENT_THRESHOLD)
        return [part for first, last in found for part in split_at_valleys(middle, first, last, self._threshold)]

    def _differs(self, index: int) -> bool:
        before = self._held[max(index - LAG, 0) - self._first]
        return cv2.norm(before, self._held[-1], cv2.NORM_L1) > DOUBT * before.size

    def _judge(self, end: int) -> None:
        """Probabilities of all blocks before `end`; frames that no later window needs are let go."""
        for doubted, blocks in groupby(range(self._judged, end), key=self._doubted.__getitem__):
            run = list(blocks)
            first, last = run[0] * BLOCK, min((run[-1] + 1) * BLOCK, self._num_frames)
            if doubted:
                around = range(first - MARGIN, last + MARGIN)
                window = [self._held[min(max(index, 0), self._num_frames - 1) - self._first] for index in around]
                middle, extent = (found[MARGIN:-MARGIN] for found in probabilities(window))
            else:
                middle = extent = np.zeros(last - first, np.float32)
            self._middle.append(middle)
            self._extent.append(extent)
        self._judged = end
        needed = max(min(end * BLOCK, self._num_frames) - MARGIN, 0)
        del self._held[: needed - self._first]
        self._first = needed


def split_at_valleys(middle: np.ndarray, first: int, last: int, threshold: float) -> list[tuple[int, int]]:
    """A boundary, or those of transitions that follow one another so closely that their extents touch.

    They part where `middle` falls below half the lower of two peaks above the threshold.
    """
    gaps = middle[first - 1 : last]
    before, after = np.maximum.accumulate(gaps), np.maximum.accumulate(gaps[::-1])[::-1]
    lower = np.minimum(before, after)
    depth = np.where(lower > threshold, gaps / np.maximum(lower, 1e-6), 1.0)
    valley = int(depth.argmin())
    if depth[valley] >= 0.5:
        return [(first, last)]
    parts = ((first, first + valley), (first + valley + 1, last))
    return [end for part in parts for end in split_at_valleys(middle, *part, threshold)]


def _small(image: np.ndarray) -> np.ndarray:
    """The picture at 27 × 48; halved first where that is exact, which costs OpenCV much less than the whole way."""
    height, width = image.shape[:2]
    if height % 2 == width % 2 == 0 and height >= 4 * HEIGHT and width >= 4 * WIDTH:
        image = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
