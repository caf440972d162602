"""The profiles parse, and say what they are for; contradictions name the value and the fix."""

import pytest

from curation.settings import CURATE, CaptionSettings, ClipSettings, CurateSettings, DedupSettings, ShotSettings
from media.commandline import parse


def profile(name):
    settings, rest = parse(CurateSettings, ["--input", "a", "--output", "b", "--config", name], CURATE.prog, "", ())
    assert rest == []
    return settings


def test_the_demo_needs_no_model_that_is_not_in_a_package():
    settings = profile("demo")
    assert settings.shots.detector == "cascade"
    assert settings.caption.model is None and settings.clip_score.model is None


def test_the_local_profile_names_models():
    settings = profile("local")
    assert settings.caption.model == "Salesforce/blip2-opt-2.7b"
    assert (settings.clip_score.model, settings.clip_score.pretrained) == ("ViT-B-32", "laion2b_s34b_b79k")


def test_the_hdvg_recipe():
    settings = profile("hdvg")
    assert (settings.shots.detector, settings.clips.max_duration_s, settings.filters.min_height) == (
        "content",
        None,
        720,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ShotSettings(detector="magic"), r"'magic' is not one of cascade, adaptive"),
        (lambda: ShotSettings(threshold=0), r"shots.threshold 0 must be positive"),
        (lambda: ClipSettings(min_duration_s=4, max_duration_s=5), r"at least twice clips.min_duration_s"),
        (lambda: ClipSettings(mode="copy"), r"'copy' is not one of encode, reference"),
        (lambda: DedupSettings(near_distance=40), r"dedup.near_distance 40 is out of range; use 0–24"),
        (lambda: CaptionSettings(num_beams=0), r"caption.num_beams 0 is out of range"),
    ],
    ids=["detector", "threshold", "durations", "mode", "distance", "beams"],
)
def test_contradictions_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
