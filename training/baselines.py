"""What a language model of tokens must beat: how often codes occur, and the frame before."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np


def fit_mixture(experts: Sequence[np.ndarray], rounds: int = 200) -> np.ndarray:
    """Weights of a mixture by expectation maximization.

    Args:
        experts: probabilities (N,) that each gives to the same N tokens.
    """
    probability = np.stack(experts)
    weights = np.full(len(experts), 1 / len(experts))
    for _ in range(rounds):
        share = weights[:, None] * probability
        total = share.sum(axis=0)
        share = np.divide(share, total, out=np.full_like(share, 1 / len(experts)), where=total > 0)
        weights = share.mean(axis=1)
    return weights / weights.sum()


class CodeBaselines:
    """Unigram and previous-frame predictions of visual codes, smoothed by weights fitted on held-out train clips.

    unigram: λ₁ frequency + λ₂ / V; previous frame: λ₁ [code above in time] + λ₂ frequency + λ₃ / V. The first frame
    has none before it and takes the unigram.

    Args:
        grids: visual codes (t h w) of train clips. Counts come from the even ones, weights from the odd ones.
    """

    def __init__(self, grids: Iterable[np.ndarray], codebook_size: int):
        clips = [grid.astype(np.int64) for grid in grids]
        self.codebook_size = codebook_size
        self.counts: Counter[int] = Counter()
        for grid in clips[::2]:
            self.counts.update(grid.ravel().tolist())
        self.total = max(1, sum(self.counts.values()))
        held_out = clips[1::2] or clips
        codes = np.concatenate([grid.ravel() for grid in held_out])
        self.unigram_weights = fit_mixture([self._frequency(codes), self._uniform(codes)])
        later = [grid for grid in held_out if len(grid) > 1]
        self.copy_weights = np.array([0.0, *self.unigram_weights])
        if later:
            now = np.concatenate([grid[1:].ravel() for grid in later])
            same = np.concatenate([(grid[1:] == grid[:-1]).ravel() for grid in later]).astype(float)
            self.copy_weights = fit_mixture([same, self._frequency(now), self._uniform(now)])

    def unigram_nats(self, grid: np.ndarray) -> np.ndarray:
        """−log p of each code of a clip (t h w)."""
        codes = grid.astype(np.int64).ravel()
        mixed = self.unigram_weights @ np.stack([self._frequency(codes), self._uniform(codes)])
        return -np.log(mixed).reshape(grid.shape)

    def copy_nats(self, grid: np.ndarray) -> np.ndarray:
        """−log p of each code of a clip (t h w), given the frames before it."""
        nats = self.unigram_nats(grid)
        if len(grid) > 1:
            codes = grid[1:].astype(np.int64).ravel()
            same = (grid[1:] == grid[:-1]).ravel().astype(float)
            mixed = self.copy_weights @ np.stack([same, self._frequency(codes), self._uniform(codes)])
            nats[1:] = -np.log(mixed).reshape(grid[1:].shape)
        return nats

    def _frequency(self, codes: np.ndarray) -> np.ndarray:
        return np.array([self.counts[code] for code in codes.tolist()]) / self.total

    def _uniform(self, codes: np.ndarray) -> np.ndarray:
        return np.full(len(codes), 1 / self.codebook_size)
