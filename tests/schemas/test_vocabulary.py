"""Offsets of the token vocabulary (VideoPoet, appendix A.5.1), and codes kept within their range."""

import numpy as np
import pytest

from schemas.vocabulary import NUM_SPECIAL, SPECIAL_TOKENS, VOCABULARY, Vocabulary


def test_offsets_are_the_papers() -> None:
    assert (VOCABULARY.visual_offset, VOCABULARY.audio_offset, VOCABULARY.text_offset) == (256, 262400, 266496)
    assert VOCABULARY.size == 266496


def test_special_tokens_are_pinned() -> None:
    assert list(SPECIAL_TOKENS)[:5] == ["pad", "bos", "eos", "bot_i", "eot_i"]
    assert sorted(SPECIAL_TOKENS.values()) == list(range(len(SPECIAL_TOKENS)))
    assert len(SPECIAL_TOKENS) <= NUM_SPECIAL
    assert (SPECIAL_TOKENS["bov_o"], SPECIAL_TOKENS["task_video"], SPECIAL_TOKENS["mask"]) == (9, 17, 37)


def test_ids_of_codes() -> None:
    visual = VOCABULARY.visual_ids(np.array([[0, 2**18 - 1]], np.uint32))
    assert visual.tolist() == [[256, 262399]] and visual.dtype == np.int64
    audio = VOCABULARY.audio_ids(np.array([[0, 1023], [0, 5], [1, 1], [1023, 0]], np.uint16))
    assert audio.tolist() == [[262400, 263423], [263424, 263429], [264449, 264449], [266495, 265472]]


def test_levels_have_ids_of_their_own() -> None:
    levels = np.tile(np.arange(1024, dtype=np.uint16), (4, 1))
    assert len(np.unique(VOCABULARY.audio_ids(levels))) == 4096


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: VOCABULARY.visual_ids(np.array([2**18])), r"allowed is \[0, 262143\]", id="visual-above"),
        pytest.param(lambda: VOCABULARY.visual_ids(np.array([-1])), r"lie in \[-1, -1\]", id="visual-below"),
        pytest.param(lambda: VOCABULARY.audio_ids(np.array([[1024]])), r"allowed is \[0, 1023\]", id="audio-above"),
        pytest.param(lambda: VOCABULARY.audio_ids(np.zeros((5, 1), int)), "5 audio levels", id="audio-levels"),
    ],
)
def test_codes_out_of_range_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_empty_codes_are_fine() -> None:
    assert VOCABULARY.audio_ids(np.zeros((4, 0), np.uint16)).shape == (4, 0)


def test_smaller_vocabularies_close_ranks() -> None:
    small = Vocabulary(visual_size=2**10, audio_levels=2, audio_codebook_size=64, text_size=100)
    assert (small.audio_offset, small.text_offset, small.size) == (1280, 1408, 1508)


def test_motion_comes_last_and_moves_nothing() -> None:
    with_motion = Vocabulary(motion_size=1024)
    assert (with_motion.text_offset, with_motion.motion_offset, with_motion.size) == (266496, 266496, 267520)
    assert with_motion.motion_ids(np.array([0, 1023], np.uint16)).tolist() == [266496, 267519]
    with pytest.raises(ValueError, match=r"allowed is \[0, 1023\]"):
        with_motion.motion_ids(np.array([1024]))
