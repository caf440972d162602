"""Where the cascade's small network is not sure, and what TransNetV2 says there."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curation.transnet_network import judge

# Chosen on plain cuts, dissolves and fades between clips held back from training, 31,706 frames with 540 transitions
# (`benchmarks.shot_doubts`). `UNSURE` is as low as lets TransNetV2 see no more than one frame in ten; peaks of the
# transitions that it found there began at 0.05. No boundary too many had a peak above `SURE`.
UNSURE, SURE = 0.01, 0.85  # of the middle head: below, nothing is there; a peak above is taken as it is
GAP = 2  # frames below `UNSURE` that do not part one doubt from the next
PAD = 4  # frames around a doubt that are judged anew with it: a peak need not lie where the small network saw it
# TransNetV2's other head begins late: at 0.5 it left out 2 frames of a third of those transitions, at 0.1 of none.
EXTENT_THRESHOLD = 0.1
EDGE = (
    12  # frames beyond `PAD` in which it is believed about the extent: of a dissolve the middle alone may be in doubt
)
MOST, MARGIN = 50, 20  # frames of a window that are judged, and that are only seen on either side; with 12 it is worse
UNDER_WAY = 0.5  # of the small network's other head: from there on a frame belongs to a transition
CLOSE = 0.14  # log odds; twice what codes of 8 bits were off by at most there: so close to a threshold, float32 decides
# TransNetV2 costs a hundred times as much as the small network, and a doubt in footage that is seldom cut is nearly
# always something that moves. So it is asked only where at least so many sure transitions lie among so many frames.
FEWEST_SURE, AROUND = 4, 512
Stretch = tuple[int, int]  # frames [first, last)
FrameAt = Callable[[int], np.ndarray]  # the frame (27 48 3) uint8 of an index; beyond either end the first or last


@dataclass(frozen=True)
class Opinion:
    """Both heads of TransNetV2 for the frames from `begin` on, and the doubts among them."""

    begin: int
    middle: np.ndarray
    extent: np.ndarray
    doubts: list[Stretch]


class SecondOpinion:
    """Follows the small network's middle head and asks TransNetV2 about doubts in densely edited footage.

    A doubt is a stretch above `UNSURE` without a peak of `SURE`. It is dealt with once the frames around it are judged.

    Args:
        threshold: of the middle head, above which there is a transition.
    """

    def __init__(self, threshold: float = 0.5) -> None:
        self._threshold = threshold
        self.opinions: list[Opinion] = []
        self._settled = 0  # doubts that begin before this frame have been dealt with

    @property
    def oldest_needed(self) -> int:
        """Index of the first frame that may still be looked at."""
        return max(self._settled - MOST - 2 * MARGIN, 0)

    def follow(self, middle: np.ndarray, extent: np.ndarray, frame_at: FrameAt, *, whole: bool) -> None:
        """Deals with the doubts around which enough is known of both heads (T,); with all where they are `whole`."""
        known = len(middle)
        if known < AROUND and not whole:
            return
        runs = [(self._settled + a, self._settled + b) for a, b in runs_above(middle[self._settled :], UNSURE, GAP)]
        until = known if whole else known - AROUND // 2
        ready = [run for run in runs if run[1] <= until]
        doubts = [run for run in ready if middle[slice(*run)].max() < SURE and densely_edited(middle, run)]
        for window, inside in windows(doubts, known):
            around = range(window[0] - MARGIN, window[1] + MARGIN)
            self.opinions.append(self._ask(around, inside, middle, extent, frame_at))
        waiting = [first for first, last in runs if last > until]
        self._settled = max(min([until, *waiting]), known - AROUND)  # what never calms down is taken in parts

    def give(self, middle: np.ndarray, extent: np.ndarray) -> None:
        """Writes what TransNetV2 said over both heads of the small network."""
        for opinion in self.opinions:
            for first, last in opinion.doubts:
                middle[first:last] = opinion.middle[first - opinion.begin : last - opinion.begin]
                first, last = max(first - EDGE, 0), min(last + EDGE, len(extent))
                under_way = opinion.extent[first - opinion.begin : last - opinion.begin] > EXTENT_THRESHOLD
                extent[first:last] = np.maximum(extent[first:last], under_way)

    def decided(self, opinion: Opinion, middle: np.ndarray, extent: np.ndarray) -> bool:
        """Whether an opinion by codes of 8 bits decides what an exact one would, given the small network's heads."""
        for first, last in opinion.doubts:
            peaks = opinion.middle[first - opinion.begin : last - opinion.begin]
            if _close_to(peaks, self._threshold).any() or _valley_is_close(peaks, self._threshold):
                return False
        return not self._ends_are_close(opinion, middle, extent)

    def _ends_are_close(self, opinion: Opinion, middle: np.ndarray, extent: np.ndarray) -> bool:
        """Whether a frame about whose extent codes may err can belong to a transition.

        It can where frames under way lead from it to a peak, to what another opinion may change, or out of the window.

            frames     … 97 98 99 100 101 …      doubt 90–99, a cut at 101 of which nothing is in doubt
            under way     ?  1  0   1   1        98 may be or not: 99 is not, so the cut does not reach it
        """
        begin, end = max(opinion.begin, 0), min(opinion.begin + len(opinion.middle), len(middle))
        said_middle, said_extent = (head[begin - opinion.begin :] for head in (opinion.middle, opinion.extent))
        peaks, under_way = middle[begin:end] > self._threshold, extent[begin:end] > UNDER_WAY
        close = np.zeros(end - begin, bool)
        for first, last in opinion.doubts:
            at = slice(first - begin, last - begin)
            peaks[at] = said_middle[at] > self._threshold
            at = slice(max(first - EDGE - begin, 0), min(last + EDGE, end) - begin)
            under_way[at] |= said_extent[at] > EXTENT_THRESHOLD
            close[at] |= _close_to(said_extent[at], EXTENT_THRESHOLD)
        for first, last in _other_doubts(middle, begin, end, opinion.doubts):
            peaks[max(first - PAD - EDGE - begin, 0) : max(last + PAD + EDGE - begin, 0)] = True
        peaks[[0, -1]] |= under_way[[0, -1]]
        runs = [slice(*run) for run in runs_above(peaks | under_way | close, 0.5, 0)]
        return any(close[run].any() and peaks[run].any() for run in runs)

    def _ask(
        self, around: range, doubts: list[Stretch], middle: np.ndarray, extent: np.ndarray, frame_at: FrameAt
    ) -> Opinion:
        def opinion(said_middle: np.ndarray, said_extent: np.ndarray) -> Opinion:
            return Opinion(around.start, said_middle, said_extent, doubts)

        frames = np.stack([frame_at(index) for index in around])
        return opinion(*judge(frames, lambda *heads: self.decided(opinion(*heads), middle, extent)))


def _other_doubts(middle: np.ndarray, begin: int, end: int, doubts: list[Stretch]) -> list[Stretch]:
    """Stretches near frames [begin, end) that may be in doubt as well, whatever is known beyond."""
    begin = max(begin - PAD - EDGE, 0)
    runs = [(begin + a, begin + b) for a, b in runs_above(middle[begin : end + PAD + EDGE], UNSURE, GAP)]
    own = [run for run in runs if any(first <= run[0] and run[1] <= last for first, last in doubts)]
    return [run for run in runs if run not in own and middle[slice(*run)].max() < SURE]


def _close_to(values: np.ndarray, threshold: float | np.ndarray) -> np.ndarray:
    """Which probabilities are so close to the threshold that codes of 8 bits may have them on the wrong side."""
    return np.abs(_log_odds(values) - _log_odds(np.asarray(threshold))) < CLOSE


def _valley_is_close(middle: np.ndarray, threshold: float) -> bool:
    """Whether any value between two peaks is close to half the lower one, where they would part."""
    lower = np.minimum(np.maximum.accumulate(middle), np.maximum.accumulate(middle[::-1])[::-1])
    between = (lower > middle) & (lower > threshold)
    return bool(_close_to(middle[between], lower[between] / 2).any())


def _log_odds(values: np.ndarray) -> np.ndarray:
    inside = np.clip(values.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside))


def densely_edited(middle: np.ndarray, doubt: Stretch) -> bool:
    """Whether sure transitions abound in the `AROUND` frames that have the doubt in their middle, or nearly so."""
    first = max(min(sum(doubt) // 2 - AROUND // 2, len(middle) - AROUND), 0)
    return len(runs_above(middle[first : first + AROUND], SURE, GAP)) >= FEWEST_SURE


def windows(doubts: list[Stretch], num_frames: int) -> list[tuple[Stretch, list[Stretch]]]:
    """Stretches of at most `MOST` frames that hold the doubts, padded, and what each holds of them."""
    found: list[tuple[Stretch, list[Stretch]]] = []
    for first, last in doubts:
        first, last = max(first - PAD, 0), min(last + PAD, num_frames)
        if found and last <= found[-1][0][0] + MOST:
            (begin, _), inside = found[-1]
            found[-1] = ((begin, last), [*inside, (first, last)])
            continue
        for start in range(first, last, MOST):
            part = (start, min(start + MOST, last))
            found.append((part, [part]))
    return found


def runs_above(values: np.ndarray, limit: float, gap: int) -> list[Stretch]:
    """Stretches above a limit; those with at most `gap` values between them that are not above it are one."""
    above = np.flatnonzero(values > limit)
    if not len(above):
        return []
    parts = np.split(above, np.flatnonzero(np.diff(above) > gap + 1) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]
