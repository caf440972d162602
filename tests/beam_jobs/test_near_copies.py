import apache_beam as beam
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.near_copies import DropNearCopies, mark_near, matches, settle
from curation.duplicates import band_keys, fingerprinted, near_duplicates
from curation.settings import DedupSettings
from schemas.records import Clip
from tests.beam_jobs.records_for_tests import clip, source

SETTINGS = DedupSettings(near_distance=8.0)
LOOK = 0x0123_4567_89AB_CDEF


def looking(number: int, look: int, width: float = 64.0) -> Clip:
    of = source(f"{number}.mp4")
    return clip(of, content=str(number), phash=(look, look), scores={"height": 48.0, "width": width, "watermark": 0.0})


def test_the_largest_copy_stays() -> None:
    clips = [looking(1, LOOK), looking(2, LOOK ^ 0b111, width=128.0), looking(3, ~LOOK & (2**64 - 1))]
    marked = mark_near(clips, SETTINGS)
    assert [bool(each.verdict) for each in marked] == [True, False, False]
    assert marked[0].verdict and marked[0].verdict.duplicate_of == clips[1].clip_id


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 63)), max_size=12))
def test_buckets_settled_in_one_place_give_what_one_place_alone_gives(looks: list[tuple[int, int]]) -> None:
    clips = [looking(number, (LOOK * (look + 1)) % 2**64 ^ 1 << bit) for number, (look, bit) in enumerate(looks)]
    small = [fingerprinted(each) for each in clips]
    buckets: dict[str, list] = {}
    for each in small:
        for key in band_keys(each.phash):
            buckets.setdefault(key, []).append(each)
    found = [match for key in sorted(buckets) for match in matches(buckets[key], SETTINGS.near_distance)]
    assert dict(settle(found)) == near_duplicates(small, SETTINGS.near_distance)


def test_in_a_pipeline() -> None:
    clips = [looking(1, LOOK), looking(2, LOOK ^ 0b11, width=128.0), looking(3, LOOK ^ (2**40 - 1))]
    with TestPipeline() as pipeline:
        alive, ended = pipeline | beam.Create(clips) | DropNearCopies(SETTINGS)
        assert_that(alive, equal_to([clips[1], clips[2]]))
        ids = ended | "Ids" >> beam.Map(lambda each: (each.clip_id, each.verdict.duplicate_of))
        assert_that(ids, equal_to([(clips[0].clip_id, clips[1].clip_id)]), label="ended")
