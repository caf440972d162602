"""`reelmill generate`: every task from files to an mp4, refusals, equal bytes for equal seeds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from media.encode import write_video
from reelmill import main as reelmill
from training.lm_train import train as train_lm
from training.settings import (
    LmModelSettings,
    LmSettings,
    LoopSettings,
    SuperResolutionModelSettings,
    SuperResolutionSettings,
)
from training.super_resolution_train import train as train_super_resolution

QUIET = Console(quiet=True)
LOOP = LoopSettings(steps=1, batch_size=2, device="cpu", save_every=0)
TASKS = (
    "unconditional", "t2v", "t2i", "t2av", "i2v", "continue", "v2a", "a2v", "av_continue", "inpaint", "outpaint",
    "stylize", "stylize_first",
)  # fmt: skip


@pytest.fixture(scope="module")
def models(token_data, tmp_path_factory) -> Path:
    """A folder with `lm` and `sr`, each trained for one step."""
    root = tmp_path_factory.mktemp("generate")
    sizes = LmModelSettings(width=32, layers=1, heads=2, mlp_width=32)
    data = str(token_data.folder)
    lm = LmSettings(data=data, output=str(root / "lm"), model=sizes, loop=LOOP, tasks=dict.fromkeys(TASKS, 1.0))
    train_lm(lm, QUIET)
    small = SuperResolutionModelSettings(width=16, blocks=1, heads=2, windows=[[1, 0, 2], [1, 2, 0], [0, 4, 4]])
    train_super_resolution(SuperResolutionSettings(data=data, output=str(root / "sr"), model=small, loop=LOOP), QUIET)
    same = SuperResolutionSettings(
        data=data, output=str(root / "sr-same"), model=replace(small, low_grid="same"), loop=LOOP
    )
    train_super_resolution(same, QUIET)
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(root / "picture.png")
    return root


def generate(models: Path, output: Path, *arguments: str) -> int:
    flags = ["--sampling.guidance", "1.5", "--device", "cpu", *arguments]
    return reelmill(["generate", "--model", str(models / "lm"), "--output", str(output), *flags])


def content(path: Path) -> tuple[int, tuple[int, int], float | None]:
    """Frames, (height, width) and seconds of sound of an mp4."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        streams = container.streams.audio
        seconds = float(streams[0].duration * streams[0].time_base) if streams else None
    return len(frames), (frames[0].height, frames[0].width), seconds


@pytest.mark.parametrize(
    ("task", "inputs", "frames", "sounds"),
    [
        ("unconditional", [], 17, True),
        ("t2v", ["--prompt", "a red ball"], 17, True),
        ("t2i", ["--prompt", "a red ball"], 1, False),
        ("t2av", ["--prompt", "a red ball", "--negative_prompt", "blue"], 17, True),
        ("i2v", ["--image", "PICTURE"], 17, True),
        ("continue", ["--video", "CLIP", "--prompt", "right"], 17, True),
        ("av_continue", ["--video", "CLIP"], 17, True),
        ("v2a", ["--video", "CLIP"], 17, True),
        ("a2v", ["--audio", "CLIP"], 17, True),
        ("inpaint", ["--video", "CLIP", "--region", "vertical", "--sound", "false"], 17, False),
        ("inpaint", ["--video", "CLIP", "--mask", "PICTURE"], 17, True),
        ("outpaint", ["--video", "CLIP"], 17, True),
        ("stylize", ["--video", "CLIP", "--prompt", "a blue ball", "--sound", "false"], 17, False),
        ("stylize", ["--video", "CLIP", "--image", "PICTURE", "--sound", "false"], 17, False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_task_makes_an_mp4_and_a_contact_sheet(task, inputs, frames, sounds, models, token_data, tmp_path):
    files = {"PICTURE": str(models / "picture.png"), "CLIP": str(token_data.clips[0])}
    output = tmp_path / "made" / "out.mp4"
    assert generate(models, output, "--task", task, *[files.get(word, word) for word in inputs]) == 0
    count, size, seconds = content(output)
    assert (count, size) == (frames, (32, 32))
    assert (seconds is not None) == sounds
    if seconds is not None:
        assert seconds == pytest.approx(2.125, abs=0.07)
    assert output.with_suffix(".jpg").stat().st_size > 0


@pytest.mark.parametrize("name", ["sr", "sr-same"])
def test_super_resolution_doubles_the_sides(name, models, tmp_path):
    output = tmp_path / "large.mp4"
    flags = ("--super_resolution", str(models / name), "--upsampling.steps", "2", "--sound", "false")
    assert generate(models, output, "--task", "t2v", "--prompt", "a ball", *flags) == 0
    assert content(output) == (17, (64, 64), None)


@pytest.mark.parametrize("duration_s", [1, 4], ids=["shorter", "longer"])
def test_other_durations_than_a_window(duration_s, models, tmp_path):
    output = tmp_path / "out.mp4"
    arguments = ("--task", "t2v", "--prompt", "a ball", "--duration_s", str(duration_s))
    assert generate(models, output, *arguments) == 0
    frames, _, seconds = content(output)
    assert frames == 8 * duration_s
    assert seconds == pytest.approx(duration_s, abs=0.07)


def test_story_changes_its_prompt_on_the_way(models, tmp_path):
    story = tmp_path / "story.json"
    story.write_text('[{"prompt": "a red ball", "duration_s": 1.5}, {"prompt": "a blue ball", "duration_s": 1}]')
    assert generate(models, tmp_path / "out.mp4", "--task", "story", "--story", str(story)) == 0
    frames, _, seconds = content(tmp_path / "out.mp4")
    assert frames == 20
    assert seconds == pytest.approx(2.5, abs=0.07)


def test_equal_seeds_give_equal_bytes_and_others_do_not(models, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        arguments = ("--task", "t2v", "--prompt", "a ball", "--seed", str(seed), "--count", "2")
        assert generate(models, tmp_path / f"{name}.mp4", *arguments) == 0
    first, second, other = ((tmp_path / f"{name}-0.mp4").read_bytes() for name in "abc")
    assert first == second
    assert first != other
    assert first != (tmp_path / "a-1.mp4").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "i2v"], "--task i2v needs --image"),
        (["--task", "image_motion", "--image", "PICTURE"], "was not trained for image_motion"),
        (["--task", "stylize", "--video", "CLIP", "--structure.flow", "none.ts"], "no flow network none.ts"),
        (["--task", "continue", "--video", "nowhere.mp4"], "no such file: nowhere.mp4"),
        (["--task", "unconditional", "--size", "64x64"], "trained on 32x32; --size 64x64 is none of them"),
        (["--task", "v2a", "--video", "CLIP", "--start_s", "2"], "lasts 2.500 s; 2.125 s from 2.000 s are wanted"),
        (["--task", "unconditional", "--super_resolution", "LM"], "'reelmill_super_resolution' is wanted here"),
        (["--task", "unconditional", "--sampling.top_p", "2"], "top_p is 2"),
    ],
    ids=["no input", "unknown task", "no network", "no file", "size", "too short", "another kind of model", "sampling"],
)
def test_wrong_usage_is_named(arguments, message, models, token_data, tmp_path, capsys):
    words = {"CLIP": str(token_data.clips[0]), "LM": str(models / "lm"), "PICTURE": str(models / "picture.png")}
    assert generate(models, tmp_path / "x.mp4", *[words.get(word, word) for word in arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
def test_folder_that_is_no_model_is_named(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    status = reelmill(
        ["generate", "--model", str(tmp_path / folder), "--prompt", "x", "--output", str(tmp_path / "x.mp4")]
    )
    assert status == 2
    assert str(tmp_path / folder) in capsys.readouterr().err


def test_another_tokenizer_is_refused(models, tmp_path, capsys):
    copy = tmp_path / "lm"
    shutil.copytree(models / "lm", copy)
    config = json.loads((copy / "config.json").read_text())
    config["tokenizers"]["video"]["fingerprint"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(config))
    assert generate(tmp_path, tmp_path / "x.mp4", "--task", "unconditional") == 2
    assert "has fingerprint" in capsys.readouterr().err


def test_task_the_model_does_not_know_is_refused(models, tmp_path, capsys):
    copy = tmp_path / "lm"
    shutil.copytree(models / "lm", copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "tasks": ["t2v"]}))
    assert generate(tmp_path, tmp_path / "x.mp4", "--task", "unconditional") == 2
    assert "was not trained for unconditional; it knows t2v" in capsys.readouterr().err


def test_silent_video_cannot_give_sound(models, tmp_path, capsys):
    write_video(tmp_path / "silent.mp4", np.zeros((24, 32, 32, 3), np.uint8), 8)
    assert generate(models, tmp_path / "x.mp4", "--task", "a2v", "--audio", str(tmp_path / "silent.mp4")) == 2
    assert "has no sound" in capsys.readouterr().err
