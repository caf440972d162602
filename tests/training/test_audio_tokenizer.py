"""The audio tokenizer trainer: from sounds to a folder that loads, exact resume, measures."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from media.audio import read_audio
from tokenize_shards.loading import load_audio_tokenizer
from training.audio_tokenizer import main
from training.audio_tokenizer_task import perplexity, si_sdr
from training.clips_data import ClipSource, audio_batch, audio_samples

torch.set_num_threads(1)  # on tensors this small several threads only wait for each other


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    time = np.arange(16_000) / 16_000
    for number, hz in enumerate((220, 440, 880)):
        soundfile.write(folder / f"{number}.wav", 0.5 * np.sin(2 * np.pi * hz * time), 16_000)
    return folder


def arguments(data: Path, output: Path, steps: int, *more: str) -> list[str]:
    flags = {
        "data": data, "output": output, "size": "tiny", "name": "mine",
        "model": "{channels: 4, width: 16, codebook_size: 16, num_quantizers: 2}",
        "sounds.duration_s": 0.1, "held_back.names": '["2.wav"]', "losses.adversarial_weight": 0.0,
        "losses.mel_windows": "[64, 256]", "losses.min_code_usage": 0.1, "losses.waveform_weight": 10.0,
        "losses.quantizer_start": 1, "optimisation.steps": steps, "optimisation.batch_size": 2,
        "optimisation.learning_rate": 0.003, "optimisation.warmup_steps": 2, "running.threads": 1,
        "running.device": "cpu", "running.validate_every": 1000, "running.checkpoint_every": 2,
    }  # fmt: skip
    return [*(f"--{key}={value}" for key, value in flags.items()), *more]


def test_trains_exports_and_loads(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measures = []
    for steps in (2, 40):
        output = tmp_path / str(steps)
        assert main(arguments(sounds, output, steps, "--running.checkpoint_every=1000")) == 0
        measures.append(json.loads((output / "metrics.json").read_text()))
    assert "si_sdr_db" in capsys.readouterr().out.splitlines()[-1]
    tokenizer = load_audio_tokenizer(output / "tokenizer", "cpu")
    assert measures[1]["fingerprint"] == tokenizer.fingerprint
    assert (tokenizer.name, tokenizer.num_quantizers, tokenizer.codebook_size) == ("mine", 2, 16)
    assert measures[1]["held_back"]["mel_distance"] < measures[0]["held_back"]["mel_distance"]


def test_going_on_equals_never_stopping(sounds: Path, tmp_path: Path) -> None:
    gan = ["--losses.adversarial_weight=1", "--losses.adversarial_start=2", "--sounds.duration_s=0.2"]
    for name in ("whole", "parts"):
        main(arguments(sounds, tmp_path / name, 4, *gan))
    last = tmp_path / "parts" / "checkpoints" / "step-00000004"
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    main(arguments(sounds, tmp_path / "parts", 4, *gan))  # from step 2 on
    first = load_file(tmp_path / "whole" / "checkpoints" / "step-00000004" / "tensors.safetensors")
    second = load_file(last / "tensors.safetensors")
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_a_stretch_shorter_than_a_code(sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter than one code"):
        main(arguments(sounds, tmp_path, 1, "--sounds.duration_s=0.01"))


def test_no_sound_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no clips"):
        main(arguments(tmp_path, tmp_path / "out", 1))


def test_sounds_are_read_as_mono_at_the_rate_asked_for(sounds: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(sounds / "1.wav")
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], axis=1), rate)
    found = audio_samples(ClipSource("stereo", path=tmp_path / "stereo.wav"), 8000, 0.5)
    assert found is not None
    assert len(found) == 4000
    np.testing.assert_allclose(found[100:-100], read_audio(tmp_path / "stereo.wav", 0, 4000, 8000)[100:-100], atol=0.01)


def test_batches_follow_the_generator_and_pad_short_sounds() -> None:
    sounds = [np.full(100, 32767, dtype=np.int16)]
    draws = [audio_batch(sounds, 3, 160, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert draws[0].shape == (3, 1, 160)
    assert torch.equal(*draws)
    assert float(draws[0][:, :, 100:].abs().max()) == 0


def test_si_sdr_does_not_hear_loudness() -> None:
    torch.manual_seed(0)
    sound = torch.randn(1, 1, 4000)
    noisy = sound + 0.1 * torch.randn(1, 1, 4000)
    assert si_sdr(noisy, sound).item() == pytest.approx(20, abs=0.5)
    assert si_sdr(3 * noisy, sound).item() == pytest.approx(si_sdr(noisy, sound).item(), abs=1e-3)


def test_perplexity_counts_codes_in_even_use() -> None:
    assert perplexity(torch.arange(8), 16) == pytest.approx(8)
    assert perplexity(torch.zeros(8, dtype=torch.long), 16) == pytest.approx(1)
