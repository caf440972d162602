"""Small random tokenizers in the folders that `load_*` takes, and clips of moving colour with a tone."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from media.ffmpeg import run_ffmpeg
from tokenize_shards.loading import save_tokenizer
from tokenize_shards.magvit2 import Magvit2, Magvit2Config
from tokenize_shards.soundstream import SoundStream, SoundStreamConfig

WORDS = ["a", "red", "blue", "ball", "rolls", "left", "right", "."]


def save_video_tokenizer(folder: Path, seed: int = 0) -> str:
    """A MAGVIT-v2 of strides 4×8×8 with 18 bits that costs next to nothing."""
    torch.manual_seed(seed)
    config = Magvit2Config(
        channels=8,
        multipliers=(1,),
        num_res_blocks=1,
        num_mid_blocks=1,
        strides=(),
        wavelet_levels=(2, 3),
        norm_groups=4,
    )
    save_tokenizer(Magvit2(config, name=folder.name), folder)
    return str(folder)


def save_audio_tokenizer(folder: Path, seed: int = 0) -> str:
    """A SoundStream of hop 320 with 4 × 1024 codes that costs next to nothing."""
    torch.manual_seed(seed)
    save_tokenizer(SoundStream(SoundStreamConfig(channels=4, width=16), name=folder.name), folder)
    return str(folder)


def save_text_encoder(folder: Path, seed: int = 0) -> str:
    """A T5 encoder of width 16 that knows eight words."""
    torch.manual_seed(seed)
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    config = T5Config(vocab_size=len(vocabulary), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    return str(folder)


def make_clip(
    path: Path,
    *,
    frames: int = 60,
    fps: str = "24",
    size: str = "96x80",
    tone_hz: int | None = 440,
    source: str = "testsrc2",
) -> dict[str, Any]:
    """An mp4 of moving colour with a tone; returns the `KEY.json` that curation would write for it."""
    rate = Fraction(fps)
    seconds = float(frames / rate)
    sound = ["-f", "lavfi", "-i", f"sine=frequency={tone_hz}:sample_rate=16000:duration={seconds}"] if tone_hz else []
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = ["-f", "lavfi", "-i", f"{source}=size={size}:rate={fps}"]
    codecs = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-crf",
        "20",
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
        "-threads",
        "1",
    ]
    run_ffmpeg([*picture, *sound, "-frames:v", str(frames), *codecs, str(path)])
    width, height = map(int, size.split("x"))
    stem = path.stem
    return {
        "clip_id": stem, "source_id": f"source-of-{stem}", "content_sha256": stem, "media_sha256": stem,
        "start_pts": 0, "end_pts": frames * rate.denominator, "time_base_num": 1, "time_base_den": rate.numerator,
        "start_s": 0.0, "end_s": seconds, "num_frames": frames, "height": height, "width": width,
        "caption": "a red ball rolls left", "license": "CC0", "extra": {"camera": "north"},
        "audio_sample_rate_hz": 16000 if tone_hz else None,
    }  # fmt: skip


def sidecar_bytes(sidecar: dict[str, Any]) -> bytes:
    """`KEY.json`."""
    return json.dumps({"schema_version": 1, **sidecar}, sort_keys=True).encode()
