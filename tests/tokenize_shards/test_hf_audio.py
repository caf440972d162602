"""EnCodec, DAC and Mimi behind our protocol give what the library gives when called directly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel, PreTrainedModel

from tests.tokenize_shards import tiny_models
from tokenize_shards.base import AudioTokenizer
from tokenize_shards.loading import load_audio_tokenizer

torch.set_num_threads(1)


def encodec(**fields: Any) -> PreTrainedModel:
    sizes = {"num_filters": 4, "hidden_size": 16, "codebook_size": 64, "num_lstm_layers": 1}
    return EncodecModel(EncodecConfig(**{"target_bandwidths": [1.5, 3.0], **sizes, **fields}))


def dac() -> PreTrainedModel:
    return DacModel(
        DacConfig(
            encoder_hidden_size=4,
            decoder_hidden_size=32,
            downsampling_ratios=[2, 4, 5, 8],
            upsampling_ratios=[8, 5, 4, 2],
            n_codebooks=4,
            codebook_size=64,
            codebook_dim=4,
            sampling_rate=16_000,
        )
    )


def mimi() -> PreTrainedModel:
    return MimiModel(
        MimiConfig(
            num_filters=4,
            hidden_size=16,
            codebook_size=64,
            codebook_dim=8,
            vector_quantization_hidden_dimension=8,
            num_quantizers=4,
            num_hidden_layers=1,
            intermediate_size=32,
            num_attention_heads=2,
            num_key_value_heads=2,
            upsample_groups=16,
        )
    )


MODELS = {"encodec": encodec, "dac": dac, "mimi": mimi}
SHAPES = {"encodec": (6, 320, 24_000), "dac": (4, 320, 16_000), "mimi": (4, 1920, 24_000)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder for each kind of codec, with random weights and codebooks that are all in use."""
    place = tmp_path_factory.mktemp("codecs")
    for name, build in MODELS.items():
        torch.manual_seed(0)
        model = build()
        for key, value in model.state_dict().items():
            if "embed" in key and value.dim() == 2:
                value.normal_()
            elif key.endswith("cluster_usage"):
                value.fill_(1)
        model.save_pretrained(place / name)
    return {name: place / name for name in MODELS}


def called_directly(name: str, folder: Path, sound: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and sound by the library's own forward."""
    model = type(MODELS[name]()).from_pretrained(folder).eval()
    options = {"bandwidth": 3.0} if name == "encodec" else {}
    with torch.no_grad():
        if name == "dac":
            made = model(sound)
            return made.audio_codes, model.decode(audio_codes=made.audio_codes).audio_values
        made = model(sound, **options)
    codes = made.audio_codes[0] if name == "encodec" else made.audio_codes
    return codes, made.audio_values


@pytest.mark.parametrize("name", MODELS)
def test_codes_and_sound_are_the_librarys(folders: dict[str, Path], name: str) -> None:
    tokenizer = load_audio_tokenizer(folders[name], "cpu")
    assert isinstance(tokenizer, AudioTokenizer)
    levels, hop, rate = SHAPES[name]
    assert (tokenizer.num_quantizers, tokenizer.hop, tokenizer.sample_rate_hz) == (levels, hop, rate)
    assert tokenizer.codebook_size == 64
    sounds = torch.rand(2, 1, 5 * hop + 7, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codes = tokenizer.encode(sounds)
    assert codes.shape == (2, levels, 5)
    assert codes.dtype == torch.int64
    assert len(codes.unique()) > 4
    decoded = tokenizer.decode(codes)
    assert decoded.shape == (2, 1, 5 * hop)
    for position in range(2):
        expected, sound = called_directly(name, folders[name], sounds[position : position + 1, :, : 5 * hop])
        assert torch.equal(codes[position], expected[0])
        sound = sound.reshape(-1)[: 5 * hop].clamp(-1, 1)
        assert torch.equal(decoded[position, 0, : len(sound)], sound)


@pytest.mark.parametrize("name", MODELS)
def test_the_first_levels_alone(folders: dict[str, Path], name: str) -> None:
    whole, first = load_audio_tokenizer(folders[name], "cpu"), load_audio_tokenizer(f"{folders[name]}#2", "cpu")
    assert first.num_quantizers == 2
    assert first.fingerprint != whole.fingerprint != ""
    sound = torch.rand(1, 1, 3 * whole.hop) * 2 - 1
    assert torch.equal(first.encode(sound), whole.encode(sound)[:, :2])
    assert torch.equal(first.decode(first.encode(sound)), whole.decode(first.encode(sound)))


def test_what_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="9 levels of codes asked"):
        load_audio_tokenizer(f"{folders['dac']}#9")
    with pytest.raises(ValueError, match="'many' is no number of levels"):
        load_audio_tokenizer(f"{folders['dac']}#many")
    ours = tiny_models.save_audio_tokenizer(tmp_path / "ours")
    with pytest.raises(ValueError, match="leave it out"):
        load_audio_tokenizer(f"{ours}#2")
    encodec(audio_channels=2, normalize=True).save_pretrained(tmp_path / "stereo")
    with pytest.raises(ValueError, match="a mono one is needed"):
        load_audio_tokenizer(tmp_path / "stereo")
    tokenizer = load_audio_tokenizer(folders["encodec"], "cpu")
    with pytest.raises(ValueError, match="T at least 320"):
        tokenizer.encode(torch.zeros(1, 1, 319))
    with pytest.raises(ValueError, match="this codec has 6"):
        tokenizer.decode(torch.zeros(1, 7, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="another tokenizer"):
        tokenizer.decode(torch.full((1, 2, 2), 64))
    dac().save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="does not load as dac"):
        load_audio_tokenizer(tmp_path / "bare")
