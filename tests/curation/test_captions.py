"""BLIP-2 through the loading code a user runs, compared with the library called directly."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from beam_jobs.model_fingerprints import model_fingerprints
from curation.captions import Captioner
from curation.settings import CaptionSettings, CurateSettings
from media.encode import image_from_jpeg, jpeg_bytes
from tests.curation.tiny_models import save_blip2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_blip2(tmp_path_factory.mktemp("blip2"))


@pytest.fixture(scope="module")
def pictures():
    sizes = [(24, 32), (48, 20), (20, 20), (64, 64), (30, 31)]
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)]
    images = [np.full((*size, 3), colour, np.uint8) for size, colour in zip(sizes, colours, strict=True)]
    for image in images:
        image[: image.shape[0] // 2, : image.shape[1] // 3] = 128
    return [jpeg_bytes(image) for image in images]


def settings(folder, **changes):
    return CaptionSettings(model=str(folder), **{"max_new_tokens": 12, "num_beams": 3, "batch_size": 2, **changes})


@pytest.mark.parametrize("prompt", ["", "question : a dog answer :"], ids=["plain", "prompted"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_captions_equal_those_of_the_library(folder, pictures, prompt, num_beams):
    captions = Captioner(settings(folder, prompt=prompt, num_beams=num_beams)).caption(
        [[picture] for picture in pictures]
    )
    processor = Blip2Processor.from_pretrained(folder)
    model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
    for data, caption in zip(pictures, captions, strict=True):
        image = Image.fromarray(image_from_jpeg(data))
        inputs = processor(images=image, text=prompt, return_tensors="pt")
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=12, num_beams=num_beams, do_sample=False)
        text = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
        assert caption.text == " ".join(text.split())
        assert caption.source == folder.name
    assert len({caption.text for caption in captions}) > 1  # the picture matters


def test_a_caption_does_not_depend_on_what_comes_with_it(folder, pictures):
    captioner = Captioner(settings(folder, batch_size=4))
    together = captioner.caption([[picture] for picture in pictures])
    assert [captioner.caption([[picture]])[0] for picture in pictures] == together
    assert captioner.caption([[picture] for picture in pictures[::-1]]) == together[::-1]


def test_outcomes(folder, pictures):
    captioner = Captioner(settings(folder, num_beams=1))
    assert captioner.caption([[b"no picture"]])[0].outcome == "failed"
    assert captioner.caption([]) == []
    end, dog = 2, captioner.processor.tokenizer.convert_tokens_to_ids("dog")
    for tokens, outcome in (
        ([dog] * 12, "truncated"),
        ([dog, end], "ok"),
        ([end], "empty"),
        ([dog] * 11 + [end], "ok"),
    ):
        assert captioner._as_caption(torch.tensor(tokens)).outcome == outcome


def test_one_bad_picture_leaves_the_others_alone(folder, pictures):
    captioner = Captioner(settings(folder))
    alone = captioner.caption([[picture] for picture in pictures[:2]])
    mixed = captioner.caption([[pictures[0]], [b""], [pictures[1]]])
    assert [mixed[0], mixed[2]] == alone
    assert mixed[1].outcome == "failed"


def test_the_fingerprint_follows_weights_and_search_but_not_the_place(folder, tmp_path):
    same, other = save_blip2(tmp_path / "same"), save_blip2(tmp_path / "other", seed=1)

    def of(folder, **changes):
        whole = CurateSettings("a", "b", caption=settings(folder, **changes))
        return model_fingerprints(whole)["caption"]

    assert of(same) == of(folder) == of(folder, replace=True)
    assert of(folder) not in (of(other), of(folder, num_beams=2))


def test_a_wrong_model_is_named(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt" / "config.json").write_text('{"model_type": "opt"}')
    with pytest.raises(ValueError, match=r"caption.model is not set"):
        Captioner(CaptionSettings())
    with pytest.raises(ValueError, match=r"without config.json"):
        Captioner(settings(tmp_path / "empty"))
    with pytest.raises(ValueError, match=r"is a opt model, none of transformers"):
        Captioner(settings(tmp_path / "opt"))
    with pytest.raises(FileNotFoundError, match=r"neither a folder nor a hub name"):
        Captioner(settings(tmp_path / "missing"))
    with pytest.raises(FileNotFoundError, match=r"caption.model nobody/nothing cannot be loaded"):
        Captioner(CaptionSettings(model="nobody/nothing"))
