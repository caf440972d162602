"""A small tokenized data set that tests of training and generation share, made once.

One thread for torch: on tensors this small several only wait for each other, the more so beside other tests.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from rich.console import Console

from schemas.shards import DatasetInfo
from tests.tokenize_shards import tiny_models
from tokenize_shards.encode_clip import ClipTokenizer
from tokenize_shards.settings import (
    AudioTokenSettings,
    QualitySettings,
    StructureTokenSettings,
    TextSettings,
    TokenizeSettings,
    VideoTokenSettings,
)
from tokenize_shards.writer import members_of, write_dataset, write_shard
from training.lm_train import train as train_lm
from training.settings import LmModelSettings, LmSettings, LoopSettings

torch.set_num_threads(1)

CAPTIONS = ("a red ball rolls left", "a blue ball rolls right", "a ball .", "red left")


@dataclass(frozen=True)
class TokenData:
    """Folder of the token shards, and the clips they were made from."""

    folder: Path
    clips: list[Path]


@pytest.fixture(scope="session")
def token_data(tmp_path_factory: pytest.TempPathFactory) -> TokenData:
    """Three clips of one window each (the fourth for val) with sound and structure, at 32x32 and 64x64, by random
    tokenizers."""
    root = tmp_path_factory.mktemp("token-data")
    settings = TokenizeSettings(
        input="clips", output="tokens", device="cpu", quality=QualitySettings(every=10),
        video=VideoTokenSettings(
            tokenizer=tiny_models.save_video_tokenizer(root / "video"), resolutions=["32x32", "64x64"]
        ),
        audio=AudioTokenSettings(tokenizer=tiny_models.save_audio_tokenizer(root / "audio")),
        text=TextSettings(encoder=tiny_models.save_text_encoder(root / "text")),
        structure=StructureTokenSettings(enabled=True),
    )  # fmt: skip
    tokenizer = ClipTokenizer(settings)
    samples, clips = [], []
    for index, source in enumerate(("testsrc2", "smptebars", "rgbtestsrc", "mandelbrot")):
        clips.append(root / f"{index:020x}.mp4")
        sidecar = tiny_models.make_clip(clips[-1], source=source, tone_hz=220 * (index + 1))
        samples += tokenizer.tokenize(clips[-1].stem, clips[-1], {**sidecar, "caption": CAPTIONS[index]})
    tokens = root / "tokens"
    shards = [
        write_shard(str(tokens), f"{split}-00000.tar", split, chosen, tokenizer.tokenizers).info
        for split, chosen in (("train", samples[:3]), ("val", samples[3:]))
    ]
    info = DatasetInfo(
        tokenizer.tokenizers, [(32, 32), (64, 64)], 17, (8, 1), {"samples": 4}, shards, members_of(samples)
    )
    write_dataset(str(tokens), replace(info), tokenizer.empty_caption)
    assert Fraction(*samples[0].meta["fps"]) == 8
    return TokenData(tokens, clips)


@pytest.fixture(scope="session")
def one_step_lm(token_data: TokenData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny language model that was trained for one step."""
    output = tmp_path_factory.mktemp("one-step-lm")
    sizes = LmModelSettings(width=32, layers=1, heads=2, mlp_width=32)
    loop = LoopSettings(steps=1, batch_size=2, device="cpu", save_every=0)
    train_lm(LmSettings(data=str(token_data.folder), output=str(output), model=sizes, loop=loop), Console(quiet=True))
    return output
