"""Model stages in the job: real models, tiny and random, loaded as a user's are and compared with direct calls."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from beam_jobs.curate import main
from beam_jobs.models import Ask, answer_batch
from beam_jobs.unchanged import forget
from media.tar import read_samples
from tests.beam_jobs.records_for_tests import clip, source
from tests.beam_jobs.runs import ONE_PROCESS, ledger, timings


def asks(*uris: str) -> list[Ask]:
    return [Ask(clip(source(uri)), f"fp-{uri}", (uri.encode(),)) for uri in uris]


def spoiled(batch: Sequence[Ask]) -> list[bytes]:
    """A model that gives up on any batch with a certain picture in it, and else says what it saw."""
    if any(ask.pictures == (b"bad",) for ask in batch):
        raise RuntimeError("cannot look at this")
    return [b"saw " + ask.pictures[0] for ask in batch]


def test_one_bad_element_does_not_fail_the_rest_of_its_batch() -> None:
    answers = answer_batch("caption", asks("one", "bad", "two"), spoiled)
    assert [answer.data for answer in answers] == [b"saw one", None, b"saw two"]
    failure = answers[1].failure
    assert failure and (failure.stage, failure.reason) == ("caption", "internal_error")
    assert "cannot look at this" in failure.detail


def test_memory_that_ran_out_stops_the_run() -> None:
    def out_of_memory(batch: Sequence[Ask]) -> list[bytes]:
        raise MemoryError

    with pytest.raises(MemoryError):
        answer_batch("caption", asks("one"), out_of_memory)


@pytest.fixture(scope="module")
def model_flags_of_curate(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from tests.curation.tiny_models import save_blip2, save_open_clip

    folder = tmp_path_factory.mktemp("curation-models")
    blip2, clip_model = save_blip2(folder / "blip2"), save_open_clip(folder / "clip")
    return [
        "--caption.model", str(blip2), "--caption.max_new_tokens", "6", "--caption.num_beams", "2",
        "--clip_score.model", f"local-dir:{clip_model}", "--caption.device", "cpu", "--clip_score.device", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def captioned(inputs: Path, model_flags_of_curate: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("captioned") / "run"
    assert main(["--input", str(inputs), "--output", str(output), *model_flags_of_curate, *ONE_PROCESS]) == 0
    return output


def pictures(run: Path) -> dict[str, bytes]:
    return {key: members["jpg"] for path in (run / "clips").glob("*.tar") for key, members in read_samples(path)}


def test_captions_and_scores_are_those_of_the_models_called_directly(
    captioned: Path, model_flags_of_curate: list[str]
) -> None:
    from curation.captions import Captioner
    from curation.clip_score import ClipPictures, ClipTexts
    from curation.settings import CaptionSettings, ClipScoreSettings

    flags = dict(zip(model_flags_of_curate[::2], model_flags_of_curate[1::2], strict=True))
    captioner = Captioner(CaptionSettings(model=flags["--caption.model"], max_new_tokens=6, num_beams=2, device="cpu"))
    clip_model = ClipScoreSettings(model=flags["--clip_score.model"], device="cpu")
    pictures_of, texts = ClipPictures(clip_model), ClipTexts(clip_model)
    kept = {row["clip_id"]: row for row in ledger(captioned, "clips") if row["state"] == "kept"}
    jpegs = pictures(captioned)
    assert jpegs.keys() == kept.keys()
    for clip_id, row in kept.items():
        caption = captioner.caption([[jpegs[clip_id]]])[0]
        assert (row["caption"], row["caption_source"], row["caption_outcome"]) == (
            caption.text, "blip2", caption.outcome,
        )  # fmt: skip
        if caption.text:
            embedding = pictures_of.embed([[jpegs[clip_id]]])[0]
            assert row["score_clip_score"] == pytest.approx(texts.score([(embedding, caption.text)])[0])
    stages = json.loads((captioned / "run.json").read_text())["stages"]
    assert (stages["caption"], stages["clip_score"]) == ("run", "run")


def test_what_would_not_be_kept_is_not_shown_to_a_model(captioned: Path) -> None:
    rows = ledger(captioned, "clips")
    assert all(row["caption"] is None for row in rows if row["state"] == "duplicate")


def test_again_and_no_model_is_asked(captioned: Path, inputs: Path, model_flags_of_curate: list[str]) -> None:
    forget(str(captioned))  # else nothing would be begun
    assert main(["--input", str(inputs), "--output", str(captioned), *model_flags_of_curate, *ONE_PROCESS]) == 0
    stages = timings(captioned)
    assert "items" not in stages["caption"] and stages["caption"]["reused"] >= 3
    assert "items" not in stages.get("clip_score", {})


def test_another_prompt_captions_anew_and_analyses_nothing(
    captioned: Path, inputs: Path, model_flags_of_curate: list[str]
) -> None:
    args = ["--input", str(inputs), "--output", str(captioned), *model_flags_of_curate, *ONE_PROCESS]
    assert main([*args, "--caption.prompt", "a photo of"]) == 0
    assert timings(captioned)["caption"]["items"] >= 3
    assert "items" not in timings(captioned)["analyze"]


def test_a_model_folder_that_is_none_stops_the_run_before_it_starts(inputs: Path, tmp_path: Path) -> None:
    args = ["--input", str(inputs), "--output", str(tmp_path / "run"), "--caption.model", str(tmp_path / "no-model")]
    with pytest.raises((ValueError, FileNotFoundError), match="no-model"):
        main([*args, *ONE_PROCESS])
