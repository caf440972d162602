"""Tokenizers in the layouts that others publish: Open-MAGVIT2's checkpoint, TorchScript pairs."""

import json
from pathlib import Path

from torch import nn

from tokenize_shards.open_magvit2 import load_open_magvit2
from tokenize_shards.torchscript import PAIR, load_torchscript_pair

VIDEO_FILES = ("*.ckpt", *PAIR)
"""What a hub repository of a video tokenizer may hold besides safetensors and JSON."""


def load_published_video(place: Path) -> nn.Module | None:
    """The video tokenizer of a `.ckpt` file or of a folder that others made; None for a folder of ours.

    Raises:
        ValueError: the file is of another network, or a folder holds several checkpoints.
    """
    if place.is_file():
        return load_open_magvit2(place)
    if all((place / name).is_file() for name in PAIR):
        return load_torchscript_pair(place)
    if model_type(place) == "magvit2":
        return None
    checkpoints = sorted(place.glob("*.ckpt"))
    if len(checkpoints) > 1:
        names = ", ".join(path.name for path in checkpoints)
        raise ValueError(f"{place} holds several checkpoints ({names}); name one of the files")
    return load_open_magvit2(checkpoints[0]) if checkpoints else None


def model_type(folder: Path) -> str | None:
    """`model_type` of the folder's config.json; None where there is no such file, or it does not say."""
    try:
        saved = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    found = saved.get("model_type") if isinstance(saved, dict) else None
    return found if isinstance(found, str) else None
