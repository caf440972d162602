"""Semantic duplicates: which stays, what a copy names, buckets against all pairs, exactness."""

from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_jobs.semantic_copies import matches, settle
from curation import semantic
from curation.semantic import (
    LEAF,
    Embedded,
    all_semantic_copies,
    band_keys,
    num_bits,
    pairs_in_bucket,
    semantic_copies,
    whole_numbers,
)

SIZE = 64
Keyed = tuple[str, Embedded]


def vectors(count: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((count, SIZE))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def near(vector: np.ndarray, cosine: float, seed: int = 0) -> np.ndarray:
    """A vector at a given cosine from another."""
    other = vectors(1, seed + 100)[0]
    across = other - (other @ vector) * vector
    return cosine * vector + np.sqrt(1 - cosine**2) * across / np.linalg.norm(across)


def clip(name: str, vector: np.ndarray, pixels: float = 1.0) -> Embedded:
    return Embedded(name, whole_numbers(vector), (1.0, pixels, 1.0))


def test_the_best_copy_stays_and_is_named_with_the_cosine():
    first = vectors(1)[0]
    clips = [clip("a", first), clip("b", near(first, 0.97), pixels=9.0), clip("c", near(first, 0.5, seed=1))]
    found = all_semantic_copies(clips, 0.95)
    assert found.keys() == {"a"}
    assert found["a"][0] == "b" and found["a"][1] == pytest.approx(0.97, abs=1e-4)
    assert not all_semantic_copies(clips, 0.98)


def test_a_chain_of_likenesses_takes_nobody_who_is_unlike_what_stays():
    pairs = [("b", "a", 0.96), ("c", "b", 0.96), ("d", "c", 0.96)]
    ranks = {name: (1.0, pixels, 1.0) for name, pixels in zip("abcd", (4.0, 3.0, 2.0, 1.0), strict=True)}
    assert semantic_copies(pairs, ranks) == {"b": ("a", 0.96), "d": ("c", 0.96)}


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_clips_does_not_matter(randoms):
    base = vectors(6)
    clips = [clip(f"{k}{j}", near(base[k], 0.9 + 0.03 * j, seed=j), pixels=j) for k in range(6) for j in range(3)]
    shuffled = list(clips)
    randoms.shuffle(shuffled)
    assert all_semantic_copies(shuffled, 0.85) == all_semantic_copies(clips, 0.85)


@pytest.mark.parametrize(
    ("count", "bits"), [(0, 0), (1, 0), (LEAF, 0), (LEAF + 1, 1), (2 * LEAF, 1), (1_000_000, 9), (100_000_000, 16)]
)
def test_bits_grow_with_the_run(count, bits):
    assert num_bits(count) == bits


def test_keys_are_of_one_place_without_bits_and_of_every_band_with_them():
    vector = whole_numbers(vectors(1)[0])
    assert band_keys(vector, 0) == [""]
    keys = band_keys(vector, 5)
    assert len(set(keys)) == semantic.BANDS and all(len(key.partition(":")[2]) == 5 for key in keys)
    assert [key[: len(key) - 2] for key in keys] == band_keys(vector, 3)  # more bits only split buckets


def test_buckets_find_nearly_all_that_every_pair_would():
    count, bits = 400, 8
    base = vectors(count, seed=3)
    twins = np.stack([near(vector, 0.96, seed=number) for number, vector in enumerate(base)])
    met = sum(
        bool(set(band_keys(whole_numbers(a), bits)) & set(band_keys(whole_numbers(b), bits)))
        for a, b in zip(base, twins, strict=True)
    )
    assert met / count > 0.98


def test_a_bucket_too_large_is_split_by_further_hyperplanes():
    count = 2 * LEAF + 100
    clips = [clip(f"{number:05d}", vector) for number, vector in enumerate(vectors(count, seed=5))]
    twin = clip("twin", near(vectors(count, seed=5)[7], 0.999), pixels=9.0)
    assert ("00007", "twin") in [pair[:2] for pair in pairs_in_bucket("", [*clips, twin], 0.9)]


def test_equal_vectors_by_the_thousand_end():
    vector = vectors(1)[0]
    clips = [clip(f"{number:05d}", vector) for number in range(LEAF + 4)]
    pairs = pairs_in_bucket("0:0101", clips, 0.999999)
    assert len({pair[0] for pair in pairs}) == len(clips) - 1


def test_in_a_pipeline_buckets_are_settled_in_one_place():
    base = vectors(4)
    clips = [clip(f"{k}{j}", near(base[k], 0.97 - j / 100, seed=j), pixels=j) for k in range(4) for j in range(3)]
    with TestPipeline() as pipeline:
        settled = (
            pipeline
            | beam.Create(clips)
            | beam.FlatMap(lambda each: [(key, each) for key in band_keys(each.vector, 3)]).with_output_types(Keyed)
            | beam.GroupByKey()
            | beam.FlatMap(matches, 0.85)
            | beam.Map(lambda match: ("", match)).with_output_types(tuple[str, Any])
            | "Gather" >> beam.GroupByKey()
            | beam.FlatMapTuple(lambda _, found: settle(found))
        )
        assert_that(settled, equal_to(sorted(all_semantic_copies(clips, 0.85).items())))
