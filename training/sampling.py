"""From logits to codes: guidance, temperature, top-k, top-p."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplingSettings:
    """How codes are drawn.

    Attributes:
        temperature: divides the logits; 0 takes the most likely code (greedy).
        top_k: only the k most likely codes; 0 means all.
        top_p: only the smallest set of codes that holds this much probability; 1 means all.
        guidance: classifier-free guidance scale; 1 means none, the prompt is followed more above it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; allowed is 0 (greedy) and above")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; allowed is 0 (all codes) and above")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; allowed is above 0 up to 1 (all codes)")


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
