"""CLIP score through the loading code a user runs, compared with OpenCLIP called directly."""

import json
import math

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from curation.clip_score import OpenClipScorer, clip_score_fingerprint
from curation.settings import ClipScoreSettings
from media.encode import image_from_jpeg, jpeg_bytes
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


def test_scores_equal_those_of_the_library(folder, pairs):
    scores = OpenClipScorer(ClipScoreSettings(model=f"local-dir:{folder}", batch_size=3)).score(pairs)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    for (data, text), score in zip(pairs, scores, strict=True):
        with torch.inference_mode():
            image = model.encode_image(preprocess(Image.fromarray(image_from_jpeg(data)))[None])
            expected = torch.cosine_similarity(image, model.encode_text(tokenizer([text])))
        assert score == pytest.approx(float(expected), abs=1e-5)
    assert len({round(score, 4) for score in scores}) == len(scores)


def test_an_architecture_with_a_weight_file(folder, pairs, tmp_path):
    (tmp_path / "tiny-clip.json").write_text(json.dumps(CLIP_CONFIG))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    settings = ClipScoreSettings(model="tiny-clip", pretrained=str(folder / "open_clip_model.safetensors"))
    assert all(-1 <= score <= 1 for score in OpenClipScorer(settings).score(pairs))


def test_a_score_does_not_depend_on_what_comes_with_it(folder, pairs):
    scorer = OpenClipScorer(ClipScoreSettings(model=f"local-dir:{folder}", batch_size=4))
    together = scorer.score(pairs)
    assert [scorer.score([pair])[0] for pair in pairs] == together
    assert scorer.score(pairs[::-1]) == together[::-1]


def test_a_bad_picture_has_no_score(folder, pairs):
    scorer = OpenClipScorer(ClipScoreSettings(model=f"local-dir:{folder}"))
    scores = scorer.score([pairs[0], (b"", "a dog"), pairs[1]])
    assert math.isnan(scores[1]) and not math.isnan(scores[0]) and not math.isnan(scores[2])
    assert scorer.score([]) == []


def test_the_fingerprint_follows_the_weights(folder, tmp_path):
    same, other = save_open_clip(tmp_path / "same"), save_open_clip(tmp_path / "other", seed=1)
    prints = [clip_score_fingerprint(ClipScoreSettings(model=f"local-dir:{f}")) for f in (folder, same, other)]
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
            r"'laion' is neither a weight file nor a tag of ViT-B-32; its tags are openai",
        ),
        ("local-dir:/nowhere", None, FileNotFoundError, r"no open_clip_config.json in /nowhere"),
    ],
    ids=["none", "architecture", "tag", "folder"],
)
def test_a_wrong_model_is_named(model, pretrained, error, message):
    with pytest.raises(error, match=message):
        OpenClipScorer(ClipScoreSettings(model=model, pretrained=pretrained))


def test_an_architecture_without_weights_is_refused():
    with pytest.raises(ValueError, match="would have random weights"):
        ClipScoreSettings(model="ViT-B-32")
