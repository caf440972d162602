"""The cascade: what the network sees, what is passed over, and how the network learns."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks._shot_scores import Tally, Truth, score_boundaries, score_clips
from curation import train_transitions
from curation.cascade import BLOCK, MARGIN, MOST_BLOCKS, CascadeDetector, split_at_valleys
from curation.second_opinion import AROUND
from curation.transition_network import TransitionNetwork, histograms, load, probabilities, save
from curation.transition_synthesis import Footage, edit
from curation.transnet import WINDOW, boundaries_from
from tests.curation.pictures import make_video, scene

STILL = np.full((72, 128, 3), 90, np.uint8)


def detect(frames):
    detector = CascadeDetector()
    for frame in frames:
        detector.push(frame)
    return detector.finish()


def library(count=6, frames=30):
    return [Footage(scene(frames, seed, 45, 80), f"group{seed % 2}") for seed in range(count)]


@pytest.mark.parametrize("cut", [40, BLOCK - 1, BLOCK, MOST_BLOCKS * BLOCK, MOST_BLOCKS * BLOCK + 1], ids=str)
def test_a_cut_is_found_wherever_the_blocks_meet(cut):
    assert detect([*scene(cut, 1), *scene(400 - cut, 2)]) == [(cut, cut)]


@pytest.mark.parametrize("cut", [1, 99], ids=str)
def test_a_shot_of_one_frame_is_found_once_or_not_at_all(cut):
    assert len(detect([*scene(cut, 1), *scene(100 - cut, 2)])) <= 1


def test_blocks_of_a_picture_that_stands_are_passed_over():
    detector = CascadeDetector()
    for frame in [STILL] * 400 + [scene(1, 3)[0]] * 400:
        detector.push(frame)
    assert detector.finish() == [(400, 400)]
    assert [block for block, doubted in enumerate(detector._doubted) if doubted] == [5, 6]


def test_few_frames_are_held():
    detector = CascadeDetector()
    most = 0
    for frame in scene(1500, 5, speed=2):
        detector.push(frame)
        most = max(most, len(detector._held))
    assert most <= AROUND + WINDOW + MOST_BLOCKS * BLOCK + MARGIN


def test_what_is_found_does_not_depend_on_what_is_far_away():
    frames = [*scene(70, 1), *scene(60, 2), *scene(80, 3)]
    shifted = [*[STILL] * 64, *frames]
    assert [(a - 64, b - 64) for a, b in detect(shifted)][1:] == detect(frames)


def test_the_network_is_small_and_agrees_with_itself_however_windows_lie():
    assert sum(parameter.numel() for parameter in load().parameters()) < 300_000
    window = [frame[::2, ::2][:27, :48] for frame in scene(200, 4)]
    whole, part = probabilities(window), probabilities(window[40:160])
    for first, second in zip(whole, part, strict=True):
        assert np.allclose(first[40 + MARGIN : 160 - MARGIN], second[MARGIN:-MARGIN], atol=1e-4)


def test_histograms_are_those_that_counting_gives():
    frames = torch.from_numpy(np.stack([frame[::2, ::2][:27, :48] for frame in scene(3, 4)]))[None]
    found = histograms(frames)[0, 1].square()
    pixels = frames[0, 1].reshape(-1, 3).numpy() // 32
    counted = np.zeros((8, 8, 8))
    for red, green, blue in pixels:
        counted[red, green, blue] += 1 / len(pixels)
    assert np.allclose(found.numpy(), counted.ravel(), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_edits_are_labelled_where_scenes_change(seed):
    made = edit(library(), 90, np.random.default_rng(seed))
    assert made.frames.shape == (90, 27, 48, 3) and made.frames.dtype == np.uint8
    assert made.middle.shape == made.extent.shape == made.weight.shape == (90,)
    assert np.all(made.extent[made.middle > 0] == 1)
    again = edit(library(), 90, np.random.default_rng(seed))
    assert np.array_equal(made.frames, again.frames) and np.array_equal(made.extent, again.extent)


def test_every_parameter_learns_and_weights_are_read_back(tmp_path):
    torch.manual_seed(0)
    network = TransitionNetwork(8)
    edits = [edit(library(), 104, np.random.default_rng(seed)) for seed in range(2)]
    train_transitions.loss_of(network, edits).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    save(network, tmp_path, width=8)
    again = load(str(tmp_path))
    frames = torch.from_numpy(edits[0].frames)[None]
    assert torch.equal(network.eval()(frames), again(frames))


@pytest.mark.long
def test_the_training_command_learns_and_leaves_out_what_it_is_told(tmp_path, capsys):
    clips = tmp_path / "clips"
    clips.mkdir()
    for seed in range(9):
        make_video(clips / f"scene_{seed}.mp4", scene(30, seed))
    (tmp_path / "cuts.csv").write_text("incoming_source\nclips/scene_3.mp4\n\n")
    command = ["--data", str(clips), "--exclude", str(tmp_path / "cuts.csv"), "--leave_out", "scene_4.mp4"]
    command += ["--steps", "8"]
    for output in ("a", "b"):
        assert train_transitions.main([*command, "--output", str(tmp_path / output)]) == 0
    said = capsys.readouterr().out
    assert "2 excluded" in said and "step 8/8" in said
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    assert load(str(tmp_path / "a")).stem.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("found", "hits", "false", "gradual"),
    [
        ([(10, 10), (30, 40)], 2, 0, 1),
        ([(11, 11), (41, 41)], 2, 0, 1),
        ([(12, 12)], 0, 1, 0),
        ([(9, 9), (11, 11), (35, 36), (38, 40)], 2, 1, 1),
        ([(70, 70)], 0, 0, 0),
    ],
    ids=["exact", "one-off", "two-off", "twice", "uncertain"],
)
def test_boundaries_are_scored_to_the_frame(found, hits, false, gradual):
    tally = Tally()
    score_boundaries(found, Truth([(10, 10)], [(30, 40)], [(69, 75)]), tally)
    assert (tally.hits, tally.false, tally.gradual_hits, tally.total) == (hits, false, gradual, 2)


def test_clips_are_pure_or_not():
    tally = Tally()
    clips = [(0, 10), (10, 30), (9, 11), (39, 60), (41, 60)]
    impure = score_clips(clips, Truth([(10, 10)], [(30, 40)], []), 60, tally)
    assert impure == [(9, 11), (39, 60)]
    assert (tally.pure_clips, tally.clean_frames, tally.kept_frames) == (3, 49, 49)


def test_an_extent_is_as_wide_as_its_threshold_says():
    middle, extent = np.array([0, 0, 0.9, 0, 0, 0]), np.array([0.4, 0.6, 0.9, 0.4, 0.2, 0])
    assert boundaries_from(middle, extent, 0.5) == [(2, 3)]
    assert boundaries_from(middle, extent, 0.5, 0.3) == [(1, 4)]


@pytest.mark.parametrize(
    ("middle", "expected"),
    [
        ([0, 0.1, 0.9, 0.1, 0], [(1, 5)]),
        ([0, 0.9, 0.6, 0.7, 0], [(1, 5)]),  # one peak with a shoulder
        ([0, 0.9, 0.2, 0.8, 0], [(1, 3), (4, 5)]),
        ([0, 0.9, 0.2, 0.4, 0], [(1, 5)]),  # the second is not above the threshold
        ([0.9, 0.1, 0.8, 0.1, 0.7], [(1, 2), (3, 4), (5, 5)]),
    ],
    ids=["one", "shoulder", "two", "no second", "three"],
)
def test_transitions_that_touch_are_told_apart(middle, expected):
    assert split_at_valleys(np.array(middle, np.float32), 1, 5, 0.5) == expected
