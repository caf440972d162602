"""Our form of TransNetV2 beside the package's own, and when float32 has the last word."""

import numpy as np
import pytest
import torch

from curation import transnet
from curation.second_opinion import EXTENT_THRESHOLD, SecondOpinion
from curation.transnet_quick import judge, network
from tests.curation.pictures import dissolve, scene


@pytest.fixture(scope="module")
def window():
    """60 frames of 27 × 48 with a cut, a dissolve and a fade to black."""
    frames = np.concatenate([scene(12, 1), dissolve(scene(20, 2), scene(20, 3), 10), scene(18, 4)])[:60, ::2, ::2]
    light = np.ones((len(frames), 1, 1, 1))
    light[-10:, 0, 0, 0] = np.linspace(0.9, 0, 10)
    return np.ascontiguousarray((frames * light).astype(np.uint8)[:, :27, :48])


def test_it_says_what_the_package_says(window):
    expected = transnet.judge(window, "cpu")
    exact = judge(window, lambda middle, extent: False)
    assert max(np.abs(one - other).max() for one, other in zip(exact, expected, strict=True)) < 1e-4
    with torch.inference_mode():
        rounded = network(torch.bfloat16)(torch.from_numpy(window))
    assert max(np.abs(one.numpy() - other).max() for one, other in zip(rounded, expected, strict=True)) < 0.1
    assert expected[0].max() > 0.5 and expected[0].min() < 0.01


@pytest.mark.parametrize(
    ("middle", "extent", "settled"),
    [
        ([0.1, 0.9, 0.1], [0.01, 0.9, 0.01], True),
        ([0.1, 0.52, 0.1], [0.01, 0.9, 0.01], False),
        ([0.1, 0.9, 0.1], [0.11, 0.9, 0.01], False),
        ([0.8, 0.41, 0.9], [0.01, 0.9, 0.01], False),
        ([0.8, 0.25, 0.9], [0.01, 0.9, 0.01], True),
    ],
    ids=["clear", "at the threshold", "at the threshold of the extent", "a valley of half its peaks", "a deep valley"],
)
def test_float32_has_the_last_word_where_it_is_close(middle, extent, settled):
    assert SecondOpinion().decided(np.array(middle), np.array(extent), 0, [(0, 3)]) is settled


def test_another_threshold_moves_what_is_close():
    middle, extent = np.array([0.1, 0.7, 0.1]), np.full(3, EXTENT_THRESHOLD / 10)
    assert SecondOpinion().decided(middle, extent, 0, [(0, 3)])
    assert not SecondOpinion(0.7).decided(middle, extent, 0, [(0, 3)])
