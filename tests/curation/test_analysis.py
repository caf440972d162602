"""Analysis of real files made for the purpose: spans, scores, hashes, keyframes, and each rejection."""

import csv
import hashlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from curation.analysis import analyze
from curation.duplicates import fingerprinted, mean_distance, near_duplicates
from curation.manifest import read_sources
from curation.settings import AnalysisSettings, ClipSettings, CurateSettings, WatermarkSettings
from media.encode import image_from_jpeg
from media.fetch import LocalMedia
from schemas.records import Source
from schemas.states import ClipState, Rejection
from tests.curation.pictures import make_video, scene


def run(path: Path, source: Source | None = None, **settings):
    data = path.read_bytes()
    local = LocalMedia(path, hashlib.sha256(data).hexdigest(), len(data))
    return analyze(source or Source("s", str(path)), local, CurateSettings(str(path), "out", **settings))


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """48 frames, a cut, 40 frames that stand still, a cut, 12 frames; with sound."""
    still = np.repeat(scene(1, 2), 40, axis=0)
    frames = np.concatenate([scene(48, 1, speed=3), still, scene(12, 3)])
    return make_video(tmp_path_factory.mktemp("media") / "edited.mp4", frames, sound=True)


def test_clips_have_exact_spans_ids_and_verdicts(edited):
    analysis = run(edited)
    assert (analysis.num_frames, analysis.num_shots) == (100, 3)
    base = analysis.clips[0].span.time_base
    assert [(c.span.start, c.span.end, c.span.num_frames) for c in analysis.clips] == [
        (0, Fraction(47, 24), 47),
        (Fraction(49, 24), Fraction(87, 24), 38),
        (Fraction(89, 24), Fraction(100, 24), 11),
    ]
    assert base == Fraction(analysis.probe.time_base_num, analysis.probe.time_base_den)
    assert len({clip.clip_id for clip in analysis.clips}) == 3
    short = analysis.clips[2]
    assert (short.verdict.state, short.verdict.stage, short.verdict.reason) == (
        ClipState.FILTERED,
        "shots",
        "too_short",
    )
    assert short.verdict.score == pytest.approx(11 / 24) and short.verdict.threshold == 1.0
    assert short.keyframe_jpeg == b"" and analysis.clips[0].verdict is None


def test_scores_say_what_is_seen(edited):
    moving, still, _ = run(edited).clips
    assert moving.scores["motion"] > 1 > still.scores["motion"]
    assert still.scores["freeze"] > 0.9 and moving.scores["freeze"] == 0.0
    assert (moving.scores["height"], moving.scores["width"]) == (72, 128)
    assert -30 < moving.scores["loudness_dbfs"] < -15  # a sine of amplitude 0.1 has -23 dBFS
    assert moving.scores["duration_s"] == pytest.approx(47 / 24)
    assert moving.scores["letterbox"] == 0.0
    assert 0 <= moving.scores["watermark"] <= 1
    assert "watermark" not in run(edited, watermark=WatermarkSettings(enabled=False)).clips[0].scores


def test_the_keyframe_is_the_centre_frame_at_full_size(edited):
    clip = run(edited).clips[0]
    picture = image_from_jpeg(clip.keyframe_jpeg).astype(int)
    expected = scene(48, 1, speed=3)[23].astype(int)
    assert picture.shape == expected.shape
    assert np.abs(picture - expected).mean() < 4


def test_the_manifest_travels_with_the_clip(edited):
    source = Source("s", str(edited), caption="two words", license="CC0", extra='{"camera": 3}')
    clip = run(edited, source).clips[0]
    assert (clip.caption.text, clip.caption.source, clip.license, clip.extra) == (
        "two words", "manifest", "CC0", '{"camera": 3}',
    )  # fmt: skip
    assert clip.scores["caption_words"] == 2


def test_bounds_count_from_the_first_frame(edited):
    source = Source("s", str(edited), start_s=0.5, end_s=1.0)
    analysis = run(edited, source, clips=ClipSettings(min_duration_s=0.1))
    (clip,) = analysis.clips
    assert (clip.span.start, clip.span.end) == (Fraction(1, 2), 1)
    with pytest.raises(Rejection, match="no_frames_in_bounds"):
        run(edited, replace(source, start_s=60.0, end_s=61.0))


def test_two_runs_are_equal(edited):
    assert run(edited) == run(edited)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [("empty.mp4", b"", "empty_file"), ("text.mp4", b"<html>404</html>" * 9, "not_media")],
    ids=["empty", "text"],
)
def test_what_is_no_video_is_rejected(tmp_path, name, data, reason):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Rejection) as caught:
        run(tmp_path / name)
    assert caught.value.reason == reason


def test_a_video_of_one_frame(tmp_path):
    analysis = run(make_video(tmp_path / "one.mp4", scene(1, 0)), clips=ClipSettings(min_duration_s=0))
    (clip,) = analysis.clips
    assert (clip.span.num_frames, clip.scores["motion"], clip.scores["freeze"]) == (1, 0.0, 0.0)
    assert clip.keyframe_jpeg and len(clip.phash) == 10


def test_letterbox_is_measured_and_does_not_change_the_hash(tmp_path):
    frames = scene(36, 4)
    boxed = np.pad(frames, ((0, 0), (12, 12), (0, 0), (0, 0)))
    plain, bars = (run(make_video(tmp_path / f"{i}.mp4", f)).clips[0] for i, f in enumerate((frames, boxed)))
    assert bars.scores["letterbox"] == pytest.approx(24 / 96, abs=0.03)
    assert mean_distance(plain.phash, bars.phash) <= 8


def test_copies_are_found_and_the_larger_is_kept(tmp_path):
    large = scene(36, 5, height=144, width=256)
    small = large[:, ::2, ::2]
    other = scene(36, 6, height=144, width=256)
    videos = {"large": (large, 18), "coarse": (large, 35), "small": (small, 23), "other": (other, 18)}
    clips = {
        name: run(make_video(tmp_path / f"{name}.mp4", frames, crf=crf)).clips[0]
        for name, (frames, crf) in videos.items()
    }
    found = near_duplicates(map(fingerprinted, clips.values()), 8.0)
    names = {clip.clip_id: name for name, clip in clips.items()}
    assert {names[copy] for copy in found} in ({"small", "coarse"}, {"small", "large"})
    assert clips["other"].clip_id not in found


@pytest.mark.long
def test_every_odd_file_ends_done_or_with_a_reason(shared_data):
    """With the shortest clip at 0, a file in which one frame decodes has a clip; each other has a known reason."""
    settings = CurateSettings(
        str(shared_data / "odd"), "out", clips=ClipSettings(min_duration_s=0), analysis=AnalysisSettings(max_side=64)
    )
    reasons = {}
    for source in read_sources(settings):
        path = Path(source.uri)
        local = LocalMedia(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        try:
            analysis = analyze(source, local, settings)
        except Rejection as rejection:
            reasons[path.name] = rejection.reason
        else:
            assert analysis.clips and analysis.num_frames > 0
            assert not [clip for clip in analysis.clips if clip.verdict]
    with (shared_data / "MANIFEST.csv").open() as stream:
        listed = [Path(row["file"]).name for row in csv.DictReader(stream) if row["file"].startswith("odd/")]
    assert len(listed) == len(read_sources(settings))
    assert reasons.pop("ax_sample_malformed_free_box.mp4", "damaged_container") == "damaged_container"
    assert reasons == {
        "ax_sample_audio_only_15s.mp4": "no_video_stream",
        "made_audio_only.mp4": "no_video_stream",
        "made_html_error_page.mp4": "not_media",
        "made_not_a_video.mp4": "not_media",
        "made_zero_byte.mp4": "empty_file",
    }
