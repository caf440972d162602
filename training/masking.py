"""Masked prediction: how many tokens training hides, and the iterative sampler of MaskGIT (arXiv 2202.04200)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: math.cos(math.pi / 2 * progress),
    "linear": lambda progress: 1 - progress,
    "square": lambda progress: 1 - progress**2,
    "cubic": lambda progress: 1 - progress**3,
    "sqrt": lambda progress: 1 - progress**0.5,
}


def mask_ratio(progress: float, schedule: str = "cosine") -> float:
    """Share of tokens hidden at a progress in [0, 1]: 1 at the start, almost 0 at the end."""
    if schedule not in SCHEDULES:
        raise ValueError(f"unknown mask schedule {schedule!r}; known: {', '.join(SCHEDULES)}")
    return min(1.0, max(1e-6, SCHEDULES[schedule](progress)))


def training_mask(batch: int, num_tokens: int, generator: torch.Generator, schedule: str = "cosine") -> Tensor:
    """(B, N) bool on the CPU, True where a token is hidden: ⌈γN⌉ of each row, γ from a uniform draw."""
    progress = torch.rand(batch, generator=generator).tolist()
    counts = torch.tensor([math.ceil(mask_ratio(value, schedule) * num_tokens) for value in progress])
    rank = torch.rand(batch, num_tokens, generator=generator).argsort(dim=1).argsort(dim=1)
    return rank < counts[:, None]


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise on the CPU."""
    uniform = torch.rand(shape, generator=generator).clamp(1e-20, 1 - 1e-7)
    return -(-uniform.log()).log()


def hide_least_certain(
    log_probability_BN: Tensor, unknown_BN: Tensor, step: int, steps: int, choice_temperature: float,
    generator: torch.Generator, schedule: str = "cosine", first_unknown_B: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """(B, N) bool: which of the unknown tokens stay unknown after step `step` (from 0) of `steps`.

    The score is log p + τ (1 − (t + 1)/T) · Gumbel; the n lowest are hidden again, n = ⌊N₀ · ratio⌋ clamped to
    [1, unknown − 1], where N₀ tokens were unknown at the start. After the last step nothing is hidden.

    Args:
        log_probability_BN: of the tokens just drawn.
        unknown_BN: True where a token was drawn in this step.
        first_unknown_B: N₀; the count in `unknown_BN` by default.
    """
    if step + 1 >= steps:
        return torch.zeros_like(unknown_BN)
    unknown_B = unknown_BN.sum(dim=1)
    first_unknown_B = unknown_B if first_unknown_B is None else first_unknown_B
    progress = (step + 1) / steps
    noise = gumbel(log_probability_BN.shape, generator).to(log_probability_BN.device)
    score_BN = log_probability_BN.float() + choice_temperature * (1 - progress) * noise
    score_BN = score_BN.masked_fill(~unknown_BN, torch.inf)
    wanted_B = (first_unknown_B * mask_ratio(progress, schedule)).floor().long()
    count_B = torch.minimum(wanted_B.clamp(min=1), (unknown_B - 1).clamp(min=0))
    rank_BN = score_BN.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    return (rank_BN < count_B[:, None]) & unknown_BN


Predict = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@torch.inference_mode()
def iterate(
    predict: Predict, codes_BN: Tensor, unknown_BN: Tensor, *, steps: int, choice_temperature: float,
    generator: torch.Generator, schedule: str = "cosine", fallback_BN: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Fills in unknown codes in `steps` rounds.

    Args:
        predict: (codes, unknown, step) → codes drawn everywhere (B, N) and their log-probabilities (B, N).
        codes_BN: int64; what stands where `unknown_BN` is True does not matter.
        fallback_BN: what a hidden position holds instead of its last draw; COMMIT falls back to the condition.

    Returns:
        (B, N) int64; known codes are as they were.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; allowed is 1 and more")
    first_unknown_B = unknown_BN.sum(dim=1)
    for step in range(steps):
        drawn_BN, log_probability_BN = predict(codes_BN, unknown_BN, step)
        codes_BN = drawn_BN.where(unknown_BN, codes_BN)
        unknown_BN = hide_least_certain(
            log_probability_BN, unknown_BN, step, steps, choice_temperature, generator, schedule, first_unknown_B
        )
        if fallback_BN is not None:
            codes_BN = fallback_BN.where(unknown_BN, codes_BN)
        if not bool(unknown_BN.any()):
            break
    return codes_BN
