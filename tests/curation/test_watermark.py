"""Overlays: how they are drawn, the network that sees them, and the evidence over time."""

import random
from collections import Counter
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from curation.measurements import Measurements
from curation.overlay_network import Calibration, OverlayNetwork, as_input, load, probability, save, with_text
from curation.overlay_synthesis import STYLES, apply, overlay, recompressed
from curation.train_watermark import (
    batches,
    examples_to_judge_by,
    examples_to_learn_from,
    is_held_out,
    logits_of,
    main,
    set_rate,
    stretches_of,
    text_evidence,
    train,
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
    save(network, tmp_path, Calibration(2.0, -1.0, 0.5, -0.5))
    loaded, calibration = load(str(tmp_path))
    maps = torch.randn(1, 4, 40, 40)
    assert calibration == Calibration(2.0, -1.0, 0.5, -0.5)
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


def test_examples_to_judge_by_are_the_same_each_time(tmp_path):
    stretches = stretches_of(make_video(tmp_path / "a.mp4", scene(54, 3, 144, 256, 4)))
    assert [stretch.shape[1:] for stretch in stretches] == [(144, 256)]
    found, again = (examples_to_judge_by({"a.mp4": stretches}) for _ in range(2))
    assert len(found) == 3 and found[0].style == "clean" and found[0].maps.shape == (3, 144, 256)
    assert all(np.array_equal(a.maps, b.maps) for a, b in zip(found, again, strict=True))


def test_the_held_out_style_is_never_learnt_and_marks_are_drawn_anew():
    clips = {f"{index}.mp4": [scene(8, index, 48, 64, 2)[..., 0]] for index in range(20)}
    generator = random.Random(0)
    epochs = [examples_to_learn_from(clips, generator) for _ in range(3)]
    styles = [Counter(example.style for example in epoch) for epoch in epochs]
    assert all(counts["clean"] == 20 and sum(counts.values()) == 40 for counts in styles)
    assert set().union(*styles) == {"clean", *STYLES} - {"tiled"}
    assert {example.maps.shape for example in epochs[0]} == {(3, 48, 64), (3, 36, 48)}
    pictures = [{example.maps.tobytes() for example in epoch if example.style != "clean"} for epoch in epochs]
    assert not pictures[0] & pictures[1]
    assert sum(map(len, batches(epochs[0], generator))) >= 40 - 2 * 3


def test_rate_rises_and_falls_to_nothing():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    for done in (0.0, 0.05, 0.1, 0.5, 1.0):
        set_rate(optimizer, done)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates[0] == 0 and rates[0] < rates[1] < rates[2] == 3e-3 > rates[3] > rates[4] == pytest.approx(0, abs=1e-9)


def test_a_third_of_the_clips_is_held_out_by_name():
    assert 250 < sum(is_held_out(f"{index}.mp4") for index in range(900)) < 350


def test_text_is_evidence_of_a_mark():
    stretches = [scene(2, seed, 144, 256, 2)[..., 0] for seed in range(6)]
    found = text_evidence(stretches)
    assert found["text_found"] > 0 > found["text_absent"] and text_evidence(stretches) == found


def test_training_learns_to_tell_a_mark():
    """Marks over noise, which does not stay; the clips by which it is judged are others."""
    noise = {
        f"{index}.mp4": [np.random.default_rng(index).integers(90, 110, (6, 96, 128), np.uint8)] for index in range(60)
    }
    network, calibration = train(noise, epochs=6, seed=0)
    unseen = examples_to_judge_by({f"other {name}": stretches for name, stretches in list(noise.items())[:20]})
    logits = logits_of(network, unseen)
    is_marked = np.array([example.style != "clean" for example in unseen])
    right = np.mean(logits[is_marked][:, None] > logits[~is_marked])
    assert right > 0.9 and calibration.scale > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "too few clips there, 0"),
        (["--data", ".", "--exclude", "no.csv"], "there is no such file"),
    ],
)
def test_training_without_clips_is_refused(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*arguments, "--output", str(tmp_path / "weights")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("watermark", [0.0, 1e-9, 0.2, 0.5, 1.0])
def test_text_adds_to_the_evidence_and_its_absence_takes_from_it(watermark):
    without, found = with_text(watermark, False), with_text(watermark, True)
    assert 0 <= without < found <= 1
    assert without <= max(watermark, 1e-5) and found >= min(watermark, 1 - 1e-5)
