"""Motion, structure, keyframes, windows of several lengths, still pictures and precision in the samples of a clip."""

import io
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from media.images import image_from_bytes
from media.windows import FrameReader, read_window
from schemas.shards import TokenSample
from schemas.states import Rejection
from tests.tokenize_shards.tiny_models import make_clip
from tokenize_shards import cvivit, magvit2
from tokenize_shards.acceleration import compile_encoder, hold_weights, precision_of
from tokenize_shards.cvivit import CViViT
from tokenize_shards.encode_clip import ClipTokenizer
from tokenize_shards.loading import load_motion_tokenizer, load_video_tokenizer, save_tokenizer
from tokenize_shards.magvit2 import Magvit2
from tokenize_shards.motion import MotionConfig, MotionTokenizer
from tokenize_shards.motion_vectors import motion_map
from tokenize_shards.quality import CodeUse, problems_of
from tokenize_shards.round_trip import encode_frames
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.settings_parts import (
    AudioTokenSettings,
    MotionTokenSettings,
    StructureTokenSettings,
    VideoTokenSettings,
)
from tokenize_shards.structure import DisFlow, structure_video

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small random motion tokenizer."""
    torch.manual_seed(0)
    config = MotionConfig(width=8, heads=1, blocks=(0, 0, 0, 1), codebook_size=64, code_width=8)
    folder = tmp_path_factory.mktemp("dynamics") / "motion"
    save_tokenizer(MotionTokenizer(config, name="motion"), folder)
    return str(folder)


@pytest.fixture(scope="module")
def lavit(settings: TokenizeSettings, motion: str) -> TokenizeSettings:
    """One keyframe and its motion for every 4 s."""
    video = replace(settings.video, resolutions=["32x32"], num_frames=1, fps=0.25, independent=True)
    return replace(settings, video=video, motion=MotionTokenSettings(motion))


@pytest.fixture(scope="module")
def long_clip(clips: Path) -> tuple[Path, dict[str, Any]]:
    """9 s at 12 fps, with sound."""
    path = clips / "dynamics9.mp4"
    return path, make_clip(path, frames=108, fps="12", size="96x64")


class Store:
    """Keeps parts in memory and lists what was made."""

    def __init__(self) -> None:
        self.parts: dict[tuple[str, str], bytes] = {}

    def get(self, stage: str, fingerprint: str) -> bytes | None:
        return self.parts.get((stage, fingerprint))

    def put(self, stage: str, fingerprint: str, data: bytes) -> None:
        self.parts[stage, fingerprint] = data


def test_keyframes_alternate_with_motion(lavit: TokenizeSettings, long_clip: tuple[Path, dict], motion: str) -> None:
    path, sidecar = long_clip
    first, second = ClipTokenizer(lavit).tokenize("long", path, sidecar)
    assert (first.meta["independent"], first.meta["fps"], second.meta["start_s"]) == (True, [1, 4], 4.0)
    shapes = {name: (array.shape, array.dtype.name) for name, array in second.arrays.items()}
    assert shapes["video"] == ((1, 4, 4), "uint32")
    assert shapes["motion"] == ((135,), "uint16")
    assert shapes["audio"] == ((4, 200), "uint16")  # the sound of all 4 s
    assert {"psnr_db", "motion_snr_db", "audio_snr_db"} <= set(second.meta["quality"])
    frames = FrameReader(path).frames_at([4 + Fraction(k, 6) for k in range(24)])
    tokenizer = load_motion_tokenizer(motion, "cpu")
    wanted = tokenizer.encode(torch.from_numpy(motion_map(frames))[None])[0].numpy()
    assert np.array_equal(second.arrays["motion"], wanted)


def test_several_keyframes_in_one_sample_are_those_of_single_ones(
    lavit: TokenizeSettings, long_clip: tuple[Path, dict]
) -> None:
    pairs = ClipTokenizer(lavit).tokenize("long", *long_clip)
    two = replace(lavit, video=replace(lavit.video, num_frames=2, batch_size=2))
    (both,) = ClipTokenizer(two).tokenize("long", *long_clip)
    assert both.arrays["video"].shape == (2, 4, 4)
    for name in ("video", "motion"):
        assert np.array_equal(both.arrays[name], np.concatenate([pair.arrays[name] for pair in pairs]))


def test_motion_needs_four_seconds(settings: TokenizeSettings, motion: str) -> None:
    with pytest.raises(ValueError, match=r"motion codes cover 4 s each, but a window lasts 2\.125 s"):
        replace(settings, motion=MotionTokenSettings(motion))
    with pytest.raises(ValueError, match=r"video\.independent makes images"):
        replace(settings, video=replace(settings.video, independent=True), structure=StructureTokenSettings(True))
    with pytest.raises(ValueError, match=r"say nothing without --structure\.enabled"):
        StructureTokenSettings(flow="raft.pt")


def test_structure_is_flow_through_the_video_tokenizer(
    settings: TokenizeSettings, long_clip: tuple[Path, dict], models: dict[str, str]
) -> None:
    path, sidecar = long_clip
    sample = ClipTokenizer(replace(settings, structure=StructureTokenSettings(True))).tokenize("long", path, sidecar)[1]
    frames = read_window(path, Fraction(17, 8), 17, 8, 32, 32)
    video = structure_video(frames, DisFlow())
    wanted = encode_frames(load_video_tokenizer(models["video"], "cpu"), video[None], torch.device("cpu"))[0]
    assert sample.arrays["structure"].shape == (5, 4, 4)
    assert np.array_equal(sample.arrays["structure"], wanted)
    assert "structure_psnr_db" in sample.meta["quality"]


def test_only_what_changed_is_redone(
    lavit: TokenizeSettings, long_clip: tuple[Path, dict], motion: str, tmp_path: Path
) -> None:
    store = Store()
    ClipTokenizer(lavit, store).tokenize("long", *long_clip)
    made = set(store.parts)
    assert {stage for stage, _ in made} == {"tokens-video", "tokens-audio", "tokens-text", "tokens-motion"}
    torch.manual_seed(1)
    save_tokenizer(MotionTokenizer(load_motion_tokenizer(motion, "cpu").config, name="other"), tmp_path)
    other = replace(lavit, motion=MotionTokenSettings(str(tmp_path)))
    ClipTokenizer(other, store).tokenize("long", *long_clip)
    assert [stage for stage, _ in set(store.parts) - made] == ["tokens-motion"]


def test_windows_of_several_lengths(settings: TokenizeSettings, long_clip: tuple[Path, dict]) -> None:
    both = replace(settings, video=replace(settings.video, resolutions=["32x32"], num_frames=[17, 41]))
    samples = ClipTokenizer(both).tokenize("long", *long_clip)
    assert [sample.meta["num_frames"] for sample in samples] == [17] * 4 + [41]
    assert [sample.key for sample in samples] == [f"long-{index:04d}" for index in range(5)]
    assert samples[4].arrays["video"].shape == (11, 4, 4)
    assert np.array_equal(samples[4].arrays["video"][:5], samples[0].arrays["video"])  # a prefix is a prefix
    with pytest.raises(ValueError, match="none twice"):
        VideoTokenSettings(num_frames=[17, 17])


def test_a_picture_is_a_sample_of_one_frame(settings: TokenizeSettings, lavit: TokenizeSettings) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    sidecar = {"clip_id": "p", "source_id": "p", "image": True, "caption": "a red ball", "num_frames": 1}
    span = {"start_pts": 0, "end_pts": 0, "time_base_num": 1, "time_base_den": 1}
    for chosen in (settings, lavit):
        (sample,) = ClipTokenizer(chosen).tokenize("p", buffer.getvalue(), {**sidecar, **span})
        assert sample.arrays["video"].shape == (1, 4, 4)
        assert sample.arrays["audio"].shape == (4, 0)
    assert sample.arrays["motion"].shape == (0,)
    assert sample.arrays["motion"].dtype == np.uint16


def test_pictures_are_shown_as_they_are_meant(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", exif=_turned())
    turned = image_from_bytes(buffer.getvalue())
    assert turned.shape == (6, 4, 3)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 4), np.uint8), "RGBA").save(buffer, "PNG")
    assert image_from_bytes(buffer.getvalue()).min() == 255  # nothing on white
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 2), 65535, np.uint16)).save(buffer, "PNG")
    assert image_from_bytes(buffer.getvalue()).tolist() == [[[255] * 3] * 2] * 2
    for data, reason in ((b"", "empty_file"), (b"no image", "not_image"), (buffer.getvalue()[:40], "not_image")):
        with pytest.raises(Rejection) as caught:
            image_from_bytes(data)
        assert caught.value.reason == reason


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    return exif


def test_a_span_may_be_cropped(settings: TokenizeSettings, long_clip: tuple[Path, dict]) -> None:
    path, sidecar = long_clip
    cropped = ClipTokenizer(settings).tokenize("long", path, {**sidecar, "crop": [8, 0, 48, 96]})[0]
    frames = FrameReader(path).frames_at([Fraction(k, 8) for k in range(17)])[:, 8:56]
    from media.windows import resize_and_crop

    tokenizer = load_video_tokenizer(settings.video.tokenizer, "cpu")
    wanted = encode_frames(tokenizer, resize_and_crop(frames, 32, 32)[None], torch.device("cpu"))[0]
    assert np.array_equal(cropped.arrays["video"], wanted)


def test_precision_and_compilation_are_part_of_who_made_the_codes(settings: TokenizeSettings) -> None:
    fingerprints = [
        ClipTokenizer(replace(settings, video=replace(settings.video, precision=precision))).fingerprints
        for precision in (None, "float32", "bfloat16")
    ]
    assert fingerprints[0] == fingerprints[1] | {"video": fingerprints[0]["video"]}
    assert fingerprints[1]["video"] != fingerprints[2]["video"]
    assert fingerprints[1]["audio"] == fingerprints[2]["audio"]
    gpu = torch.device("cuda")
    assert (precision_of(VideoTokenSettings(), gpu), precision_of(VideoTokenSettings(precision="float16"), gpu)) == (
        "bfloat16",
        "float16",
    )


def test_reduced_precision_changes_few_bits(settings: TokenizeSettings, models: dict[str, str]) -> None:
    tokenizer = load_video_tokenizer(models["video"], "cpu")
    video = np.random.default_rng(0).integers(0, 255, (1, 9, 128, 128, 3), np.uint8)
    cpu = torch.device("cpu")
    exact, reduced = (encode_frames(tokenizer, video, cpu, None, each) for each in ("float32", "bfloat16"))
    flipped = np.unpackbits((exact ^ reduced).view(np.uint8)).sum() / (exact.size * 18)
    assert 0 < flipped < 0.05


@pytest.mark.parametrize(
    "make", [lambda: CViViT(cvivit.TINY), lambda: Magvit2(magvit2.TINY)], ids=["cvivit", "magvit2"]
)
def test_weights_held_at_the_precision_give_the_same_codes(make: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    tokenizer = make().eval()
    video = np.random.default_rng(0).integers(0, 255, (1, 9, 64, 64, 3), np.uint8)
    cpu = torch.device("cpu")
    rounded_each_time = encode_frames(tokenizer, video, cpu, None, "bfloat16")
    hold_weights(tokenizer.encoder, "float32", laid_out=False)
    assert {weight.dtype for weight in tokenizer.parameters()} == {torch.float32}
    hold_weights(tokenizer.encoder, "bfloat16", laid_out=False)
    assert torch.bfloat16 in {weight.dtype for weight in tokenizer.encoder.parameters()}
    np.testing.assert_array_equal(encode_frames(tokenizer, video, cpu, None, "bfloat16"), rounded_each_time)


def test_a_compiled_encoder_gives_the_same_codes(models: dict[str, str]) -> None:
    """Traced by dynamo with its causal streams, run without a code generator: what is built for a GPU is the same."""
    tokenizer = load_video_tokenizer(models["video"], "cpu")
    video = torch.rand(1, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = tokenizer.encode(video)
    compile_encoder(tokenizer, backend="eager")
    assert torch.equal(tokenizer.encode(video), before)
    with pytest.raises(ValueError, match="cannot be compiled"):
        compile_encoder(object())


def test_quality_of_motion_and_structure(lavit: TokenizeSettings, long_clip: tuple[Path, dict]) -> None:
    tokenizer = ClipTokenizer(lavit)
    sample = tokenizer.tokenize("long", *long_clip)[0]
    use = CodeUse(tokenizer.tokenizers)
    use.add(sample)
    quality = use.quality([], [])
    assert quality.motion_perplexity is not None and 1 <= quality.motion_perplexity <= 64
    assert quality.structure_perplexity is None
    bad = TokenSample(sample.key, {**sample.arrays, "motion": np.array([64], np.uint16)}, sample.meta)
    assert problems_of(bad, tokenizer.tokenizers) == ["long-0000.motion: code 64 is outside [0, 64)"]


def test_shards_without_sound_or_text_still_have_motion(lavit: TokenizeSettings, long_clip: tuple[Path, dict]) -> None:
    bare = replace(lavit, audio=AudioTokenSettings(None), text=replace(lavit.text, encoder=None))
    sample = ClipTokenizer(bare).tokenize("long", *long_clip)[0]
    assert list(sample.arrays) == ["video", "motion"]
