"""What a file says of itself, and the true reason when it says nothing."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from media.probe import probe
from schemas.states import Rejection

Media = Callable[[str], Path]


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("plain.mp4", {"width": 64, "height": 48, "fps_num": 24, "fps_den": 1, "start_pts": 0, "audio_codec": "aac"}),
        ("rot90.mp4", {"width": 48, "height": 64, "rotation": 90}),
        ("rot180.mp4", {"width": 64, "height": 48, "rotation": 180}),
        ("odd.mkv", {"width": 63, "height": 47, "video_codec": "ffv1", "audio_codec": None, "audio_offset_s": None}),
        ("wide_pixels.mp4", {"width": 96, "height": 48}),
        ("interlaced.mpg", {"interlaced": True, "video_codec": "mpeg2video"}),
        ("hdr.mp4", {"hdr": "pq", "color_space": "bt2020nc", "pixel_format": "yuv420p10le"}),
        ("vp9.webm", {"video_codec": "vp9", "audio_codec": "opus", "audio_sample_rate_hz": 48000}),
    ],
)
def test_facts(media: Media, name: str, facts: dict) -> None:
    found = probe(media(name))
    assert {key: getattr(found, key) for key in facts} == facts


def test_the_first_timestamp_and_the_sounds_offset_are_true(media: Media) -> None:
    late = probe(media("late.mp4"))
    assert late.start_pts * Fraction(late.time_base_num, late.time_base_den) == 10
    assert probe(media("late_sound.mkv")).audio_offset_s == pytest.approx(0.5, abs=0.002)
    assert probe(media("plain.mp4")).audio_offset_s == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.mp4", "empty_file"),
        ("page.mp4", "not_media"),
        ("list.mp4", "not_media"),
        ("no_header.mp4", "damaged_container"),
        ("missing.mp4", "not_found"),
    ],
)
def test_reasons(broken: Media, name: str, reason: str) -> None:
    with pytest.raises(Rejection) as caught:
        probe(broken(name))
    assert caught.value.reason == reason and caught.value.detail


def test_sound_alone_is_no_video(media: Media) -> None:
    with pytest.raises(Rejection, match="holds audio") as caught:
        probe(media("sound.m4a"))
    assert caught.value.reason == "no_video_stream"
