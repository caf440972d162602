"""LAION's head in both its forms, loaded as files and compared with the layers called directly."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.aesthetic import AestheticHead
from curation.settings import AestheticSettings

SIZE = 24


def laion_stack() -> torch.nn.Module:
    """The layers of improved-aesthetic-predictor, narrower."""
    torch.manual_seed(0)
    sizes = (SIZE, 32, 16, 8, 4, 1)
    linear = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    dropout = [torch.nn.Dropout(0.2), torch.nn.Dropout(0.2), torch.nn.Dropout(0.1)]
    layers = torch.nn.Sequential(linear[0], dropout[0], linear[1], dropout[1], linear[2], dropout[2], *linear[3:])
    return torch.nn.ModuleDict({"layers": layers}).eval()


def linear_head() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Linear(SIZE, 1)


@pytest.fixture
def embeddings():
    found = np.random.default_rng(0).standard_normal((5, SIZE)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("make", [laion_stack, linear_head], ids=["stack", "linear"])
def test_scores_are_those_of_the_layers(make, suffix, embeddings, tmp_path):
    model, path = make(), tmp_path / f"head.{suffix}"
    if suffix == "pth":
        torch.save(model.state_dict(), path)
    else:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    layers = model["layers"] if make is laion_stack else model
    with torch.inference_mode():
        expected = layers(torch.from_numpy(embeddings))[:, 0].numpy()
    head = AestheticHead(AestheticSettings(head=str(path)))
    assert np.allclose(head.score(list(embeddings)), expected, atol=1e-6)
    assert head.score([embeddings[2]])[0] == head.score(list(embeddings))[2]


def test_a_head_for_another_model_is_refused(embeddings, tmp_path):
    torch.save(linear_head().state_dict(), tmp_path / "head.pth")
    head = AestheticHead(AestheticSettings(head=str(tmp_path / "head.pth")))
    with pytest.raises(ValueError, match=f"for embeddings of {SIZE} numbers, the CLIP model gives 7"):
        head.check_size(7)
    head.check_size(None)


class Hostile:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"weight": torch.ones(2, SIZE), "bias": torch.ones(2)}, ValueError, "known are a linear layer"),
        ({"blocks.0.weight": torch.ones(1, SIZE), "blocks.0.bias": torch.ones(1)}, ValueError, "known are a linear"),
        ({"weight": Hostile()}, ValueError, "no file of plain tensors"),
        (None, FileNotFoundError, "neither a file nor OWNER/NAME/FILE"),
    ],
    ids=["two-numbers", "other-names", "code", "missing"],
)
def test_what_is_no_head_is_named(content, error, message, tmp_path, capsys):
    path = tmp_path / "head.pth"
    if content is not None:
        torch.save(content, path)
    with pytest.raises(error, match=message):
        AestheticHead(AestheticSettings(head=str(path)))
    assert "run" not in capsys.readouterr().out
