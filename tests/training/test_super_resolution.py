"""The super-resolution transformer: windows, conditions, objective, sampling, saving."""

import pytest
import torch

from tests.training.token_samples import TEXT_WIDTH
from training.masked_tokens import Attention
from training.super_resolution import (
    Condition,
    SuperResolution,
    SuperResolutionConfig,
    from_windows,
    low_window_of,
    resolve_window,
    to_windows,
)
from training.super_resolution_sampling import SuperResolutionSampling, guided_logits, upsample

GRID = (2, 8, 8)


def tiny_config(**changes) -> SuperResolutionConfig:
    sizes = {"width": 64, "num_blocks": 1, "num_heads": 2, "text_width": TEXT_WIDTH, "max_grid_side": 16}
    return SuperResolutionConfig(**{**sizes, "windows": [[1, 0, 2], [1, 2, 0], [0, 4, 4]], **changes})


@pytest.fixture(scope="module")
def model() -> SuperResolution:
    torch.manual_seed(0)
    return SuperResolution(tiny_config(initializer_range=0.1)).eval()


def random_inputs(batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, Condition]:
    generator = torch.Generator().manual_seed(seed)
    high = torch.randint(2**18, (batch, *GRID), generator=generator)
    low = torch.randint(2**18, (batch, GRID[0], GRID[1] // 2, GRID[2] // 2), generator=generator)
    text = torch.randn(batch, 3, TEXT_WIDTH, generator=generator)
    return high, Condition(low, text, torch.ones(batch, 3, dtype=torch.bool), torch.ones(batch, dtype=torch.bool))


@pytest.mark.parametrize(
    ("window", "low"),
    [((1, 56, 4), (1, 28, 2)), ((1, 8, 32), (1, 4, 16)), ((5, 8, 8), (5, 4, 4))],
    ids=["vertical", "horizontal", "temporal"],
)
def test_windows_of_the_first_published_stage(window, low):
    grid, low_grid = (5, 56, 32), (5, 28, 16)
    assert resolve_window(list(window), grid) == window
    assert low_window_of(window, grid, low_grid) == low


def test_windows_come_back_in_place():
    x = torch.arange(2 * 4 * 6 * 3.0).view(1, 2, 4, 6, 3)
    windows = to_windows(x, (2, 2, 3))
    assert windows.shape == (4, 12, 3)
    assert torch.equal(from_windows(windows, (2, 2, 3), (2, 4, 6)), x)


def test_window_that_does_not_divide_the_grid_is_refused():
    with pytest.raises(ValueError, match=r"does not divide the token grid \(2, 8, 8\)"):
        resolve_window([1, 3, 8], GRID)


@pytest.mark.parametrize(("axis", "index"), [(0, 0), (1, 1), (2, 2)], ids=["vertical", "horizontal", "temporal"])
def test_a_layer_sees_its_window_only(model, axis, index):
    """A change of one token moves exactly the tokens of its window, of one layer."""
    layer = model.layers[index]
    x, low = torch.randn(1, *GRID, 64), torch.randn(1, 2, 4, 4, 64)
    text, mask = torch.randn(1, 3, 64), torch.ones(1, 3, dtype=torch.bool)
    other = x.clone()
    other[0, 1, 5, 6] += 1
    with torch.no_grad():
        moved = (layer(x, low, text, mask) - layer(other, low, text, mask)).abs().amax(dim=-1)[0] > 1e-6
    expected = torch.zeros(GRID, dtype=torch.bool)
    spans = {
        0: (1, slice(None), slice(6, 8)),
        1: (1, slice(4, 6), slice(None)),
        2: (slice(None), slice(4, 8), slice(4, 8)),
    }
    expected[spans[axis]] = True
    assert torch.equal(moved, expected)


def test_hidden_codes_do_not_matter_and_conditions_do(model):
    high, condition = random_inputs()
    hide = torch.ones(high.shape, dtype=torch.bool)
    with torch.no_grad():
        logits = model(high, hide, condition)
        same = model(high.flip(0), hide, condition)
        other_low = model(high, hide, condition._replace(low=condition.low.flip(0)))
        other_text = model(high, hide, condition._replace(text=condition.text.flip(0)))
    assert torch.equal(logits[0], same[0])
    assert not torch.allclose(logits[0], other_low[0])
    assert not torch.allclose(logits[0], other_text[0])


def test_dropped_low_resolution_tokens_do_not_matter(model):
    high, condition = random_inputs()
    condition = condition._replace(use_low=torch.zeros(2, dtype=torch.bool))
    hide = torch.ones(high.shape, dtype=torch.bool)
    with torch.no_grad():
        one, two = (model(high, hide, condition._replace(low=low)) for low in (condition.low, condition.low.flip(0)))
    assert torch.equal(one[0], two[0])


def test_loss_counts_hidden_tokens_only(model):
    high, condition = random_inputs()
    output = model.loss(high, condition, torch.Generator().manual_seed(3))
    torch.testing.assert_close(output.loss, output.nll_BN[output.mask_BN].mean())


def test_conditions_are_dropped_independently_one_time_in_ten(model):
    _, condition = random_inputs(batch=2000)
    disturbed = model.disturb(condition, torch.Generator().manual_seed(0))
    low_dropped, text_dropped = ~disturbed.use_low, disturbed.text_mask.sum(dim=1) == 1
    assert low_dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert text_dropped.float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (low_dropped & text_dropped).float().mean().item() == pytest.approx(0.01, abs=0.01)
    noisy = (disturbed.low != condition.low).float().mean(dim=(1, 2, 3))
    assert noisy.mean().item() == pytest.approx(0.1, abs=0.02)  # the rate is uniform in [0, 0.2]


def test_dual_guidance_is_the_formula(model):
    high, condition = random_inputs()
    hide = torch.ones(high.shape, dtype=torch.bool)
    empty, empty_mask = model.without_text(condition, torch.ones(2, dtype=torch.bool))
    low_only = condition._replace(text=empty, text_mask=empty_mask)
    nothing = low_only._replace(use_low=torch.zeros(2, dtype=torch.bool))
    with torch.no_grad():
        both, low, none = (model(high, hide, given)[0] for given in (condition, low_only, nothing))
        guided = guided_logits(
            model, high, hide, condition, SuperResolutionSampling(guidance_text=4.0, guidance_low=2.0)
        )[0]
    torch.testing.assert_close(guided, none + 2.0 * (low - none) + 4.0 * (both - low), rtol=1e-4, atol=1e-4)


def test_sampling_is_a_function_of_the_seed(model):
    _, condition = random_inputs()
    sampling = SuperResolutionSampling(steps=4, guidance_low=2.0)
    first, second, other = (
        upsample(model, condition, GRID, sampling, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (2, *GRID)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_overfits_and_greedy_sampling_reproduces():
    torch.manual_seed(0)
    model = SuperResolution(tiny_config(low_noise=0.0, drop_low=0.0, drop_text=0.0))
    high, condition = random_inputs(batch=3)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.96), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / 210))
    for _ in range(190):
        loss = model.loss(high, condition, generator).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    everything = torch.ones(3, high[0].numel(), dtype=torch.bool)
    assert model.masked_loss(high, condition, everything).loss < 0.05
    greedy = SuperResolutionSampling(steps=6, temperature=0, choice_temperature=0, guidance_text=1.0)
    assert torch.equal(upsample(model, condition, GRID, greedy, torch.Generator()), high)


def test_codes_on_the_same_grid_tell_of_their_own_place():
    """One low-resolution code moves the logits of its place, before any layer mixes them."""
    model = SuperResolution(tiny_config(low_grid="same", num_blocks=0)).eval()
    high, condition = random_inputs(batch=1)
    condition = condition._replace(low=high)
    other = high.clone()
    other[0, 1, 3, 5] ^= 1
    hide = torch.ones(high.shape, dtype=torch.bool)
    with torch.no_grad():
        first, second = (model(high, hide, condition._replace(low=low))[1][0] for low in (high, other))
    moved = torch.zeros(GRID, dtype=torch.bool)
    moved[1, 3, 5] = True
    assert torch.equal((first - second).abs().amax(dim=-1) > 0, moved)


def test_unknown_grid_of_the_low_resolution_is_refused():
    with pytest.raises(ValueError, match="low_grid is 'half'; allowed are 'own' and 'same'"):
        tiny_config(low_grid="half")


@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_its_formula_is_that_of_the_fused_kernel(masked):
    generator = torch.Generator().manual_seed(0)
    attention = Attention(32, 4)
    x, context = (torch.randn(2, length, 32, generator=generator) for length in (5, 7))
    mask = torch.arange(7)[None] < torch.tensor([[7], [4]]) if masked else None
    trained = attention(x, context, mask)
    with torch.no_grad():
        torch.testing.assert_close(trained.detach(), attention(x, context, mask), rtol=1e-4, atol=1e-5)


def test_save_and_load_give_the_same_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = SuperResolution.from_pretrained(tmp_path, use_safetensors=True).eval()
    high, condition = random_inputs()
    hide = torch.ones(high.shape, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(loaded(high, hide, condition)[0], model(high, hide, condition)[0])
