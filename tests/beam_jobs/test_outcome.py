import pytest

from beam_jobs.flow import SourceResult
from beam_jobs.outcome import check_conservation, count_clip, count_source, too_many_failures
from schemas.records import Verdict, failed
from schemas.states import ClipState
from tests.beam_jobs.records_for_tests import analysis, clip, sha, source

WHOLE = {
    "sources.done": 2, "sources.failed": 1, "clips.candidates": 5, "clips.kept": 3, "clips.filtered": 1,
    "clips.duplicate": 1,
}  # fmt: skip


def test_sums_that_add_up_pass() -> None:
    check_conservation(WHOLE, 3)


@pytest.mark.parametrize(
    ("changes", "num_inputs", "message"),
    [
        pytest.param({}, 4, r"4 inputs went in.* 2 \+ 0 \+ 1 = 3", id="an-input-lost"),
        pytest.param({"clips.kept": 4}, 3, r"5 candidate clips.* = 6", id="a-clip-twice"),
        pytest.param({"clips.filtered": 0}, 3, r"5 candidate clips.* = 4", id="a-clip-lost"),
    ],
)
def test_sums_that_do_not_add_up_fail_the_run(changes: dict[str, int], num_inputs: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        check_conservation({**WHOLE, **changes}, num_inputs)


def test_counts_of_inputs() -> None:
    of = source()
    done = SourceResult(of, analysis(of, clip(of), clip(of, 2000, 4000)), sha("content"))
    assert dict(count_source(done)) == {
        "sources": 1, "sources.done": 1, "clips.candidates": 2, "us.sources": 4_000_000,
    }  # fmt: skip
    broken = SourceResult(of).failed(failed("fetch", "not_found"))
    assert ("sources.failed:fetch/not_found", 1) in count_source(broken)
    assert ("clips.candidates", 0) in count_source(done.duplicate("same_content", "other"))


def test_counts_of_clips() -> None:
    kept = clip(source()).with_verdict(Verdict(ClipState.KEPT))
    assert dict(count_clip(kept))["us.kept"] == 2_000_000
    dropped = clip(source()).with_verdict(Verdict(ClipState.FILTERED, "shots", "min_motion"))
    assert ("clips.filtered:shots/min_motion", 1) in count_clip(dropped)
    with pytest.raises(ValueError, match="without a verdict"):
        count_clip(clip(source()))


@pytest.mark.parametrize(
    ("limit", "want"),
    [(None, False), (0, True), (2, True), (3, False), (0.2, True), (0.3, False), (1, True)],
)
def test_too_many_failures(limit: float | None, want: bool) -> None:
    assert too_many_failures(3, 10, limit) is want
