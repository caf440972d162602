"""The squared error of decoded pictures as a loss of the codes that a masked transformer chooses.

Cross-entropy asks for the probability of every bit. Where bits cannot be known, the likeliest of each together make a
picture that is worse than a plain enlargement; this loss asks for the bits whose picture is nearest to the truth. The
choice of a bit has no gradient: the decoder gets the bit, and its gradient goes to the bit's mean.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training.visual_tokens import merge_codes


class PixelLoss:
    """Mean squared error of decoded codes, pictures in [-1, 1], times a weight.

    Args:
        tokenizer: of codes made of bits (MAGVIT-v2's); its weights get no gradient.
        factors: powers of two, as the logits have them.
        weight: of the loss beside cross-entropy in nats.
    """

    def __init__(self, tokenizer: Any, factors: Sequence[int], weight: float):
        if not (isinstance(tokenizer, nn.Module) and hasattr(tokenizer, "pictures")) or tokenizer.bit_order is None:
            raise ValueError(
                "pixel_weight needs a video tokenizer whose codes are bits, magvit2; set it to 0 for others"
            )
        if any(size & (size - 1) for size in factors):
            raise ValueError(f"pixel_weight needs factors that are powers of two, not {list(factors)}")
        self.tokenizer: Any = tokenizer.eval().requires_grad_(False)
        self.factors, self.weight = tuple(factors), weight

    def __call__(self, logits: Sequence[Tensor], codes_Bthw: Tensor, counts_B: Tensor | None = None) -> Tensor:
        """The loss of the likeliest codes, over the samples that count.

        Args:
            logits: (B n h w V) of each factor, for the last n of the t steps; those before are given, and their
                pictures do not count.
            counts_B: bool; 0 where none does. None: all count.
        """
        if counts_B is not None:
            if not bool(counts_B.any()):
                return logits[0].new_zeros(())
            logits, codes_Bthw = [factor[counts_B] for factor in logits], codes_Bthw[counts_B]
        given = codes_Bthw.shape[1] - logits[0].shape[1]
        known_BKthw = self.tokenizer.quantizer.codes(codes_Bthw[:, :given])
        made_BCTHW = self.tokenizer.pictures(torch.cat([known_BKthw, self._bits(logits)], dim=2))
        with torch.no_grad():
            truth_BCTHW = self.tokenizer.decode(codes_Bthw)
        first = 1 + self.tokenizer.temporal_stride * (given - 1) if given else 0
        return self.weight * (made_BCTHW.float() - truth_BCTHW)[:, :, first:].square().mean()

    def _bits(self, logits: Sequence[Tensor]) -> Tensor:
        """(B K t h w): ±1 of the likeliest codes, with the gradient of their means."""
        means = [factor.float().softmax(dim=-1) @ _signs(factor.shape[-1], factor.device) for factor in logits]
        means_BKthw = torch.cat(means, dim=-1).movedim(-1, 1)  # the code's highest bit first
        if self.tokenizer.bit_order == "little":
            means_BKthw = means_BKthw.flip(1)
        with torch.no_grad():
            codes = merge_codes([factor.argmax(dim=-1) for factor in logits], self.factors)
            bits_BKthw = self.tokenizer.quantizer.codes(codes)
        return bits_BKthw + means_BKthw - means_BKthw.detach()


def _signs(size: int, device: torch.device) -> Tensor:
    """(size, bits) ±1: the bits of 0 … size − 1, the highest first."""
    shifts = torch.arange(int(math.log2(size)) - 1, -1, -1, device=device)
    return (torch.arange(size, device=device)[:, None] >> shifts & 1).float() * 2 - 1
