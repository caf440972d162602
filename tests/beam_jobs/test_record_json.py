import pytest

from beam_jobs.record_json import from_json, to_json
from schemas.records import Analysis, Caption, Clip, CutClip, Source, Verdict
from schemas.states import ClipState
from tests.beam_jobs.records_for_tests import analysis, clip, source

VERDICT = Verdict(ClipState.FILTERED, "shots", "too_short", 0.5, 1.0)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(source(start_s=1.0, extra='{"a": 1}'), id="source"),
        pytest.param(clip(source(), caption=Caption("Ein Hund läuft", "manifest", "ok")), id="clip"),
        pytest.param(clip(source(), verdict=VERDICT), id="enum-inside"),
        pytest.param(analysis(source(), clip(source()), clip(source(), 2000, 4000)), id="tuple-of-records"),
        pytest.param(CutClip("id", "", 5, "sha", 3, 4, 5, 25, 1, 0, None), id="none"),
    ],
)
def test_round_trip(record: object) -> None:
    assert from_json(type(record), to_json(record)) == record


def test_pictures_are_left_out() -> None:
    stored = to_json(clip(source(), keyframe_jpeg=b"\xff\xd8"))
    assert b"keyframe_jpeg" not in stored
    assert from_json(Clip, stored).keyframe_jpeg == b""


def test_equal_records_have_equal_bytes() -> None:
    assert to_json(clip(source(), scores={"a": 1.0, "b": 2.0})) == to_json(clip(source(), scores={"b": 2.0, "a": 1.0}))


@pytest.mark.parametrize("data", [b"[]", b'{"uri": 3}', b"not json"], ids=["list", "missing", "broken"])
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(Source, data)


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        to_json(clip(source(), extra=object()))


def test_an_analysis_keeps_its_probe() -> None:
    whole = analysis(source())
    assert from_json(Analysis, to_json(whole)).probe == whole.probe
