"""Weights of an image tokenizer as those of a video tokenizer (MAGVIT, arXiv 2212.05199 §3.1).

The 2-D kernel comes to stand in the last time slice, as in Open-MAGVIT2 (arXiv 2409.04410).
"""

from collections.abc import Mapping

import torch
from torch import Tensor


def inflate(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`source` in the shapes of `target`.

    A kernel that is longer in time in the target gets the source's in its last slices and zeros before, so that
    a still image gives the same output. An upsampling convolution with more outputs gets the source's repeated.

    Raises:
        ValueError: the two are different networks.
    """
    missing = sorted(set(target) ^ set(source))
    if missing:
        raise ValueError(f"these weights are of another network; they differ in {', '.join(missing[:5])} …")
    return {key: _fit(key, source[key], target[key]) for key in target}


def _fit(key: str, weight: Tensor, target: Tensor) -> Tensor:
    if weight.shape == target.shape:
        return weight
    if weight.dim() != target.dim() or weight.dim() not in (1, 5):
        raise ValueError(f"{key} is {tuple(weight.shape)}; it cannot become {tuple(target.shape)}")
    times, rest = divmod(target.shape[0], weight.shape[0])
    fits = weight.dim() == 1 or (
        weight.shape[1] == target.shape[1]
        and weight.shape[3:] == target.shape[3:]
        and weight.shape[2] <= target.shape[2]
    )
    if rest or not fits:
        raise ValueError(f"{key} is {tuple(weight.shape)}; it cannot become {tuple(target.shape)}")
    weight = torch.cat([weight] * times)  # depth to space splits channels as (t h w c): repeats are in time
    if weight.dim() == 5:
        inflated = torch.zeros_like(target)
        inflated[:, :, target.shape[2] - weight.shape[2] :] = weight
        return inflated
    return weight
