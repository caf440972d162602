"""Captions as conditions of masked transformers: padded states, and the empty caption in place of dropped ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def pad_text(texts: Sequence[np.ndarray], width: int, device: Any) -> tuple[Tensor, Tensor]:
    """States (B L D) float32 and their mask (B L) of captions (L D) each; one without states has a state of zeros."""
    longest = max(1, *(len(text) for text in texts))
    padded = np.zeros((len(texts), longest, width), np.float32)
    mask = np.zeros((len(texts), longest), bool)
    for row, text in enumerate(texts):
        if len(text):
            padded[row, : len(text)], mask[row, : len(text)] = text, True
    mask[~mask.any(axis=1), 0] = True  # attention needs something to look at
    return torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)


def drop_text(text_BLD: Tensor, mask_BL: Tensor, empty_LD: Tensor, drop_B: Tensor) -> tuple[Tensor, Tensor]:
    """Text and mask with the empty caption in the rows that `drop_B` marks."""
    missing = max(0, len(empty_LD) - text_BLD.shape[1])
    text, mask = F.pad(text_BLD, (0, 0, 0, missing)), F.pad(mask_BL, (0, missing))
    empty = F.pad(empty_LD, (0, 0, 0, text.shape[1] - len(empty_LD))).to(text.dtype)
    empty_mask = torch.arange(text.shape[1], device=mask.device) < len(empty_LD)
    return empty.where(drop_B[:, None, None], text), empty_mask.where(drop_B[:, None], mask)
