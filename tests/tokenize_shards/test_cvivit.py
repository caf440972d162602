"""C-ViViT: shapes, exact causality of encoder and decoder, what breaks it, learning, folders."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tokenize_shards.base import VideoTokenizer
from tokenize_shards.cosine_vq import CosineVQ
from tokenize_shards.cvivit import BASE, SIZES, CViViT, CViViTConfig
from tokenize_shards.loading import load_video_tokenizer, save_tokenizer
from tokenize_shards.transformer import causal_bias

torch.set_num_threads(1)

SMALL = CViViTConfig(width=16, heads=2, spatial_depth=1, temporal_depth=2, codebook_size=64, code_width=8)
CONFIGS = {"cosine": SMALL, "lfq": dataclasses.replace(SMALL, quantizer="lfq", heads=4, temporal_patch=4)}


def make(name: str = "cosine", seed: int = 0) -> CViViT:
    torch.manual_seed(seed)
    model = CViViT(CONFIGS[name]).eval()
    for parameter in model.parameters():  # strong attention: a leak must not drown in small weights
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=1.5 / parameter.shape[1] ** 0.5)
    return model


def noise(frames: int, height: int, width: int, seed: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def check_causality(model: CViViT, latents: int, prefix: int, height: int, width: int, seed: int) -> None:
    """Codes and pixels of a prefix are those of the clip bit for bit, and pieces give what the whole gives."""
    stride = model.temporal_stride
    video = noise(1 + stride * (latents - 1), height, width, seed)
    head = video[:, :, : 1 + stride * (prefix - 1)]
    indices = model.encode(video)
    assert torch.equal(model.encode(head), indices[:, :prefix])
    assert torch.equal(model.decode(indices[:, :prefix]), model.decode(indices)[:, :, : head.shape[2]])
    with torch.no_grad():
        whole, pieces = model.encoder(video), model.latents(video)
        torch.testing.assert_close(pieces, whole, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(model.encoder(head), whole[:, :, :prefix], atol=1e-3, rtol=1e-3)
        codes = model.quantizer.codes(indices)
        decoded = model.decoder(codes)
        torch.testing.assert_close(model.decode(indices), decoded.clamp(-1, 1), atol=1e-3, rtol=1e-3)
        shorter = model.decoder(codes[:, :, :prefix])
        torch.testing.assert_close(shorter, decoded[:, :, : head.shape[2]], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", CONFIGS)
@given(
    latents=st.integers(2, 6),
    prefix=st.integers(1, 5),
    height=st.sampled_from([8, 16, 40]),
    width=st.sampled_from([8, 24]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=10, deadline=None)
def test_prefix_is_prefix_bit_for_bit(name: str, latents: int, prefix: int, height: int, width: int, seed: int) -> None:
    check_causality(make(name), latents, min(prefix, latents - 1), height, width, seed)


class PooledNorm(nn.Module):
    """A norm with statistics over all the tokens it is given, as a norm that pools over time has."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, x.dim()))
        centred = x - x.mean(dim=axes, keepdim=True)
        return centred / centred.square().mean(dim=axes, keepdim=True).sqrt() * self.weight + self.bias


@pytest.mark.parametrize("where", ["encoder.transformer.temporal.0.norm1", "decoder.transformer.norm"])
def test_the_same_check_fails_when_a_norm_pools_over_time(where: str) -> None:
    model = make()
    parent, _, last = where.rpartition(".")
    setattr(model.get_submodule(parent), last, PooledNorm(model.get_submodule(where)))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        check_causality(model, 5, 1, 16, 16, 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_future_matters_to_nothing_before_it_and_the_past_does(name: str) -> None:
    model = make(name)
    stride = model.temporal_stride
    video = noise(1 + 3 * stride, 16, 16, 1)
    changed = video.clone()
    changed[:, :, 1 : 1 + stride] = noise(stride, 16, 16, 2)
    with torch.no_grad():
        before, after = model.encoder(video), model.encoder(changed)
    torch.testing.assert_close(before[:, :, :1], after[:, :, :1], atol=1e-4, rtol=1e-4)
    for later in (1, 2, 3):
        assert not torch.allclose(before[:, :, later], after[:, :, later], atol=1e-3)


def test_the_papers_shape_gives_1536_tokens() -> None:
    model = make()
    assert isinstance(model, VideoTokenizer)
    indices = model.encode(noise(11, 128, 128, 0))
    assert indices.shape == (1, 6, 16, 16)
    assert indices.numel() == 1536
    assert model.encode(noise(1, 128, 128, 0)).numel() == 256
    assert model.decode(indices).shape == (1, 3, 11, 128, 128)


def test_sizes() -> None:
    for config in SIZES.values():
        assert (config.codebook_size, config.code_width) == (8192, 32)
        assert (config.temporal_patch, config.spatial_patch) == (2, 8)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in CViViT(BASE).parameters())
    assert parameters == pytest.approx(51e6, rel=0.05)


def test_bytes_do_not_depend_on_the_batch() -> None:
    model = make()
    batch = noise(5, 16, 24, 6, batch=3)
    together = model.encode(batch)
    assert torch.equal(torch.cat([model.encode(clip[None]) for clip in batch]), together)
    assert torch.equal(torch.cat([model.decode(codes[None]) for codes in together]), model.decode(together))


@pytest.mark.parametrize("name", CONFIGS)
def test_folders(name: str, tmp_path: Path) -> None:
    model = make(name)
    fingerprint = save_tokenizer(model, tmp_path / "mine")
    loaded: Any = load_video_tokenizer(tmp_path / "mine", "cpu")
    assert (loaded.fingerprint, loaded.config, loaded.bit_order) == (fingerprint, model.config, model.bit_order)
    video = noise(9, 16, 16, 0)
    assert torch.equal(loaded.encode(video), model.encode(video))


@pytest.mark.parametrize("name", CONFIGS)
def test_gradient_reaches_the_input_and_every_weight(name: str) -> None:
    model = make(name).train()
    video = noise(9, 16, 16, 0).requires_grad_(True)
    reconstruction, quantized = model(video)
    (reconstruction.square().mean() + quantized.loss).backward()
    assert video.grad is not None
    assert float(video.grad.abs().sum()) > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_one_batch_is_overfit(name: str) -> None:
    torch.manual_seed(0)
    model = CViViT(dataclasses.replace(CONFIGS[name], width=32)).train()
    video = torch.nn.functional.interpolate(noise(9, 4, 4, 0), (9, 16, 16), mode="trilinear")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    errors = []
    for _ in range(60):
        reconstruction, quantized = model(video)
        error = (reconstruction - video).square().mean()
        optimizer.zero_grad()
        (5 * error + quantized.loss).backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.2 * errors[0]


def test_what_it_refuses() -> None:
    model = make()
    with pytest.raises(ValueError, match="1 \\+ k·2"):
        model.encode(noise(4, 16, 16, 0))
    with pytest.raises(ValueError, match="width 12"):
        model.encode(noise(3, 16, 12, 0))
    with pytest.raises(ValueError, match="another tokenizer"):
        model.decode(torch.full((1, 1, 2, 2), 64))
    with pytest.raises(RuntimeError, match="eval"):
        copy.deepcopy(model).train().encode(noise(1, 8, 8, 0))
    with pytest.raises(ValueError, match="power of two"):
        CViViTConfig(quantizer="lfq", codebook_size=1000)
    with pytest.raises(ValueError, match="cosine, lfq"):
        CViViTConfig(quantizer="round")
    with pytest.raises(ValueError, match="colour"):
        CViViTConfig.from_dict({"colour": 1})


def test_alibi_by_hand() -> None:
    bias = causal_bias(2, 2, 3, torch.device("cpu"))
    near, far = -(2.0**-4), -(2.0**-8)
    infinity = float("inf")
    expected = [[[near, 0, -infinity], [2 * near, near, 0]], [[far, 0, -infinity], [2 * far, far, 0]]]
    assert torch.equal(bias, torch.tensor(expected))


def test_cosine_codes_agree_with_the_slow_formula() -> None:
    torch.manual_seed(0)
    quantizer = CosineVQ(4, 16).eval()
    z = torch.randn(2, 4, 3, 2)
    made = quantizer(z)
    for b in range(2):
        for i in range(3):
            for j in range(2):
                angles = [torch.cosine_similarity(z[b, :, i, j], code, dim=0) for code in quantizer.codebook]
                assert int(made.indices[b, i, j]) == int(torch.stack(angles).argmax())
    torch.testing.assert_close(made.values, quantizer.codes(made.indices))
    assert made.losses == {}


def test_unused_codes_come_back_to_life() -> None:
    torch.manual_seed(0)
    quantizer = CosineVQ(4, 32, decay=0.8, min_usage=0.5).train()
    centres = torch.nn.functional.normalize(torch.randn(32, 4), dim=1)
    for _ in range(60):
        latents = centres[torch.randint(32, (256,))] + 0.01 * torch.randn(256, 4)
        quantizer(latents[:, :, None])
    used = quantizer(centres[:, :, None]).indices.unique()
    assert len(used) > 24
    assert torch.allclose(quantizer.codebook.norm(dim=1), torch.ones(32), atol=1e-5)
