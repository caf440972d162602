"""The low resolution on the grid of the high one: its codes decoded, enlarged and encoded again.

    codes 5×8×8 → pictures 64×64 → bicubic 128×128 → codes 5×16×16

Each code then stands where the code that it is to help predict does, and most of its bits are those already.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from tokenize_shards.base import VideoTokenizer
from tokenize_shards.round_trip import decode_frames, encode_frames
from training.kept_codes import KeptCodes
from training.super_resolution import SuperResolutionConfig

Lows = Sequence[np.ndarray]


def bicubic(frames_THWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """The frames (uint8) enlarged."""
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in frames_THWC])


class EnlargedCodes:
    """Codes of enlarged videos. Those of the first 256 MiB are kept, since training comes by again.

    Args:
        tokenizer: the one that made the codes.
        scale: (t, h, w), by how much the grid grows; t is 1.
    """

    def __init__(self, tokenizer: VideoTokenizer, scale: Sequence[int], device: torch.device):
        if scale[0] != 1:
            raise ValueError(f"the grid grows by {tuple(scale)}; pictures are enlarged in height and width only")
        self.tokenizer, self.scale, self.device = tokenizer, scale, device
        self._kept = KeptCodes(self._codes)

    def __call__(self, lows: Lows) -> list[np.ndarray]:
        """(t h w) each → (t, h·scale, w·scale) uint32 each."""
        return [self._kept(low) for low in lows]

    def _codes(self, low_thw: np.ndarray) -> np.ndarray:
        frames = decode_frames(self.tokenizer, low_thw, self.device)
        _, height, width = (size * by for size, by in zip((1, *frames.shape[1:3]), self.scale, strict=True))
        # One at a time: a code must not depend on what else is in a batch.
        return encode_frames(self.tokenizer, bicubic(frames, height, width)[None], self.device)[0]


def low_inputs(
    config: SuperResolutionConfig, tokenizer: Callable[[], VideoTokenizer], device: torch.device
) -> Callable[[Lows], Lows]:
    """From low-resolution codes to what the model takes of them: they themselves, or those of the enlarged videos.

    Args:
        tokenizer: loads it, where it is needed.
    """
    if config.low_grid == "own":
        return lambda lows: lows
    return EnlargedCodes(tokenizer(), (config.formats or {}).get("scale", [1, 2, 2]), device)
