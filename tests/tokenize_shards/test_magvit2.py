"""MAGVIT-v2: shapes, exact causality both ways, determinism, learning."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenize_shards.base import VideoTokenizer
from tokenize_shards.magvit2 import SIZES, Magvit2, Magvit2Config
from tokenize_shards.wavelets import patchify, unpatchify

# Three ways to the same strides 4x8x8: Haar patches, both, and convolved pixels in the paper's order.
PATCHED = Magvit2Config(
    channels=16, multipliers=(1,), num_res_blocks=1, num_mid_blocks=1, strides=(), wavelet_levels=(2, 3), norm_groups=4
)
MIXED = dataclasses.replace(
    PATCHED, multipliers=(1, 2), strides=((2, 2),), wavelet_levels=(1, 2), kernel="factored", time_padding="replicate"
)
PIXELS = dataclasses.replace(
    PATCHED, channels=8, multipliers=(1, 1, 2, 2), strides=((1, 2), (2, 2), (2, 2)), wavelet_levels=(0, 0)
)
CONFIGS = {"patched": PATCHED, "mixed": MIXED, "pixels": PIXELS}

torch.set_num_threads(1)  # on tensors this small several threads only wait for each other


def make(config: Magvit2Config, seed: int = 0) -> Magvit2:
    torch.manual_seed(seed)
    model = Magvit2(config).eval()
    for module in model.modules():  # a norm that does nothing would hide a leak
        if hasattr(module, "shift"):
            torch.nn.init.normal_(module.shift.weight)
            torch.nn.init.normal_(module.scale.weight)
    return model


@pytest.fixture(scope="module")
def models() -> dict[str, Magvit2]:
    return {name: make(config) for name, config in CONFIGS.items()}


def noise(frames: int, height: int, width: int, seed: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_it_is_a_video_tokenizer(models: dict[str, Magvit2]) -> None:
    assert isinstance(models["patched"], VideoTokenizer)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((17, 128, 128), (5, 16, 16)),
        ((17, 224, 128), (5, 28, 16)),
        ((1, 128, 128), (1, 16, 16)),
        ((41, 128, 128), (11, 16, 16)),
        ((17, 896, 512), (5, 112, 64)),
    ],
    ids=lambda value: "x".join(map(str, value)),
)
def test_grids_of_the_paper(size: tuple[int, int, int], grid: tuple[int, int, int]) -> None:
    for config in SIZES.values():
        assert (config.temporal_stride, config.spatial_stride) == (4, 8)
    assert make(PATCHED).grid(*size) == grid


@pytest.mark.parametrize(
    ("size", "message"),
    [((16, 64, 64), "1 \\+ k·4"), ((0, 64, 64), "1 \\+ k·4"), ((17, 60, 64), "height 60"), ((17, 64, 4), "width 4")],
    ids=["frames", "none", "height", "width"],
)
def test_sizes_it_cannot_take(models: dict[str, Magvit2], size: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models["patched"].encode(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("name", CONFIGS)
def test_encode_and_decode_shapes(models: dict[str, Magvit2], name: str) -> None:
    model = models[name]
    indices = model.encode(noise(9, 16, 24, 0, batch=2))
    assert indices.shape == (2, 3, 2, 3)
    assert indices.dtype == torch.int64
    assert int(indices.min()) >= 0
    assert int(indices.max()) < 2**18
    video = model.decode(indices)
    assert video.shape == (2, 3, 9, 16, 24)
    assert float(video.abs().max()) <= 1


def test_the_shipped_shape_gives_1280_tokens(models: dict[str, Magvit2]) -> None:
    assert models["patched"].encode(noise(17, 128, 128, 0)).numel() == 1280
    assert models["patched"].encode(noise(1, 128, 128, 0)).numel() == 256


@pytest.mark.parametrize("name", CONFIGS)
@given(
    latents=st.integers(2, 5),
    prefix=st.integers(1, 4),
    height=st.sampled_from([8, 16, 24, 40]),
    width=st.sampled_from([8, 16, 56]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=6, deadline=None)
def test_prefix_is_prefix_bit_for_bit(name: str, latents: int, prefix: int, height: int, width: int, seed: int) -> None:
    """Latents, codes and decoded pixels of a prefix are those of the clip; with prefix 1 it is an image."""
    prefix = min(prefix, latents - 1)
    model = make(CONFIGS[name], seed=1)
    video = noise(1 + 4 * (latents - 1), height, width, seed)
    head = video[:, :, : 1 + 4 * (prefix - 1)]
    with torch.no_grad():
        assert torch.equal(model.latents(head), model.latents(video)[:, :, :prefix])
    indices = model.encode(video)
    assert torch.equal(model.encode(head), indices[:, :prefix])
    assert torch.equal(model.decode(indices[:, :prefix]), model.decode(indices)[:, :, : head.shape[2]])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_future_does_not_matter_in_training_either(models: dict[str, Magvit2], name: str) -> None:
    model = models[name]
    video = noise(13, 16, 16, 3)
    changed = torch.cat((video[:, :, :5], noise(8, 16, 16, 4)), dim=2)
    with torch.no_grad():
        before, after = model.encoder(video), model.encoder(changed)
        torch.testing.assert_close(before[:, :, :2], after[:, :, :2], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(before[:, :, 2:], after[:, :, 2:], atol=1e-2)
        codes = torch.sign(torch.randn(1, 18, 4, 2, 2))
        other = torch.cat((codes[:, :, :2], -codes[:, :, 2:]), dim=2)
        before, after = model.decoder(codes), model.decoder(other)
        torch.testing.assert_close(before[:, :, :5], after[:, :, :5], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(before[:, :, 5:], after[:, :, 5:], atol=1e-2)


def test_a_norm_that_pools_over_time_breaks_causality() -> None:
    model = make(dataclasses.replace(PATCHED, norm_scope="clip"))
    video = noise(17, 16, 16, 0)
    with torch.no_grad():
        assert not torch.allclose(model.latents(video[:, :, :1]), model.latents(video)[:, :, :1], atol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
def test_pieces_give_what_the_whole_gives(models: dict[str, Magvit2], name: str) -> None:
    model = models[name]
    video = noise(13, 16, 24, 5)
    with torch.no_grad():
        torch.testing.assert_close(model.latents(video), model.encoder(video), atol=1e-4, rtol=1e-4)
        indices = model.encode(video)
        whole = model.decoder(model.quantizer.codes(indices)).clamp(-1, 1)
    torch.testing.assert_close(model.decode(indices), whole, atol=1e-4, rtol=1e-4)


def test_bytes_do_not_depend_on_the_batch(models: dict[str, Magvit2]) -> None:
    model = models["mixed"]
    batch = noise(9, 24, 16, 6, batch=3)
    together = model.encode(batch)
    assert torch.equal(torch.cat([model.encode(clip[None]) for clip in batch]), together)
    assert torch.equal(torch.cat([model.decode(codes[None]) for codes in together]), model.decode(together))


def test_a_still_clip_has_constant_latents_with_replicated_time() -> None:
    model = make(dataclasses.replace(PATCHED, time_padding="replicate"))
    still = noise(1, 16, 16, 7).expand(-1, -1, 17, -1, -1)
    with torch.no_grad():
        latents = model.latents(still)
    torch.testing.assert_close(latents, latents[:, :, :1].expand_as(latents), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("bit_order", ["little", "big"])
def test_bit_order_is_recorded_and_used(bit_order: str) -> None:
    model = make(dataclasses.replace(PATCHED, bit_order=bit_order))
    assert model.bit_order == bit_order
    video = noise(1, 8, 8, 0)
    with torch.no_grad():
        first_bit = bool(model.latents(video)[0, 0, 0, 0, 0] > 0)
    shift = 0 if bit_order == "little" else 17
    assert bool(int(model.encode(video)) >> shift & 1) == first_bit


def test_decode_refuses_codes_of_another_vocabulary(models: dict[str, Magvit2]) -> None:
    with pytest.raises(ValueError, match="another tokenizer"):
        models["patched"].decode(torch.full((1, 1, 2, 2), 2**18))


@pytest.mark.parametrize(("levels", "first"), [((2, 2), True), ((2, 3), False), ((0, 1), True), ((1, 0), True)])
def test_haar_patches_are_inverted(levels: tuple[int, int], first: bool) -> None:
    time_levels, space_levels = levels
    frames = 2 * 2**time_levels + (1 if first else 0)
    video = noise(frames, 16, 24, 8)
    bands = patchify(video, space_levels, time_levels, first)
    assert bands.shape[1] == 3 * 2**time_levels * 4**space_levels
    torch.testing.assert_close(unpatchify(bands, space_levels, time_levels, first), video, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_the_input() -> None:
    model = make(PATCHED).train()
    video = noise(5, 16, 16, 0).requires_grad_(True)
    reconstruction, quantized = model(video)
    (reconstruction.square().mean() + quantized.loss).backward()
    assert float(video.grad.abs().sum()) > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_one_batch_is_overfit() -> None:
    model = make(PATCHED).train()
    video = torch.nn.functional.interpolate(noise(5, 4, 4, 0), (5, 16, 16), mode="trilinear")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    errors = []
    for _ in range(40):
        reconstruction, quantized = model(video)
        error = (reconstruction - video).square().mean()
        optimizer.zero_grad()
        (5 * error + quantized.loss).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.2 * errors[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"strides": ((2, 2),)}, "levels need"),
        ({"kernel": "round"}, "full, factored"),
        ({"time_padding": "mirror"}, "zero, replicate"),
    ],
)
def test_settings_that_contradict(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Magvit2Config(**fields)


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ValueError, match="chanels"):
        Magvit2Config.from_dict({"chanels": 3})
