"""Clips to token samples: counts, stills, sound, resolutions, determinism, what is kept between runs."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch

from media.windows import read_window
from schemas.shards import TokenSample, encode_sample
from schemas.states import Rejection
from tests.tokenize_shards.tiny_models import make_clip, save_audio_tokenizer
from tokenize_shards.clip_parts import pack_pieces, unpack_pieces
from tokenize_shards.encode_clip import ClipTokenizer, mirrored_caption
from tokenize_shards.loading import load_audio_tokenizer, load_text_encoder, load_video_tokenizer
from tokenize_shards.settings import (
    AudioTokenSettings,
    QualitySettings,
    TextSettings,
    TokenizeSettings,
    VideoTokenSettings,
)


@pytest.fixture(scope="module")
def tokenizer(settings: TokenizeSettings) -> ClipTokenizer:
    return ClipTokenizer(settings)


@pytest.fixture(scope="module")
def clip(clips: Path) -> tuple[Path, dict[str, Any]]:
    """5 s, two windows and a rest, with sound."""
    path = clips / "c0ffee.mp4"
    return path, make_clip(path, frames=120)


def member_bytes(samples: list[TokenSample]) -> list[tuple[str, bytes]]:
    return [member for sample in samples for member in encode_sample(sample)]


def test_samples_of_a_clip(tokenizer: ClipTokenizer, clip: tuple[Path, dict[str, Any]]) -> None:
    path, sidecar = clip
    samples = tokenizer.tokenize("c0ffee", path, sidecar)
    assert [sample.key for sample in samples] == ["c0ffee-0000", "c0ffee-0001"]
    shapes = {name: (array.shape, array.dtype.name) for name, array in samples[0].arrays.items()}
    assert shapes == {
        "video": ((5, 4, 4), "uint32"),
        "video_64x64": ((5, 8, 8), "uint32"),
        "audio": ((4, 106), "uint16"),
        "text": ((6, 16), "float16"),
    }
    meta = samples[1].meta
    assert (meta["clip_id"], meta["caption"], meta["license"]) == ("c0ffee", "a red ball rolls left", "CC0")
    assert (meta["start_s"], meta["window_index"], meta["fps"]) == (2.125, 1, [8, 1])
    assert (meta["resolution"], meta["extra"]) == ([32, 32], {"camera": "north"})
    assert set(meta["quality"]) == {"psnr_db", "audio_snr_db"}


def test_codes_are_those_of_the_tokenizers_called_directly(
    tokenizer: ClipTokenizer, clip: tuple[Path, dict[str, Any]], models: dict[str, str]
) -> None:
    path, sidecar = clip
    sample = tokenizer.tokenize("c0ffee", path, sidecar)[1]
    frames = read_window(path, Fraction(17, 8), 17, 8, 64, 64)
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        codes = load_video_tokenizer(models["video"], "cpu").encode(video)[0].numpy()
    assert np.array_equal(sample.arrays["video_64x64"], codes)
    states = load_text_encoder(models["text"], "cpu").encode([sidecar["caption"]])[0]
    assert np.array_equal(sample.arrays["text"], states)


def test_the_shapes_of_videopoet(models: dict[str, str], clip: tuple[Path, dict[str, Any]]) -> None:
    settings = TokenizeSettings(
        "a",
        "b",
        VideoTokenSettings(models["video"]),
        AudioTokenSettings(models["audio"]),
        TextSettings(None),
        device="cpu",
    )
    sample = ClipTokenizer(settings).tokenize("c0ffee", *clip)[0]
    assert sample.arrays["video"].size == 1280
    assert sample.arrays["audio"].shape == (4, 106)
    assert "text" not in sample.arrays


def test_a_mirrored_clip(settings: TokenizeSettings, clip: tuple[Path, dict[str, Any]]) -> None:
    path, sidecar = clip
    mirrored = ClipTokenizer(replace(settings, video=replace(settings.video, mirror=True)))
    plain = ClipTokenizer(settings)
    assert mirrored.fingerprints["video"] != plain.fingerprints["video"]
    assert mirrored.fingerprints["audio"] == plain.fingerprints["audio"]
    sample = mirrored.tokenize("c0ffee", path, sidecar)[0]
    frames = read_window(path, 0, 17, 8, 32, 32)[:, :, ::-1]
    codes = mirrored.video.tokenizer.encode(torch.from_numpy(frames.copy())[None].permute(0, 4, 1, 2, 3) / 127.5 - 1)
    np.testing.assert_array_equal(sample.arrays["video"], codes[0].numpy())
    assert (sample.meta["caption"], sample.meta["mirrored"]) == ("a red ball rolls right", True)
    assert "mirrored" not in plain.tokenize("c0ffee", path, sidecar)[0].meta


@pytest.mark.parametrize(
    ("caption", "other"),
    [
        ("from left to the right side", "from right to the left side"),
        ("Left hand, RIGHT hand", "Right hand, LEFT hand"),
        ("bright leftovers", "bright leftovers"),
        ("", ""),
        (None, None),
    ],
)
def test_captions_of_mirrored_clips(caption: str | None, other: str | None) -> None:
    assert mirrored_caption(caption) == other


def test_a_still_has_the_tokens_of_the_first_frame(tokenizer: ClipTokenizer, clips: Path) -> None:
    moving = make_clip(clips / "fade01.mp4", frames=60, tone_hz=None)
    (still,) = tokenizer.tokenize("still", clips / "fade01.mp4", {**moving, "num_frames": 1, "end_pts": 1})
    (sample,) = tokenizer.tokenize("moving", clips / "fade01.mp4", moving)
    assert still.arrays["video"].shape == (1, 4, 4)
    assert np.array_equal(still.arrays["video"][0], sample.arrays["video"][0])
    assert still.arrays["audio"].shape == (4, 0)


def test_a_clip_without_sound_or_caption(tokenizer: ClipTokenizer, clips: Path) -> None:
    sidecar = {**make_clip(clips / "ab.mp4", tone_hz=None), "caption": None}
    (sample,) = tokenizer.tokenize("ab", clips / "ab.mp4", sidecar)
    assert sample.arrays["audio"].shape == (4, 0) and sample.arrays["audio"].dtype == np.uint16
    assert tokenizer.empty_caption is not None
    assert np.array_equal(sample.arrays["text"], tokenizer.empty_caption)
    assert sample.meta["caption"] is None and "audio_snr_db" not in sample.meta["quality"]


def test_a_clip_shorter_than_a_window_is_rejected(tokenizer: ClipTokenizer, clips: Path) -> None:
    sidecar = make_clip(clips / "ac.mp4", frames=50)
    with pytest.raises(Rejection) as caught:
        tokenizer.tokenize("ac", clips / "ac.mp4", sidecar)
    assert caught.value.reason == "too_short"


@pytest.mark.parametrize(
    ("media", "reason"),
    [pytest.param(b"", "empty_file", id="empty"), pytest.param(b"no media" * 99, "not_media", id="noise")],
)
def test_media_that_cannot_be_read_is_rejected(
    tokenizer: ClipTokenizer, clip: tuple[Path, dict[str, Any]], media: bytes, reason: str
) -> None:
    with pytest.raises(Rejection) as caught:
        tokenizer.tokenize("x", media, clip[1])
    assert caught.value.reason == reason


def test_bytes_are_the_same_again_from_bytes_and_with_other_threads(
    settings: TokenizeSettings, tokenizer: ClipTokenizer, clip: tuple[Path, dict[str, Any]]
) -> None:
    path, sidecar = clip
    first = member_bytes(tokenizer.tokenize("c0ffee", path, sidecar))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = ClipTokenizer(settings).tokenize("c0ffee", path.read_bytes(), sidecar)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert member_bytes(again) == first


def test_threads_that_share_the_tokenizers_get_the_same_bytes(
    settings: TokenizeSettings, tokenizer: ClipTokenizer, clip: tuple[Path, dict[str, Any]]
) -> None:
    """As the threads of a Beam worker do; the tokenizers are new, so that they all begin with what is made once."""
    expected = member_bytes(tokenizer.tokenize("c0ffee", *clip))
    for _ in range(3):
        shared, together = ClipTokenizer(settings), Barrier(4)

        def tokenize(_: int, shared: ClipTokenizer = shared, together: Barrier = together) -> list[tuple[str, bytes]]:
            together.wait()
            return member_bytes(shared.tokenize("c0ffee", *clip))

        with ThreadPoolExecutor(4) as pool:
            assert all(made == expected for made in pool.map(tokenize, range(4)))


def test_a_span_of_a_longer_file_gives_the_frames_of_that_span(tokenizer: ClipTokenizer, clips: Path) -> None:
    """At 6 fps the frame nearest to 2 s lies beyond a span of 2.17 s: it belongs to the next shot and is not taken."""
    path = clips / "d0.mp4"
    whole = make_clip(path, frames=120, fps="6", tone_hz=None, size="64x64")
    span = {**whole, "start_pts": 20, "end_pts": 33, "num_frames": 13}
    (sample,) = tokenizer.tokenize("d0", path, span, start_s=Fraction(20, 6))
    times = [Fraction(20, 6) + Fraction(k, 8) for k in range(17)]
    frames = [min(range(20, 33), key=lambda n: (abs(Fraction(n, 6) - time), n)) for time in times]
    expected = np.concatenate([read_window(path, Fraction(n, 6), 1, 8, 32, 32) for n in frames])
    video = torch.from_numpy(expected).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.inference_mode():
        codes = tokenizer.video.tokenizer.encode(video)[0].numpy()
    assert np.array_equal(sample.arrays["video"], codes)


def test_a_portrait_clip_goes_to_the_portrait_bucket(models: dict[str, str], clips: Path) -> None:
    sidecar = make_clip(clips / "ee.mp4", size="64x112", tone_hz=None)
    settings = TokenizeSettings(
        "a",
        "b",
        VideoTokenSettings(models["video"], ["32x32", "56x32", "64x64"]),
        AudioTokenSettings(None),
        TextSettings(None),
        device="cpu",
    )
    (sample,) = ClipTokenizer(settings).tokenize("ee", clips / "ee.mp4", sidecar)
    assert {name: array.shape for name, array in sample.arrays.items()} == {"video": (5, 7, 4)}
    assert sample.meta["resolution"] == [56, 32]


class Store:
    """Keeps parts in memory and counts what was asked for and made."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, str], bytes] = {}
        self.made: list[str] = []

    def get(self, stage: str, fingerprint: str) -> bytes | None:
        return self.parts.get((stage, fingerprint))

    def put(self, stage: str, fingerprint: str, data: bytes) -> None:
        self.parts[stage, fingerprint] = data
        self.made.append(stage)


def test_a_change_of_the_audio_tokenizer_redoes_audio_alone(
    settings: TokenizeSettings, clip: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    store = Store()
    first = ClipTokenizer(settings, store).tokenize("c0ffee", *clip)
    assert store.made == ["tokens-video", "tokens-audio", "tokens-text"]
    assert member_bytes(ClipTokenizer(settings, store).tokenize("c0ffee", *clip)) == member_bytes(first)
    assert len(store.made) == 3
    other = replace(settings, audio=AudioTokenSettings(save_audio_tokenizer(tmp_path / "audio", seed=1)))
    second = ClipTokenizer(other, store).tokenize("c0ffee", *clip)
    assert store.made[3:] == ["tokens-audio"]
    assert np.array_equal(first[0].arrays["video"], second[0].arrays["video"])
    assert not np.array_equal(first[0].arrays["audio"], second[0].arrays["audio"])


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        pytest.param({"threads": 2}, {"video", "audio", "text"}, id="threads"),
        pytest.param({"text": TextSettings("TEXT", 5)}, {"text"}, id="text"),
        pytest.param({"video": VideoTokenSettings("VIDEO", ["32x32"])}, {"video"}, id="resolutions"),
        pytest.param({"quality": QualitySettings(every=2)}, {"video", "audio"}, id="quality"),
        pytest.param({"limit": 3, "output": "elsewhere"}, set(), id="what-does-not-matter"),
    ],
)
def test_fingerprints_change_with_what_decides_the_tokens(
    settings: TokenizeSettings, tokenizer: ClipTokenizer, models: dict[str, str], change: dict, kinds: set[str]
) -> None:
    named = {
        "TEXT": lambda s: replace(s, encoder=models["text"]),
        "VIDEO": lambda s: replace(s, tokenizer=models["video"]),
    }
    for key, value in change.items():
        name = getattr(value, "encoder", getattr(value, "tokenizer", None))
        change = {**change, key: named[name](value)} if name in named else change
    other = ClipTokenizer(replace(settings, **change)).fingerprints
    assert {kind for kind, value in tokenizer.fingerprints.items() if other[kind] != value} == kinds


def test_windows_the_tokenizer_cannot_take_are_refused_at_once(settings: TokenizeSettings) -> None:
    with pytest.raises(ValueError, match=r"cannot take windows of 16 frames at 32x32.*change video\.num_frames"):
        ClipTokenizer(replace(settings, video=replace(settings.video, num_frames=16)))
    with pytest.raises(ValueError, match=r"at 36x36"):
        ClipTokenizer(replace(settings, video=replace(settings.video, resolutions=["36x36"])))


def test_pieces_survive_being_stored(tokenizer: ClipTokenizer, clip: tuple[Path, dict[str, Any]]) -> None:
    pieces = tokenizer.video.encode(tokenizer._clip("c0ffee", *clip, None))
    back = unpack_pieces(pack_pieces(pieces))
    assert [piece.measures for piece in back] == [piece.measures for piece in pieces]
    assert all(np.array_equal(a.arrays["video"], b.arrays["video"]) for a, b in zip(back, pieces, strict=True))


def test_what_dataset_json_says_of_the_tokenizers(tokenizer: ClipTokenizer, models: dict[str, str]) -> None:
    made = tokenizer.tokenizers
    assert (made["video"].codebook_size, made["video"].strides, made["video"].bit_order) == (2**18, (4, 8, 8), "little")
    assert (made["audio"].num_quantizers, made["audio"].strides, made["audio"].sample_rate_hz) == (4, (320,), 16000)
    assert made["text"].width == 16
    assert made["audio"].fingerprint == load_audio_tokenizer(models["audio"]).fingerprint
