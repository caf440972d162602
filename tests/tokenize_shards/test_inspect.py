"""`reelmill inspect`: the table, decoding back to media, refusals."""

import json
from dataclasses import replace
from pathlib import Path

import av
import pytest
import soundfile
from PIL import Image

from media import storage
from media.commandline import settings_dict
from media.tar import write_tar
from schemas.shards import DatasetInfo
from tests.tokenize_shards.tiny_models import make_clip, save_audio_tokenizer, save_video_tokenizer, sidecar_bytes
from tests.tokenize_shards.token_samples import make_dataset
from tokenize_shards.encode_clip import ClipTokenizer
from tokenize_shards.inspect_shards import clip_samples, kind_of, main
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.writer import dataset_counts, read_dataset, write_dataset, write_shard


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curated run of two clips, one of them without sound."""
    folder = tmp_path_factory.mktemp("curated")
    members = []
    for key, tone in (("aa01", 440), ("bb02", None)):
        sidecar = make_clip(folder / "media" / f"{key}.mp4", frames=60, tone_hz=tone)
        media = (folder / "media" / f"{key}.mp4").read_bytes()
        members += [(f"{key}.mp4", media), (f"{key}.json", sidecar_bytes(sidecar))]
    write_tar(folder / "clips" / "clips-00000.tar", members)
    (folder / "run.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def tokens(curated: Path, settings: TokenizeSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The token shards of that run."""
    folder, settings = tmp_path_factory.mktemp("tokens"), replace(settings, input=str(curated))
    tokenizer = ClipTokenizer(settings)
    samples = []
    for key, members in clip_samples(str(curated)):
        samples += tokenizer.tokenize(key, members["mp4"], json.loads(members["json"]))
    written = write_shard(str(folder), "train-00000.tar", "train", samples, tokenizer.tokenizers)
    info = DatasetInfo(
        tokenizer.tokenizers,
        [(32, 32), (64, 64)],
        17,
        (8, 1),
        dataset_counts(written.rows),
        [written.info],
        list(samples[0].arrays),
        settings=settings_dict(settings),
    )
    write_dataset(str(folder), info, tokenizer.empty_caption)
    return folder


@pytest.mark.parametrize("place", ["", "train-00000.tar"], ids=["folder", "shard"])
def test_the_table_shows_samples_and_tokenizers(tokens: Path, place: str, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tokens / place)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("aa01-0000", "bb02-0000", "2 samples", "video_64x64", "a red ball", "4 × 1024", "17 frames at 8 fps"):
        assert text in shown


def test_samples_come_back_as_media(tokens: Path, curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tokens), "--decode", str(tmp_path / "out"), "--source", str(curated)]) == 0
    assert "originals above reconstructions" in " ".join(capsys.readouterr().out.split())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "aa01-0000.wav",
        "aa01-0000_32x32.mp4",
        "aa01-0000_64x64.mp4",
        "bb02-0000_32x32.mp4",
        "bb02-0000_64x64.mp4",
        "contact-sheet.jpg",
    ]
    with av.open(str(tmp_path / "out" / "aa01-0000_64x64.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 17 and frames[0].shape == (64, 64, 3)
        assert len(container.streams.audio) == 1
    samples, rate = soundfile.read(tmp_path / "out" / "aa01-0000.wav")
    assert rate == 16000 and len(samples) == 106 * 320
    with Image.open(tmp_path / "out" / "contact-sheet.jpg") as sheet:
        assert sheet.size == (8 * 160, 4 * 160)  # two samples, each with its original


def test_without_a_source_the_sheet_has_reconstructions_only(
    tokens: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(FileNotFoundError, match="is no curated run"):
        main([str(tokens), "--decode", str(tmp_path / "out"), "--source", str(tmp_path)])
    assert main([str(tokens), "--decode", str(tmp_path / "out"), "--samples", "1"]) == 0
    assert "originals above" not in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "contact-sheet.jpg") as sheet:
        assert sheet.size == (8 * 160, 160)


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_another_tokenizer_is_refused(tokens: Path, tmp_path: Path, kind: str) -> None:
    save = save_video_tokenizer if kind == "video" else save_audio_tokenizer
    other = save(tmp_path / "other", seed=5)
    with pytest.raises(
        ValueError, match=f"the {kind} tokens were made by .*name the right one with --{kind}_tokenizer"
    ):
        main([str(tokens), "--decode", str(tmp_path / "out"), f"--{kind}_tokenizer", other])
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_has_moved_can_be_named(tokens: Path, models: dict[str, str], tmp_path: Path) -> None:
    info = read_dataset(str(tokens))
    moved = {kind: replace(made, name=f"/gone/{kind}") for kind, made in info.tokenizers.items()}
    (tmp_path / "train-00000.tar").write_bytes((tokens / "train-00000.tar").read_bytes())
    write_dataset(str(tmp_path), replace(info, tokenizers=moved))
    with pytest.raises(FileNotFoundError, match="/gone/video"):
        main([str(tmp_path), "--decode", str(tmp_path / "out")])
    named = ["--video_tokenizer", models["video"], "--audio_tokenizer", models["audio"]]
    assert main([str(tmp_path), "--decode", str(tmp_path / "out"), "--samples", "1", *named]) == 0


def test_clip_shards_are_shown_and_extracted(curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(curated), "--decode", str(tmp_path), "--samples", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "aa01" in shown and "80x96" in shown and "2 clips" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa01.json", "aa01.mp4"]


def test_codes_out_of_range_are_problems(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_dataset(tmp_path, {"train": [2]})
    info = read_dataset(str(tmp_path))
    smaller = replace(info.tokenizers["video"], codebook_size=16)
    write_dataset(str(tmp_path), replace(info, tokenizers={**info.tokenizers, "video": smaller}))
    assert main([str(tmp_path)]) == 1
    assert "outside [0, 16)" in capsys.readouterr().out


def test_captions_are_text_and_not_markup(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_dataset(tmp_path, {"train": [1]})
    shard = tmp_path / "train-00000.tar"
    shard.write_bytes(shard.read_bytes().replace(b"clip 0 \xe2\x80\x93 \xc3\xbc", b"[red]xy[/red]"))
    assert main([str(tmp_path)]) == 0
    assert "[red]xy[/red]" in capsys.readouterr().out


def test_a_damaged_sample_is_named(tmp_path: Path) -> None:
    (sample,) = make_dataset(tmp_path, {"train": [1]})
    shard = tmp_path / "train-00000.tar"
    shard.write_bytes(shard.read_bytes().replace(b'{"caption', b"[[caption]"))
    with pytest.raises(ValueError, match=f"sample {sample.key} in .* is damaged"):
        main([str(tmp_path)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        pytest.param(lambda d: None, FileNotFoundError, "there is no", id="nothing-there"),
        pytest.param(lambda d: d.mkdir(), ValueError, "neither dataset.json", id="another-folder"),
        pytest.param(lambda d: write_tar(d.with_suffix(".tar"), []), ValueError, "is empty", id="empty-tar"),
        pytest.param(
            lambda d: write_tar(d.with_suffix(".tar"), [("a.txt", b"")]), ValueError, "holds neither", id="other-tar"
        ),
        pytest.param(
            lambda d: storage.write_bytes_atomic(f"{d}.tar", b"x" * 999), ValueError, "damaged or not", id="noise"
        ),
    ],
)
def test_what_is_no_shard_is_refused(tmp_path: Path, make, error: type[Exception], message: str) -> None:
    place = tmp_path / "x"
    make(place)
    path = next((p for p in tmp_path.iterdir()), place)
    with pytest.raises(error, match=message):
        main([str(path)])


def test_kinds(curated: Path, tokens: Path) -> None:
    places = [curated, curated / "clips" / "clips-00000.tar", tokens, tokens / "train-00000.tar"]
    assert [kind_of(str(place)) for place in places] == ["clips", "clips", "tokens", "tokens"]
