"""Layers held in the layout of a CPU's kernels: what they give beside plain ones, exact causality, what stays plain."""

import copy
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn

from tests.tokenize_shards import test_cvivit, test_magvit2
from tokenize_shards.acceleration import hold_weights
from tokenize_shards.causal import CausalConv3d, Stream
from tokenize_shards.cvivit import QUANTIZERS, CViViT
from tokenize_shards.held import HeldCausalConv3d, HeldLinear, can_hold, hold_layers
from tokenize_shards.magvit2 import Magvit2
from tokenize_shards.transformer import GELU

torch.set_num_threads(1)

holds = pytest.mark.skipif(not can_hold(torch.zeros(1)), reason="this machine's CPU has no such kernels")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kernel", [(3, 3), (3, 1), (1, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("padding", ["zero", "replicate"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("pieces", [(1, 1, 1, 1), (1, 2, 2), (1, 4, 4), (7,)], ids=str)
def test_a_held_convolution_is_the_plain_one(
    kernel: tuple[int, int], padding: str, batch: int, pieces: tuple[int, ...], precision: torch.dtype
) -> None:
    if not can_hold(torch.zeros(1, dtype=precision)):
        pytest.skip("this machine's CPU has no such kernels")
    torch.manual_seed(0)
    plain = CausalConv3d(6, 10, kernel, bias=kernel[0] == 3, time_padding=padding).to(precision)
    held = HeldCausalConv3d(plain)
    clip = noise(batch, 6, sum(pieces), 5, 7).to(precision)
    tolerance = 1e-5 if precision == torch.float32 else 3e-2
    stream = Stream()
    with torch.no_grad():
        whole = plain(torch.nn.functional.silu(clip))
        made = torch.cat([held(piece.clone(), stream, silu=True) for piece in clip.split(pieces, dim=2)], dim=2)
        alone = held(clip.clone(), silu=True)
    torch.testing.assert_close(made, whole, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(alone, whole, atol=tolerance, rtol=tolerance)


@holds
def test_a_held_convolution_keeps_its_weights_from_size_to_size() -> None:
    torch.manual_seed(0)
    plain = CausalConv3d(18, 48)
    held = HeldCausalConv3d(plain)
    first: dict[int, Tensor] = {}
    for side in (1, 2, 8, 16, 33, 64, 8, 1, 2, 16):  # more than it keeps layouts for
        clip = noise(1, 18, 3, side, side, seed=side)
        with torch.no_grad():
            made = held(clip.clone())
            torch.testing.assert_close(made, plain(clip), atol=1e-5, rtol=1e-5)
        assert torch.equal(first.setdefault(side, made), made)


@holds
def test_threads_that_ask_for_layouts_at_once_get_the_right_ones() -> None:
    """The threads of a Beam worker share its tokenizers, and begin together."""
    sides = (1, 2, 3, 5, 8, 13)  # more than it keeps layouts for
    clips = [noise(1, 18, 3, side, side, seed=side) for side in sides]
    for seed in range(20):
        torch.manual_seed(seed)
        plain, linear = CausalConv3d(18, 48), nn.Linear(160, 128)
        held, held_linear = HeldCausalConv3d(plain), HeldLinear(linear)
        together = Barrier(4)

        def use(
            first: int, held: HeldCausalConv3d = held, linear: HeldLinear = held_linear, together: Barrier = together
        ) -> list[Tensor]:
            torch.set_num_threads(1)
            together.wait()
            with torch.no_grad():
                made = [held(clips[(first + step) % len(clips)].clone()) for step in range(len(clips))]
                rows = [linear(noise(1, side, 160)) for side in sides]
            return [*made[len(clips) - first :], *made[: len(clips) - first], *rows]

        with torch.no_grad():
            expected = [*[plain(clip) for clip in clips], *[linear(noise(1, side, 160)) for side in sides]]
        with ThreadPoolExecutor(4) as pool:
            for made in pool.map(use, (0, 0, 1, 3)):
                torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("gelu", [True, False], ids=["gelu", "linear"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "none"])
def test_a_held_linear_layer_is_the_plain_one(precision: torch.dtype, gelu: bool, bias: bool) -> None:
    if not can_hold(torch.zeros(1, dtype=precision)):
        pytest.skip("this machine's CPU has no such kernels")
    torch.manual_seed(0)
    linear = nn.Linear(160, 128, bias=bias).to(precision)
    plain = nn.Sequential(linear, *[GELU()] * gelu)
    held = copy.deepcopy(plain)
    hold_layers(held)
    assert isinstance(held[0], HeldLinear)
    assert not any(isinstance(layer, GELU) for layer in held)
    tolerance = 1e-5 if precision == torch.float32 else 2e-2
    first = {}
    for rows in (1, 2, 3, 5, 16, 3, 40, 1, 16):  # more than it keeps layouts for
        x = noise(2, rows, 160, seed=rows)
        with torch.no_grad():
            expected = plain(x.to(precision))
            made = held(x)
        assert torch.equal(held(x).detach(), expected)  # with gradients it is the plain one
        assert made.dtype == precision
        assert torch.equal(first.setdefault(rows, made), made)
        torch.testing.assert_close(made, expected, atol=tolerance, rtol=tolerance)


def cvivit(quantizer: str) -> CViViT:
    """Wide enough that its layers are worth laying out."""
    torch.manual_seed(0)
    return CViViT(dataclasses.replace(test_cvivit.SMALL, width=128, heads=4, quantizer=quantizer)).eval()


MODELS: dict[str, Callable[[], Magvit2 | CViViT]] = {
    **{name: lambda config=config: test_magvit2.make(config) for name, config in test_magvit2.CONFIGS.items()},  # type: ignore[misc]
    **{quantizer: lambda quantizer=quantizer: cvivit(quantizer) for quantizer in QUANTIZERS},  # type: ignore[misc]
}


@holds
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(8, 8), (16, 24), (40, 16)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_held_models_are_causal_bit_for_bit_and_close_to_plain_ones(
    name: str, size: tuple[int, int], precision: str
) -> None:
    plain = MODELS[name]()
    held = copy.deepcopy(plain)
    for part in (held.encoder, held.decoder):
        hold_weights(part, precision)  # type: ignore[arg-type]
        assert precision == "bfloat16" or any(isinstance(m, HeldCausalConv3d | HeldLinear) for m in part.modules())
    stride = plain.temporal_stride
    video = noise(2, 3, 1 + 4 * stride, *size).clamp(-1, 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        indices = held.encode(video)
        pixels = held.decode(indices)
        for prefix in (1, 3):
            assert torch.equal(held.encode(video[:, :, : 1 + stride * (prefix - 1)]), indices[:, :prefix])
            assert torch.equal(held.decode(indices[:, :prefix]), pixels[:, :, : 1 + stride * (prefix - 1)])
        with torch.no_grad():
            latents = held.latents(video[:1]).float()
    if precision == "float32":
        with torch.no_grad():
            torch.testing.assert_close(latents, plain.latents(video[:1]), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(pixels, plain.decode(indices), atol=1e-4, rtol=1e-4)


def test_layers_without_such_kernels_stay() -> None:
    part = nn.Sequential(nn.Linear(160, 128).double(), nn.Linear(4, 4), CausalConv3d(4, 4, stride=(1, 2)))
    kinds = [type(layer) for layer in part]
    hold_layers(part)
    assert [type(layer) for layer in part] == kinds
