"""CLIP embeddings and scores through the loading code a user runs, compared with OpenCLIP called directly."""

import json

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from curation.clip_score import ClipPictures, ClipTexts, clip_model_fingerprint, embedding_size
from curation.settings import ClipScoreSettings
from media.encode import image_from_jpeg, jpeg_bytes
from schemas.states import Rejection
from tests.curation.tiny_models import CLIP_CONFIG, save_open_clip

TEXTS = ["a dog", "a red car on the road", "", "many words " * 40]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_open_clip(tmp_path_factory.mktemp("open_clip"))


@pytest.fixture(scope="module")
def pairs():
    generator = np.random.default_rng(0)
    return [
        (jpeg_bytes(generator.integers(0, 256, (40, 30 + 9 * i, 3), np.uint8)), text) for i, text in enumerate(TEXTS)
    ]


def score(settings, pairs):
    embeddings = ClipPictures(settings).embed([[jpeg] for jpeg, _ in pairs])
    return ClipTexts(settings).score(list(zip(embeddings, [text for _, text in pairs], strict=True)))


def directly(folder, pairs):
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    with torch.inference_mode():
        for data, text in pairs:
            image = model.encode_image(preprocess(Image.fromarray(image_from_jpeg(data)))[None])
            yield F.normalize(image, dim=-1)[0], F.normalize(model.encode_text(tokenizer([text])), dim=-1)[0]


def test_scores_equal_those_of_the_library(folder, pairs):
    scores = score(ClipScoreSettings(model=f"local-dir:{folder}", batch_size=3), pairs)
    for (image, text), found in zip(directly(folder, pairs), scores, strict=True):
        assert found == pytest.approx(float(image @ text), abs=1e-5)
    assert len({round(found, 4) for found in scores}) == len(scores)


def test_an_architecture_with_a_weight_file(folder, pairs, tmp_path):
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CLIP_CONFIG))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    settings = ClipScoreSettings(model="tiny-clip", pretrained=str(folder / "open_clip_model.safetensors"))
    assert all(-1 <= found <= 1 for found in score(settings, pairs))
    assert embedding_size("tiny-clip") == embedding_size(f"local-dir:{folder}") == CLIP_CONFIG["embed_dim"]


def test_several_pictures_are_their_mean(folder, pairs):
    settings = ClipScoreSettings(model=f"local-dir:{folder}", batch_size=2)
    jpegs = [jpeg for jpeg, _ in pairs]
    found = ClipPictures(settings).embed([jpegs[:3], jpegs[3:]])
    images = [image for image, _ in directly(folder, pairs)]
    expected = F.normalize(torch.stack(images[:3]).mean(0), dim=0)
    assert np.allclose(found[0], expected, atol=1e-5) and np.allclose(found[1], images[3], atol=1e-5)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)


def test_an_embedding_does_not_depend_on_what_comes_with_it(folder, pairs):
    settings = ClipScoreSettings(model=f"local-dir:{folder}", batch_size=4)
    pictures, texts = ClipPictures(settings), ClipTexts(settings)
    together = pictures.embed([[jpeg] for jpeg, _ in pairs])
    alone = np.concatenate([pictures.embed([[jpeg]]) for jpeg, _ in pairs])
    assert (alone == together).all()
    asked = list(zip(together, [text for _, text in pairs], strict=True))
    assert [texts.score([pair])[0] for pair in asked] == texts.score(asked) == texts.score(asked[::-1])[::-1]


def test_a_bad_picture_is_rejected(folder):
    pictures = ClipPictures(ClipScoreSettings(model=f"local-dir:{folder}"))
    with pytest.raises(Rejection, match="unreadable_picture"):
        pictures.embed([[b"no picture"]])


def test_the_fingerprint_follows_the_weights(folder, tmp_path):
    same, other = save_open_clip(tmp_path / "same"), save_open_clip(tmp_path / "other", seed=1)
    prints = [clip_model_fingerprint(ClipScoreSettings(model=f"local-dir:{f}")) for f in (folder, same, other)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("model", "pretrained", "error", "message"),
    [
        (None, None, ValueError, r"clip_score.model is not set"),
        ("ViT-Q-1", "x", ValueError, r"'ViT-Q-1' is no OpenCLIP architecture"),
        (
            "ViT-B-32",
            "laion",
            ValueError,
            r"'laion' is neither a weight file nor a tag of the CLIP model ViT-B-32; its tags are openai",
        ),
        ("local-dir:/nowhere", None, FileNotFoundError, r"no open_clip_config.json in /nowhere"),
    ],
    ids=["none", "architecture", "tag", "folder"],
)
def test_a_wrong_model_is_named(model, pretrained, error, message):
    with pytest.raises(error, match=message):
        ClipPictures(ClipScoreSettings(model=model, pretrained=pretrained))


def test_an_architecture_without_weights_is_refused():
    with pytest.raises(ValueError, match="would have random weights"):
        ClipScoreSettings(model="ViT-B-32")
