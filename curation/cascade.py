"""Shot boundaries by a cascade: what cannot be a transition is passed over, a small network judges the rest.

Where the small network is not sure, TransNetV2 is asked.
"""

from itertools import groupby

import cv2
import numpy as np

from curation import transnet
from curation.second_opinion import UNDER_WAY, SecondOpinion
from curation.transition_network import HEIGHT, WEIGHTS_DIR, WIDTH, load, probabilities
from curation.transnet_network import weights_path
from curation.weights_identity import weights_fingerprint

LAG = 24  # frames; two scenes meet within any stretch of this length that holds a transition's middle
# Grey levels between frames LAG apart, or a share of the light of the first, below which no scene has given way to
# another: of 843 transitions of synthetic edits that the network finds, the least has twice as much.
DIFFERENCE, DARK_DIFFERENCE = 15.0, 0.3
BLOCK, MOST_BLOCKS = 64, 5  # frames that are judged or passed over together; blocks in one window of the network
MARGIN = 32  # frames the network sees, and does not judge, on either side


class CascadeDetector:
    """Boundaries where the transition network's middle head passes the threshold; its other head gives their extent.

    Blocks of 64 frames in which no frame differs from the one 24 before it, as where a standing camera sees little
    happen, are passed over. TransNetV2 takes the network's place where that is not sure. What either sees depends on
    the frames alone. At most 1,000 frames of 27 × 48 are held (4 MB), with two probabilities for each frame seen.
    """

    def __init__(self, threshold: float = 0.5):
        self._threshold = threshold
        self._held: list[np.ndarray] = []
        self._first = 0  # index of the first frame held
        self._doubted: list[bool] = []  # block by block
        self._judged = 0  # blocks whose probabilities are known
        self._middle = self._extent = np.zeros(0, np.float32)
        self._second = SecondOpinion(threshold)
        self._num_frames = 0
        load(), weights_path()  # missing weights are a broken installation: say so before any work

    @staticmethod
    def fingerprint() -> str:
        """Of the weights of both networks."""
        return f"{weights_fingerprint(str(WEIGHTS_DIR))} {transnet.TransNetDetector.fingerprint()}"

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
        self._second.follow(self._middle, self._extent, self._frame_at, whole=True)
        middle, extent = self._middle.copy(), self._extent.copy()
        self._second.give(middle, extent)
        found = transnet.boundaries_from(middle, extent, self._threshold, UNDER_WAY)
        return [part for first, last in found for part in split_at_valleys(middle, first, last, self._threshold)]

    def _differs(self, index: int) -> bool:
        before = self._held[max(index - LAG, 0) - self._first]
        least = min(DIFFERENCE * before.size, DARK_DIFFERENCE * cv2.norm(before, cv2.NORM_L1))
        return cv2.norm(before, self._held[-1], cv2.NORM_L1) > least

    def _frame_at(self, index: int) -> np.ndarray:
        return self._held[min(max(index, 0), self._num_frames - 1) - self._first]

    def _judge(self, end: int) -> None:
        """Probabilities of all blocks before `end`; frames that are not needed any more are let go."""
        middle, extent = [self._middle], [self._extent]
        for doubted, blocks in groupby(range(self._judged, end), key=self._doubted.__getitem__):
            run = list(blocks)
            first, last = run[0] * BLOCK, min((run[-1] + 1) * BLOCK, self._num_frames)
            if doubted:
                window = [self._frame_at(index) for index in range(first - MARGIN, last + MARGIN)]
                both = tuple(found[MARGIN:-MARGIN] for found in probabilities(window))
            else:
                both = (np.zeros(last - first, np.float32),) * 2
            middle.append(both[0])
            extent.append(both[1])
        self._judged = end
        self._middle, self._extent = np.concatenate(middle), np.concatenate(extent)
        self._second.follow(self._middle, self._extent, self._frame_at, whole=False)
        needed = min(self._second.oldest_needed, max(min(end * BLOCK, self._num_frames) - MARGIN, 0))
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
