"""The low resolution on the grid of the high one."""

import numpy as np
import pytest
import torch

from tests.tokenize_shards import tiny_models
from tokenize_shards.loading import load_video_tokenizer
from tokenize_shards.round_trip import decode_frames, encode_frames
from training.enlarged_codes import EnlargedCodes, bicubic

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_video_tokenizer(tiny_models.save_video_tokenizer(tmp_path_factory.mktemp("video")), CPU)


def test_codes_are_those_of_the_enlarged_pictures_alone_or_beside_others(tokenizer):
    lows = list(np.random.default_rng(0).integers(2**18, size=(3, 2, 4, 4)).astype(np.uint32))
    enlarge = EnlargedCodes(tokenizer, (1, 2, 2), CPU)
    together = enlarge(lows)
    assert [codes.shape for codes in together] == [(2, 8, 8)] * 3
    frames = bicubic(decode_frames(tokenizer, lows[1], CPU), 64, 64)
    np.testing.assert_array_equal(together[1], encode_frames(tokenizer, frames[None], CPU)[0])
    np.testing.assert_array_equal(EnlargedCodes(tokenizer, (1, 2, 2), CPU)([lows[1]])[0], together[1])
    np.testing.assert_array_equal(enlarge(lows), together)


def test_time_cannot_be_enlarged(tokenizer):
    with pytest.raises(ValueError, match="in height and width only"):
        EnlargedCodes(tokenizer, (2, 2, 2), CPU)
