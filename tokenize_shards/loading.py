"""Tokenizers by name: built in, from a local folder, or from the Hugging Face hub.

A video or audio tokenizer is a folder with `config.json` (`model_type`, `name`, `config`) and
`model.safetensors`, or one of the layouts in `published`; a text encoder is what `save_pretrained` of transformers
writes.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file, save
from torch import nn

from tokenize_shards.base import AudioTokenizer, TextEncoder, VideoTokenizer, default_device, fingerprint
from tokenize_shards.cvivit import CViViT, CViViTConfig
from tokenize_shards.hf_audio import load_transformers_codec
from tokenize_shards.magvit2 import Magvit2, Magvit2Config
from tokenize_shards.motion import MotionConfig, MotionTokenizer
from tokenize_shards.published import VIDEO_FILES, load_published_video
from tokenize_shards.soundstream import SoundStream, SoundStreamConfig
from tokenize_shards.text import TransformersTextEncoder, minilm_folder

BUILT_IN = Path(__file__).parent / "weights"
VIDEO_TYPES = {
    "magvit2": lambda config, name: Magvit2(Magvit2Config.from_dict(config), name=name),
    "cvivit": lambda config, name: CViViT(CViViTConfig.from_dict(config), name=name),
}
AUDIO_TYPES = {"soundstream": lambda config, name: SoundStream(SoundStreamConfig.from_dict(config), name=name)}
MOTION_TYPES = {"lavit-motion": lambda config, name: MotionTokenizer(MotionConfig.from_dict(config), name=name)}
EMBEDDED_TEXT = "minilm"


def built_in_names(types: Collection[str] | None = None) -> list[str]:
    """The tokenizers whose weights come with the package; of some model types, or all."""
    configs = {path.parent.name: json.loads(path.read_text()) for path in BUILT_IN.glob("*/config.json")}
    return sorted(name for name, config in configs.items() if types is None or config["model_type"] in types)


def load_video_tokenizer(name_or_path: str | Path, device: str | torch.device | None = None) -> VideoTokenizer:
    """A video tokenizer ready to encode, on `device` (by default cuda when there is one).

    Args:
        name_or_path: a built-in name (`magvit2-tiny`, `cvivit-tiny`), a folder, or a hub id; the folder (or
            repository) is one of ours, holds Open-MAGVIT2's `.ckpt` (which may also be named itself), or a TorchScript
            pair. Open-MAGVIT2 followed by `#frame` takes its norms over single frames: causal, but not what the weights
            were trained for.

    Raises:
        FileNotFoundError: there is no such folder, built-in name, or hub repository within reach.
        ValueError: the folder does not hold a video tokenizer.
    """
    return cast(VideoTokenizer, _load(name_or_path, VIDEO_TYPES, "video", device))


def load_audio_tokenizer(name_or_path: str | Path, device: str | torch.device | None = None) -> AudioTokenizer:
    """An audio tokenizer ready to encode; as `load_video_tokenizer` (`soundstream-tiny` is built in).

    A folder or hub id of EnCodec, DAC or Mimi (transformers) is taken as well; `facebook/encodec_24khz#8` keeps the
    first 8 levels of its codes.
    """
    return cast(AudioTokenizer, _load(name_or_path, AUDIO_TYPES, "audio", device))


def load_motion_tokenizer(name_or_path: str | Path, device: str | torch.device | None = None) -> MotionTokenizer:
    """A tokenizer of motion maps ready to encode; as `load_video_tokenizer`."""
    return cast(MotionTokenizer, _load(name_or_path, MOTION_TYPES, "motion", device))


def load_text_encoder(
    name_or_path: str | Path, device: str | torch.device | None = None, max_tokens: int = 64
) -> TextEncoder:
    """A frozen text encoder: `minilm`, or the folder or hub id of any encoder of transformers.

    Raises:
        FileNotFoundError: there is no such folder or hub repository within reach.
        ValueError: the folder holds no transformers model, or no tokenizer.
    """
    if str(name_or_path) == EMBEDDED_TEXT:
        return TransformersTextEncoder(minilm_folder(), EMBEDDED_TEXT, device, max_tokens)
    folder = resolve(name_or_path, f"`{EMBEDDED_TEXT}`")
    config = _read_config(folder, "a text encoder: config.json, model.safetensors and tokenizer files")
    if not isinstance(config.get("model_type"), str) or config["model_type"] in VIDEO_TYPES | AUDIO_TYPES:
        raise ValueError(f"{folder} is not a transformers model: model_type is {config.get('model_type')!r}")
    try:
        return TransformersTextEncoder(folder, str(name_or_path), device, max_tokens)
    except OSError as error:
        raise ValueError(f"{folder} does not load as a text encoder: {error}") from error


def save_tokenizer(model: nn.Module, folder: Path, dtype: torch.dtype = torch.float32) -> str:
    """Writes the folder that `load_video_tokenizer` and `load_audio_tokenizer` take; gives its fingerprint.

    `config.json` comes last, so that a folder that has one is whole.

    Args:
        dtype: of the stored weights; float16 halves the files. They are float32 again once loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    state = {key: _stored(value, dtype) for key, value in sorted(model.state_dict().items())}
    temporary = folder / ".model.safetensors.tmp"
    temporary.write_bytes(save(state))
    temporary.replace(folder / "model.safetensors")
    config = {"model_type": model.model_type, "name": model.name, "config": cast(Any, model).config_dict()}
    temporary = folder / ".config.json.tmp"
    temporary.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    temporary.replace(folder / "config.json")
    return fingerprint(json.loads(json.dumps(config)), folder / "model.safetensors")


def resolve(name_or_path: str | Path, built_in: str, further_files: Sequence[str] = ()) -> Path:
    """The local folder of a name; hub repositories are downloaded (or taken from the local cache).

    Args:
        built_in: the names that need no download, for the message.
        further_files: patterns of files to take besides the usual; a local file of such a name is given as it is.
    """
    path = Path(name_or_path)
    if path.is_dir() or (path.is_file() and any(path.match(pattern) for pattern in further_files)):
        return path
    where = f"it is not a folder here, not built in ({built_in})"
    if path.is_absolute() or str(name_or_path).startswith(".") or str(name_or_path).count("/") != 1:
        raise FileNotFoundError(f"no model {str(name_or_path)!r}: {where}, and no hub id (OWNER/NAME)")
    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.txt", *further_files]
        return Path(snapshot_download(str(name_or_path), allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"no model {str(name_or_path)!r}: {where}, and the hub says: {error}") from error


def _load(name_or_path: str | Path, types: dict[str, Any], kind: str, device: str | torch.device | None) -> nn.Module:
    place, option = _split(name_or_path)
    folder = BUILT_IN / place if place in built_in_names() else None
    folder = folder or resolve(place, ", ".join(built_in_names(types)), VIDEO_FILES if kind == "video" else ())
    model: nn.Module | None = None
    if kind == "video":
        model = load_published_video(folder, option)
    elif kind == "audio":
        model = load_transformers_codec(folder, str(name_or_path), option)
    if model is None and option:
        raise ValueError(f"{name_or_path}: #{option} is for the published tokenizers that have a choice; leave it out")
    model = model or _load_ours(folder, types, kind)
    return model.eval().requires_grad_(False).to(default_device(device))


def _split(name_or_path: str | Path) -> tuple[str, str]:
    """(name, option) of `name#option`; a file or folder that has such a name has no option."""
    place, mark, option = str(name_or_path).rpartition("#")
    return (place, option) if mark and not Path(name_or_path).exists() else (str(name_or_path), "")


def _load_ours(folder: Path, types: dict[str, Any], kind: str) -> nn.Module:
    saved = _read_config(folder, f"the {kind} tokenizer: config.json and model.safetensors")
    if saved.get("model_type") not in types:
        article = "an" if kind[0] in "aeiou" else "a"
        raise ValueError(
            f"{folder} is not {article} {kind} tokenizer: model_type is {saved.get('model_type')!r}, "
            f"one of {', '.join(sorted(types))} is expected"
        )
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise ValueError(f"{folder} has no model.safetensors; export the tokenizer again")
    model = types[saved["model_type"]](saved["config"], saved.get("name", folder.name))
    try:
        model.load_state_dict({key: _loaded(value) for key, value in load_file(weights).items()})
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit its config.json: {error}") from error
    model.fingerprint = fingerprint(saved, weights)
    return model


def _read_config(folder: Path, expected: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json; expected {expected}")
    try:
        config = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a JSON object; expected {expected}")
    return config


def _stored(value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.to(dtype) if value.is_floating_point() else value.clone()


def _loaded(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value
