"""What shapes the overlay scores is part of the fingerprint of the analysis; where a model lies is not."""

import shutil

import pytest

from beam_jobs.model_fingerprints import overlay_fingerprint
from curation.settings import CurateSettings, TextSettings, WatermarkSettings
from curation.text_area import text_weights


def of(**settings: object) -> tuple[object, ...]:
    return overlay_fingerprint(CurateSettings("in", "out", **settings))  # type: ignore[arg-type]


def test_nothing_is_added_where_nothing_is_taken() -> None:
    assert of() == of(watermark=WatermarkSettings(enabled=False)) == ()


def test_settings_of_the_text_score_count_and_the_place_of_its_weights_does_not(tmp_path) -> None:
    shipped = of(text=TextSettings(enabled=True))
    assert shipped and shipped != of(text=TextSettings(enabled=True, frames=3))
    copy = shutil.copy(text_weights(TextSettings()), tmp_path / "detector.onnx")
    assert of(text=TextSettings(enabled=True, model=str(copy))) == shipped


def test_a_model_that_is_not_there_is_found_before_the_job_starts() -> None:
    with pytest.raises(FileNotFoundError, match=r"text\.model"):
        of(text=TextSettings(enabled=True, model="no.onnx"))
    with pytest.raises(FileNotFoundError, match=r"watermark\.model"):
        of(watermark=WatermarkSettings(model="/no/such/model"))
