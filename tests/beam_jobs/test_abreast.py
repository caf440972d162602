"""Elements of a bundle side by side: all of them come out, on their tags and counted, however many at once."""

import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs.abreast import Abreast
from beam_jobs.child import CHILDREN
from beam_jobs.metrics import StageMetrics, counters

_MET = threading.Barrier(2)


@pytest.fixture(params=[1, 2], ids=["one at a time", "two at once"])
def at_once(request: pytest.FixtureRequest) -> Iterator[int]:
    CHILDREN.for_one = request.param
    yield request.param
    CHILDREN.for_one = 1


def squared(number: int) -> int:
    if number == 0:
        raise ValueError("no square of nothing")
    return number * number


def told(square: int, metrics: StageMetrics) -> Iterator[Any]:
    metrics.done()
    yield TaggedOutput("odd", square) if square % 2 else square


def met(number: int) -> int:
    """Comes back only where two are at work at the same time."""
    _MET.wait(timeout=60)
    return number


def pipeline() -> beam.Pipeline:
    return beam.Pipeline(options=PipelineOptions(["--runner=beam_jobs.local_runner.LocalRunner"]))


def test_everything_comes_out_on_its_tag_and_is_counted(at_once: int) -> None:
    whole = pipeline()
    squares = (
        whole | beam.Create(range(1, 8)) | beam.ParDo(Abreast("cut", squared, told)).with_outputs("odd", main="even")
    )
    assert_that(squares["even"] | beam.Map(lambda each: each + 1), equal_to([5, 17, 37]), label="Even")
    assert_that(squares["odd"], equal_to([1, 9, 25, 49]), label="Odd")
    result = whole.run()
    result.wait_until_finish()
    assert counters(result)["cut-items"] == 7


def test_what_goes_wrong_ends_the_job(at_once: int) -> None:
    whole = pipeline()
    _ = whole | beam.Create([1, 0, 2]) | beam.ParDo(Abreast("cut", squared, told)).with_outputs("odd", main="even")
    with pytest.raises(Exception, match="no square of nothing"):
        whole.run()


def test_two_are_at_work_at_the_same_time() -> None:
    CHILDREN.for_one = 2
    try:
        with pipeline() as whole:
            numbers = (
                whole | beam.Create([2, 3]) | beam.ParDo(Abreast("cut", met, told)).with_outputs("odd", main="even")
            )
            assert_that(numbers["even"], equal_to([2]))
    finally:
        CHILDREN.for_one = 1
