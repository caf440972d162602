"""Every task's sequence, token by token, is the layout of VideoPoet's figure 2, or of Video-LaVIT."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.shards import TokenSample
from schemas.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.training.token_samples import token_sample
from training.sequences import AUDIO, MOTION, SPECIAL, TASKS, VISUAL, Layout, collate, missing, token_kinds

VOCABULARY = Vocabulary(motion_size=1024)

# Three latent frames of one row of two tokens stand for nine pixel frames; two audio levels of nine columns.
VIDEO = np.array([[[10, 11]], [[20, 21]], [[30, 31]]], np.uint32)
AUDIO_CODES = np.array([[*range(1, 10)], [*range(101, 110)]], np.uint16)
SAMPLE = TokenSample(
    "golden",
    {
        "video": VIDEO,
        "audio": AUDIO_CODES,
        "text": np.ones((2, 4), np.float16),
        "commit": VIDEO + 500,
        "structure": VIDEO + 700,
        "motion": np.array([5, 6, 7], np.uint16),
    },
    {},
)
TEXT = ["bot_i", "text", "text", "eot_i"]
FORMAT = ["res_other", "duration_other"]


def spelled(ids: np.ndarray) -> list[str | int]:
    """Names of special tokens, v<code> of visual, a<level>.<code> of audio and m<code> of motion ids."""
    names = {index: name for name, index in SPECIAL_TOKENS.items()}
    words = []
    for token, kind in zip(ids.tolist(), token_kinds(ids, VOCABULARY).tolist(), strict=True):
        if kind == SPECIAL:
            words.append(names[token])
        elif kind == VISUAL:
            words.append(f"v{token - VOCABULARY.visual_offset}")
        elif kind == MOTION:
            words.append(f"m{token - VOCABULARY.motion_offset}")
        else:
            words.append("a{}.{}".format(*divmod(token - VOCABULARY.audio_offset, 1024)))
    return words


def v(*codes: int) -> list[str]:
    return [f"v{code}" for code in codes]


def a(level: int, *columns: int) -> list[str]:
    return [f"a{level}.{column + 100 * level}" for column in columns]


ALL_VIDEO = v(10, 11, 20, 21, 30, 31)
ALL_AUDIO = a(0, *range(1, 10)) + a(1, *range(1, 10))

GOLDEN = {
    "unconditional": (
        ["bos", "task_video", *FORMAT, "source_none"],
        ["bov_o", *ALL_VIDEO, "eov_o", "eos"],
    ),
    "t2v": (
        ["bos", "task_video", *TEXT, *FORMAT, "source_none"],
        ["bov_o", *ALL_VIDEO, "eov_o", "eos"],
    ),
    "t2i": (
        ["bos", "task_image", *TEXT, "res_other", "duration_1", "source_none"],
        ["bov_o", *v(10, 11)],
    ),
    "t2av": (
        ["bos", "task_audio_video", *TEXT, *FORMAT, "source_none"],
        ["bov_o", *ALL_VIDEO, "eov_o", "boa_o", *ALL_AUDIO, "eoa_o", "eos"],
    ),
    "i2v": (
        ["bos", "task_video", *TEXT, *FORMAT, "source_image", "bov_i", *v(10, 11), "eov_i"],
        ["bov_o", *v(20, 21, 30, 31), "eov_o", "eos"],
    ),
    "continue": (
        ["bos", "task_continue", *TEXT, *FORMAT, "source_video", "bov_i", *v(10, 11, 20, 21), "eov_i"],
        ["bov_o", *v(30, 31), "eov_o", "eos"],
    ),
    "inpaint": (
        ["bos", "task_inpaint", *TEXT, *FORMAT, "source_video", "bov_i", *v(510, 511, 520, 521, 530, 531), "eov_i"],
        ["bov_o", *ALL_VIDEO, "eov_o", "eos"],
    ),
    "outpaint": (
        ["bos", "task_outpaint", *TEXT, *FORMAT, "source_video", "bov_i", *v(510, 511, 520, 521, 530, 531), "eov_i"],
        ["bov_o", *ALL_VIDEO, "eov_o", "eos"],
    ),
    "stylize": (
        ["bos", "task_stylize", *TEXT, *FORMAT, "source_video", "bov_i", *v(710, 711, 720, 721, 730, 731), "eov_i"],
        ["bov_o", *ALL_VIDEO, "eov_o", "eos"],
    ),
    "stylize_first": (
        ["bos", "task_stylize", *TEXT, *FORMAT, "source_video", "bov_i", *v(710, 711, 720, 721, 730, 731), "eov_i",
         "bov_i", *v(10, 11), "eov_i"],
        ["bov_o", *v(20, 21, 30, 31), "eov_o", "eos"],
    ),
    "v2a": (
        ["bos", "task_audio", *FORMAT, "source_video", "bov_i", *ALL_VIDEO, "eov_i"],
        ["boa_o", *ALL_AUDIO, "eoa_o", "eos"],
    ),
    "a2v": (
        ["bos", "task_video", *FORMAT, "source_none", "boa_i", *ALL_AUDIO, "eoa_i"],
        ["bov_o", *ALL_VIDEO, "eov_o", "eos"],
    ),
    # Two latent frames are five of the nine pixel frames, so five of nine columns are given.
    "av_continue": (
        ["bos", "task_audio_video", *TEXT, *FORMAT, "source_video", "bov_i", *v(10, 11, 20, 21), "eov_i",
         "boa_i", *a(0, 1, 2, 3, 4, 5), *a(1, 1, 2, 3, 4, 5), "eoa_i"],
        ["bov_o", *v(30, 31), "eov_o", "boa_o", *a(0, 6, 7, 8, 9), *a(1, 6, 7, 8, 9), "eoa_o", "eos"],
    ),
    "keyframe_motion": (
        ["bos", "task_motion", *TEXT, *FORMAT, "source_none"],
        ["bok", *v(10, 11), "eok", "bom", "m5", "m6", "m7", "eom", "eos"],
    ),
    "image_motion": (
        ["bos", "task_motion", *TEXT, *FORMAT, "source_image", "bok", *v(10, 11), "eok"],
        ["bom", "m5", "m6", "m7", "eom", "eos"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_layout_is_golden(task):
    prefix, output = GOLDEN[task]
    sequence = Layout(VOCABULARY).build(task, SAMPLE, given=2)
    assert spelled(sequence.ids[: sequence.prefix_length]) == prefix
    assert spelled(sequence.ids[sequence.prefix_length :]) == output


def test_given_frames_can_be_padded_to_a_whole_video():
    padded = np.concatenate([VIDEO[:2], VIDEO[:1] + 900])
    sample = dataclasses.replace(SAMPLE, arrays={**SAMPLE.arrays, "padded": padded})
    sequence = Layout(VOCABULARY, pad_given=True).build("continue", sample, given=2)
    prefix, output = GOLDEN["continue"]
    shown = prefix.index("eov_i")
    assert spelled(sequence.ids[: sequence.prefix_length]) == [*prefix[:shown], *v(910, 911), *prefix[shown:]]
    assert spelled(sequence.ids[sequence.prefix_length :]) == output
    places = sequence.places[token_kinds(sequence.ids, VOCABULARY) == VISUAL]
    assert places[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 2, 2]


def test_keyframes_and_their_motion_take_turns():
    """Where each step is an image: two keyframes of one row, two motion codes after each."""
    arrays = {"video": VIDEO[:2], "text": SAMPLE.arrays["text"], "motion": np.array([5, 6, 7, 8], np.uint16)}
    sample = TokenSample("keyframes", arrays, {"independent": True})
    first, rest = (
        ["bok", *v(10, 11), "eok"],
        ["bom", "m5", "m6", "eom", "bok", *v(20, 21), "eok", "bom", "m7", "m8", "eom"],
    )
    for task, output in (("keyframe_motion", first + rest), ("image_motion", rest)):
        sequence = Layout(VOCABULARY).build(task, sample)
        assert spelled(sequence.ids[sequence.prefix_length :]) == [*output, "eos"]
        places = sequence.places[token_kinds(sequence.ids, VOCABULARY) == MOTION]
        assert places.tolist() == [[number, 0, 0] for number in range(4)]
    assert spelled(sequence.ids[: sequence.prefix_length])[-4:] == first
    odd = dataclasses.replace(sample, arrays={**arrays, "motion": arrays["motion"][:3]})
    assert missing("image_motion", odd) == "its 3 motion codes do not share out evenly over 2 keyframes"


def test_every_special_token_of_the_layouts_keeps_its_id():
    used = {name for layout in GOLDEN.values() for part in layout for name in part if name in SPECIAL_TOKENS}
    assert {name: SPECIAL_TOKENS[name] for name in sorted(used)} == {
        "boa_i": 7, "boa_o": 11, "bok": 33, "bom": 35, "bos": 1,
        "bot_i": 3, "bov_i": 5, "bov_o": 9, "duration_1": 29, "duration_other": 32,
        "eoa_i": 8, "eoa_o": 12, "eok": 34,
        "eom": 36, "eos": 2, "eot_i": 4, "eov_i": 6, "eov_o": 10, "res_other": 28, "source_image": 13,
        "source_none": 15, "source_video": 14, "task_audio": 19, "task_audio_video": 20, "task_continue": 21,
        "task_image": 18, "task_inpaint": 22,
        "task_motion": 25, "task_outpaint": 23, "task_stylize": 24, "task_video": 17, "text": 16,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "resolution", "duration"),
    [
        ((5, 16, 16), [], "duration_17"),
        ((5, 28, 16), ["res_128x224"], "duration_17"),
        ((11, 16, 16), [], "duration_41"),
        ((1, 16, 16), [], "duration_1"),
        ((5, 8, 8), ["res_other"], "duration_17"),
    ],
    ids=["128x128", "portrait", "41 frames", "still", "another size"],
)
def test_format_tokens(grid, resolution, duration):
    sequence = Layout().build("unconditional", token_sample(0, grid=grid))
    assert spelled(sequence.ids[: sequence.prefix_length]) == [
        "bos",
        "task_video",
        *resolution,
        duration,
        "source_none",
    ]


def test_lengths_of_the_paper_format():
    sample = token_sample(0, grid=(5, 16, 16), audio=(4, 106), text_length=64)
    sequence = Layout().build("t2av", sample)
    kinds = token_kinds(sequence.ids)
    assert [(kinds == kind).sum() for kind in (VISUAL, AUDIO)] == [1280, 424]
    assert Layout().audio_columns(1, 5, 106) == 6


def test_places_tell_where_output_tokens_stand():
    sequence = Layout().build("av_continue", SAMPLE, given=2)
    output = sequence.places[sequence.prefix_length :]
    kinds = token_kinds(sequence.ids[sequence.prefix_length :])
    assert output[kinds == VISUAL].tolist() == [[2, 0, 0], [2, 0, 1]]
    assert output[kinds == AUDIO].tolist() == [[level, column, 0] for level in (0, 1) for column in (5, 6, 7, 8)]


def test_sample_without_caption_has_no_text_delimiters():
    bare = dataclasses.replace(SAMPLE, arrays={**SAMPLE.arrays, "text": np.zeros((0, 4), np.float16)})
    assert "bot_i" not in spelled(Layout().build("t2v", bare).ids)


def test_text_can_be_replaced():
    sequence = Layout().build("t2v", SAMPLE, text=np.zeros((1, 4), np.float16))
    assert spelled(sequence.ids).count("text") == 1
    assert sequence.text.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("task", "member", "message"),
    [
        ("t2v", "video", "no video tokens"),
        ("v2a", "audio", "no audio tokens"),
        ("inpaint", "commit", "no commit tokens"),
        ("stylize", "structure", "no structure tokens"),
        ("image_motion", "motion", "no motion tokens"),
    ],
)
def test_what_a_sample_lacks_is_named(task, member, message):
    arrays = {name: array for name, array in SAMPLE.arrays.items() if name != member}
    with pytest.raises(ValueError, match=message):
        Layout().build(task, dataclasses.replace(SAMPLE, arrays=arrays))


@pytest.mark.parametrize("frames", [0, 3])
def test_given_frames_must_leave_something(frames):
    assert "latent frames cannot be given" in missing("continue", SAMPLE, frames)


def test_unknown_task_is_refused():
    with pytest.raises(ValueError, match=r"unknown task 'dance'.*t2v"):
        Layout().build("dance", SAMPLE)


def test_collate_pads_in_front():
    sequences = [Layout().build("t2v", token_sample(i, text_length=length)) for i, length in enumerate((5, 2))]
    batch = collate(sequences)
    assert batch.padding.tolist() == [0, 3]
    assert batch.ids[1, :4].tolist() == [0, 0, 0, 1]
    assert batch.num_targets == 2 * (32 + 3)
    assert len(batch.text) == 7


def test_collate_refuses_outputs_of_different_lengths():
    sequences = [Layout().build("t2v", token_sample(0)), Layout().build("i2v", token_sample(0))]
    with pytest.raises(ValueError, match="cannot share a batch"):
        collate(sequences)


@given(
    task=st.sampled_from(
        [name for name, task in TASKS.items() if not {"commit", "structure"} & {*task.video_in} and not task.motion]
    ),
    grid=st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 4)),
    audio=st.tuples(st.integers(1, 4), st.integers(1, 40)),
    frames=st.integers(1, 4),
)
def test_prefix_and_output_never_overlap(task, grid, audio, frames):
    """What is predicted is never shown, and together both are the clip."""
    sample = token_sample(1, grid=grid, audio=audio)
    frames = min(frames, grid[0] - 1)
    sequence = Layout().build(task, sample, given=frames)
    kinds = token_kinds(sequence.ids)
    for kind in (VISUAL, AUDIO):
        places = [tuple(place) for place in sequence.places[kinds == kind].tolist()]
        assert len(places) == len(set(places))
    if task in ("continue", "i2v", "av_continue"):
        assert (kinds == VISUAL).sum() == np.prod(grid)
