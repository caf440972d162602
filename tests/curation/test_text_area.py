"""Burnt-in text: found where it stays, and only there."""

import hashlib
from fractions import Fraction

import cv2
import numpy as np
import pytest

from curation.analysis import analyze
from curation.overlay_judges import overlay_scores, places_judged
from curation.settings import CurateSettings, TextSettings, WatermarkSettings
from curation.stills import CENTRE
from curation.text_area import covered, detector, text_area, text_weights
from media.fetch import LocalMedia
from schemas.records import Source
from tests.curation.pictures import make_video, scene

SETTINGS = TextSettings(enabled=True)


def picture(word: str = "", left: int = 60) -> np.ndarray:
    """A soft ramp, with a word on it."""
    ramp = np.linspace(40, 120, 320, dtype=np.float32)[None, :, None]
    found = np.repeat(np.repeat(ramp, 180, axis=0), 3, axis=2).astype(np.uint8)
    if word:
        cv2.putText(found, word, (left, 150), cv2.FONT_HERSHEY_DUPLEX, 1.0, (240, 240, 240), 2, cv2.LINE_AA)
    return found


def test_the_detector_finds_a_word_where_it_stands():
    judge = detector(str(text_weights(SETTINGS)), 480)
    found = judge.probabilities(picture("SAMPLE TV"))
    assert found.shape == (256, 480) and found.min() >= 0 and found.max() <= 1
    rows, columns = np.nonzero(found > 0.3)
    assert 0.6 < rows.mean() / 256 < 0.95 and 0.3 < columns.mean() / 480 < 0.75


@pytest.mark.parametrize(
    ("pictures", "low", "high"),
    [
        ([picture(), picture()], 0, 0),
        ([picture("SAMPLE TV")] * 2, 0.03, 0.2),
        ([picture("SAMPLE TV"), picture()], 0, 0),
        ([picture("SAMPLE", 5), picture("SAMPLE", 190)], 0, 0.005),
        ([cv2.resize(picture("SAMPLE TV"), (1280, 720))], 0.03, 0.2),
    ],
    ids=["none", "stays", "goes", "moves", "large"],
)
def test_area_is_that_of_text_that_stays(pictures, low, high):
    assert low <= text_area(pictures, SETTINGS) <= high


def test_boxes_are_wider_than_the_inner_part_of_the_text_and_weak_or_tiny_pieces_do_not_count():
    probabilities = np.zeros((96, 160), np.float32)
    probabilities[40:50, 30:90] = 0.9
    whole = covered(probabilities)
    assert 1.5 * 600 / probabilities.size < whole < 4 * 600 / probabilities.size
    probabilities[10:30, 30:90] = 0.35  # text perhaps
    probabilities[80, 10:150] = 0.9  # a line
    assert covered(probabilities) == whole


def test_text_counts_in_the_probability_of_a_watermark():
    settings = CurateSettings("a", "b", text=SETTINGS)
    assert places_judged(settings) == (Fraction(1, 4), Fraction(3, 4))
    pictures = {place: picture("SAMPLE TV") for place in (CENTRE, *places_judged(settings))}
    clean = dict.fromkeys(pictures, picture())
    marked_scores, clean_scores = (overlay_scores(0.3, each, settings) for each in (pictures, clean))
    assert marked_scores["text_area"] > 0.03 and clean_scores["text_area"] == 0
    assert clean_scores["watermark"] < 0.3 < marked_scores["watermark"]
    assert set(overlay_scores(None, pictures, settings)) == {"text_area"}


def test_without_text_the_probability_stays_as_it_is():
    settings = CurateSettings("a", "b")
    assert places_judged(settings) == ()
    assert overlay_scores(0.3, {CENTRE: picture()}, settings) == {"watermark": 0.3}
    off = CurateSettings("a", "b", watermark=WatermarkSettings(enabled=False))
    assert overlay_scores(None, {CENTRE: picture()}, off) == {}


def test_a_detector_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match=r"text\.model 'no\.onnx' is no file"):
        text_weights(TextSettings(enabled=True, model="no.onnx"))


def test_the_analysis_takes_the_scores_and_stores_no_picture_for_them(tmp_path):
    frames = scene(48, 7, 144, 256, 3)
    for frame in frames:
        cv2.putText(frame, "CHANNEL 9", (120, 130), cv2.FONT_HERSHEY_DUPLEX, 0.7, (250, 250, 250), 1, cv2.LINE_AA)
    path = make_video(tmp_path / "marked.mp4", frames)
    local = LocalMedia(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    plain, judged = (
        analyze(Source("a", str(path)), local, CurateSettings("in", "out", text=text)).clips[0]
        for text in (TextSettings(), SETTINGS)
    )
    assert "text_area" not in plain.scores and judged.scores["text_area"] > 0.01
    assert judged.scores["watermark"] >= plain.scores["watermark"]
    assert judged.stills == () and judged.keyframe_jpeg == plain.keyframe_jpeg
