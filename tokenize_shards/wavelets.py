"""Causal Haar wavelet packets: pixels to channels before the first convolution, and back.

One level takes pairs (a, b) along an axis to their mean (a+b)/2 and difference a-b. In time the first frame
stands alone, as a pair with itself, so that nothing of it depends on what follows:

    frames        0 | 1 2 3 4 | 5 6 7 8
    two levels    (0 0 0 0) (1 2 3 4) (5 6 7 8)  → 3 latent frames
"""

import torch
from torch import Tensor


def _split(x: Tensor, axis: int) -> Tensor:
    first, second = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return torch.cat(((first + second) / 2, first - second), dim=1)


def _merge(x: Tensor, axis: int) -> Tensor:
    mean, difference = x.chunk(2, dim=1)
    pair = torch.stack((mean + difference / 2, mean - difference / 2), dim=axis + 1)
    return pair.flatten(axis, axis + 1)


def patchify(video: Tensor, spatial_levels: int, temporal_levels: int, first: bool) -> Tensor:
    """B C T H W → B C·4^spatial·2^temporal T' H/2^spatial W/2^spatial.

    Args:
        first: whether frame 0 of `video` is the first of its clip, and so stands alone: T = 1 + k·2^temporal
            and T' = 1 + k. Otherwise T = k·2^temporal and T' = k.
    """
    if first and temporal_levels:
        repeated = video[:, :, :1].expand(-1, -1, 2**temporal_levels - 1, -1, -1)
        video = torch.cat((repeated, video), dim=2)
    for _ in range(temporal_levels):
        video = _split(video, 2)
    for _ in range(spatial_levels):
        video = _split(_split(video, 3), 4)
    return video


def unpatchify(bands: Tensor, spatial_levels: int, temporal_levels: int, first: bool) -> Tensor:
    """The inverse of `patchify`."""
    for _ in range(spatial_levels):
        bands = _merge(_merge(bands, 4), 3)
    for _ in range(temporal_levels):
        bands = _merge(bands, 2)
    return bands[:, :, 2**temporal_levels - 1 :] if first else bands
