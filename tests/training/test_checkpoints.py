"""Checkpoints: what is put back is what was saved, and nothing half-written counts."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from training.checkpoints import FOLDER, latest_checkpoint, load_checkpoint, save_checkpoint


def make(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator) -> float:
    x = torch.randn(8, 3, generator=generator) + torch.rand(8, 3)
    loss = model(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_going_on_equals_never_stopping(tmp_path: Path) -> None:
    model, optimizer = make(0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        advance(model, optimizer, generator)
    save_checkpoint(tmp_path, 3, {"m": model}, {"m": optimizer}, {"note": [1, "two"]}, {"data": generator})
    expected = [advance(model, optimizer, generator) for _ in range(3)]

    other, other_optimizer = make(7)
    other_generator = torch.Generator().manual_seed(9)
    found = latest_checkpoint(tmp_path)
    assert found is not None
    extra = load_checkpoint(found, {"m": other}, {"m": other_optimizer}, {"data": other_generator})
    assert extra == {"note": [1, "two"], "step": 3}
    assert [advance(other, other_optimizer, other_generator) for _ in range(3)] == expected
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_state_is_laid_out_like_its_parameters(tmp_path: Path) -> None:
    """Fused optimizers pair parameter and state byte by byte."""

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = nn.Conv3d(2, 4, 3).to(memory_format=torch.channels_last_3d)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        optimizer.zero_grad()
        model(torch.ones(1, 2, 4, 4, 4)).square().sum().backward()
        optimizer.step()
        return next(model.parameters()).detach().clone()

    model, optimizer = build(0)
    step(model, optimizer)
    folder = save_checkpoint(tmp_path, 1, {"m": model}, {"m": optimizer})
    other, other_optimizer = build(1)
    load_checkpoint(folder, {"m": other}, {"m": other_optimizer})
    assert torch.equal(step(other, other_optimizer), step(model, optimizer))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    model, optimizer = make(0)
    for step in (5, 10, 99_999_999, 100_000_000):
        save_checkpoint(tmp_path, step, {"m": model}, {"m": optimizer}, keep_last=2)
    assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == ["step-100000000", "step-99999999"]
    assert latest_checkpoint(tmp_path) == tmp_path / FOLDER / "step-100000000"


def test_a_half_written_one_does_not_count(tmp_path: Path) -> None:
    model, optimizer = make(0)
    whole = save_checkpoint(tmp_path, 1, {"m": model}, {"m": optimizer})
    shutil.copytree(whole, whole.with_name(".step-00000002.tmp"))
    assert latest_checkpoint(tmp_path) == whole
    save_checkpoint(tmp_path, 2, {"m": model}, {"m": optimizer})
    assert latest_checkpoint(tmp_path) == whole.with_name("step-00000002")


def test_nothing_there(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    with pytest.raises(FileNotFoundError, match="not a checkpoint"):
        load_checkpoint(tmp_path, {}, {})


def test_another_model(tmp_path: Path) -> None:
    model, optimizer = make(0)
    folder = save_checkpoint(tmp_path, 1, {"m": model}, {"m": optimizer})
    with pytest.raises(ValueError, match="does not fit the model 'm'"):
        load_checkpoint(folder, {"m": nn.Linear(2, 2)}, {})


def test_no_pickles(tmp_path: Path) -> None:
    model, optimizer = make(0)
    folder = save_checkpoint(tmp_path, 1, {"m": model}, {"m": optimizer})
    assert sorted(p.name for p in folder.iterdir()) == ["state.json", "tensors.safetensors"]
