"""Conditions of in- and outpainting: codes of a video of which a part is blank (COMMIT, MAGVIT, arXiv 2212.05199).

The condition is always the tokenized masked video, never what is left of the codes of the whole one: a code near the
border would tell of what it must not know.
"""

import numpy as np
import torch

from tokenize_shards.base import VideoTokenizer
from tokenize_shards.round_trip import decode_frames, encode_frames

REGIONS = ("central", "horizontal", "vertical", "dynamic", "quarter")


def region_mask(region: str, num_frames: int, height: int, width: int) -> np.ndarray:
    """(T H W) bool, True inside a region of MAGVIT's tasks.

    central: the middle half in height and width; horizontal, vertical: the middle half of the rows, of the columns;
    dynamic: a window of half the width that slides from left to right; quarter: the top left.
    """
    mask = np.zeros((num_frames, height, width), bool)
    top, left = height // 4, width // 4
    if region == "central":
        mask[:, top : top + height // 2, left : left + width // 2] = True
    elif region == "horizontal":
        mask[:, top : top + height // 2] = True
    elif region == "vertical":
        mask[:, :, left : left + width // 2] = True
    elif region == "dynamic":
        for index, start in enumerate(np.linspace(0, width - width // 2, num_frames).round().astype(int)):
            mask[index, :, start : start + width // 2] = True
    elif region == "quarter":
        mask[:, : height // 2, : width // 2] = True
    else:
        raise ValueError(f"unknown region {region!r}; known: {', '.join(REGIONS)}")
    return mask


def commit_codes(
    tokenizer: VideoTokenizer, frames_BTHWC: np.ndarray, known_THW: np.ndarray, device: torch.device
) -> np.ndarray:
    """Codes (B t h w) uint32 of the videos (uint8 RGB) with everything black that is not known."""
    return encode_frames(tokenizer, frames_BTHWC * known_THW[..., None].astype(np.uint8), device)


def commit_codes_of_tokens(
    tokenizer: VideoTokenizer, codes_Bthw: np.ndarray, task: str, region: str, device: torch.device
) -> np.ndarray:
    """The condition of videos that are at hand as codes: they are decoded, blanked and encoded again.

    Args:
        task: "inpaint" (the region is unknown) or "outpaint" (what surrounds it is).
    """
    frames = np.stack([decode_frames(tokenizer, codes, device) for codes in codes_Bthw])
    inside = region_mask(region, *frames.shape[1:4])
    return commit_codes(tokenizer, frames, ~inside if task == "inpaint" else inside, device)
