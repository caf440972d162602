"""Other people's watermark classifiers, as small random networks saved by the real classes."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models._hub import save_for_hf

from curation.overlay_judges import overlay_scores
from curation.settings import CurateSettings, WatermarkSettings
from curation.stills import CENTRE
from curation.watermark_classifier import WatermarkClassifier, laion_network

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def laion():
    torch.manual_seed(0)
    return laion_network().eval()


@pytest.fixture(scope="module", params=["safetensors", "pt"])
def laion_file(request, laion, tmp_path_factory):
    path = tmp_path_factory.mktemp("laion") / f"watermark_model_v1.{request.param}"
    if request.param == "pt":
        torch.save(laion.state_dict(), path)
    else:
        save_file(laion.state_dict(), path)
    return path


def test_laions_weights_give_the_probability_of_their_first_class(laion, laion_file):
    judge = WatermarkClassifier(str(laion_file))
    grey = np.full((50, 70, 3), 124, np.uint8)
    normal = (torch.full((3,), 124 / 255) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = torch.softmax(laion(normal.view(1, 3, 1, 1).expand(1, 3, 320, 320)), 1)[0, 0]
    assert judge.probability(grey) == pytest.approx(float(expected), abs=1e-5)


def saved(folder, labels):
    network = timm.create_model("test_efficientnet", num_classes=len(labels))
    save_for_hf(network, folder, model_config={"label_names": labels}, safe_serialization=True)
    return network.eval()


def test_a_folder_that_timm_saved_goes_by_its_label(tmp_path):
    torch.manual_seed(1)
    saved(tmp_path, ["clear", "watermark"])
    judge, other = WatermarkClassifier(str(tmp_path)), WatermarkClassifier(str(tmp_path))
    first = judge.probability(PICTURE)
    assert 0 < first < 1 and other.probability(PICTURE) == first
    settings = CurateSettings("a", "b", watermark=WatermarkSettings(model=str(tmp_path)))
    assert overlay_scores(0.01, {CENTRE: PICTURE}, settings) == {"watermark": first}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("labels", ValueError, "no class `watermark` but cat, dog"),
        ("file.pt", ValueError, "does not hold LAION's watermark classifier"),
        ("/no/such/folder", FileNotFoundError, "neither a file, nor a folder"),
    ],
    ids=["labels", "weights", "missing"],
)
def test_what_is_no_watermark_classifier_is_refused(tmp_path, name, error, message):
    saved(tmp_path / "labels", ["cat", "dog"])
    torch.save({"weight": torch.zeros(3)}, tmp_path / "file.pt")
    with pytest.raises(error, match=message):
        WatermarkClassifier(name if name.startswith("/") else str(tmp_path / name))
