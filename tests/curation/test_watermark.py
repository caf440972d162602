"""Overlays: how they are drawn, the network that sees them, and the evidence over time."""

import random
from dataclasses import astuple
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from curation.measurements import Measurements
from curation.overlay_network import Calibration, OverlayNetwork, as_input, load, probability, save, with_text
from curation.overlay_scenes import varied, with_object
from curation.overlay_synthesis import STYLES, apply, overlay, recompressed
from curation.train_watermark import (
    HELD_OUT_STYLE,
    INVISIBLE,
    NUM_FRAMES,
    SIZES,
    VISIBLE,
    Pair,
    Stretch,
    calibrate,
    is_held_out,
    logits_of,
    loss_of,
    pair,
    split,
    stretches_of,
    train,
    validation_pairs,
)
from curation.watermark import OverlayEvidence, gradients
from tests.curation.pictures import make_video, scene


@pytest.mark.parametrize("style", STYLES)
def test_overlays_are_marks_of_part_of_the_picture_and_depend_on_the_seed_alone(style):
    level, opacity = overlay(144, 256, style, random.Random(5))
    again = overlay(144, 256, style, random.Random(5))
    assert np.array_equal(level, again[0]) and np.array_equal(opacity, again[1])
    assert level.shape == opacity.shape == (144, 256)
    assert level.min() >= 0 and level.max() <= 255 and opacity.min() >= 0 and opacity.max() <= 1
    assert 0.001 < np.mean(opacity > 0.1) < 0.6
    assert not np.array_equal(opacity, overlay(144, 256, style, random.Random(6))[1])


def test_an_overlay_changes_only_where_it_is_opaque():
    frames = np.full((2, 60, 80), 100, np.uint8)
    opacity = np.zeros((60, 80), np.float32)
    opacity[10:20] = 0.5
    marked = apply(frames, (np.full((60, 80), 200, np.float32), opacity))
    assert (marked[:, 10:20] == 150).all() and (marked[:, 20:] == 100).all()
    assert recompressed(marked, 90).shape == marked.shape


def test_gradients_are_per_pixel():
    ramp = np.tile(np.arange(0, 100, 2, dtype=np.uint8), (20, 1))
    x, y, size = gradients(ramp)
    assert np.allclose(x[5:-5, 5:-5], 2) and np.allclose(y[5:-5, 5:-5], 0) and np.allclose(size[5:-5, 5:-5], 2)


def test_the_network_takes_any_size_and_reaches_its_input():
    network = OverlayNetwork()
    for shape in ((64, 64), (144, 256), (256, 100)):
        maps = torch.randn(2, 3, *shape, requires_grad=True)
        logits = network(as_input(maps[:, 0], maps[:, 1], maps[:, 2].abs()))
        assert logits.shape == (2,)
        logits.sum().backward()
        assert maps.grad.abs().sum() > 0


def test_saved_and_loaded_it_gives_the_same(tmp_path):
    torch.manual_seed(0)
    network = OverlayNetwork().eval()
    save(network, tmp_path, Calibration(2.0, -1.0))
    loaded, calibration = load(str(tmp_path))
    maps = torch.randn(1, 4, 40, 40)
    assert calibration == Calibration(2.0, -1.0)
    assert torch.equal(network(maps), loaded(maps))


def evidence_of(frames):
    measurements, evidence = Measurements(), OverlayEvidence()
    for index, frame in enumerate(frames):
        evidence.push(measurements.push(frame, index, Fraction(1, 24)), index)
    evidence.finish()
    return evidence


def marked(frames):
    """With a word in the lower right corner."""
    layer = np.zeros(frames.shape[1:3], np.uint8)
    size = frames.shape[1] / 240
    cv2.putText(
        layer, "SAMPLE TV", (int(frames.shape[2] * 0.55), int(frames.shape[1] * 0.93)), 0, size, 255, 1, cv2.LINE_AA
    )
    share = 0.7 * (layer / 255.0)[None, :, :, None]
    return (frames * (1 - share) + 255 * share).astype(np.uint8)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_mark_over_a_moving_scene_is_more_probable_than_none(seed):
    frames = scene(60, seed, height=144, width=256, speed=4)
    clean, with_mark = evidence_of(frames).probability(0, 60), evidence_of(marked(frames)).probability(0, 60)
    assert 0 <= clean < with_mark <= 1


def test_evidence_is_kept_shot_by_shot():
    plain, with_mark = scene(48, 1, 144, 256, 4), marked(scene(48, 2, 144, 256, 4))
    evidence = evidence_of(np.concatenate([plain, with_mark]))
    assert evidence.probability(48, 96) > evidence_of(plain).probability(0, 48)


def test_too_few_frames_are_no_evidence():
    assert evidence_of(scene(5, 1)).probability(0, 5) is None


def test_probability_is_a_pure_function():
    planes = [np.random.default_rng(0).normal(size=(60, 80)).astype(np.float32) for _ in range(2)]
    size = np.hypot(*planes) + 0.1
    first = probability(*planes, size)
    assert 0 <= first <= 1 and probability(*planes, size) == first


def test_a_pair_is_one_scene_with_and_without_a_mark_and_says_where_the_mark_is():
    stretch = Stretch(np.stack([scene(1, 3, 144, 256)[0][:, :, 0]] * NUM_FRAMES), "a.mp4")
    found = pair(stretch, "corner", (144, 256), random.Random(4))
    again = pair(stretch, "corner", (144, 256), random.Random(4))
    assert found.clean.shape == found.marked.shape == (3, 144, 256) and found.added.shape == (18, 32)
    assert np.array_equal(found.marked, again.marked)
    assert 0.005 < np.mean(found.added > VISIBLE) < 0.3  # a word
    assert np.mean(found.added < INVISIBLE) > 0.6


@pytest.mark.parametrize("seed", range(6))
def test_scenes_vary_in_every_size_and_by_the_seed_alone(seed):
    frames = scene(NUM_FRAMES, 2, 144, 256, 3)[..., 1]
    for size in SIZES[-3:]:
        found = varied(frames, *size, random.Random(seed))
        assert found.shape == (NUM_FRAMES, *size) and found.dtype == np.uint8
        assert np.array_equal(found, varied(frames, *size, random.Random(seed)))
    objects = with_object(frames, random.Random(seed))
    changed = np.abs(objects.astype(int) - frames).max(0) > 3
    assert 0.002 < changed.mean() < 0.6


def test_clips_are_held_out_by_name_and_split_by_clip(tmp_path):
    path = make_video(tmp_path / "a.mp4", scene(54, 3, 144, 256, 4))
    found = stretches_of(path, "a.mp4")
    assert [stretch.frames.shape for stretch in found] == [(NUM_FRAMES, 144, 256)]
    assert 250 < sum(is_held_out(f"{index}.mp4") for index in range(900)) < 350
    many = [Stretch(found[0].frames, str(index % 40)) for index in range(80)]
    training, validation = split(many)
    assert validation and not {each.clip for each in training} & {each.clip for each in validation}
    assert HELD_OUT_STYLE in {each.style for each in validation_pairs(validation * 2)}


def test_training_learns_to_tell_a_mark():
    noise = np.random.default_rng(0)
    pairs = []
    for _ in range(16):
        frames = noise.integers(90, 110, (4, 48, 64), np.uint8)
        layer = np.zeros((48, 64), np.float32)
        layer[16:32, 10:50] = np.indices((16, 40)).sum(0) // 2 % 2
        marked = apply(frames, (np.full((48, 64), 230, np.float32), layer))
        maps = [
            np.stack([np.mean([gradients(f)[plane] for f in stack], axis=0) for plane in range(3)])
            for stack in (frames, marked)
        ]
        added = np.zeros((6, 8), np.float32)
        added[2:4, 2:6] = 10
        pairs.append(Pair(*maps, added, "logo"))
    torch.manual_seed(0)
    network = OverlayNetwork(4, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(12):
        loss = loss_of(network, pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    calibration = calibrate(network, pairs)
    clean, marked = (calibration.scale * each + calibration.bias for each in logits_of(network, pairs))
    assert clean.max() < 0 < marked.min()


def test_the_whole_training_gives_a_calibrated_network(tmp_path):
    frames = scene(NUM_FRAMES, 1, 96, 160, 2)[..., 0]
    stretches = [Stretch(np.roll(frames, index * 7, axis=2), str(index)) for index in range(20)]
    network, calibration = train(stretches, epochs=1, seed=0, log=False)
    save(network, tmp_path, calibration)
    loaded, numbers = load(str(tmp_path))
    assert numbers == Calibration(*(round(value, 4) for value in astuple(calibration)))
    assert calibration.text_found > 0 > calibration.text_absent
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True))


@pytest.mark.parametrize("watermark", [0.0, 1e-9, 0.2, 0.5, 1.0])
def test_text_adds_to_the_evidence_and_its_absence_takes_from_it(watermark):
    without, found = with_text(watermark, False), with_text(watermark, True)
    assert 0 <= without < found <= 1
    assert without <= max(watermark, 1e-5) and found >= min(watermark, 1 - 1e-5)
