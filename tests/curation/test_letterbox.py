"""The picture within black bars: found to the pixel, recorded, and cut out where that is asked for."""

from dataclasses import replace

import numpy as np
import pytest

from curation.analysis import analyze
from curation.letterbox import crop_of
from curation.settings import ClipSettings, CurateSettings
from media.cut import cut_clips
from media.decode import decode_frames
from media.encode import image_from_jpeg
from media.fetch import fetch
from media.probe import probe
from media.settings import CutSettings, FetchSettings
from schemas.records import Crop, Source, clip_row, failed
from tests.curation.pictures import make_video, scene


def boxed(top, bottom, left, right, height=96, width=160):
    inner = scene(1, 4, height - top - bottom, width - left - right)[0]
    return np.pad(inner, ((top, bottom), (left, right), (0, 0)))


@pytest.mark.parametrize(
    ("bars", "expected"),
    [
        ((0, 0, 0, 0), None),
        ((12, 12, 0, 0), Crop(12, 0, 72, 160)),
        ((13, 12, 0, 0), Crop(14, 0, 70, 160)),
        ((0, 0, 20, 20), Crop(0, 20, 96, 120)),
        ((8, 8, 16, 16), Crop(8, 16, 80, 128)),
        ((0, 20, 0, 0), None),
        ((30, 12, 0, 0), None),
        ((1, 1, 0, 0), None),
    ],
    ids=["none", "letterbox", "odd", "pillarbox", "both", "dark-below", "unequal", "thin"],
)
@pytest.mark.parametrize("off", [0.0, 0.008, -0.008], ids=["exact", "border-too-large", "border-too-small"])
def test_bars_end_where_a_full_size_picture_says(bars, expected, off):
    top, bottom, left, right = bars
    shares = (top / 96, bottom / 96, left / 160, right / 160)
    border = tuple(share + off if share else 0.0 for share in shares)
    if bars == (1, 1, 0, 0) and off > 0:
        border = (0.012, 0.012, 0.0, 0.0)
    assert crop_of(border, boxed(*bars)) == expected


def test_a_dark_moment_does_not_widen_the_bars():
    dark = boxed(12, 12, 0, 0)
    dark[:40] = 0
    assert crop_of((12 / 96, 12 / 96, 0.0, 0.0), dark) == Crop(14, 0, 70, 160)  # at most 1/64 off


def test_a_wholly_black_picture_has_no_bars():
    assert crop_of((0.0, 0.0, 0.0, 0.0), np.zeros((96, 160, 3), np.uint8)) is None


@pytest.fixture(scope="module")
def letterboxed(tmp_path_factory):
    frames = np.pad(scene(36, 4), ((0, 0), (12, 12), (0, 0), (0, 0)))
    return make_video(tmp_path_factory.mktemp("letterbox") / "boxed.mp4", frames)


def analysed(path, tmp_path, **clips):
    settings = CurateSettings(input="x", output="y", clips=ClipSettings(**clips))
    return analyze(Source("s", str(path)), fetch(str(path), tmp_path, FetchSettings()), settings).clips[0]


@pytest.mark.parametrize("crop", [False, True], ids=["recorded", "applied"])
def test_the_crop_is_recorded_and_applied_where_asked_for(letterboxed, tmp_path, crop):
    clip = analysed(letterboxed, tmp_path, crop_letterbox=crop)
    assert clip.crop == Crop(12, 0, 72, 128)
    row = clip_row(clip.with_verdict(failed("cut", "of_no_matter")))
    assert [row[f"crop_{side}"] for side in ("top", "left", "height", "width")] == [12, 0, 72, 128]
    assert image_from_jpeg(clip.keyframe_jpeg).shape[:2] == ((72, 128) if crop else (96, 128))
    (cut,) = cut_clips(
        letterboxed, [clip], tmp_path / "cuts", CutSettings(preset="ultrafast"), probe(letterboxed), None, crop
    )
    assert (cut.height, cut.width) == ((72, 128) if crop else (96, 128))
    assert cut.done == ("cropped:128x72" if crop else "")
    pictures = [frame.image for frame in decode_frames(cut.path)]
    assert len(pictures) == clip.span.num_frames
    assert (pictures[0][:6].mean() > 40) == crop


def test_a_crop_is_scaled_with_the_picture(letterboxed, tmp_path):
    clip = replace(analysed(letterboxed, tmp_path), crop=Crop(12, 6, 72, 100))
    settings = CutSettings(preset="ultrafast", max_side=64)
    (cut,) = cut_clips(letterboxed, [clip], tmp_path / "cuts", settings, probe(letterboxed), None, True)
    assert (cut.height, cut.width) == (36, 48)  # from 3 → 4 to 53 → 52 of 64
    assert cut.done == "scaled:64x48,cropped:48x36"
