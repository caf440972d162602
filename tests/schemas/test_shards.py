"""The shard format: members round trip, types are pinned, nothing is unpickled, dataset.json says it all."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.shards import (
    DatasetInfo,
    ShardInfo,
    TokenizerInfo,
    TokenSample,
    decode_sample,
    encode_sample,
    npy_bytes,
    read_npy,
    video_member,
)

DTYPES = {
    "video": np.uint32,
    "video_256x256": np.uint32,
    "audio": np.uint16,
    "text": np.float16,
    "motion": np.uint16,
    "structure": np.uint32,
}


@st.composite
def samples(draw: st.DrawFn) -> TokenSample:
    key = draw(st.text("abcdef0123456789-_", min_size=1, max_size=40))
    names = draw(st.lists(st.sampled_from(sorted(DTYPES)), unique=True))
    shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
    values = {name: draw(arrays.arrays(DTYPES[name], draw(shapes))) for name in names}
    meta = draw(st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.none(), max_size=3))
    return TokenSample(key, values, {k: v for k, v in meta.items() if k not in ("key", "schema_version")})


@given(samples())
def test_a_sample_survives_its_members(sample: TokenSample) -> None:
    members = encode_sample(sample)
    assert members == encode_sample(sample)
    assert all(name.count(".") <= 2 and name.startswith(f"{sample.key}.") for name, _ in members)
    back = decode_sample(sample.key, {name.removeprefix(f"{sample.key}."): data for name, data in members})
    assert back.key == sample.key and list(back.arrays) == list(sample.arrays)
    for name, array in sample.arrays.items():
        assert back.arrays[name].dtype == array.dtype and back.arrays[name].shape == array.shape
        assert back.arrays[name].tobytes() == array.tobytes()
    assert back.meta == {"schema_version": 1, "key": sample.key, **sample.meta}


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        pytest.param("a.b", {}, "may hold letters", id="dot"),
        pytest.param("a/b", {}, "may hold letters", id="slash"),
        pytest.param("", {}, "may hold letters", id="empty"),
        pytest.param("a", {"pose": np.zeros(1, np.uint32)}, "unknown member 'pose'", id="unknown"),
        pytest.param("a", {"video": np.zeros(1, np.int64)}, "int64, the format wants uint32", id="video-type"),
        pytest.param("a", {"text": np.zeros(1, np.float32)}, "float32, the format wants float16", id="text-type"),
    ],
)
def test_what_the_format_refuses(key: str, values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_sample(TokenSample(key, values, {}))


def test_objects_are_never_unpickled() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        read_npy(buffer.getvalue())


def test_npy_bytes_do_not_depend_on_memory_layout() -> None:
    array = np.arange(12, dtype=np.uint32).reshape(3, 4)
    assert npy_bytes(array) == npy_bytes(np.asfortranarray(array)) == npy_bytes(array[:, ::1].copy())


def test_member_names() -> None:
    assert video_member(128, 224, lowest=True) == "video"
    assert video_member(128, 224, lowest=False) == "video_128x224"


INFO = DatasetInfo(
    tokenizers={
        "video": TokenizerInfo("v", "f" * 64, 2**18, "little", (4, 8, 8)),
        "text": TokenizerInfo("t", "e" * 64, 0, width=384),
    },
    resolutions=[(128, 128), (256, 256)],
    num_frames=17,
    fps=(8, 1),
    counts={"samples": 3},
    shards=[ShardInfo("train-00000.tar", "train", 3, 10240, "0" * 64, (128, 128))],
    members=["video", "video_256x256", "text"],
)


def test_dataset_json_round_trips() -> None:
    text = INFO.to_json()
    assert DatasetInfo.from_json(text) == INFO
    assert json.loads(text)["schema_version"] == 1
    assert text == DatasetInfo.from_json(text).to_json()


def test_another_schema_version_is_refused() -> None:
    data = {**json.loads(INFO.to_json()), "schema_version": 2}
    with pytest.raises(ValueError, match="schema version 2, Reelmill reads 1"):
        DatasetInfo.from_json(json.dumps(data))
