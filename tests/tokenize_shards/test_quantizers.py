"""Lookup-free and residual quantization against an independent implementation and slow formulas."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_quantize_pytorch import LFQ as ReferenceLFQ
from vector_quantize_pytorch import ResidualVQ as ReferenceRVQ

from tokenize_shards.quantizers import (
    LFQ,
    LFQLossConfig,
    annealed,
    bit_entropy,
    bit_use,
    bits_to_indices,
    code_entropy_of_mean,
    indices_to_bits,
    merge_factors,
    split_factors,
)
from tokenize_shards.residual_vq import ResidualVQ, kmeans


@pytest.mark.parametrize(("order", "expected"), [("little", 0b001), ("big", 0b100)])
def test_bit_order_says_which_channel_is_bit_0(order: str, expected: int) -> None:
    z = torch.tensor([0.5, -0.5, -0.5]).view(1, 3, 1, 1, 1)
    assert LFQ(3, order).eval()(z).indices.item() == expected


def test_zero_is_not_above_zero() -> None:
    assert LFQ(2).eval()(torch.zeros(1, 2, 1)).indices.item() == 0


@given(st.integers(1, 20), st.sampled_from(["little", "big"]), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_bits_and_indices_are_inverse(num_bits: int, order: str, seed: int) -> None:
    indices = torch.randint(2**num_bits, (2, 3, 4), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(bits_to_indices(indices_to_bits(indices, num_bits, order), order), indices)


def test_lfq_agrees_with_vector_quantize_pytorch() -> None:
    torch.manual_seed(0)
    z = torch.randn(2, 18, 3, 4, 4)
    reference = ReferenceLFQ(codebook_size=2**18, dim=18).eval()
    values, indices, _ = reference(z)
    mine = LFQ(18, "big").eval()(z)  # the reference puts the first channel into the highest bit
    assert torch.equal(mine.indices, indices)
    assert torch.equal(mine.values, values)
    assert torch.equal(LFQ(18, "big").codes(mine.indices), reference.indices_to_codes(indices))


def test_lfq_losses_agree_with_vector_quantize_pytorch() -> None:
    torch.manual_seed(0)
    z = torch.randn(2, 6, 1, 5, 5) * 0.02
    reference = ReferenceLFQ(codebook_size=64, dim=6, entropy_loss_weight=0.1, commitment_loss_weight=0.25)
    (_, _, _), parts = reference.train()(z, inv_temperature=100.0, return_loss_breakdown=True)
    config = LFQLossConfig(group_bits=6, max_tokens=0)
    losses = LFQ(6, "big", config).train()(z).losses
    expected = 0.1 * (parts.per_sample_entropy - parts.batch_entropy)
    torch.testing.assert_close(losses["entropy"], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(losses["commitment"], 0.25 * parts.commitment, atol=1e-6, rtol=1e-5)


def test_entropy_of_single_tokens_is_that_of_the_softmax_over_all_codes() -> None:
    tokens = torch.randn(7, 5, generator=torch.Generator().manual_seed(1)) * 0.3
    codes = indices_to_bits(torch.arange(32), 5, "little").float() * 2 - 1
    p = (-torch.cdist(tokens, codes).square() / 0.5).softmax(dim=1)
    slow = -(p * p.log()).sum(dim=1).mean()
    torch.testing.assert_close(bit_entropy(tokens, 0.5), slow, atol=1e-5, rtol=1e-5)
    mean = p.mean(dim=0)
    torch.testing.assert_close(code_entropy_of_mean(tokens, 0.5), -(mean * mean.log()).sum(), atol=1e-5, rtol=1e-5)


def test_gradient_passes_straight_through() -> None:
    z = torch.randn(1, 4, 2, requires_grad=True)
    weights = torch.randn(1, 4, 2)
    (LFQ(4).eval()(z).values * weights).sum().backward()
    assert torch.equal(z.grad, weights)


@pytest.mark.parametrize("factors", [1, 2, 3])
def test_factors_split_and_merge(factors: int) -> None:
    indices = torch.tensor([0, 1, 511, 512, 2**18 - 1])
    parts = split_factors(indices, 18, factors)
    assert parts.shape == (5, factors)
    assert int(parts.max()) < 2 ** (18 // factors)
    assert torch.equal(merge_factors(parts, 18), indices)


def test_factors_put_the_high_bits_first() -> None:
    assert split_factors(torch.tensor(513)).tolist() == [1, 1]
    with pytest.raises(ValueError, match="18 bits"):
        split_factors(torch.tensor(1), 18, 4)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.4), (1000, 0.25), (2000, 0.1), (9000, 0.1)], ids=["start", "half", "end", "after"]
)
def test_entropy_weight_anneals(step: int, expected: float) -> None:
    assert annealed(0.1, step, 3.0, 2000) == pytest.approx(expected)


def test_bit_use_is_entropy_of_each_bit() -> None:
    use = bit_use(torch.tensor([0, 1, 0, 1]), 2, "little")
    assert use.tolist() == pytest.approx([1.0, 0.0], abs=1e-9)


@pytest.mark.parametrize("kwargs", [{"bit_order": "middle"}, {"num_bits": 0}, {"num_bits": 31}])
def test_lfq_refuses(kwargs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"little|from 1 to 30"):
        LFQ(**kwargs)


def test_rvq_agrees_with_vector_quantize_pytorch() -> None:
    torch.manual_seed(0)
    reference = ReferenceRVQ(dim=8, codebook_size=32, num_quantizers=3).eval()
    mine = ResidualVQ(8, 3, 32).eval()
    for level, layer in enumerate(reference.layers):
        mine.codebooks[level] = layer._codebook.embed[0]
    z = torch.randn(2, 8, 50)
    values, indices, _ = reference(z.transpose(1, 2))
    result = mine(z)
    assert torch.equal(result.indices, indices.permute(0, 2, 1))
    torch.testing.assert_close(result.values, values.transpose(1, 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mine.decode(result.indices), result.values, atol=1e-5, rtol=1e-5)


def test_rvq_learns_like_vector_quantize_pytorch() -> None:
    torch.manual_seed(0)
    reference = ReferenceRVQ(dim=4, codebook_size=8, num_quantizers=1, decay=0.9, threshold_ema_dead_code=0)
    mine = ResidualVQ(4, 1, 8, decay=0.9, min_usage=0.0, dropout=False)
    codebook = reference.layers[0]._codebook
    mine.codebooks[0], mine.sums[0] = codebook.embed[0], codebook.embed_avg[0]
    mine.usage[0], mine.started[0] = codebook.cluster_size[0], 1
    for _ in range(3):
        z = torch.randn(2, 40, 4)
        reference.train()(z)
        mine.train()(z.transpose(1, 2))
    torch.testing.assert_close(mine.codebooks[0], codebook.embed[0], atol=1e-3, rtol=1e-3)


def test_more_levels_leave_less() -> None:
    torch.manual_seed(0)
    rvq = ResidualVQ(4, 4, 16, dropout=False).train()
    z = torch.randn(8, 4, 64)
    for _ in range(30):
        rvq(z)
    indices = rvq.eval()(z).indices
    errors = [float((rvq.decode(indices[:, : n + 1]) - z).square().mean()) for n in range(4)]
    assert all(after < 0.8 * before for before, after in pairwise(errors)), errors


def test_dead_codes_are_replaced() -> None:
    torch.manual_seed(0)
    rvq = ResidualVQ(2, 1, 8, dropout=False).train()
    rvq.started[0] = 1
    rvq.codebooks[0] = 1000.0  # nobody is near; one of the equal codes takes all
    for _ in range(3):
        rvq(torch.randn(4, 2, 32))
    assert float(rvq.codebooks[0].abs().max()) < 100
    assert rvq.eval()(torch.randn(4, 2, 32)).indices.unique().numel() > 4


def test_dropout_keeps_the_first_levels_only() -> None:
    torch.manual_seed(0)
    rvq = ResidualVQ(4, 3, 8).train()
    z = torch.randn(64, 4, 5)
    rvq(z)
    result = rvq(z)
    partial = [rvq.decode(result.indices[:, : n + 1]) for n in range(3)]
    kept = {
        next((n for n in range(3) if torch.allclose(result.values[row], partial[n][row], atol=0.35)), None)
        for row in range(64)
    }
    assert len(kept) > 1


def test_kmeans_finds_separated_clusters() -> None:
    torch.manual_seed(0)
    points = torch.cat([torch.randn(50, 2) * 0.01 + centre for centre in (0.0, 5.0, 9.0)])
    centres, counts = kmeans(points, 6)
    assert counts.sum() == 150
    assert float(torch.cdist(points, centres).min(dim=1).values.max()) < 0.5


def test_every_level_starts_with_codes_though_the_first_batch_is_small() -> None:
    """100 latents for 1,024 codes: level 1 must leave something over for the others to start from."""
    torch.manual_seed(0)
    rvq = ResidualVQ(16, num_quantizers=4, codebook_size=1024, min_usage=0.02, dropout=False).train()
    rvq(torch.randn(4, 16, 25))
    deviations = [float(codes.std()) for codes in rvq.codebooks]
    assert min(deviations) > 0.05, deviations
    assert torch.isfinite(rvq.usage).all()
