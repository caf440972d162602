"""Sampling: restriction, guidance, masks and their schedules."""

import pytest
import torch

from training.masking import hide_least_certain, iterate, mask_ratio, training_mask
from training.sampling import Sampler, SamplingSettings, restrict

LOGITS = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()


@pytest.mark.parametrize(
    ("top_k", "top_p", "kept"),
    [
        (0, 1.0, [0, 1, 2, 3]),
        (2, 1.0, [0, 1]),
        (9, 1.0, [0, 1, 2, 3]),
        (0, 0.35, [0]),
        (0, 0.45, [0, 1]),
        (0, 0.95, [0, 1, 2, 3]),
        (3, 0.5, [0, 1]),
    ],
)
def test_restriction(top_k, top_p, kept):
    assert restrict(LOGITS, top_k, top_p).isfinite().nonzero()[:, 1].tolist() == kept


def test_draws_follow_the_probabilities():
    sampler = Sampler(SamplingSettings(top_p=1.0, guidance=1.0), torch.Generator().manual_seed(0))
    counts = torch.bincount(sampler(LOGITS.expand(20000, 4)), minlength=4) / 20000
    torch.testing.assert_close(counts, LOGITS.exp()[0], atol=0.015, rtol=0)


def test_guidance_moves_away_from_the_row_without_prompt():
    with_prompt, without = torch.tensor([[1.0, 1.2, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    sampler = Sampler(SamplingSettings(temperature=0, guidance=2.0), torch.Generator())
    assert sampler(torch.cat([with_prompt, without])).tolist() == [0, 0]


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.5}], ids=lambda wrong: next(iter(wrong))
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="allowed is"):
        SamplingSettings(**wrong)


def test_mask_ratio_of_the_schedules():
    assert mask_ratio(0) == 1
    assert mask_ratio(0.5) == pytest.approx(0.7071, abs=1e-4)
    assert mask_ratio(1) == 1e-6
    assert mask_ratio(0.5, "linear") == 0.5
    with pytest.raises(ValueError, match=r"unknown mask schedule 'sine'.*cosine"):
        mask_ratio(0.5, "sine")


def test_training_mask_hides_at_least_one_and_two_thirds_on_average():
    mask = training_mask(2000, 50, torch.Generator().manual_seed(0))
    counts = mask.sum(dim=1)
    assert int(counts.min()) >= 1
    assert counts.float().mean().item() / 50 == pytest.approx(2 / torch.pi, abs=0.03)
    assert mask.float().mean(dim=0).std() < 0.02  # no position is favoured


def test_least_certain_are_hidden_without_noise():
    log_probability = torch.tensor([[-1.0, -5.0, -2.0, -9.0]])
    unknown = torch.tensor([[True, True, True, False]])
    hidden = hide_least_certain(log_probability, unknown, 0, 2, 0.0, torch.Generator())
    assert hidden.tolist() == [[False, True, True, False]]  # ⌊3 · cos(π/4)⌋ = 2
    assert not hide_least_certain(log_probability, unknown, 1, 2, 0.0, torch.Generator()).any()


def test_iteration_keeps_what_is_known_and_shrinks_the_rest():
    known = torch.tensor([[7, 7, 7, 7, 0, 0, 0, 0]])
    unknown = torch.tensor([[False] * 4 + [True] * 4])
    seen = []

    def predict(codes, hidden, step):
        seen.append(int(hidden.sum()))
        return torch.full_like(codes, 3), -torch.arange(8.0)[None]

    result = iterate(predict, known, unknown, steps=4, choice_temperature=1.0, generator=torch.Generator())
    assert result.tolist() == [[7, 7, 7, 7, 3, 3, 3, 3]]
    assert seen == [4, 3, 2, 1]
