"""Sampling of the super-resolution model: rounds of masked prediction with guidance of two conditions."""

from collections.abc import Callable

import torch
from torch import Tensor

from training.generate_settings import SuperResolutionSampling
from training.masking import iterate
from training.super_resolution import Condition, SuperResolution
from training.visual_tokens import merge_codes


def guided_logits(
    model: SuperResolution,
    codes_Bthw: Tensor,
    hide_Bthw: Tensor,
    condition: Condition,
    sampling: SuperResolutionSampling,
) -> list[Tensor]:
    """Logits of each factor: ε(∅,∅) + s_LR (ε(LR,∅) − ε(∅,∅)) + s_T (ε(LR,T) − ε(LR,∅)), after InstructPix2Pix.

    What scales of 1 cancel is not computed.
    """
    if sampling.guidance_text == 1.0 and sampling.guidance_low == 1.0:
        return model(codes_Bthw, hide_Bthw, condition)
    no_text, no_text_mask = model.without_text(condition, torch.ones_like(condition.use_low))
    text, text_mask = model.without_text(condition, torch.zeros_like(condition.use_low))
    low_only = condition._replace(text=no_text, text_mask=no_text_mask)
    branches = [Condition(condition.low, text, text_mask, condition.use_low), low_only]
    if sampling.guidance_low != 1.0:
        branches.append(low_only._replace(use_low=torch.zeros_like(condition.use_low)))
    count = len(branches)
    fields = ("low", "text", "text_mask", "use_low")
    joined = Condition(*(torch.cat([getattr(branch, name) for branch in branches]) for name in fields))
    logits = model(codes_Bthw.repeat(count, 1, 1, 1), hide_Bthw.repeat(count, 1, 1, 1), joined)
    return [_combine(factor.float().chunk(count), sampling) for factor in logits]


def _combine(branches: tuple[Tensor, ...], sampling: SuperResolutionSampling) -> Tensor:
    both, low = branches[0], branches[1]
    base = low if len(branches) == 2 else branches[2] + sampling.guidance_low * (low - branches[2])
    return base + sampling.guidance_text * (both - low)


@torch.inference_mode()
def upsample(
    model: SuperResolution, condition: Condition, grid: tuple[int, int, int], sampling: SuperResolutionSampling,
    generator: torch.Generator, on_step: Callable[[int], None] = lambda step: None,
) -> Tensor:  # fmt: skip
    """High-resolution codes (B t h w) int64 for low-resolution ones.

    Args:
        grid: (t, h, w) of the result.
        on_step: called with the number of each finished round.
    """
    shape = (len(condition.low), *grid)
    device = condition.low.device

    def predict(codes_BN: Tensor, unknown_BN: Tensor, step: int) -> tuple[Tensor, Tensor]:
        logits = guided_logits(model, codes_BN.view(shape), unknown_BN.view(shape), condition, sampling)
        drawn = [draw_codes(factor, sampling.temperature, generator) for factor in logits]
        on_step(step + 1)
        codes = merge_codes([part for part, _ in drawn], model.high.factors)
        log_probability = torch.stack([log for _, log in drawn]).sum(dim=0)
        return codes.flatten(1), log_probability.flatten(1)

    nothing = torch.zeros(shape, dtype=torch.long, device=device).flatten(1)
    codes_BN = iterate(
        predict, nothing, torch.ones_like(nothing, dtype=torch.bool), steps=sampling.steps,
        choice_temperature=sampling.choice_temperature, generator=generator,
    )  # fmt: skip
    return codes_BN.view(shape)


def draw_codes(logits: Tensor, temperature: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Codes of the leading shape and the log-probability of each."""
    log_probability = logits.float().log_softmax(dim=-1)
    if temperature == 0:
        codes = logits.argmax(dim=-1)
    else:
        flat = (logits.float() / temperature).softmax(dim=-1).flatten(0, -2).cpu()
        codes = torch.multinomial(flat, 1, generator=generator).view(logits.shape[:-1]).to(logits.device)
    return codes, log_probability.gather(-1, codes[..., None]).squeeze(-1)
