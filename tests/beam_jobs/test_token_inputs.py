"""What `tokenize` reads besides clip shards: spans of sources, and captioned images from files, manifests and tars."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_jobs.tokenize_job import main
from media.tar import read_samples
from schemas.shards import DatasetInfo, TokenSample, decode_sample
from tests.beam_jobs.runs import ONE_PROCESS, ledger, timings, tree

Run = Callable[..., int]


def dataset(folder: Path) -> DatasetInfo:
    return DatasetInfo.from_json((folder / "dataset.json").read_text())


def samples(folder: Path) -> dict[str, TokenSample]:
    found = {}
    for shard in dataset(folder).shards:
        for key, members in read_samples(folder / shard.name):
            found[key] = decode_sample(key, members)
    return found


def picture(seed: int, size: tuple[int, int] = (80, 60), form: str = "PNG", **options: object) -> bytes:
    """A random picture of (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tokenize_input(model_flags: list[str]) -> Run:
    def call(given: Path | str, output: Path, *flags: str) -> int:
        return main(["--input", str(given), "--output", str(output), *model_flags, *ONE_PROCESS, *flags])

    return call


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images, one of them broken, with captions of every form, and a tar of three samples, one without image."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "a.png").write_bytes(picture(0))
    (folder / "a.txt").write_text("a red ball\n")
    (folder / "deep").mkdir()
    (folder / "deep" / "b.jpg").write_bytes(picture(1, form="JPEG"))
    (folder / "deep" / "b.json").write_text(json.dumps({"caption": "a blue ball", "license": "CC0", "camera": "north"}))
    (folder / "c.webp").write_bytes(picture(2, (33, 70), "WEBP", lossless=True))
    (folder / "broken.jpg").write_bytes(picture(3, form="JPEG")[:200])
    with tarfile.open(folder / "web-00000.tar", "w") as tar:
        members = {
            "x.jpg": picture(4, form="JPEG"),
            "x.txt": b"ball rolls",
            "x.json": b'{"url": "u", "license": "MIT"}',
            "y.PNG": picture(5),
            "z.txt": b"no picture",
        }
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.fixture(scope="module")
def image_tokens(pairs: Path, tokenize_input: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("images") / "tokens"
    assert tokenize_input(pairs, output) == 0
    return output


def test_every_image_ends_in_one_state(image_tokens: Path) -> None:
    rows = ledger(image_tokens, "clips")
    ends = sorted((row["state"], row["stage"], row["reason"]) for row in rows)
    tokenized = [("tokenized", "", "")] * 5
    assert ends == [("failed", "fetch", "no_image"), ("failed", "tokenize", "not_image"), *tokenized]
    counts = dataset(image_tokens).counts
    assert (counts["clips.read"], counts["samples"], "clips.listed" in counts) == (7, 5, False)


def test_images_are_samples_of_one_frame_in_shards_of_their_own(image_tokens: Path) -> None:
    found = samples(image_tokens)
    for sample in found.values():
        assert (sample.arrays["video"].shape, sample.arrays["video_64x64"].shape) == ((1, 4, 4), (1, 8, 8))
        assert sample.arrays["audio"].shape == (4, 0)
        assert sample.meta["num_frames"] == 1
    assert {sample.meta["caption"] for sample in found.values()} == {"a red ball", "a blue ball", "ball rolls", None}
    (blue,) = [sample for sample in found.values() if sample.meta["caption"] == "a blue ball"]
    assert (blue.meta["license"], blue.meta["extra"]) == ("CC0", {"camera": "north"})
    (rolls,) = [sample for sample in found.values() if sample.meta["caption"] == "ball rolls"]
    assert (rolls.meta["license"], rolls.meta["extra"]) == ("MIT", {"url": "u"})
    assert {shard.num_frames for shard in dataset(image_tokens).shards} == {1}


def test_again_nothing_is_redone(pairs: Path, image_tokens: Path, tokenize_input: Run) -> None:
    before = tree(image_tokens)
    assert tokenize_input(pairs, image_tokens) == 0
    assert tree(image_tokens) == before
    assert timings(image_tokens)["tokenize"].get("items", 0) == 1  # the one without an image, which may come


def test_a_manifest_may_give_an_image_several_captions(pairs: Path, tokenize_input: Run, tmp_path: Path) -> None:
    manifest = tmp_path / "captions.csv"
    image = os.path.relpath(pairs / "a.png", tmp_path)
    manifest.write_text(f"path,caption\n{image},one ball\n{image},a ball\ngone.png,nothing\n")
    assert tokenize_input(manifest, tmp_path / "tokens") == 0
    found = samples(tmp_path / "tokens")
    assert sorted(sample.meta["caption"] for sample in found.values()) == ["a ball", "one ball"]
    first, second = found.values()
    assert np.array_equal(first.arrays["video"], second.arrays["video"])
    failures = [
        (row["stage"], row["reason"]) for row in ledger(tmp_path / "tokens", "clips") if row["state"] == "failed"
    ]
    assert failures == [("fetch", "not_found")]


def test_an_image_has_the_tokens_of_a_video_that_shows_it(image_tokens: Path, models_of: Callable, pairs: Path) -> None:
    sample = next(sample for sample in samples(image_tokens).values() if sample.meta["caption"] == "a red ball")
    assert np.array_equal(sample.arrays["video"][0], models_of(np.asarray(Image.open(pairs / "a.png")), 17)[0])


@pytest.fixture
def models_of(model_flags: list[str]) -> Callable:
    """Codes (t h w) of a picture shown for so many frames, at 32x32."""
    import torch

    from media.windows import resize_and_crop
    from tokenize_shards.loading import load_video_tokenizer
    from tokenize_shards.round_trip import encode_frames

    tokenizer = load_video_tokenizer(model_flags[1], "cpu")

    def codes(image: np.ndarray, num_frames: int) -> np.ndarray:
        frames = resize_and_crop(np.repeat(image[None], num_frames, axis=0), 32, 32)
        return encode_frames(tokenizer, frames[None], torch.device("cpu"))[0]

    return codes


# --- spans ------------------------------------------------------------------------------------------------------------


def test_spans_give_the_visual_codes_of_a_lossless_cut(inputs: Path, tokenize_input: Run, tmp_path: Path) -> None:
    """The same frames are read at the same times; only sound differs, because AAC loses some."""
    from beam_jobs import curate

    modes = {"reference": ["--clips.mode", "reference"], "encode": ["--clips.cut.crf", "0"]}
    for name, flags in modes.items():
        curated = tmp_path / name
        assert curate.main(["--input", str(inputs / "edited.mp4"), "--output", str(curated), *flags, *ONE_PROCESS]) == 0
        assert tokenize_input(curated, tmp_path / f"{name}-tokens") == 0
    spans, cuts = (samples(tmp_path / f"{name}-tokens") for name in modes)
    assert len(spans) == 3
    assert spans.keys() == cuts.keys()
    for key, sample in spans.items():
        for member in ("video", "video_64x64", "text"):
            assert np.array_equal(sample.arrays[member], cuts[key].arrays[member]), (key, member)
        assert sample.arrays["audio"].shape == cuts[key].arrays["audio"].shape
        for name in ("caption", "source_id", "window_index", "start_s"):
            assert sample.meta[name] == cuts[key].meta[name]


def test_a_source_that_has_changed_is_a_failure(inputs: Path, tokenize_input: Run, tmp_path: Path) -> None:
    from beam_jobs import curate

    source = tmp_path / "media" / "edited.mp4"
    source.parent.mkdir()
    source.write_bytes((inputs / "edited.mp4").read_bytes())
    flags = ["--clips.mode", "reference", *ONE_PROCESS]
    assert curate.main(["--input", str(source), "--output", str(tmp_path / "run"), *flags]) == 0
    first = sorted(row["clip_id"] for row in ledger(tmp_path / "run", "clips") if row["state"] == "kept")[0]
    assert tokenize_input(tmp_path / "run", tmp_path / "one", "--limit", "1") == 0
    assert [row["clip_id"] for row in ledger(tmp_path / "one", "clips")] == [first]
    source.write_bytes((inputs / "silent.mp4").read_bytes())
    assert tokenize_input(tmp_path / "run", tmp_path / "all") == 1
    ends = {(row["state"], row["stage"], row["reason"]) for row in ledger(tmp_path / "all", "clips")}
    assert ends == {("failed", "fetch", "source_changed")}
    source.unlink()
    assert tokenize_input(tmp_path / "run", tmp_path / "gone") == 1
    assert {row["reason"] for row in ledger(tmp_path / "gone", "clips")} == {"not_found"}
