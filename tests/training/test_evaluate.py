"""Evaluation: the formulas against slow references, and the command from end to end."""

import json
import math

import numpy as np
import pytest
from rich.console import Console

from reelmill import main as reelmill
from training.baselines import CodeBaselines, fit_mixture
from training.evaluate_settings import EvaluateSettings
from training.generate_settings import SamplingSettings
from training.metrics import binomial_p, frechet_distance, matching_figures, psnr_db, ssim
from training.settings import LoopSettings, SuperResolutionModelSettings, SuperResolutionSettings
from training.super_resolution_train import train as train_super_resolution


def test_psnr_of_known_errors():
    black = np.zeros((2, 16, 16, 3), np.uint8)
    assert psnr_db(black, black) == 99.0
    assert psnr_db(black, black + 255) == pytest.approx(0.0)
    assert psnr_db(black, black + 1) == pytest.approx(20 * math.log10(255))


def test_ssim_falls_with_noise():
    rng = np.random.default_rng(0)
    video = rng.integers(256, size=(2, 32, 32, 3)).astype(np.uint8)
    assert ssim(video, video) == pytest.approx(1.0)
    assert ssim(video, rng.permutation(video.ravel()).reshape(video.shape)) < 0.2


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """For covariances that commute: the squared distance of means and of standard deviations."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(200, 3))
    base = (base - base.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(base, rowvar=False))).T
    first, second = base * [1.0, 2.0, 3.0], base * [2.0, 2.0, 1.0] + [1.0, 0.0, 2.0]
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 1 + 0 + 4)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="of one width"):
        frechet_distance(first, second[:, :2])


@pytest.mark.parametrize(("wins", "trials", "p"), [(0, 5, 1.0), (5, 5, 1 / 32), (8, 10, 56 / 1024)])
def test_binomial_tail(wins, trials, p):
    assert binomial_p(wins, trials) == pytest.approx(p)


def test_mixture_weights_are_the_most_likely_ones():
    rng = np.random.default_rng(0)
    experts = rng.random((2, 400))
    weights = fit_mixture(list(experts))
    grid = np.linspace(0.001, 0.999, 999)
    best = max(grid, key=lambda share: np.log(share * experts[0] + (1 - share) * experts[1]).sum())
    assert weights[0] == pytest.approx(best, abs=0.01)


def test_still_clips_favour_the_frame_before():
    rng = np.random.default_rng(0)
    clips = [np.repeat(rng.integers(1000, size=(1, 4, 4)), 5, axis=0) for _ in range(8)]
    baselines = CodeBaselines(clips, codebook_size=1000)
    new = np.repeat(rng.integers(1000, size=(1, 4, 4)), 5, axis=0)
    assert baselines.copy_nats(new)[1:].mean() < 0.05
    assert baselines.unigram_nats(new).mean() > 5
    np.testing.assert_array_equal(baselines.copy_nats(new)[0], baselines.unigram_nats(new)[0])


def test_unigram_is_a_distribution():
    baselines = CodeBaselines([np.array([[[0, 0, 1, 2]]]), np.array([[[0, 3, 0, 0]]])], codebook_size=8)
    nats = baselines.unigram_nats(np.arange(8).reshape(1, 1, 8))
    assert np.exp(-nats).sum() == pytest.approx(1.0)


NAMES = [f"caption {number}" for number in range(12)]


def test_captions_that_fit_win_every_pair():
    figures = matching_figures(1 - np.eye(12), NAMES)
    assert figures == {
        "clips": 12, "pairs": 12 * 11, "right_share": 1.0, "binomial_p": 2.0**-132, "p": pytest.approx(1e-4, rel=0.01)
    }  # fmt: skip


def test_a_caption_that_suits_every_clip_is_no_evidence():
    """Pairs are far from independent here: one order of the captions is followed by all clips."""
    figures = matching_figures(np.tile(np.arange(12.0), (12, 1)), NAMES)
    assert figures["right_share"] == 0.5
    assert figures["p"] == 1.0


def test_equal_captions_are_no_pair():
    nats = np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
    figures = matching_figures(nats, ["fold it", "fold it", "open it"])
    assert (figures["pairs"], figures["right_share"]) == (4, 1.0)
    assert matching_figures(nats, ["fold it"] * 3)["pairs"] == 0
    assert matching_figures(np.zeros((0, 0)), [])["p"] == 1.0


def test_losses_by_chance_are_not_significant():
    figures = matching_figures(np.random.default_rng(5).normal(size=(40, 40)), [str(index) for index in range(40)])
    assert 0.4 < figures["right_share"] < 0.6
    assert figures["p"] > 0.05


def test_evaluation_from_the_command_line(one_step_lm, token_data, tmp_path):
    output = tmp_path / "figures.json"
    arguments = ["--split", "train", "--generate", "1", "--device", "cpu", "--output", str(output)]
    assert reelmill(["evaluate", "--model", str(one_step_lm), "--data", str(token_data.folder), *arguments]) == 0
    figures = json.loads(output.read_text())
    assert figures["tokens"]["t2v/visual"]["tokens"] == 3 * 80
    assert figures["tokens"]["v2a/audio"]["tokens"] == 3 * 424
    assert figures["tokens"]["t2v/visual"]["nats"] == pytest.approx(math.log(2**18), abs=0.5)
    assert figures["captions"]["clips"] == 3
    assert figures["captions"]["pairs"] == 3 * 2
    assert figures["future"]["samples"] == 1
    assert 0 < figures["future"]["psnr_db"] < 99
    assert figures["protocol"]["samples"] == 3


def test_mean_picture_of_several_draws_is_judged_too(one_step_lm, token_data, tmp_path):
    output = tmp_path / "figures.json"
    arguments = ["--tasks", "[continue]", "--generate", "1", "--draws", "2", "--device", "cpu", "--output", str(output)]
    assert reelmill(["evaluate", "--model", str(one_step_lm), "--data", str(token_data.folder), *arguments]) == 0
    future = json.loads(output.read_text())["future"]
    assert {"mean_psnr_db", "mean_ssim", "mean_better_share", "psnr_db", "copy_psnr_db"} <= future.keys()
    assert 0 < future["mean_psnr_db"] < 99


def test_draws_that_are_all_alike_are_refused():
    with pytest.raises(ValueError, match="all are alike"):
        EvaluateSettings(model="lm", data="tokens", draws=2, drawing=SamplingSettings(temperature=0.0))


@pytest.mark.parametrize("low_grid", ["own", "same"])
def test_super_resolution_is_judged_beside_bicubic(low_grid, token_data, tmp_path):
    windows = [[1, 0, 2], [1, 2, 0], [0, 4, 4]]
    small = SuperResolutionModelSettings(width=16, blocks=1, heads=2, windows=windows, low_grid=low_grid)
    loop = LoopSettings(steps=1, batch_size=2, device="cpu", save_every=0)
    settings = SuperResolutionSettings(data=str(token_data.folder), output=str(tmp_path), model=small, loop=loop)
    train_super_resolution(settings, Console(quiet=True))
    arguments = ["--split", "all", "--generate", "2", "--upsampling.steps", "2", "--device", "cpu"]
    assert reelmill(["evaluate", "--model", str(tmp_path), "--data", str(token_data.folder), *arguments]) == 0
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(figures["masked"]) == {"nats", "nats_with_another_low", "nats_without_low", "tokens"}
    assert figures["masked"]["nats"] == pytest.approx(math.log(2**18), abs=0.5)
    assert set(figures["pixels"]) == {"psnr_db", "ssim", "bicubic_psnr_db", "bicubic_ssim", "samples"}
    assert figures["pixels"]["samples"] == 2 and figures["protocol"]["samples"] == 4


@pytest.mark.parametrize("captions", [-1, 1])
def test_captions_that_cannot_be_held_against_each_other_are_refused(captions):
    with pytest.raises(ValueError, match=f"captions {captions} must be 2 or more"):
        EvaluateSettings(model="lm", data="tokens", captions=captions)
