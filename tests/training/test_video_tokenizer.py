"""The video tokenizer trainer: from clips to a folder that loads, exact resume, measures, bad settings."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.tokenize_shards.tiny_models import make_clip
from tokenize_shards.loading import load_video_tokenizer
from training.clips_data import crop_batch, find_clips, held_back_test, load_video_windows, video_windows
from training.settings_tokenizers import HeldBack, VideoClips
from training.video_tokenizer import main
from training.video_tokenizer_task import psnr

torch.set_num_threads(1)  # on tensors this small several threads only wait for each other

MODEL = "{channels: 8, multipliers: [1], num_res_blocks: 1, num_decoder_blocks: 1, num_mid_blocks: 1, strides: [], "
MODEL += "wavelet_levels: [2, 3], norm_groups: 4}"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name, source in (("a", "testsrc2"), ("b", "testsrc"), ("sub/c", "smptebars")):
        make_clip(folder / f"{name}.mp4", frames=72, source=source, tone_hz=None)
    return folder


def arguments(data: Path, output: Path, steps: int, *more: str) -> list[str]:
    flags = {
        "data": data, "output": output, "size": "tiny", "model": MODEL, "name": "mine",
        "clips.resolution": 32, "clips.crop": 16, "clips.final_crop": 32, "clips.num_frames": 9,
        "losses.adversarial_weight": 0.0, "losses.entropy_tokens": 64, "held_back.names": '["sub/*"]',
        "optimisation.steps": steps, "optimisation.batch_size": 2, "optimisation.learning_rate": 0.003,
        "optimisation.warmup_steps": 2, "running.threads": 1, "running.device": "cpu", "running.log_every": 2,
        "running.validate_every": 2, "running.checkpoint_every": 2, "optimisation.ema_decay": 0.9,
    }  # fmt: skip
    return [*(f"--{key}={value}" for key, value in flags.items()), *more]


def test_trains_exports_and_loads(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(clips, tmp_path / "out", 30, "--running.checkpoint_every=100")) == 0
    assert "psnr_db" in capsys.readouterr().out.splitlines()[-1]
    tokenizer = load_video_tokenizer(tmp_path / "out" / "tokenizer", "cpu")
    assert tokenizer.name == "mine"
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["fingerprint"] == tokenizer.fingerprint
    assert 5 < metrics["held_back"]["psnr_db"] < 60
    assert 0 <= metrics["held_back"]["bits_above_0.9"] <= 1
    assert list((tmp_path / "out" / "tensorboard").glob("events.*"))


def test_going_on_equals_never_stopping(clips: Path, tmp_path: Path) -> None:
    gan = ["--losses.adversarial_weight=0.1", "--losses.adversarial_start=2", "--losses.r1_every=2"]
    whole = arguments(clips, tmp_path / "whole", 4, *gan)
    main(whole)
    main(arguments(clips, tmp_path / "parts", 4, *gan))
    parts = tmp_path / "parts"
    last = parts / "checkpoints" / "step-00000004"
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    main(arguments(clips, parts, 4, *gan))  # from step 2 on
    first = load_file(tmp_path / "whole" / "checkpoints" / "step-00000004" / "tensors.safetensors")
    second = load_file(last / "tensors.safetensors")
    assert first.keys() == second.keys()
    assert any(key.startswith("module/adversary/") for key in first)
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    assert (tmp_path / "whole" / "tokenizer" / "model.safetensors").read_bytes() == (
        parts / "tokenizer" / "model.safetensors"
    ).read_bytes()


def test_learning_helps(clips: Path, tmp_path: Path) -> None:
    measures = []
    flags = ["--losses.temperature=1", "--losses.entropy_weight=0.01", "--clips.crop=32", "--running.log_every=20"]
    for steps in (1, 80):
        output = tmp_path / str(steps)
        main(arguments(clips, output, steps, *flags, "--running.validate_every=1000"))
        measures.append(json.loads((output / "metrics.json").read_text())["held_back"]["psnr_db"])
    assert measures[1] > measures[0] + 0.7


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clips.crop=20"], "multiple of 8"),
        (["--clips.num_frames=8"], "1 \\+ k·4"),
        (["--model={chanels: 3}"], "chanels"),
        (["--start_from=/nowhere/at/all"], "no model"),
        (["--clips.num_frames=97"], "longer clips"),
        (["--clips.max_bytes=1000"], "clips.max_bytes"),
        (["--optimisation.steps=0"], "steps 0"),
    ],
    ids=["crop", "frames", "unknown", "start-from", "short", "memory", "steps"],
)
def test_bad_settings(clips: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        main([*arguments(clips, tmp_path, 2), *flags])


def test_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a folder"):
        main(arguments(tmp_path / "none", tmp_path / "out", 1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no clips"):
        main(arguments(tmp_path / "empty", tmp_path / "out", 1))


def test_clip_shards_hold_the_same_clips_as_folders(clips: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "clips-00000.tar", "w") as archive:
        archive.add(clips / "a.mp4", "a.mp4")
        archive.add(clips / "b.mp4", "b.mp4")
    (source, _) = find_clips(tmp_path)
    assert source.name == "clips-00000.tar/a.mp4"
    plain = next(iter(find_clips(clips)))
    for mine, theirs in zip(video_windows(source, 9, 8, 32), video_windows(plain, 9, 8, 32), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_windows_have_the_frames_nearest_to_their_times(clips: Path) -> None:
    source = next(iter(find_clips(clips)))
    windows = video_windows(source, 9, 8, 32)
    assert [window.shape for window in windows] == [(9, 32, 38, 3)] * 2
    assert len(video_windows(source, 9, 8, 32, overlap=4)) > 2
    assert video_windows(source, 97, 8, 32) == []


def test_a_clip_that_cannot_be_read_is_left_out(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    (tmp_path / "good.mp4").write_bytes((clips / "a.mp4").read_bytes())
    train, val = load_video_windows(tmp_path, VideoClips(resolution=32, crop=16, num_frames=9), lambda name: False)
    assert train
    assert not val


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (HeldBack(table="split.csv"), ["b.mp4"]),
        (HeldBack(fraction=0.0), []),
        (HeldBack(names=["*c.mp4"]), ["sub/c.mp4"]),
        (HeldBack(fraction=0.9999), ["a.mp4", "b.mp4", "sub/c.mp4"]),
    ],
    ids=["table", "none", "names", "fraction"],
)
def test_held_back(settings: HeldBack, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "split.csv").write_text("file,split\na.mp4,train\nb.mp4,val\nsub/c.mp4,train\n")
    monkeypatch.chdir(tmp_path)
    test = held_back_test(settings)
    assert [name for name in ("a.mp4", "b.mp4", "sub/c.mp4") if test(name)] == expected


def test_a_table_without_the_column(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("name,split\n")
    with pytest.raises(ValueError, match="no column 'file'"):
        held_back_test(HeldBack(table=str(tmp_path / "split.csv")))


def test_batches_follow_the_generator() -> None:
    windows = [np.random.default_rng(n).integers(0, 256, (9, 16, 20, 3), dtype=np.uint8) for n in range(3)]
    draws = [crop_batch(windows, 4, 5, 8, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert draws[0].shape == (4, 3, 5, 8, 8)
    assert torch.equal(*draws)
    assert float(draws[0].abs().max()) <= 1


def test_psnr_is_that_of_the_formula() -> None:
    video = torch.zeros(1, 3, 2, 4, 4)
    assert psnr(video + 0.2, video).flatten().tolist() == pytest.approx([20.0, 20.0], abs=1e-4)
