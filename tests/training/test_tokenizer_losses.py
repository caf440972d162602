"""Losses and discriminators against slow formulas; inflation of image weights."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel

from tokenize_shards.magvit2 import Magvit2, Magvit2Config
from training.discriminators import AudioDiscriminators, BlurPool3d, VideoDiscriminator
from training.inflation import inflate
from training.losses import (
    LeCam,
    MultiScaleMel,
    PerceptualLoss,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    mel_bank,
    non_saturating_discriminator,
    non_saturating_generator,
    r1_penalty,
)

torch.set_num_threads(1)  # on tensors this small several threads only wait for each other


def test_non_saturating_losses() -> None:
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([0.5])
    sigmoid = torch.sigmoid
    assert non_saturating_generator(fake).item() == pytest.approx(-math.log(sigmoid(fake).item()), rel=1e-5)
    expected = -sigmoid(real).log().mean() - (1 - sigmoid(fake)).log().mean()
    torch.testing.assert_close(non_saturating_discriminator(real, fake), expected)


def test_hinge_losses_are_averaged_over_discriminators() -> None:
    real = [torch.tensor([2.0, 0.0]), torch.tensor([1.0])]
    fake = [torch.tensor([-2.0]), torch.tensor([0.5])]
    assert hinge_discriminator(real, fake).item() == pytest.approx((0.5 + 0 + 0 + 1.5) / 2)
    assert hinge_generator(fake).item() == pytest.approx((3 + 0.5) / 2)


def test_r1_of_a_linear_discriminator_is_half_its_squared_weights() -> None:
    weights = torch.tensor([3.0, 4.0])

    class Linear(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ weights

    assert r1_penalty(Linear(), torch.randn(5, 2)).item() == pytest.approx(12.5)


def test_lecam_pulls_logits_to_the_average_of_the_others() -> None:
    lecam = LeCam(decay=0.5)
    loss = lecam(torch.tensor([2.0]), torch.tensor([-4.0]))
    assert (lecam.real, lecam.fake) == (1.0, -2.0)
    assert loss.item() == pytest.approx((2 + 2) ** 2 + (-4 - 1) ** 2)


def test_feature_matching_is_a_mean_of_absolute_differences() -> None:
    real = [[torch.zeros(2), torch.ones(3)]]
    fake = [[torch.ones(2), torch.ones(3) * 4]]
    assert feature_matching(real, fake).item() == pytest.approx(2.0)


def test_mel_filters_cover_the_band() -> None:
    bank = mel_bank(16_000, 1024, 64)
    assert bank.shape == (64, 513)
    assert float(bank.sum(dim=1).min()) > 0
    peaks = bank.argmax(dim=1)
    assert torch.equal(peaks, peaks.sort().values)


def test_mel_loss_is_zero_for_equals_and_hears_pitch() -> None:
    time = torch.arange(8000) / 16_000
    a, b, c = (torch.sin(2 * math.pi * hz * time).view(1, 1, -1) for hz in (440.0, 445.0, 1760.0))
    loss = MultiScaleMel(16_000, [64, 512, 2048])
    assert loss(a, a).item() == pytest.approx(0, abs=1e-4)
    assert loss(b, a).item() < loss(c, a).item()


def test_perceptual_loss_takes_any_vision_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    loss = PerceptualLoss(str(tmp_path))
    video = torch.rand(1, 3, 2, 32, 32) * 2 - 1
    other = (video + 0.3 * torch.randn_like(video)).requires_grad_(True)
    assert loss(video, video).item() == pytest.approx(0, abs=1e-9)
    value = loss(other, video)
    value.backward()
    assert value.item() > 0
    assert float(other.grad.abs().sum()) > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())


@pytest.mark.parametrize("shape", [(1, 3, 17, 32, 32), (2, 3, 1, 16, 24), (1, 3, 9, 64, 32)])
def test_video_discriminator_gives_one_logit_a_clip(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    discriminator = VideoDiscriminator(4, (1, 2))
    video = torch.randn(shape, requires_grad=True)
    logits = discriminator(video)
    assert logits.shape == (shape[0],)
    logits.sum().backward()
    assert float(video.grad.abs().sum()) > 0


def test_blur_pool_removes_what_would_alias() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(8).view(1, 1, 1, 1, 16).expand(1, 1, 4, 16, 16)
    assert float(BlurPool3d()(stripes)[..., 1:-1].abs().max()) == pytest.approx(0, abs=1e-6)
    flat = BlurPool3d()(torch.ones(1, 2, 5, 6, 7))
    assert flat.shape == (1, 2, 3, 3, 4)
    torch.testing.assert_close(flat, torch.ones_like(flat))


def test_four_audio_discriminators() -> None:
    torch.manual_seed(0)
    logits, features = AudioDiscriminators(8)(torch.randn(2, 1, 8000))
    assert len(logits) == len(features) == 4
    lengths = [row.shape[2] for row in logits[1:]]
    assert lengths[0] > 1.8 * lengths[1] > 3 * lengths[2]


SMALL = Magvit2Config(
    channels=8, multipliers=(1,), num_res_blocks=1, num_mid_blocks=1, strides=(), wavelet_levels=(0, 3), norm_groups=4
)


def test_inflated_image_weights_give_the_same_image() -> None:
    torch.manual_seed(0)
    source = Magvit2(SMALL).eval()
    flat = {k: v[:, :, -1:] if v.dim() == 5 else v for k, v in source.state_dict().items()}
    video = Magvit2(SMALL).eval()
    video.load_state_dict(inflate(flat, video.state_dict()))
    image = torch.rand(1, 3, 1, 16, 16)
    with torch.no_grad():
        still = video.latents(image)
        moving = video.latents(image.expand(-1, -1, 3, -1, -1))
    torch.testing.assert_close(moving, still.expand_as(moving), atol=1e-5, rtol=1e-5)
    kernel = video.state_dict()["decoder.conv_in.conv.weight"]
    assert torch.equal(kernel[:, :, -1:], flat["decoder.conv_in.conv.weight"])
    assert float(kernel[:, :, :-1].abs().max()) == 0


def test_inflation_refuses_another_network() -> None:
    target = Magvit2(SMALL).state_dict()
    with pytest.raises(ValueError, match="cannot become"):
        inflate(Magvit2(replace(SMALL, channels=16)).state_dict(), target)
    with pytest.raises(ValueError, match="another network"):
        inflate({}, target)
