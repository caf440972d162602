"""Token QA: figures against values computed by hand, and problems found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.shards import TokenizerInfo, TokenSample
from tests.tokenize_shards.token_samples import TOKENIZERS, make_sample
from tokenize_shards.quality import (
    CodeUse,
    audio_snr_db,
    bit_entropies,
    is_measured,
    merge,
    perplexity,
    problems_of,
    psnr_db,
)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [pytest.param(0, 99.0, id="equal"), pytest.param(255, 0.0, id="opposite"), pytest.param(1, 48.1308, id="one-step")],
)
def test_psnr(difference: int, expected: float) -> None:
    original = np.zeros((2, 3, 4, 3), np.uint8)
    assert psnr_db(original, original + np.uint8(difference)) == pytest.approx(expected, abs=1e-4)


def test_psnr_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        psnr_db(np.zeros((1, 2), np.uint8), np.zeros((2, 1), np.uint8))


def test_audio_snr() -> None:
    signal = np.sin(np.linspace(0, 100, 1000)).astype(np.float32)
    assert audio_snr_db(signal, signal * 0.9) == pytest.approx(20.0, abs=1e-4)
    assert audio_snr_db(signal, signal[:900]) == 99.0
    assert audio_snr_db(np.zeros(10, np.float32), np.ones(10, np.float32)) is None
    assert audio_snr_db(np.zeros(0, np.float32), np.zeros(0, np.float32)) is None


def test_bit_entropy_and_perplexity() -> None:
    assert bit_entropies(np.array([0, 5, 10]), 10) == pytest.approx([0, 1, 0])
    assert bit_entropies(np.array([1]), 10) == pytest.approx([0.4689956])
    assert perplexity(np.array([5, 5, 0, 5, 5])) == pytest.approx(4)
    assert perplexity(np.zeros(3)) == 0


def test_code_use_counts_bits_levels_and_codes() -> None:
    tokenizers = {"video": TokenizerInfo("v", "a", 8), "audio": TokenizerInfo("a", "b", 4, num_quantizers=2)}
    sample = make_sample(0)
    codes = np.array([[[0, 1], [3, 7]]], np.uint32)
    audio = np.array([[0, 1, 2, 3], [1, 1, 1, 1]], np.uint16)
    use = CodeUse(tokenizers)
    use.add(replace(sample, arrays={"video": codes, "audio": audio}))
    use.add(replace(sample, arrays={"video": codes, "audio": np.zeros((2, 0), np.uint16)}))
    quality = use.quality([], [])
    assert quality.video_bit_ones == [6, 4, 2] and quality.num_video_codes == 8
    assert quality.video_codes_used == 4 and quality.video_perplexity == pytest.approx(4)
    assert quality.audio_perplexity == pytest.approx([4, 1])
    assert quality.full_bits == pytest.approx(1 / 3)
    assert quality.quarantined(None) is None
    assert "full_bits" in quality.as_dict()


def test_merging_shards_gives_the_figures_of_one() -> None:
    samples = [make_sample(n) for n in range(6)]
    one, halves = CodeUse(TOKENIZERS), [CodeUse(TOKENIZERS), CodeUse(TOKENIZERS)]
    for number, sample in enumerate(samples):
        one.add(sample)
        halves[number % 2].add(sample)
    merged = merge([half.quality([], []) for half in halves])
    assert merged["bit_entropy"] == pytest.approx(one.quality([], []).bit_entropy)
    assert merged["num_video_codes"] == 6 * 48 and merged["psnr_db"] is None


def with_array(name: str, array: np.ndarray) -> TokenSample:
    sample = make_sample(1)
    return replace(sample, arrays={**sample.arrays, name: array})


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        pytest.param(make_sample(1), None, id="sound"),
        pytest.param(make_sample(1, audio=False), None, id="no-audio"),
        pytest.param(with_array("video", np.full((1, 2, 2), 2**18, np.uint32)), "outside", id="video-range"),
        pytest.param(with_array("video_64x64", np.full((1, 2, 2), 2**18, np.uint32)), "outside", id="high-range"),
        pytest.param(with_array("video", np.zeros((2, 2), np.uint32)), "not 3 axes", id="video-axes"),
        pytest.param(with_array("video", np.zeros((0, 2, 2), np.uint32)), "no codes", id="video-empty"),
        pytest.param(with_array("audio", np.full((4, 2), 1024, np.uint16)), "outside", id="audio-range"),
        pytest.param(with_array("audio", np.zeros((3, 2), np.uint16)), "3 levels", id="audio-levels"),
        pytest.param(with_array("text", np.zeros((2, 5), np.float16)), r"not \(L, 6\)", id="text-width"),
        pytest.param(with_array("text", np.full((2, 6), np.nan, np.float16)), "finite", id="text-nan"),
    ],
)
def test_problems(sample: TokenSample, problem: str | None) -> None:
    found = problems_of(sample, TOKENIZERS)
    if problem is None:
        assert found == []
    else:
        with pytest.raises(ValueError, match=problem):
            raise ValueError(found[0])
        quality = CodeUse(TOKENIZERS).quality([], found)
        assert quality.quarantined(None) == found[0]


def test_a_shard_below_the_wanted_psnr_is_quarantined() -> None:
    quality = replace(CodeUse(TOKENIZERS).quality([], []), psnr_db=19.0, num_measured=3)
    assert quality.quarantined(18.0) is None
    assert "19.00 dB is below quality.min_psnr_db 20" in str(quality.quarantined(20.0))


@given(every=st.integers(1, 20))
def test_about_one_key_in_so_many_is_measured(every: int) -> None:
    chosen = [key for key in map(str, range(400)) if is_measured(key, every)]
    assert len(chosen) == pytest.approx(400 / every, abs=5 + 4 * (400 / every) ** 0.5)
    assert not any(is_measured(key, None) for key in chosen)
