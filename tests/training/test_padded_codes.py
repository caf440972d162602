"""Codes of videos that stand still after what is given."""

import dataclasses

import numpy as np
import pytest
import torch

from schemas.shards import TokenSample
from tests.tokenize_shards import tiny_models
from tests.training.token_samples import token_sample
from tokenize_shards.loading import load_video_tokenizer
from tokenize_shards.round_trip import decode_frames, encode_frames
from training.commit import PaddedCodes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_video_tokenizer(tiny_models.save_video_tokenizer(tmp_path_factory.mktemp("video")), CPU)


@pytest.mark.parametrize("given", [1, 2])
def test_they_are_those_of_the_last_given_picture_again_and_again(given, tokenizer):
    samples = [token_sample(seed, grid=(3, 4, 4)) for seed in range(3)]
    padded = PaddedCodes(tokenizer, CPU)
    together = [sample.arrays["padded"] for sample in padded(samples, given)]
    known = samples[1].arrays["video"][:given]
    frames = decode_frames(tokenizer, known, CPU)
    still = np.concatenate([frames, np.repeat(frames[-1:], 9 - len(frames), axis=0)])
    np.testing.assert_array_equal(together[1][:given], known)
    np.testing.assert_array_equal(together[1][given:], encode_frames(tokenizer, still[None], CPU)[0][given:])
    for again in (padded, PaddedCodes(tokenizer, CPU)):  # remembered, and alone
        np.testing.assert_array_equal(again(samples[1:2], given)[0].arrays["padded"], together[1])


def test_they_know_nothing_of_what_comes(tokenizer):
    sample = token_sample(0, grid=(3, 4, 4))
    other = sample.arrays["video"].copy()
    other[1:] = 7
    changed = dataclasses.replace(sample, arrays={**sample.arrays, "video": other})
    one, two = (each.arrays["padded"] for each in PaddedCodes(tokenizer, CPU)([sample, changed], 1))
    np.testing.assert_array_equal(one, two)


def test_of_images_the_last_code_stands(tokenizer):
    video = np.arange(12, dtype=np.uint32).reshape(3, 2, 2)
    (sample,) = PaddedCodes(tokenizer, CPU)([TokenSample("images", {"video": video}, {"independent": True})], 2)
    np.testing.assert_array_equal(sample.arrays["padded"], video[[0, 1, 1]])
