"""LAION's aesthetic score: a small head on a CLIP embedding of norm 1.

Two forms of weights are known by their names: one linear layer (`weight`, `bias`; LAION-AI/aesthetic-predictor), and
the stack of linear layers of christophschuhmann/improved-aesthetic-predictor (`layers.0`, `layers.2`, …), which has no
activation between its layers and whose dropouts do nothing here.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from safetensors.torch import load_file

from curation.settings_models import AestheticSettings


def head_file(name: str) -> Path:
    """The weights: a local file, or `OWNER/NAME/FILE` on the hub.

    Raises:
        FileNotFoundError: there is no such file, or the hub cannot be reached.
    """
    if Path(name).is_file():
        return Path(name)
    owner, _, rest = name.partition("/")
    model, _, file = rest.partition("/")
    if not file or name.startswith(("/", ".")):
        raise FileNotFoundError(f"aesthetic.head {name} is neither a file nor OWNER/NAME/FILE on the hub")
    try:
        return Path(hf_hub_download(f"{owner}/{model}", file))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise FileNotFoundError(f"aesthetic.head {name} cannot be fetched ({error}); give a local file") from error


class AestheticHead:
    """The head as one matrix product: linear layers without activations between them are one linear layer.

    Raises:
        FileNotFoundError: as of `head_file`.
        ValueError: the file holds something else than such a head.
    """

    def __init__(self, settings: AestheticSettings):
        self._name = settings.head or ""
        layers = _layers(_tensors(head_file(self._name)), self._name)
        weight, bias = layers[0]
        for next_weight, next_bias in layers[1:]:
            weight, bias = next_weight @ weight, next_weight @ bias + next_bias
        self._weight, self._bias = weight[0].numpy(), float(bias[0])

    def check_size(self, size: int | None) -> None:
        """Refuses embeddings of another model than that of the head; None is not known yet.

        Raises:
            ValueError: names both sizes.
        """
        if size not in (None, len(self._weight)):
            raise ValueError(
                f"aesthetic.head {self._name} is for embeddings of {len(self._weight)} numbers, the CLIP model gives "
                f"{size}; name the head's own with --aesthetic.model and --aesthetic.pretrained"
            )

    def score(self, embeddings: Sequence[np.ndarray]) -> list[float]:
        """The score, about 1–10, of each embedding (D,) of norm 1.

        Raises:
            ValueError: the embedding is of another model than that of the head.
        """
        for embedding in embeddings:
            self.check_size(len(embedding))
        return [float((self._weight * embedding.astype(np.float64)).sum() + self._bias) for embedding in embeddings]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (UnpicklingError, RuntimeError, ValueError, TypeError, EOFError, KeyError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no file of plain tensors ({first_line}); convert it to safetensors") from error


def _layers(tensors: dict[str, torch.Tensor], name: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(weight, bias) of each linear layer in order, as float64."""
    prefixes = {key.rpartition(".")[0] for key in tensors if key.endswith("weight")}
    known = all(re.fullmatch(r"(layers|mlp)\.\d+", prefix) for prefix in prefixes) or prefixes == {""}
    names = [f"{prefix}." if prefix else "" for prefix in sorted(prefixes, key=_number)]
    found = [(tensors.get(f"{each}weight"), tensors.get(f"{each}bias")) for each in names]
    layers = [(w.double(), b.double()) for w, b in found if w is not None and b is not None and w.ndim == 2]
    chained = all(first[0].shape[0] == second[0].shape[1] for first, second in pairwise(layers))
    if not known or not layers or len(layers) != len(names) or not chained or layers[-1][0].shape[0] != 1:
        raise ValueError(
            f"aesthetic.head {name} holds {sorted(tensors)[:6]}; known are a linear layer (weight, bias) and LAION's "
            "stack (layers.0.weight, …) that ends in one number"
        )
    return layers


def _number(prefix: str) -> int:
    return int(prefix.rpartition(".")[2] or 0)
