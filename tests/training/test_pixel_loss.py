"""The loss of decoded pictures: its value, where its gradient goes, and what it refuses."""

import pytest
import torch
from torch.nn import functional as F

from tests.tokenize_shards import tiny_models
from tokenize_shards.loading import load_video_tokenizer
from training.pixel_loss import PixelLoss
from training.visual_tokens import split_codes

FACTORS = (64, 64, 64)
EVERY = torch.ones(2, dtype=torch.bool)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    return load_video_tokenizer(tiny_models.save_video_tokenizer(folder), torch.device("cpu"))


def some_codes(seed: int) -> torch.Tensor:
    return torch.randint(2**18, (2, 2, 4, 4), generator=torch.Generator().manual_seed(seed))


def logits_of(codes: torch.Tensor, sure: float = 4.0) -> list[torch.Tensor]:
    return [
        sure * F.one_hot(part, size).float() for part, size in zip(split_codes(codes, FACTORS), FACTORS, strict=True)
    ]


def test_it_is_the_squared_error_of_the_decoded_likeliest_codes(tokenizer):
    chosen, truth = some_codes(0), some_codes(1)
    loss = PixelLoss(tokenizer, FACTORS, 3.0)(logits_of(chosen), truth, EVERY)
    with torch.no_grad():
        made = tokenizer.pictures(tokenizer.quantizer.codes(chosen))
        torch.testing.assert_close(loss, 3.0 * (made - tokenizer.decode(truth)).square().mean(), rtol=1e-4, atol=1e-6)


def test_given_steps_are_shown_but_do_not_count(tokenizer):
    chosen, truth = some_codes(0), some_codes(1)
    loss = PixelLoss(tokenizer, FACTORS, 1.0)([factor[:, 1:] for factor in logits_of(chosen)], truth)
    with torch.no_grad():
        made = tokenizer.pictures(tokenizer.quantizer.codes(torch.cat([truth[:, :1], chosen[:, 1:]], dim=1)))
        error = (made - tokenizer.decode(truth))[:, :, 1:].square().mean()
    torch.testing.assert_close(loss, error, rtol=1e-4, atol=1e-6)


def test_nothing_counts_where_no_sample_does(tokenizer):
    assert PixelLoss(tokenizer, FACTORS, 1.0)(logits_of(some_codes(0)), some_codes(1), ~EVERY) == 0


def test_its_gradient_leads_to_pictures_nearer_to_the_truth(tokenizer):
    truth = some_codes(1)
    logits = [factor.requires_grad_() for factor in logits_of(some_codes(0), sure=0.5)]
    pixels, optimizer = PixelLoss(tokenizer, FACTORS, 1.0), torch.optim.Adam(logits, lr=0.1)
    losses = []
    for _ in range(30):
        losses.append(pixels(logits, truth, EVERY))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    assert all(weight.grad is None for weight in tokenizer.parameters())


def test_other_tokenizers_and_factors_are_refused(tokenizer):
    with pytest.raises(ValueError, match="codes are bits"):
        PixelLoss(object(), FACTORS, 1.0)
    with pytest.raises(ValueError, match="powers of two, not"):
        PixelLoss(tokenizer, (6, 6), 1.0)
