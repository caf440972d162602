"""Weights shared out over two processes (FSDP, gloo): the curve, the model and the checkpoints of a single process."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from schemas.shards import DatasetInfo
from tests.tokenize_shards.token_samples import TOKENIZERS, make_sample
from tokenize_shards.writer import write_dataset, write_shard
from training.lm import ReelLm
from training.lm_train import train
from training.settings import LmModelSettings, LmSettings, LoopSettings
from training.trainer_loop import CURVE_FILE, read_curve

SIZES = LmModelSettings(width=16, layers=2, heads=2, mlp_width=16)
REPOSITORY = Path(__file__).parents[2]


def alike(folder: Path, count: int) -> Path:
    """A data set of so many samples of one shape."""
    samples = [make_sample(number) for number in range(count)]
    shard = write_shard(str(folder), "train-00000.tar", "train", samples, TOKENIZERS).info
    info = DatasetInfo(TOKENIZERS, [(32, 32)], 9, (8, 1), {"samples": count}, [shard], ["video", "audio", "text"])
    write_dataset(str(folder), info, np.ones((2, 6), np.float16))
    return folder


def alone(data: Path, output: Path, steps: int = 3) -> None:
    """Trains in this process."""
    loop = LoopSettings(steps=steps, batch_size=4, log_every=1, save_every=2, device="cpu", threads=1)
    settings = LmSettings(str(data), str(output), SIZES, {"t2v": 1.0, "i2v": 1.0}, drop_text=0.0, loop=loop)
    train(settings, Console(quiet=True))


def shared_out(data: Path, output: Path) -> None:
    """Trains in two processes with half of each batch."""
    flags = {
        "data": data, "output": output, "tasks": "{t2v: 1.0, i2v: 1.0}", "drop_text": 0, "loop.steps": 3,
        "loop.batch_size": 2, "loop.log_every": 1, "loop.save_every": 2, "loop.device": "cpu", "loop.threads": 1,
        "loop.devices": 2, "loop.strategy": "fsdp", "model.width": 16, "model.layers": 2, "model.heads": 2,
        "model.mlp_width": 16,
    }  # fmt: skip
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    command = [sys.executable, str(REPOSITORY / "reelmill.py"), "train", "lm", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_alike(one: Path, other: Path) -> None:
    losses = [[point["loss"] for point in read_curve(output) if "loss" in point] for output in (one, other)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    norms = [[point["gradient_norm"] for point in read_curve(output) if "loss" in point] for output in (one, other)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)
    weights, theirs = (load_file(output / "model.safetensors") for output in (one, other))
    assert weights.keys() == theirs.keys()
    for name, value in weights.items():
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.long
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    data = alike(tmp_path / "data", 12)
    alone(data, tmp_path / "one")
    shared_out(data, tmp_path / "two")
    assert_alike(tmp_path / "one", tmp_path / "two")
    ReelLm.from_pretrained(tmp_path / "two", use_safetensors=True)
    assert json.loads((tmp_path / "two" / "config.json").read_text())["architectures"] == ["ReelLm"]

    # A run that was killed after its checkpoint goes on as if never stopped.
    before = (tmp_path / "two" / CURVE_FILE).read_text()
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-00000003")
    shared_out(data, tmp_path / "two")
    assert (tmp_path / "two" / CURVE_FILE).read_text() == before


def test_activation_checkpointing_changes_no_number(tmp_path: Path) -> None:
    data = alike(tmp_path / "data", 4)
    loop = LoopSettings(steps=2, batch_size=2, log_every=1, save_every=0, device="cpu", threads=1)
    for name, keeps in (("all", False), ("again", True)):
        sizes = LmModelSettings(width=16, layers=2, heads=2, mlp_width=16, activation_checkpointing=keeps)
        train(
            LmSettings(str(data), str(tmp_path / name), sizes, {"t2v": 1.0}, loop=loop),
            Console(quiet=True),
        )
    assert read_curve(tmp_path / "all") == read_curve(tmp_path / "again")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("all", "again"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
