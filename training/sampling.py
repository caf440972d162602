"""From logits to codes: guidance, temperature, top-k, top-p."""

import torch
from torch import Tensor

from training.generate_settings import SamplingSettings


def restrict(logits_BV: Tensor, top_k: int, top_p: float) -> Tensor:
    """The logits with −inf for all codes outside the k most likely and the nucleus of probability p."""
    if 0 < top_k < logits_BV.shape[-1]:
        threshold = logits_BV.topk(top_k, dim=-1).values[..., -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < threshold, -torch.inf)
    if top_p < 1:
        ordered, order = logits_BV.sort(dim=-1, descending=True, stable=True)
        probability = ordered.softmax(dim=-1)
        before = probability.cumsum(dim=-1) - probability  # of all likelier codes
        outside = torch.zeros_like(logits_BV, dtype=torch.bool).scatter(-1, order, before >= top_p)
        logits_BV = logits_BV.masked_fill(outside, -torch.inf)
    return logits_BV


class Sampler:
    """Chooses codes from logits; the choice is a function of the logits, the settings and the generator.

    With guidance, the rows are those of the prompts followed by as many without (or with the negative) prompt; the
    same code is chosen for both rows of a pair.
    """

    def __init__(self, settings: SamplingSettings, generator: torch.Generator):
        self.settings = settings
        self.generator = generator

    @property
    def guided(self) -> bool:
        return self.settings.guidance != 1.0

    def __call__(self, logits: Tensor) -> Tensor:
        """(rows, V) → (rows,) int64."""
        logits = logits.float()
        if self.guided:
            with_prompt, without = logits.chunk(2)
            logits = without + self.settings.guidance * (with_prompt - without)
        codes = self._draw(logits)
        return codes.repeat(2) if self.guided else codes

    def _draw(self, logits_BV: Tensor) -> Tensor:
        if self.settings.temperature == 0:
            return logits_BV.argmax(dim=-1)
        logits_BV = restrict(logits_BV / self.settings.temperature, self.settings.top_k, self.settings.top_p)
        # Drawn on the CPU, so that a seed means the same on every device.
        probability = logits_BV.softmax(dim=-1).cpu()
        return torch.multinomial(probability, 1, generator=self.generator).squeeze(1).to(logits_BV.device)
