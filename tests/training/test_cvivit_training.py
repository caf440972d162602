"""`train video-tokenizer --architecture cvivit`: from clips to a folder that loads."""

import json
from pathlib import Path

import pytest
import torch

from tests.tokenize_shards.tiny_models import make_clip
from tokenize_shards.loading import load_video_tokenizer
from training.video_tokenizer import main

torch.set_num_threads(1)


def arguments(data: Path, output: Path, *more: str) -> list[str]:
    flags = {
        "data": data, "output": output, "architecture": "cvivit", "size": "tiny", "clips.resolution": 16,
        "clips.crop": 16, "clips.num_frames": 5, "held_back.names": '["sub/*"]', "optimisation.steps": 20,
        "optimisation.batch_size": 2, "optimisation.learning_rate": 0.003, "optimisation.warmup_steps": 2,
        "optimisation.ema_decay": 0.8, "losses.adversarial_weight": 0.1, "losses.adversarial_start": 18,
        "losses.quantizer_start": 8, "losses.min_code_usage": 0.01, "running.threads": 1, "running.device": "cpu",
        "running.validate_every": 10, "running.checkpoint_every": 10,
    }  # fmt: skip
    return [*(f"--{key}={value}" for key, value in flags.items()), *more]


SMALL = "width: 32, heads: 2, spatial_depth: 1, temporal_depth: 1, codebook_size: 64"


@pytest.mark.parametrize("quantizer", ["cosine", "lfq"])
def test_trains_exports_and_loads(tmp_path: Path, quantizer: str) -> None:
    for name in ("a", "sub/b"):
        make_clip(tmp_path / "clips" / f"{name}.mp4", frames=48, tone_hz=None)
    out = tmp_path / "out"
    assert main(arguments(tmp_path / "clips", out, f"--model={{{SMALL}, quantizer: {quantizer}}}")) == 0
    tokenizer = load_video_tokenizer(out / "tokenizer", "cpu")
    assert (tokenizer.name, tokenizer.codebook_size) == ("cvivit", 64)
    measures = json.loads((out / "metrics.json").read_text())
    assert measures["fingerprint"] == tokenizer.fingerprint
    held_back = measures["held_back"]
    assert 5 < held_back["psnr_db"] < 60
    assert 1 <= held_back["perplexity"] <= held_back["codes_used"] <= 64
    assert ("bit_entropy" in held_back) == (quantizer == "lfq")


def test_sizes_it_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no size 'videopoet', only tiny, base"):
        main(arguments(tmp_path, tmp_path / "out", "--size=videopoet"))
