"""Tokenizers by name: what loads, what is refused and how that reads."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tokenize_shards import tiny_models
from tokenize_shards.loading import (
    BUILT_IN,
    built_in_names,
    load_audio_tokenizer,
    load_text_encoder,
    load_video_tokenizer,
    save_tokenizer,
)
from tokenize_shards.magvit2 import Magvit2, Magvit2Config


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.save_video_tokenizer(tmp_path_factory.mktemp("video") / "mine")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_models.save_audio_tokenizer(tmp_path_factory.mktemp("audio") / "mine")


def test_saved_and_loaded_are_equal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Magvit2Config(
        channels=8, multipliers=(1,), num_res_blocks=1, strides=(), wavelet_levels=(2, 3), norm_groups=2
    )
    model = Magvit2(config, name="mine").eval()
    fingerprint = save_tokenizer(model, tmp_path)
    loaded: Any = load_video_tokenizer(tmp_path, "cpu")
    assert (loaded.fingerprint, loaded.name, loaded.config) == (fingerprint, "mine", config)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    assert torch.equal(loaded.encode(video), model.encode(video))
    assert save_tokenizer(loaded, tmp_path / "again") == fingerprint


def test_half_precision_files_load_as_float32(tmp_path: Path) -> None:
    model: Any = load_video_tokenizer(tiny_models.save_video_tokenizer(tmp_path / "full"), "cpu")
    save_tokenizer(model, tmp_path / "half", torch.float16)
    loaded: Any = load_video_tokenizer(tmp_path / "half", "cpu")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (
        tmp_path / "full" / "model.safetensors"
    ).stat().st_size


def test_fingerprint_follows_the_weights(tmp_path: Path, audio: str) -> None:
    first = load_audio_tokenizer(audio, "cpu").fingerprint
    assert load_audio_tokenizer(audio, "cpu").fingerprint == first
    other = tiny_models.save_audio_tokenizer(tmp_path / "mine", seed=1)
    assert load_audio_tokenizer(other, "cpu").fingerprint != first


Load = Callable[..., Any]


@pytest.mark.parametrize("load", [load_video_tokenizer, load_audio_tokenizer, load_text_encoder])
@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nothing", "no-such-tokenizer"])
def test_a_name_that_is_nothing(load: Load, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="built in"):
        load(name)


@pytest.mark.parametrize("load", [load_video_tokenizer, load_audio_tokenizer, load_text_encoder])
def test_an_empty_folder(load: Load, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no config\.json; expected"):
        load(tmp_path)


def test_the_wrong_kind(video: str, audio: str) -> None:
    with pytest.raises(ValueError, match="not a video tokenizer: model_type is 'soundstream'"):
        load_video_tokenizer(audio)
    with pytest.raises(ValueError, match="not an audio tokenizer: model_type is 'magvit2'"):
        load_audio_tokenizer(video)
    with pytest.raises(ValueError, match="not a transformers model"):
        load_text_encoder(video)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors"),
        (lambda folder: _set(folder, {"channels": 16}), "does not fit"),
        (lambda folder: _set(folder, {"colour": 1}), "colour"),
    ],
    ids=["not-json", "list", "no-weights", "other-shape", "unknown-key"],
)
def test_a_broken_folder(tmp_path: Path, break_it: Callable[[Path], object], message: str) -> None:
    folder = Path(tiny_models.save_video_tokenizer(tmp_path / "mine"))
    break_it(folder)
    with pytest.raises(ValueError, match=message):
        load_video_tokenizer(folder, "cpu")


def _set(folder: Path, fields: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["config"].update(fields)
    (folder / "config.json").write_text(json.dumps(config))


def test_the_built_in_tokenizers_have_cards_and_strides() -> None:
    assert {"magvit2-tiny", "cvivit-tiny", "soundstream-tiny", "motion-tiny"} <= set(built_in_names())
    for name in built_in_names():
        folder = BUILT_IN / name
        assert (folder / "README.md").is_file()
        assert (folder / "model.safetensors").stat().st_size < 9 << 20
    video, audio = load_video_tokenizer("magvit2-tiny", "cpu"), load_audio_tokenizer("soundstream-tiny", "cpu")
    assert (video.codebook_size, video.temporal_stride, video.spatial_stride) == (2**18, 4, 8)
    assert (audio.codebook_size, audio.num_quantizers, audio.hop, audio.sample_rate_hz) == (1024, 4, 320, 16000)
    assert video.encode(torch.zeros(1, 3, 17, 128, 128)).shape == (1, 5, 16, 16)
    assert audio.encode(torch.zeros(1, 1, 34_000)).shape == (1, 4, 106)
    assert load_video_tokenizer("cvivit-tiny", "cpu").encode(torch.zeros(1, 3, 11, 128, 128)).shape == (1, 6, 16, 16)


@pytest.mark.parametrize(
    ("load", "names"),
    [(load_video_tokenizer, "cvivit-tiny, magvit2-tiny"), (load_audio_tokenizer, "soundstream-tiny")],
)
def test_an_unknown_name_is_answered_with_those_of_its_kind(load, names) -> None:
    with pytest.raises(
        FileNotFoundError, match=re.escape(f"no model 'magvit': it is not a folder here, not built in ({names})")
    ):
        load("magvit", "cpu")
