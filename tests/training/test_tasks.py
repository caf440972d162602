"""One small model learns a handful of samples by heart in every task, and greedy generation then gives them back."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.shards import TokenSample
from tests.training.token_samples import TEXT_WIDTH, token_sample
from training.generation import Generator
from training.lm import ReelLm, ReelLmConfig, TensorBatch, to_tensors
from training.model_folder import Tokenizers
from training.sampling import SamplingSettings
from training.sequences import TASKS, Layout, collate

CODES, AUDIO_CODES, MOTION_CODES = 64, 16, 16
GREEDY = SamplingSettings(temperature=0, guidance=1.0)
# By task, how far the steps that are shared by all tasks go: nats per token.
MARK = 0.05


def sample(seed: int) -> TokenSample:
    """A sample with everything that any task wants, of small codebooks."""
    plain = token_sample(seed, grid=(3, 2, 2), audio=(2, 4))
    rng = np.random.default_rng((seed, 1))
    arrays = {
        "video": plain.arrays["video"] % CODES,
        "audio": plain.arrays["audio"] % AUDIO_CODES,
        "text": plain.arrays["text"],
        "commit": rng.integers(CODES, size=(3, 2, 2)).astype(np.uint32),
        "structure": rng.integers(CODES, size=(3, 2, 2)).astype(np.uint32),
        "motion": rng.integers(MOTION_CODES, size=5).astype(np.uint16),
    }
    return dataclasses.replace(plain, arrays=arrays)


# Nothing but the sample distinguishes two that a task shows no condition of, so that one has a single sample.
SAMPLES = {task: [sample(0)] if task == "unconditional" else [sample(0), sample(1)] for task in TASKS}


def batches(model: ReelLm) -> dict[str, TensorBatch]:
    layout = Layout(model.vocabulary)
    built = {task: [layout.build(task, each, given=2) for each in SAMPLES[task]] for task in TASKS}
    return {task: to_tensors(collate(rows), "cpu") for task, rows in built.items()}


@pytest.fixture(scope="module")
def trained() -> Iterator[ReelLm]:
    """One model of all tasks: the task token and what is given tell them apart."""
    torch.manual_seed(0)
    config = ReelLmConfig(
        hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=2, text_width=TEXT_WIDTH,
        visual_factors=[CODES], audio_levels=2, audio_codebook_size=AUDIO_CODES, motion_codebook_size=MOTION_CODES,
        max_grid_side=4, max_audio_columns=8, max_motion_codes=8, max_latent_frames=4, initializer_range=0.05,
    )  # fmt: skip
    model = ReelLm(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, betas=(0.9, 0.98), weight_decay=0.0)
    steps, shown = 45, batches(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 10) * (1 - step / steps))
    for _ in range(steps):
        optimizer.zero_grad()
        for batch in shown.values():
            (model(batch).loss / len(shown)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    yield model.eval()


def blanked(task: str, whole: TokenSample) -> TokenSample:
    """The sample with zeros for what the task puts out."""
    spec = TASKS[task]
    arrays = {name: array.copy() for name, array in whole.arrays.items()}
    if spec.video_out:
        start = {"first": 0, "all": 0, "rest": 2 if "given" in spec.video_in else 1}[spec.video_out]
        arrays["video"][start : 1 if spec.video_out == "first" else None] = 0
    if spec.audio_out:
        start = Layout().audio_columns(2, 3, 4) if spec.audio_out == "rest" else 0
        arrays["audio"][:, start:] = 0
    if spec.motion:
        arrays["motion"][:] = 0
        arrays["video"][len(spec.video_in) : 1] = 0  # the keyframe, where it is not given
    return dataclasses.replace(whole, arrays=arrays)


@pytest.mark.parametrize("task", TASKS)
def test_greedy_generation_gives_the_samples_back(task: str, trained: ReelLm) -> None:
    assert trained(batches(trained)[task]).nll_BO.mean() < MARK
    generator = Generator(trained, Tokenizers({"text": {}}, Path(), "cpu"), torch.device("cpu"))
    given = [blanked(task, each) for each in SAMPLES[task]]
    done = generator.complete(task, given, GREEDY, torch.Generator(), given=2)
    for before, made, whole in zip(given, done, SAMPLES[task], strict=True):
        changed = [name for name in before.arrays if not np.array_equal(before.arrays[name], whole.arrays[name])]
        assert changed, "the task puts something out"
        for name, array in whole.arrays.items():
            np.testing.assert_array_equal(made.arrays[name], array, err_msg=name)
