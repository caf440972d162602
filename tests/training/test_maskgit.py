"""The masked transformer: conditions, objective, sampling, training, stories from the command line."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from reelmill import main as reelmill
from tests.training.test_generate import content
from tests.training.token_samples import TEXT_WIDTH
from training.generate_inputs import Format
from training.generate_settings import MaskedSampling
from training.maskgit import MaskGit, MaskGitConfig, sample_window
from training.maskgit_train import hidden_tokens
from training.maskgit_train import train as train_maskgit
from training.reel import Part, Reel, read_story
from training.settings import LoopSettings, MaskGitModelSettings, MaskGitSettings
from training.trainer_loop import read_curve

GREEDY = MaskedSampling(steps=6, temperature=0, choice_temperature=0, guidance=1.0)


def tiny(**changes) -> MaskGit:
    torch.manual_seed(0)
    sizes = {"width": 64, "num_layers": 2, "num_heads": 2, "text_width": TEXT_WIDTH, "max_grid_side": 8}
    return MaskGit(MaskGitConfig(**{**sizes, **changes})).eval()


def random_inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(2**18, (batch, 3, 4, 4), generator=generator)
    text = torch.randn(batch, 3, TEXT_WIDTH, generator=generator)
    return codes, text, torch.ones(batch, 3, dtype=torch.bool)


def test_hidden_codes_do_not_matter_and_the_caption_does():
    model = tiny(initializer_range=0.1)
    codes, text, mask = random_inputs()
    hide = torch.ones(codes.shape, dtype=torch.bool)
    with torch.no_grad():
        logits = model(codes, hide, text, mask)[0]
        assert torch.equal(model(codes.flip(0), hide, text, mask)[0], logits)
        assert not torch.allclose(model(codes, hide, text.flip(0), mask)[0], logits)


@pytest.mark.parametrize("known", [0, 1, 2])
def test_known_frames_are_never_hidden(known):
    codes, _, _ = random_inputs(batch=200)
    hidden = hidden_tokens(codes, known, torch.Generator().manual_seed(0)).view(codes.shape)
    assert not hidden[:, :known].any()
    assert bool(hidden[:, known:].flatten(1).any(dim=1).all())


def test_sampling_keeps_known_frames_and_follows_the_seed():
    model = tiny(initializer_range=0.1)
    codes, text, mask = random_inputs()
    sampling = MaskedSampling(steps=4, guidance=2.0)
    made = [
        sample_window(model, text, mask, codes, 1, sampling, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    assert all(torch.equal(each[:, :1], codes[:, :1]) for each in made)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_overfits_and_greedy_sampling_reproduces():
    model = tiny().train()
    codes, text, mask = random_inputs()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.96), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / 210))
    for _ in range(200):
        loss = model.masked_loss(codes, hidden_tokens(codes, 0, generator), text, mask).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()
    everything = torch.ones(3, codes[0].numel(), dtype=torch.bool)
    assert model.masked_loss(codes, everything, text, mask).loss < 0.05
    assert torch.equal(sample_window(model, text, mask, codes * 0, 0, GREEDY, torch.Generator()), codes)


def test_save_and_load_give_the_same_model(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    loaded = MaskGit.from_pretrained(tmp_path, use_safetensors=True).eval()
    codes, text, mask = random_inputs()
    hide = torch.ones(codes.shape, dtype=torch.bool)
    with torch.no_grad():
        assert torch.equal(loaded(codes, hide, text, mask)[1], model(codes, hide, text, mask)[1])


def counting_reel() -> Reel:
    """A reel of 1-pixel pictures, whose every picture's value is told by its code; four frames a latent frame."""
    fmt = Format((5, 1, 1), 17, Fraction(8), 1, 1, 4)

    def decode(codes: np.ndarray) -> np.ndarray:
        values = np.repeat(codes.reshape(-1), 4)[3:]
        return np.broadcast_to(values[:, None, None, None], (len(values), 1, 1, 3)).astype(np.uint8)

    def encode(frames: np.ndarray) -> np.ndarray:
        return frames[:, ::4, :, :, 0].astype(np.uint32)

    return Reel(fmt, decode, encode)


def test_reel_gives_each_window_the_last_pixels_and_each_part_its_length():
    reel, given = counting_reel(), []

    def make(states: np.ndarray, known: np.ndarray | None) -> np.ndarray:
        given.append(None if known is None else known.reshape(-1).tolist())
        value = int(states[0, 0])
        codes = np.full((1, 5, 1, 1), value, np.uint32)
        if known is not None:
            codes[:, : known.shape[1]] = known
        return codes

    for value, frames in ((1, 20), (2, 6), (3, 3)):
        reel.go_on(Part(np.full((1, 1), value), frames), make, given=3)
    assert reel.frames[0][:, 0, 0, 0].tolist() == [1] * 20 + [2] * 6 + [3] * 3
    # Nine frames are given: the first of them, then every fourth.
    assert given == [None, [1, 1, 1], [1, 1, 1], [1, 2, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a prompt", "is no story"),
        ("[]", "is no story"),
        ("- {prompt: x}", "part 1 of"),
        ("- {prompt: x, duration_s: 0.01}", "at least one frame long"),
        ("{unclosed", "is no YAML"),
    ],
    ids=["no list", "empty", "no duration", "too short", "no yaml"],
)
def test_story_that_is_none_is_refused(text, message, tmp_path):
    path = tmp_path / "story.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_story(str(path), Fraction(8))


@pytest.fixture(scope="module")
def trained(token_data, tmp_path_factory) -> Path:
    """A model trained for four steps, killed after two and gone on with."""
    output = tmp_path_factory.mktemp("maskgit")
    settings = MaskGitSettings(
        data=str(token_data.folder), output=str(output),
        model=MaskGitModelSettings(width=32, layers=1, heads=2),
        loop=LoopSettings(steps=4, batch_size=2, log_every=1, device="cpu"),
    )  # fmt: skip
    train_maskgit(settings, Console(quiet=True))
    return output


def test_training_is_exact_after_a_resume(trained, token_data, tmp_path):
    loop = LoopSettings(steps=4, batch_size=2, log_every=1, save_every=2, device="cpu")
    model = MaskGitModelSettings(width=32, layers=1, heads=2)
    settings = MaskGitSettings(data=str(token_data.folder), output=str(tmp_path), model=model, loop=loop)
    train_maskgit(settings, Console(quiet=True))
    newest = max((tmp_path / "checkpoints").iterdir())
    for path in newest.iterdir():
        path.unlink()
    newest.rmdir()
    train_maskgit(replace(settings), Console(quiet=True))
    assert read_curve(tmp_path) == read_curve(trained)


@pytest.mark.parametrize(
    ("task", "inputs", "frames"),
    [
        ("t2v", ["--prompt", "a red ball"], 17),
        ("t2i", ["--prompt", "a red ball"], 1),
        ("i2v", ["--image", "CLIP", "--duration_s", "1"], 8),
        ("continue", ["--video", "CLIP", "--prompt", "right", "--duration_s", "3"], 24),
        ("story", ["--story", "STORY"], 20),
    ],
)
def test_every_task_from_the_command_line(task, inputs, frames, trained, token_data, tmp_path):
    story = tmp_path / "story.yaml"
    story.write_text("- {prompt: a red ball, duration_s: 1.5}\n- {prompt: a blue ball, duration_s: 1}\n")
    files = {"CLIP": str(token_data.clips[0]), "STORY": str(story)}
    output = tmp_path / "out.mp4"
    flags = ["--masked.steps", "2", "--device", "cpu", *[files.get(word, word) for word in inputs]]
    assert reelmill(["generate", "--model", str(trained), "--output", str(output), "--task", task, *flags]) == 0
    assert content(output) == (frames, (32, 32), None)


def test_tasks_of_the_language_model_are_refused(trained, tmp_path, capsys):
    arguments = ["--model", str(trained), "--output", str(tmp_path / "x.mp4"), "--task", "t2av", "--prompt", "x"]
    assert reelmill(["generate", *arguments]) == 2
    assert "cannot do t2av; it knows" in capsys.readouterr().err
