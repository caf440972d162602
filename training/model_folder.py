"""Model folders: `config.json` and `model.safetensors` as transformers writes them, with the tokenizers they need.

A tokenizer that is a folder or built in is copied to `tokenizers/<kind>/`, so that later versions of the built-in ones
do no harm; a hub id and the embedded text encoder are recorded by name. Loading checks the fingerprint of each.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging as transformers_logging

from schemas.shards import TokenizerInfo
from tokenize_shards.base import AudioTokenizer, TextEncoder, VideoTokenizer
from tokenize_shards.loading import (
    BUILT_IN,
    built_in_names,
    load_audio_tokenizer,
    load_motion_tokenizer,
    load_text_encoder,
    load_video_tokenizer,
)
from tokenize_shards.motion import MotionTokenizer
from tokenize_shards.structure import StructureEncoder, load_structure_encoder
from training.shards import ShardDataset, check_tokenizers

Model = TypeVar("Model", bound=PreTrainedModel)


def export_model(model: PreTrainedModel, output: Path, weights: Mapping[str, Tensor]) -> None:
    """Writes the model with these weights and what it needs; `config.json` last, so that a folder with one is whole."""
    (output / "config.json").unlink(missing_ok=True)
    for kind, info in (model.config.tokenizers or {}).items():
        if kind == "structure":
            continue  # its codes are the video tokenizer's
        folder = BUILT_IN / info["name"] if info["name"] in built_in_names() else Path(info["name"])
        if folder.is_dir():
            target = output / "tokenizers" / kind
            if target.resolve() != folder.resolve():
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(folder, target)
    transformers_logging.disable_progress_bar()
    temporary = output / ".export"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary, state_dict=dict(weights))
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == "config.json"):
        path.replace(output / path.name)
    temporary.rmdir()


def load_model(model_class: type[Model], name_or_path: str | Path, device: Any) -> tuple[Model, Path]:
    """The model, ready to generate, and its folder.

    Args:
        name_or_path: a folder that training wrote, or a hub id.

    Raises:
        FileNotFoundError: there is no such folder, and no such hub repository within reach.
        ValueError: it does not hold such a model.
    """
    folder = _folder(name_or_path)
    wanted = model_class.config_class.model_type  # type: ignore[union-attr]
    found = model_type(folder)
    if found != wanted:
        raise ValueError(f"{folder} holds a model of type {found!r}; {wanted!r} is wanted here")
    transformers_logging.disable_progress_bar()
    model = model_class.from_pretrained(folder, use_safetensors=True)
    return model.eval().requires_grad_(False).to(device), folder  # type: ignore[arg-type]


def model_type(name_or_path: str | Path) -> str | None:
    """What kind of model a folder or hub repository holds; errors as `load_model`."""
    folder = _folder(name_or_path)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"{folder} is no model folder: it has no config.json; name the --output of a finished training"
        )
    config, _ = PreTrainedConfig.get_config_dict(folder)
    return config.get("model_type")


def _folder(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.is_dir():
        return path
    if path.is_absolute() or str(name_or_path).startswith(".") or str(name_or_path).count("/") != 1:
        raise FileNotFoundError(
            f"no model {str(name_or_path)!r}: there is no such folder, and it is no hub id (OWNER/NAME)"
        )
    try:
        return Path(snapshot_download(str(name_or_path), allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise FileNotFoundError(f"no model {str(name_or_path)!r}: no such folder, and the hub says: {error}") from error


class Tokenizers:
    """The tokenizers a model was made for, loaded when first asked for."""

    def __init__(self, infos: dict[str, Any] | None, folder: Path, device: Any):
        self.infos, self.folder, self.device = infos or {}, folder, device
        self._loaded: dict[str, Any] = {}

    @property
    def video(self) -> VideoTokenizer:
        return self._get("video", load_video_tokenizer)

    @property
    def audio(self) -> AudioTokenizer:
        return self._get("audio", load_audio_tokenizer)

    @property
    def text(self) -> TextEncoder:
        return self._get("text", load_text_encoder)

    @property
    def motion(self) -> MotionTokenizer:
        return self._get("motion", load_motion_tokenizer)

    def structure(self, flow: str | None, depth: str | None) -> StructureEncoder:
        """The encoder of flow and depth, by the networks named.

        Raises:
            ValueError: the model was trained without, or with that of other networks.
        """
        self._check_known("structure")
        encoder, wanted = load_structure_encoder(self.video, flow, depth, self.device), self.infos["structure"]
        if encoder.fingerprint != wanted["fingerprint"]:
            raise ValueError(
                f"structure by flow {flow or 'DIS'} and depth {depth or 'none'} has fingerprint "
                f"{encoder.fingerprint[:12]}, the model in {self.folder} wants {wanted['fingerprint'][:12]}; name the "
                "networks of its shards with --structure.flow and --structure.depth"
            )
        return encoder

    def _check_known(self, kind: str) -> None:
        if kind not in self.infos:
            raise ValueError(f"the model in {self.folder} was trained without {kind}; it knows {', '.join(self.infos)}")

    def _get(self, kind: str, load: Callable[..., Any]) -> Any:
        if kind not in self._loaded:
            self._check_known(kind)
            info = self.infos[kind]
            bundled = self.folder / "tokenizers" / kind
            tokenizer = load(bundled if bundled.is_dir() else info["name"], self.device)
            if tokenizer.fingerprint != info["fingerprint"]:
                raise ValueError(
                    f"the {kind} tokenizer {info['name']!r} has fingerprint {tokenizer.fingerprint[:12]}, the model "
                    f"in {self.folder} wants {info['fingerprint'][:12]}; put that tokenizer in {bundled}"
                )
            self._loaded[kind] = tokenizer
        return self._loaded[kind]


def tokenizer_of(dataset: ShardDataset, device: Any) -> VideoTokenizer:
    """The video tokenizer of a data set; ValueError where the one at hand is not the one that made the shards."""
    tokenizer = load_video_tokenizer(dataset.info.tokenizers["video"].name, device)
    check_tokenizers(dataset.info, {"video": tokenizer.fingerprint}, "the data set")
    return tokenizer


def tokenizer_dicts(infos: dict[str, TokenizerInfo], kinds: tuple[str, ...]) -> dict[str, Any]:
    """The records of `dataset.json` that a model keeps in its configuration."""
    return {kind: {**asdict(info), "strides": list(info.strides)} for kind, info in infos.items() if kind in kinds}
