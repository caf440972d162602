from dataclasses import replace

import apache_beam as beam
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.copies import DropCopies, DropSameClips, content_key, mark_copies
from beam_jobs.flow import SourceResult
from schemas.records import failed
from schemas.states import SourceState
from tests.beam_jobs.records_for_tests import analysis, clip, sha, source


def result(uri: str, content: str = "content", **changes: object) -> SourceResult:
    of = source(uri, **changes)
    return SourceResult(of, analysis(of, clip(of, content=content), content=content), sha(content))


def test_of_equal_content_one_is_done_and_the_others_name_it() -> None:
    results = [result("b.mp4"), result("a.mp4", caption="a dog"), result("c.mp4")]
    marked = {each.source.uri: each for each in mark_copies(results)}
    assert marked["a.mp4"].state is SourceState.DONE
    for uri in ("b.mp4", "c.mp4"):
        assert marked[uri].state is SourceState.DUPLICATE
        assert marked[uri].duplicate_of == source("a.mp4").source_id
        assert marked[uri].clips() == ()


def test_what_is_a_copy() -> None:
    assert content_key(result("a.mp4")) == content_key(result("b.mp4"))
    assert content_key(result("a.mp4")) != content_key(result("b.mp4", "other"))
    assert content_key(result("a.mp4")) != content_key(result("b.mp4", start_s=1.0))


def test_failed_inputs_are_copies_of_none() -> None:
    broken = [
        SourceResult(source(uri), content_sha256=sha("x")).failed(failed("analyze", "not_media"))
        for uri in ("a.mp4", "b.mp4")
    ]
    assert content_key(broken[0]) != content_key(broken[1])


def test_drop_copies_in_a_pipeline() -> None:
    with TestPipeline() as pipeline:
        marked = pipeline | beam.Create([result("a.mp4"), result("b.mp4"), result("c.mp4", "other")]) | DropCopies()
        states = marked | beam.Map(lambda each: str(each.state))
        assert_that(states, equal_to(["done", "done", "duplicate"]))


def test_drop_same_clips_in_a_pipeline() -> None:
    first, second = source("a.mp4"), source("b.mp4")
    clips = [clip(first), replace(clip(first), source_id=second.source_id, uri="b.mp4"), clip(first, 2000, 4000)]
    with TestPipeline() as pipeline:
        alive, ended = pipeline | beam.Create(clips) | DropSameClips()
        assert_that(
            alive | "AliveIds" >> beam.Map(lambda each: each.clip_id), equal_to([clips[0].clip_id, clips[2].clip_id])
        )
        assert_that(
            ended | "Reasons" >> beam.Map(lambda each: (each.verdict.reason, each.verdict.duplicate_of)),
            equal_to([("same_clip", clips[0].clip_id)]),
            label="ended",
        )
