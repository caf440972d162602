"""BLIP-2 through the loading code a user runs, compared with the library called directly."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from beam_jobs.model_fingerprints import model_fingerprints
from curation.candidates import repetition
from curation.captions import Captioner, consensus
from curation.settings import CaptionSettings, CurateSettings
from curation.settings_models import QUESTION
from media.encode import image_from_jpeg, jpeg_bytes
from schemas.records import Caption
from tests.curation.tiny_models import save_blip, save_blip2, save_llava


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


# --- other models than BLIP-2, and several pictures -------------------------------------------------------------------


def test_a_chat_model_is_asked_about_all_pictures_at_once(pictures, tmp_path):
    captioner = Captioner(settings(save_llava(tmp_path / "llava"), num_beams=1))
    clips = [[pictures[0]], [pictures[1]], [pictures[2], pictures[3]], [b"no picture"]]
    captions = captioner.caption(clips)
    assert [caption.source for caption in captions] == ["llava"] * 4
    assert captions[3].outcome == "failed"
    content = [{"type": "image", "image": Image.fromarray(image_from_jpeg(jpeg))} for jpeg in clips[2]]
    question = [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}]
    processor, model = captioner.processor, captioner.model
    inputs = processor.apply_chat_template(
        question, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        tokens = model.generate(**inputs, max_new_tokens=12, num_beams=1, do_sample=False)
    expected = processor.tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert captions[2].text == " ".join(expected.split())
    assert [captioner.caption([clip])[0] for clip in clips] == captions


@pytest.mark.parametrize("prompt", ["", "a photo of"], ids=["plain", "prompted"])
def test_a_model_without_a_place_for_text(pictures, tmp_path, prompt):
    captioner = Captioner(settings(save_blip(tmp_path / "blip"), num_beams=1, prompt=prompt))
    captions = captioner.caption([[picture] for picture in pictures])
    assert len(captions) == len(pictures) and not any(caption.text.startswith("a photo of") for caption in captions)
    assert captioner.caption([[pictures[1]]])[0] == captions[1]


def test_of_several_pictures_the_caption_most_like_the_others_is_taken(folder, pictures):
    captioner = Captioner(settings(folder))
    alone = [captioner.caption([[picture]])[0] for picture in pictures[:3]]
    assert captioner.caption([pictures[:3], [b""], []])[0] == consensus(alone)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a dog runs", "a black screen", "a dog runs fast"], 0),
        (["a dog", "a cat", "a tree"], 1),
        (["", "a cat", ""], 1),
        (["", ""], 0),
        (["one"], 0),
    ],
    ids=["odd-one-out", "the-middle", "only-one-says-something", "none-does", "alone"],
)
def test_consensus(texts, expected):
    captions = [Caption(text, f"{index}", "ok") for index, text in enumerate(texts)]
    assert consensus(captions) == captions[expected]
    assert consensus([]) is None


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("", 0, 0),
        ("dog", 0, 0),
        ("a man in a hat walks his dog along the beach", 0, 0.01),
        ("a man in a hat and a man in a coat", 0.2, 0.4),
        ("a dog and a dog and a dog and a dog and a dog", 0.5, 1),
        ("dog dog dog dog dog dog", 0.7, 1),
    ],
    ids=["empty", "one", "plain", "some", "caught", "one-word"],
)
def test_repetition(text, low, high):
    assert low <= repetition(text.split()) <= high
