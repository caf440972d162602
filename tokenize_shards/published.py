"""Tokenizers in the layouts that others publish: Open-MAGVIT2's checkpoint, TorchScript pairs."""

from pathlib import Path

from torch import nn

from tokenize_shards.open_magvit2 import load_open_magvit2
from tokenize_shards.torchscript import PAIR, load_torchscript_pair

VIDEO_FILES = ("*.ckpt", *PAIR)
"""What a hub repository of a video tokenizer may hold besides safetensors and JSON."""


def load_published_video(place: Path, norm: str = "") -> nn.Module | None:
    """The video tokenizer of a `.ckpt` file or of a folder that others made; None for a folder of ours.

    Args:
        norm: of Open-MAGVIT2, `clip` (the default) or `frame`.

    Raises:
        ValueError: the file is of another network, a folder holds several checkpoints, or there is no such norm.
    """
    norm = norm or "clip"
    if place.is_file():
        return load_open_magvit2(place, norm)
    if norm == "clip" and all((place / name).is_file() for name in PAIR):
        return load_torchscript_pair(place)
    if (place / "model.safetensors").is_file():
        return None
    checkpoints = sorted(place.glob("*.ckpt"))
    if len(checkpoints) > 1:
        names = ", ".join(path.name for path in checkpoints)
        raise ValueError(f"{place} holds several checkpoints ({names}); name one of the files")
    return load_open_magvit2(checkpoints[0], norm) if checkpoints else None
