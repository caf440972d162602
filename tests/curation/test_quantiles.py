"""Limits that are quantiles: exact order statistics, and the same ones from a run's ledger."""

from pathlib import Path

import numpy as np
import pytest

from beam_jobs.filtering import judged_together
from curation.filters import CHEAP_SCORES, JUDGE_SCORES, LAST_SCORES, limits
from curation.quantiles import quantiles, resolve, run_limits, threshold, with_thresholds
from curation.replay import replay, replayed_thresholds
from curation.settings import CURATE, FilterSettings
from curation.settings_filters import quantile_share
from schemas.records import Clip, Verdict
from schemas.run import RunInfo
from schemas.scores import SCORES
from schemas.states import ClipState
from tests.curation.ledger_for_tests import make_clip, write_ledger

TEN = np.arange(10.0)


@pytest.mark.parametrize(
    ("limit", "text", "values", "expected", "passing"),
    [
        pytest.param("min_motion", "q0.2", TEN, 2.0, 8, id="lowest-fifth-goes"),
        pytest.param("max_motion", "q0.9", TEN, 8.0, 9, id="highest-tenth-goes"),
        pytest.param("min_motion", "q0.05", TEN, 0.0, 10, id="less-than-one-clip"),
        pytest.param("max_motion", "q.99", TEN, 9.0, 10, id="all-but-less-than-one"),
        pytest.param("min_motion", "q0.1", np.arange(30.0), 3.0, 27, id="a-tenth-of-30-is-3"),
        pytest.param("min_motion", "q0.5", np.array([1.0, 1.0, 1.0, 2.0]), 1.0, 4, id="equals-stay"),
        pytest.param("min_motion", "q0.5", np.array([5.0, np.nan, 1.0]), 5.0, 1, id="nan-is-no-value"),
    ],
)
def test_the_number_of_a_quantile(limit: str, text: str, values: np.ndarray, expected: float, passing: int) -> None:
    shuffled = np.random.default_rng(0).permutation(values)
    found = threshold(shuffled, limit, quantile_share(text))
    assert found == expected
    assert int((values >= found if limit.startswith("min_") else values <= found).sum()) == passing


def test_nothing_to_count_is_no_limit() -> None:
    filters = FilterSettings(min_clip_score="q0.2", min_motion=1.0)
    assert resolve(filters, SCORES, {}) == {}
    assert limits(with_thresholds(filters, {})) == limits(FilterSettings(min_motion=1.0))
    with pytest.raises(ValueError, match=r"q0\.2, which no number was found for"):
        limits(filters)


@pytest.mark.parametrize("text", ["q0", "q1", "q1.5", "0.2q", "quantile", "q-0.1", ""])
def test_what_is_no_quantile_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"min_motion .* is neither a number nor a quantile"):
        FilterSettings(min_motion=text)


def test_crossed_quantiles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"min_luma q0\.9 is above filters\.max_luma q0\.1"):
        FilterSettings(min_luma="q0.9", max_luma="q0.1")
    FilterSettings(min_luma="q0.1", max_luma=0.5)


def test_on_the_command_line(tmp_path: Path) -> None:
    flags = ["--filters.min_clip_score", "q0.2", "--filters.min_motion", "0.5", "--filters.max_luma", "null"]
    filters = CURATE.parse(["--input", "a", "--output", str(tmp_path), *flags])[0].filters
    assert (filters.min_clip_score, filters.min_motion, filters.max_luma) == ("q0.2", 0.5, None)


def test_limits_of_a_run_are_numbers() -> None:
    run = RunInfo(
        "curate", {"filters": {"min_motion": "q0.2", "max_luma": 0.9, "min_nsfw": None, "missing": "keep"}}, {}, {}, {},
        {}, [], thresholds={"min_motion": 1.5},
    )  # fmt: skip
    assert run_limits(run) == {"min_motion": 1.5, "max_luma": 0.9}
    assert RunInfo.from_json(run.to_json()) == run


# --- a run and its replay ---------------------------------------------------------------------------------------------


def candidates(count: int) -> list[Clip]:
    """Clips with scores of every phase; some without sound, some too short, and the captions of some known before."""
    generator = np.random.default_rng(1)
    clips = []
    for number in range(count):
        scores = {name: round(float(generator.random()), 3) for name in ("motion", "luma", "nsfw", "clip_score")}
        if number % 3:
            scores["speech"] = round(float(generator.random()), 1)
        short = Verdict(ClipState.FILTERED, "shots", "too_short", 0.5, 1.0) if number % 17 == 0 else None
        clips.append(make_clip(f"{number:03d}", short, **scores))
    return clips


def as_run(clips: list[Clip], filters: FilterSettings) -> tuple[list[Clip], dict[str, float]]:
    """Clips as a run with these limits leaves them: scores of models are taken of those only that come so far."""
    ended, numbers = [], {}
    hidden = {clip.clip_id: clip.scores for clip in clips}
    alive = [make_clip(clip.clip_id, clip.verdict, **_without(clip.scores, "nsfw", "clip_score")) for clip in clips]
    for scores, taken in ((CHEAP_SCORES, ""), (JUDGE_SCORES, "nsfw"), (LAST_SCORES, "clip_score")):
        if taken:
            alive = [clip.with_scores(**{taken: hidden[clip.clip_id][taken]}) for clip in alive]
        names = {name.partition("_")[2] for name in quantiles(filters, scores)}
        values = {
            name: np.array([c.scores[name] for c in alive if c.verdict is None and name in c.scores]) for name in names
        }
        numbers |= resolve(filters, scores, values)
        judged = judged_together(alive, filters, scores)
        ended += [clip for clip in judged if clip.verdict]
        alive = [clip for clip in judged if not clip.verdict]
    return [*ended, *(clip.with_verdict(Verdict(ClipState.KEPT)) for clip in alive)], numbers


def _without(scores: dict, *names: str) -> dict:
    return {name: value for name, value in scores.items() if name not in names}


@pytest.mark.parametrize(
    "filters",
    [
        pytest.param(FilterSettings(min_motion="q0.3"), id="cheap"),
        pytest.param(FilterSettings(min_motion=0.2, max_nsfw="q0.8"), id="judge"),
        pytest.param(FilterSettings(min_motion="q0.1", max_nsfw=0.9, min_clip_score="q0.25"), id="late"),
        pytest.param(FilterSettings(min_speech="q0.2", max_luma="q0.7", missing="reject"), id="not-all-have-it"),
    ],
)
def test_a_replay_with_the_own_limits_changes_nothing(tmp_path: Path, filters: FilterSettings) -> None:
    clips, numbers = as_run(candidates(200), filters)
    stages = {"nsfw": "run", "clip_score": "run"}
    run = write_ledger(tmp_path, clips, stages=stages, thresholds=numbers)
    assert replayed_thresholds(str(tmp_path), run, filters) == numbers
    result = replay(str(tmp_path), run, filters, filters, 3)
    assert result.after == result.before
    assert result.thresholds == numbers and not result.near


def test_a_stricter_quantile_is_what_a_run_would_make_of_it(tmp_path: Path) -> None:
    own, stricter = FilterSettings(min_clip_score="q0.2"), FilterSettings(min_clip_score="q0.4")
    clips, numbers = as_run(candidates(200), own)
    expected, other_numbers = as_run(candidates(200), stricter)
    run = write_ledger(tmp_path, clips, stages={"clip_score": "run"}, thresholds=numbers)
    result = replay(str(tmp_path), run, own, stricter, 3)
    kept = sum(clip.verdict.state is ClipState.KEPT for clip in expected)
    assert result.after[(ClipState.KEPT, "", "")].clips == kept
    assert result.thresholds == other_numbers
