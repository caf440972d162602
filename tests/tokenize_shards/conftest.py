"""Models and clips that several tests share, made once."""

from pathlib import Path

import pytest

from tests.tokenize_shards import tiny_models
from tokenize_shards.settings import (
    AudioTokenSettings,
    QualitySettings,
    TextSettings,
    TokenizeSettings,
    VideoTokenSettings,
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of a small random video tokenizer, audio tokenizer and text encoder."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "video": tiny_models.save_video_tokenizer(folder / "video"),
        "audio": tiny_models.save_audio_tokenizer(folder / "audio"),
        "text": tiny_models.save_text_encoder(folder / "text"),
    }


@pytest.fixture(scope="session")
def settings(models: dict[str, str]) -> TokenizeSettings:
    """Windows of 17 frames at 8 fps, at 32x32 and 64x64, every window measured."""
    return TokenizeSettings(
        input="curated",
        output="tokens",
        video=VideoTokenSettings(tokenizer=models["video"], resolutions=["32x32", "64x64"]),
        audio=AudioTokenSettings(tokenizer=models["audio"]),
        text=TextSettings(encoder=models["text"]),
        quality=QualitySettings(every=1),
        device="cpu",
    )


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the clips of a session."""
    return tmp_path_factory.mktemp("clips")
