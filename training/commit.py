"""Conditions of in- and outpainting and of frame prediction: codes of a video of which a part is blank, or stands still
(COMMIT, MAGVIT, arXiv 2212.05199, section 3.2).

The condition is always the tokenized masked video, never what is left of the codes of the whole one: a code near the
border would tell of what it must not know.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from schemas.shards import TokenSample
from tokenize_shards.base import VideoTokenizer
from tokenize_shards.round_trip import decode_frames, encode_frames
from training.kept_codes import KeptCodes

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


class PaddedCodes:
    """Codes of videos that stand still after their first latent frames: what a continuation would be if nothing moved.

        given  ■ ■ ■ · ·    pictures 0 … 8, then picture 8 again and again    → codes  ■ ■ ■ ▒ ▒

    Codes of a place that stays the same are then there to be read, where the codes before it are quite others: those of
    a causal tokenizer change from step to step even where the picture does not.

    Args:
        tokenizer: the one that made the codes.
    """

    def __init__(self, tokenizer: VideoTokenizer, device: torch.device | str):
        self.tokenizer, self.device = tokenizer, torch.device(device)
        self._kept = KeptCodes(self._codes)

    def __call__(self, samples: Sequence[TokenSample], given: int) -> list[TokenSample]:
        """The samples with an array "padded" (t h w): the codes of the first `given` steps as they are, then others."""
        return [replace(sample, arrays={**sample.arrays, "padded": self._padded(sample, given)}) for sample in samples]

    def _padded(self, sample: TokenSample, given: int) -> np.ndarray:
        codes_thw = sample.arrays["video"]
        rest = len(codes_thw) - given
        if sample.meta.get("independent"):
            return np.concatenate([codes_thw[:given], np.repeat(codes_thw[given - 1 : given], rest, axis=0)])
        return self._kept(codes_thw[:given], rest)

    def _codes(self, known_thw: np.ndarray, rest: int) -> np.ndarray:
        frames = decode_frames(self.tokenizer, known_thw, self.device)
        still = np.repeat(frames[-1:], rest * self.tokenizer.temporal_stride, axis=0)
        # One at a time: a code must not depend on what else is in a batch.
        codes = encode_frames(self.tokenizer, np.concatenate([frames, still])[None], self.device)[0]
        return np.concatenate([known_thw, codes[len(known_thw) :].astype(known_thw.dtype)])
