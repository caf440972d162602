"""Window planning, aspect buckets and the settings that decide them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.states import Rejection
from tokenize_shards.settings import (
    QualitySettings,
    SplitSettings,
    TextSettings,
    TokenizeSettings,
    TokenShardSettings,
    VideoTokenSettings,
)
from tokenize_shards.windows import choose_bucket, clip_duration, plan_windows

DEFAULT = VideoTokenSettings()


@pytest.mark.parametrize(
    ("duration_s", "settings", "starts"),
    [
        pytest.param(Fraction(17, 8), DEFAULT, [0], id="exactly-one"),
        pytest.param(Fraction(34, 8) - Fraction(1, 90000), DEFAULT, [0], id="just-short-of-two"),
        pytest.param(Fraction(34, 8), DEFAULT, [0, Fraction(17, 8)], id="exactly-two"),
        pytest.param(Fraction(10), DEFAULT, [Fraction(17 * k, 8) for k in range(4)], id="remainder-dropped"),
        pytest.param(
            Fraction(4), VideoTokenSettings(stride=8), [Fraction(0), Fraction(1)], id="overlapping-by-a-stride"
        ),
        pytest.param(
            Fraction(3000, 2997),  # 30 frames
            VideoTokenSettings(num_frames=5, fps=29.97),
            [Fraction(500 * k, 2997) for k in range(6)],
            id="exact-rates",
        ),
    ],
)
def test_windows_follow_one_another(duration_s: Fraction, settings: VideoTokenSettings, starts: list[Fraction]) -> None:
    windows = plan_windows(duration_s, 100, settings)
    assert [window.start_s for window in windows] == starts
    assert [window.index for window in windows] == list(range(len(starts)))
    assert {window.num_frames for window in windows} == {settings.num_frames}


def test_a_clip_shorter_than_a_window_is_rejected() -> None:
    with pytest.raises(Rejection) as caught:
        plan_windows(Fraction(17, 8) - Fraction(1, 90000), 63, DEFAULT)
    assert caught.value.reason == "too_short"
    assert "17 frames at 8 fps take 2.125 s" in caught.value.detail


def test_a_still_is_one_window_of_one_frame() -> None:
    (window,) = plan_windows(Fraction(1, 25), 1, DEFAULT)
    assert (window.start_s, window.num_frames) == (0, 1)


@given(
    duration=st.fractions(min_value=0, max_value=100),
    num_frames=st.integers(1, 40),
    fps=st.sampled_from([4.0, 8.0, 23.976, 30.0]),
    stride=st.none() | st.integers(1, 40),
)
def test_every_window_lies_within_the_clip_and_no_more_would_fit(
    duration: Fraction, num_frames: int, fps: float, stride: int | None
) -> None:
    settings = VideoTokenSettings(num_frames=num_frames, fps=fps, stride=stride)
    try:
        windows = plan_windows(duration, 100, settings)
    except Rejection:
        assert duration < num_frames / settings.rate
        return
    last = windows[-1].start_s + num_frames / settings.rate
    assert last <= duration < last + (stride or num_frames) / settings.rate


def test_duration_is_exact() -> None:
    span = {"start_pts": 1001, "end_pts": 4004, "time_base_num": 1, "time_base_den": 30000}
    assert clip_duration(span) == Fraction(3003, 30000)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        pytest.param(720, 720, [(128, 128), (256, 256)], id="square"),
        pytest.param(1920, 1080, [(224, 128)], id="portrait"),
        pytest.param(1080, 1920, [(128, 224)], id="landscape"),
        pytest.param(576, 720, [(128, 128), (256, 256)], id="near-square"),
    ],
)
def test_a_clip_goes_to_the_bucket_nearest_in_shape(height: int, width: int, expected: list[tuple[int, int]]) -> None:
    settings = VideoTokenSettings(resolutions=["128x128", "224x128", "256x256", "128x224"])
    assert choose_bucket(height, width, settings.buckets) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda: VideoTokenSettings(resolutions=["128"]), "not HEIGHTxWIDTH", id="resolution-form"),
        pytest.param(lambda: VideoTokenSettings(resolutions=["0x8"]), "not HEIGHTxWIDTH", id="resolution-zero"),
        pytest.param(lambda: VideoTokenSettings(resolutions=[]), "is empty", id="no-resolution"),
        pytest.param(lambda: VideoTokenSettings(resolutions=["8x8", "8x8"]), "twice", id="resolution-twice"),
        pytest.param(lambda: VideoTokenSettings(resolutions=["16x16", "8x8"]), "from low to high", id="order"),
        pytest.param(lambda: VideoTokenSettings(num_frames=0), "video.num_frames is 0", id="frames"),
        pytest.param(lambda: VideoTokenSettings(fps=0), "video.fps is 0", id="fps"),
        pytest.param(lambda: VideoTokenSettings(stride=0), "video.stride is 0", id="stride"),
        pytest.param(lambda: VideoTokenSettings(batch_size=0), "video.batch_size is 0", id="batch"),
        pytest.param(lambda: TextSettings(max_tokens=0), "text.max_tokens is 0", id="text"),
        pytest.param(lambda: SplitSettings(val_fraction=1.0), r"must lie in \[0, 1\)", id="split"),
        pytest.param(lambda: TokenShardSettings(max_bytes=10), "shards.max_bytes is 10", id="shards"),
        pytest.param(lambda: QualitySettings(every=0), "quality.every is 0", id="quality"),
        pytest.param(lambda: TokenizeSettings("a", "a"), "both 'a'", id="input-is-output"),
        pytest.param(lambda: TokenizeSettings("a", "b", threads=0), "threads is 0", id="threads"),
        pytest.param(lambda: TokenizeSettings("a", "b", limit=0), "limit is 0", id="limit"),
        pytest.param(lambda: TokenizeSettings("a", "b", max_failures=-1), "max_failures is -1", id="failures"),
    ],
)
def test_settings_refuse_contradictions(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
