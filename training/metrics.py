"""Figures of merit: PSNR, SSIM, the Fréchet distance, and tests of paired comparisons."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure


def psnr_db(made_THWC: np.ndarray, truth_THWC: np.ndarray) -> float:
    """10 log₁₀(255² / MSE), the mean over frames, of uint8 pictures; 99 dB where a frame is exact."""
    error = (made_THWC.astype(np.float64) - truth_THWC.astype(np.float64)) ** 2
    mse = error.reshape(len(error), -1).mean(axis=1)
    return float(np.mean([10 * math.log10(255**2 / value) if value else 99.0 for value in mse]))


def ssim(made_THWC: np.ndarray, truth_THWC: np.ndarray) -> float:
    """Structural similarity in [-1, 1], the mean over frames, of uint8 pictures."""
    made, truth = (
        torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2).float() for video in (made_THWC, truth_THWC)
    )
    value = structural_similarity_index_measure(made, truth, data_range=255.0)
    return float(value if isinstance(value, torch.Tensor) else value[0])


def compared(made_THWC: np.ndarray, truth_THWC: np.ndarray, name: str = "") -> dict[str, float]:
    """PSNR and SSIM of pictures against the truth, as NAMEpsnr_db and NAMEssim."""
    return {f"{name}psnr_db": psnr_db(made_THWC, truth_THWC), f"{name}ssim": ssim(made_THWC, truth_THWC)}


def mean_figures(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over samples."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}


def inception_score(probabilities_NK: np.ndarray) -> float:
    """exp of the mean KL(p(y|x) ‖ p(y)): 1 where all samples look alike, K where they share K classes evenly."""
    p = probabilities_NK.astype(np.float64)
    if p.ndim != 2 or len(p) < 1 or not np.allclose(p.sum(axis=1), 1, atol=1e-3):
        raise ValueError(f"probabilities of shape {p.shape} do not sum to 1 by row; give those of a softmax")
    marginal = p.mean(axis=0)
    ratio = np.divide(p, marginal, out=np.ones_like(p), where=p > 0)
    return float(np.exp((p * np.log(ratio)).sum(axis=1).mean()))


def clip_similarity(frames_TD: np.ndarray, text_D: np.ndarray) -> float:
    """CLIPSIM of one clip: the mean cosine of its frames' embeddings and its caption's."""
    frames = frames_TD / np.linalg.norm(frames_TD, axis=1, keepdims=True)
    return float((frames @ (text_D / np.linalg.norm(text_D))).mean())


def frechet_distance(first_ND: np.ndarray, second_ND: np.ndarray) -> float:
    """‖μ₁−μ₂‖² + Tr(Σ₁+Σ₂−2(Σ₁Σ₂)^½) of two sets of features: FVD on video, FAD on audio features.

    Raises:
        ValueError: a set has fewer than two features, or the widths differ.
    """
    if min(len(first_ND), len(second_ND)) < 2 or first_ND.shape[1] != second_ND.shape[1]:
        raise ValueError(f"features are {first_ND.shape} and {second_ND.shape}; two or more of one width are wanted")
    first, second = first_ND.astype(np.float64), second_ND.astype(np.float64)
    means = first.mean(axis=0) - second.mean(axis=0)
    one, two = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second))
    # Tr (Σ₁Σ₂)^½ is the sum of the roots of the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½.
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ two @ root).clip(min=0)).sum()
    return float(means @ means + np.trace(one) + np.trace(two) - 2 * cross)


def binomial_p(successes: int, trials: int) -> float:
    """P(at least so many successes) of fair coin tosses."""
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes of {trials} trials cannot be")
    return sum(math.comb(trials, count) for count in range(successes, trials + 1)) / 2**trials


def matching_figures(nats_CC: np.ndarray, captions: Sequence[str], orders: int = 10_000) -> dict[str, float]:
    """How often each clip's own caption gives it fewer nats than the caption of another clip.

    A pair is a clip and the caption of another one, where that says something else. Pairs share clips and captions, so
    the binomial distribution overstates how sure their share is; `p` is of the permutation test (Fisher 1935): how many
    random assignments of captions to clips do as well as the right one.

    Args:
        nats_CC: [i, j] is the loss of clip i under the caption of clip j.
        captions: of the clips.
        orders: random assignments, from a fixed seed.

    Returns:
        clips, pairs, right_share, binomial_p (as if pairs were independent) and p.
    """
    clips = np.arange(len(captions))
    other_CC = np.array([[one != two for two in captions] for one in captions], bool).reshape(len(clips), len(clips))

    def won(order: np.ndarray) -> tuple[int, int]:
        """Pairs won and pairs there are, where clip i has caption order[i]."""
        pairs_CC = other_CC[order]
        return int((pairs_CC & (nats_CC[clips, order][:, None] < nats_CC)).sum()), int(pairs_CC.sum())

    wins, pairs = won(clips)
    if not pairs:
        return {"clips": len(clips), "pairs": 0, "right_share": 0.0, "binomial_p": 1.0, "p": 1.0}
    generator = np.random.default_rng(0)
    as_good = sum(won(generator.permutation(clips))[0] >= wins for _ in range(orders))
    return {
        "clips": len(clips), "pairs": pairs, "right_share": wins / pairs,
        "binomial_p": binomial_p(wins, pairs), "p": (1 + as_good) / (1 + orders),
    }  # fmt: skip
