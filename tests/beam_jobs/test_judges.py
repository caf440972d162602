"""All judges in one run: each score where it belongs, semantic copies, quantile limits, an evaluation set kept out."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs import retune
from beam_jobs.curate import main
from beam_jobs.exclude import DropExcluded
from beam_jobs.filtering import Filter, QuantileFork
from beam_jobs.flow import SourceResult
from curation.filters import CHEAP_SCORES
from curation.quantiles import threshold
from curation.settings import FilterSettings
from schemas.records import Clip
from schemas.scores import SCORES
from tests.beam_jobs.records_for_tests import analysis, clip, source
from tests.beam_jobs.runs import ONE_PROCESS, ledger, timings, tree

LOOK, OTHER = (0x0123_4567_89AB_CDEF, 0x5555_0F0F_3333_00FF), (0xFEDC_BA98_7654_3210, 0xAAAA_F0F0_CCCC_FF00)
JUDGES = {"embedding", "aesthetic", "nsfw", "caption", "clip_score"}


@pytest.fixture(scope="module")
def flags(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every judge, small ones where weights are not in a wheel; an evaluation set with one input of ours in it."""
    from tests.curation.tiny_models import save_aesthetic_head, save_blip2, save_open_clip

    folder = tmp_path_factory.mktemp("judges")
    evaluation = folder / "evaluation"
    evaluation.mkdir()
    shutil.copy(inputs / "silent.mp4", evaluation / "renamed.mp4")
    (evaluation / "broken.mp4").write_bytes(b"")
    return [
        "--input", str(inputs), "--exclude", str(evaluation),
        "--clip_score.model", f"local-dir:{save_open_clip(folder / 'clip')}", "--clip_score.frames", "3",
        "--aesthetic.head", str(save_aesthetic_head(folder / "head.safetensors")), "--dedup.semantic", "1",
        "--nsfw.enabled", "true", "--speech.enabled", "true", "--clip_score.device", "cpu",
        "--caption.model", str(save_blip2(folder / "blip2")), "--caption.frames", "3", "--caption.device", "cpu",
        "--caption.max_new_tokens", "6", "--caption.num_beams", "1",
        "--filters.min_clip_score", "q0.4", "--filters.max_nsfw", "0.99", *ONE_PROCESS,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("judged") / "run"
    assert main([*flags, "--output", str(output)]) == 0
    return output


@pytest.mark.long
def test_every_score_is_taken_of_what_comes_so_far(run: Path) -> None:
    rows = ledger(run, "clips")
    judged = [row for row in rows if row["state"] != "duplicate"]
    assert len(judged) >= 3 and len(rows) > len(judged)
    for row in judged:
        missing = {score.name for score in SCORES if row[f"score_{score.name}"] is None}
        assert not missing & {"aesthetic", "nsfw", "speech", "caption_words", "caption_repetition", "clip_score"}
        assert 0 <= row["score_nsfw"] <= 1 and row["score_speech"] < 0.05 and row["caption_source"] == "blip2"
    assert all(row["score_nsfw"] is None for row in rows if row["state"] == "duplicate")


@pytest.mark.long
def test_a_quantile_becomes_a_number_that_everything_shows(run: Path) -> None:
    rows = [row for row in ledger(run, "clips") if row["score_clip_score"] is not None]
    values = sorted(row["score_clip_score"] for row in rows)
    info = json.loads((run / "run.json").read_text())
    assert info["settings"]["filters"]["min_clip_score"] == "q0.4"
    limit = threshold(np.array(values), "min_clip_score", Fraction(2, 5))
    assert values[0] < limit <= values[-1]
    assert info["thresholds"] == {"min_clip_score": limit}
    stopped = [row for row in rows if row["state"] == "filtered"]
    expected = [("min_clip_score", limit)] * sum(value < limit for value in values)
    assert [(row["reason"], row["threshold"]) for row in stopped] == expected


@pytest.mark.long
def test_the_evaluation_set_is_kept_out_and_counted(run: Path) -> None:
    barred = [row for row in ledger(run, "clips") if row["stage"] == "exclude"]
    assert [(row["reason"], row["uri"].rpartition("/")[2]) for row in barred] == [("same_content", "silent.mp4")]
    assert "renamed.mp4" in barred[0]["detail"] and barred[0]["duplicate_of"]
    counts = json.loads((run / "run.json").read_text())["counts"]
    assert (counts["exclude.done"], counts["exclude.failed"]) == (1, 1)
    assert counts["sources"] == 7 and counts["clips"] == counts["clips.candidates"]


@pytest.mark.long
def test_again_nothing_is_asked_and_no_byte_differs(run: Path, flags: list[str]) -> None:
    before = tree(run)
    assert main([*flags, "--output", str(run)]) == 0
    assert tree(run) == before
    assert not any("items" in timings(run).get(stage, {}) for stage in JUDGES)


@pytest.mark.long
def test_the_own_limits_replayed_change_nothing(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert retune.main(["--run", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["before"] == result["after"]
    assert result["thresholds"] == json.loads((run / "run.json").read_text())["thresholds"]


def test_a_head_of_another_size_stops_the_run_before_it_starts(flags: list[str], tmp_path: Path) -> None:
    from tests.curation.tiny_models import save_aesthetic_head

    head = save_aesthetic_head(tmp_path / "head.safetensors", size=768)
    with pytest.raises(ValueError, match="for embeddings of 768 numbers, the CLIP model gives 32"):
        main([*flags, "--output", str(tmp_path / "run"), "--aesthetic.head", str(head)])


@pytest.mark.parametrize("flag", ["--dedup.semantic=0.9", "--aesthetic.head=head.pth"])
def test_an_embedding_without_a_model_is_refused(flag: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the embedding of a CLIP model"):
        main(["--input", str(tmp_path), "--output", str(tmp_path / "run"), flag])


# --- steps without video ----------------------------------------------------------------------------------------------


def looking(name: str, look: tuple[int, ...], content: str | None = None, start_ms: int = 0) -> Clip:
    return clip(source(f"{name}.mp4"), start_ms, start_ms + 2000, content=content or name, phash=look)


def test_what_an_evaluation_set_bars() -> None:
    evaluated = source("evaluation.mp4", start_s=1.0, end_s=3.0)
    whole = SourceResult(evaluated, analysis(evaluated, looking("evaluation", LOOK), content="shared"))
    clips = [
        looking("alike", (LOOK[0] ^ 0b11, LOOK[1])),
        looking("inside", OTHER, "shared", 0),
        looking("after", OTHER, "shared", 3000),
        looking("other", OTHER),
    ]
    with TestPipeline() as pipeline:
        evaluation = pipeline | "Evaluation" >> beam.Create([whole, SourceResult(source("unread.mp4"))])
        alive, ended = pipeline | "Clips" >> beam.Create(clips) | DropExcluded(evaluation, 8.0)
        assert_that(alive, equal_to(clips[2:]))
        why = ended | "Why" >> beam.Map(
            lambda each: (each.uri, each.verdict.reason, each.verdict.score, each.verdict.duplicate_of)
        )
        expected = [
            ("alike.mp4", "near_duplicate", 2.0, looking("evaluation", LOOK).clip_id),
            ("inside.mp4", "same_content", None, evaluated.source_id),
        ]
        assert_that(why, equal_to(expected), label="ended")


def test_a_quantile_is_of_the_whole_run_whatever_the_bundles() -> None:
    clips = [clip(source(f"{n}.mp4"), content=str(n), scores={"motion": float(n * 7 % 20)}) for n in range(20)]
    filters = FilterSettings(min_motion="q0.25")
    with TestPipeline() as pipeline:
        forked = pipeline | beam.Create(clips) | Filter(filters, CHEAP_SCORES)
        assert isinstance(forked, QuantileFork)
        motions = forked.alive | beam.Map(lambda each: each.scores["motion"])
        assert_that(motions, equal_to([float(value) for value in range(5, 20)]))
        assert_that(forked.thresholds, equal_to([{"min_motion": 5.0}]), label="thresholds")
    assert threshold(np.arange(20.0), "min_motion", Fraction(1, 4)) == 5.0
