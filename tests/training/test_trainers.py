"""Training from shards: what is written, exact resume, refusals."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from reelmill import main as reelmill
from tests.training.token_samples import token_sample
from tokenize_shards.loading import load_video_tokenizer
from training.commit import PaddedCodes
from training.lm import ReelLm, to_tensors
from training.lm_train import LmObjective, TaskMix
from training.lm_train import make_model as make_lm
from training.lm_train import train as train_lm
from training.pixel_loss import PixelLoss
from training.settings import (
    LmModelSettings,
    LmSettings,
    LoopSettings,
    OptimizerSettings,
    SuperResolutionModelSettings,
    SuperResolutionSettings,
)
from training.shards import ShardDataset
from training.super_resolution import SuperResolution
from training.super_resolution_train import train as train_super_resolution
from training.trainer_loop import CURVE_FILE, learning_rate, read_curve

QUIET = Console(quiet=True)
LOOP = LoopSettings(steps=4, batch_size=2, log_every=1, eval_every=2, save_every=2, device="cpu")


def lm_settings(data, output, **changes) -> LmSettings:
    model = LmModelSettings(width=32, layers=1, heads=2, mlp_width=32)
    return replace(LmSettings(data=str(data), output=str(output), model=model, loop=LOOP), **changes)


def super_resolution_settings(data, output, **changes) -> SuperResolutionSettings:
    model = SuperResolutionModelSettings(width=16, blocks=1, heads=2, windows=[[1, 0, 2], [1, 2, 0], [0, 4, 4]])
    return replace(SuperResolutionSettings(data=str(data), output=str(output), model=model, loop=LOOP), **changes)


def enlarged_settings(data, output) -> SuperResolutionSettings:
    settings = super_resolution_settings(data, output)
    model = replace(settings.model, low_grid="same")
    return replace(settings, model=model, pixel_weight=1.0, pixel_from=0.5)


def padded_settings(data, output) -> LmSettings:
    """Continuations that see the last picture stand, judged by their pictures from the middle of the training on."""
    settings = lm_settings(data, output, tasks={"t2v": 1.0, "continue": 2.0}, pixel_weight=1.0, pixel_from=0.5)
    return replace(settings, model=replace(settings.model, pad_given=True))


TRAINERS = {
    "lm": (train_lm, lm_settings),
    "lm of padded codes": (train_lm, padded_settings),
    "super-resolution": (train_super_resolution, super_resolution_settings),
    "super-resolution of enlarged codes": (train_super_resolution, enlarged_settings),
}


@pytest.mark.parametrize("name", TRAINERS)
def test_training_writes_a_model_a_curve_and_checkpoints(name, token_data, tmp_path):
    train, settings = TRAINERS[name]
    figures = train(settings(token_data.folder, tmp_path / "out"), QUIET)
    assert figures["loss"] > 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizers", "checkpoints", "tensorboard", CURVE_FILE} <= names
    curve = read_curve(tmp_path / "out")
    assert [point["step"] for point in curve if "loss" in point] == [1, 2, 3, 4]
    assert [point["step"] for point in curve if "val_loss" in point] == [2, 4]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    dataset = json.loads((token_data.folder / "dataset.json").read_text())
    assert config["tokenizers"]["video"]["fingerprint"] == dataset["tokenizers"]["video"]["fingerprint"]


@pytest.mark.parametrize("name", TRAINERS)
def test_resumed_run_has_the_same_curve_and_weights_to_the_last_digit(name, token_data, tmp_path):
    train, settings = TRAINERS[name]
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    train(settings(token_data.folder, whole), QUIET)
    shutil.copytree(whole, halved)
    shutil.rmtree(halved / "checkpoints" / "step-00000004")  # as if killed on the way from step 2 to 4
    (halved / "model.safetensors").unlink()
    train(settings(token_data.folder, halved), QUIET)
    assert (halved / CURVE_FILE).read_text() == (whole / CURVE_FILE).read_text()
    assert (halved / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_model_of_the_output_folder_is_the_trained_one(token_data, tmp_path):
    train_lm(lm_settings(token_data.folder, tmp_path), QUIET)
    model = ReelLm.from_pretrained(tmp_path, use_safetensors=True)
    assert model.config.formats["grids"] == {"32x32": [5, 4, 4]}
    assert model.config.formats["audio"] == [4, 106]
    assert model.empty_text.abs().sum() > 0
    train_super_resolution(super_resolution_settings(token_data.folder, tmp_path / "sr"), QUIET)
    upscaler = SuperResolution.from_pretrained(tmp_path / "sr", use_safetensors=True)
    assert upscaler.config.formats["scale"] == [1, 2, 2]


def test_pictures_count_where_a_task_goes_on_and_lead_nearer_to_the_truth(token_data, tmp_path):
    """One batch again and again, by pictures alone: the likeliest codes come to show what is to come."""
    settings = replace(padded_settings(token_data.folder, tmp_path), pixel_weight=100.0, pixel_from=0.0)
    dataset = ShardDataset(str(token_data.folder), "train")
    objective = LmObjective(make_lm(settings, dataset), settings, dataset.empty_caption)
    tokenizer = load_video_tokenizer(dataset.info.tokenizers["video"].name, "cpu")
    objective.pixels = PixelLoss(tokenizer, settings.model.visual_factors, settings.pixel_weight)
    samples = PaddedCodes(tokenizer, "cpu")([dataset[0], dataset[1]], 2)
    batch = to_tensors(objective.batch("continue", samples, 2, np.random.default_rng(0), 0.0), "cpu")
    assert objective.picture_loss("t2v", samples) is None
    pictures = objective.picture_loss("continue", samples)
    optimizer = torch.optim.Adam(objective.model.parameters(), lr=3e-3)
    errors = []
    for _ in range(12):
        plain, output = objective.model(batch), objective.model(batch, pictures)
        torch.testing.assert_close(plain.nll_BO, output.nll_BO)
        errors.append(output.loss - plain.loss)
        optimizer.zero_grad()
        errors[-1].backward()
        optimizer.step()
    assert errors[-1] < 0.9 * errors[0]


def test_model_knows_only_the_tasks_its_data_could_train(token_data, tmp_path):
    tasks = {"t2v": 1.0, "v2a": 1.0, "keyframe_motion": 1.0, "a2v": 0.0}
    train_lm(lm_settings(token_data.folder, tmp_path, tasks=tasks), QUIET)
    assert ReelLm.from_pretrained(tmp_path, use_safetensors=True).config.tasks == ["t2v", "v2a"]


def test_accumulation_equals_a_larger_batch(token_data, tmp_path):
    changes = {"tasks": {"unconditional": 1.0}, "drop_text": 0.0}
    loops = [replace(LOOP, steps=1, batch_size=size, accumulate=2 // size, save_every=0) for size in (1, 2)]
    for loop in loops:
        train_lm(lm_settings(token_data.folder, tmp_path / str(loop.batch_size), loop=loop, **changes), QUIET)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    assert read_curve(tmp_path / "1")[0]["loss"] == pytest.approx(read_curve(tmp_path / "2")[0]["loss"], rel=1e-6)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"image_motion": 1.0}}, "it has no motion tokens"),
        ({"tasks": {"dance": 1.0}}, "unknown task 'dance'"),
        ({"model": LmModelSettings(width=32, heads=2, visual_factors=[512])}, r"multiply to 512; .* has 262144 codes"),
    ],
    ids=["nothing to train", "unknown task", "another codebook"],
)
def test_settings_that_do_not_fit_the_data_are_refused(changes, message, token_data, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_lm(lm_settings(token_data.folder, tmp_path, **changes), QUIET)


def test_one_resolution_is_not_enough_for_super_resolution(token_data, tmp_path):
    with pytest.raises(ValueError, match=r"the shards hold 32x32, 64x64; low 64x64 and high one above it are wanted"):
        train_super_resolution(super_resolution_settings(token_data.folder, tmp_path, low="64x64"), QUIET)


def test_front_door_reports_bad_data_in_one_line(tmp_path, capsys):
    assert reelmill(["train", "lm", "--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "dataset.json" in capsys.readouterr().err


def test_learning_rate_rises_then_falls():
    settings = OptimizerSettings(learning_rate=1.0, final_fraction=0.1, warmup_steps=4)
    rates = [learning_rate(step, 20, settings) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))
    assert learning_rate(20, 20, settings) == pytest.approx(0.1)


def test_image_share_follows_the_schedule():
    mix = TaskMix({"t2i": 1.0, "t2v": 3.0, "i2v": 1.0, "v2a": 0.0}, [0.9, 0.1, 0.25], steps=100)
    names = mix.feasible([token_sample(0)])
    assert names == ["t2i", "t2v", "i2v"]
    np.testing.assert_allclose(mix.at(0, names), [0.9, 0.075, 0.025])
    np.testing.assert_allclose(mix.at(25, names), [0.1, 0.675, 0.225])
    np.testing.assert_allclose(TaskMix({"t2i": 1.0, "t2v": 3.0}, None, 100).at(0, ["t2i", "t2v"]), [0.25, 0.75])


def test_weights_are_a_function_of_the_seed(token_data, tmp_path):
    loop = replace(LOOP, steps=1, eval_every=0, save_every=0)
    for index, seed in enumerate((1, 1, 2)):
        torch.manual_seed(index)
        train_lm(lm_settings(token_data.folder, tmp_path / str(index), loop=loop, seed=seed), QUIET)
    first, second, other = ((tmp_path / str(index) / "model.safetensors").read_bytes() for index in range(3))
    assert first == second
    assert first != other
