"""The chunked loss is the plain formula, and factors are a proper distribution."""

import pytest
import torch
from torch.nn import functional as F

from training.chunked_loss import chunked_cross_entropy
from training.visual_tokens import VisualTokens, merge_codes, split_codes


def _inputs(rows: int = 23, vocabulary: int = 37, width: int = 8):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    return hidden, weight, targets, torch.rand(rows, generator=generator)


@pytest.mark.parametrize("rows_at_a_time", [1, 5, 23, 100])
def test_loss_and_gradients_equal_the_plain_formula(rows_at_a_time):
    hidden, weight, targets, scale = _inputs()
    total, nll = chunked_cross_entropy(hidden, weight, targets, scale, chunk_bytes=4 * 37 * rows_at_a_time)
    gradients = torch.autograd.grad(3 * total, [hidden, weight])
    plain = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    plain_gradients = torch.autograd.grad(3 * (plain * scale).sum(), [hidden, weight])
    torch.testing.assert_close(nll, plain.float())
    torch.testing.assert_close(total, (plain * scale).sum(), rtol=1e-6, atol=1e-6, check_dtype=False)
    for ours, theirs in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_are_used_once():
    hidden, weight, targets, scale = _inputs()
    total, _ = chunked_cross_entropy(hidden, weight, targets, scale)
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="run it forward again"):
        total.backward()


def test_no_gradient_is_computed_where_none_is_wanted():
    hidden, weight, targets, scale = _inputs()
    with torch.no_grad():
        total, _ = chunked_cross_entropy(hidden, weight, targets, scale)
    assert not total.requires_grad


@pytest.mark.parametrize("factors", [[64], [8, 8], [4, 16], [2, 4, 8]])
def test_codes_split_and_merge(factors):
    codes = torch.arange(64).view(4, 16)
    parts = split_codes(codes, factors)
    assert all(int(part.max()) == size - 1 for part, size in zip(parts, factors, strict=True))
    assert torch.equal(merge_codes(parts, factors), codes)


@pytest.mark.parametrize("factors", [[64], [8, 8], [2, 4, 8]])
def test_probabilities_of_all_codes_sum_to_one(factors):
    torch.manual_seed(0)
    visual = VisualTokens(factors, width=12)
    hidden = torch.randn(1, 12).expand(64, 12)
    _, nll = visual.loss(hidden, torch.arange(64), torch.ones(64))
    torch.testing.assert_close(nll.neg().exp().sum(), torch.tensor(1.0))


@pytest.mark.parametrize("factors", [[64], [8, 8]])
def test_most_likely_code_has_the_least_loss_along_its_factors(factors):
    torch.manual_seed(1)
    visual = VisualTokens(factors, width=12)
    hidden = torch.randn(5, 12)
    chosen = visual.choose(hidden, lambda logits: logits.argmax(dim=-1))
    last_factor_changed = chosen // factors[-1] * factors[-1] + (chosen + 1) % factors[-1]
    best, other = (visual.loss(hidden, codes, torch.ones(5))[1] for codes in (chosen, last_factor_changed))
    assert bool((best < other).all())


def test_bfloat16_autocast_stays_close():
    torch.manual_seed(0)
    visual = VisualTokens([512], width=32)
    hidden, codes = torch.randn(40, 32, requires_grad=True), torch.randint(512, (40,))
    exact, _ = visual.loss(hidden, codes, torch.ones(40))
    with torch.autocast("cpu", torch.bfloat16):
        rounded, _ = visual.loss(hidden, codes, torch.ones(40))
    rounded.backward()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.01, atol=0)
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
