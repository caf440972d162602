"""The format of token shards: what writer and reader agree on.

A shard is an uncompressed tar in WebDataset's form: the members of a sample stand together and share their
KEY, which has no dot. All samples of a shard have the same members with the same types; what a sample lacks
is a zero-length array.

    KEY.video.npy          uint32 (t h w)   visual codes at the lowest resolution
    KEY.video_<H>x<W>.npy  uint32 (t h w)   visual codes at a higher resolution of H×W pixels
    KEY.audio.npy          uint16 (Q T)     audio codes, coarse level first
    KEY.text.npy           float16 (L D)    states of the frozen text encoder, no padding
    KEY.motion.npy         uint16 (n,)      motion codes, 135 for every 4 s, where a motion tokenizer ran
    KEY.structure.npy      uint32 (t h w)   visual codes of flow and depth, where that ran
    KEY.json               key, clip_id, source_id, caption, span, window_index, …

Behind the end of the tar stands its index (`schemas.shard_index`), which readers of tar do not see.
"""

import io
import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from schemas import SCHEMA_VERSION

_DTYPES = {
    "video": np.uint32,
    "audio": np.uint16,
    "text": np.float16,
    "motion": np.uint16,
    "structure": np.uint32,
}
_MEMBER = re.compile(r"^(?P<kind>[a-z]+)(_(?P<height>\d+)x(?P<width>\d+))?\.npy$")


@dataclass(frozen=True)
class TokenSample:
    """One window of one clip, in tokens. `arrays` is keyed by the member's name without `.npy`."""

    key: str
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]


def video_member(height: int, width: int, lowest: bool) -> str:
    """Name in `TokenSample.arrays` of the visual codes of H×W pixels."""
    return "video" if lowest else f"video_{height}x{width}"


def npy_bytes(array: np.ndarray) -> bytes:
    """The array as a version 1.0 .npy file. Equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def read_npy(data: bytes) -> np.ndarray:
    """The array of a .npy file; never unpickles."""
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def encode_sample(sample: TokenSample) -> list[tuple[str, bytes]]:
    """Members (name, bytes) of a sample in their order on disk.

    Raises:
        ValueError: the key has a dot or slash, a member is unknown, or a type is not the format's.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", sample.key):
        raise ValueError(f"sample key {sample.key!r} may hold letters, digits, '_' and '-' only")
    members = []
    for name, array in sample.arrays.items():
        match = _MEMBER.match(f"{name}.npy")
        if not match or match["kind"] not in _DTYPES:
            raise ValueError(f"unknown member {name!r}; known: {', '.join(_DTYPES)}, video_<H>x<W>")
        if array.dtype != _DTYPES[match["kind"]]:
            raise ValueError(f"member {name!r} is {array.dtype}, the format wants {np.dtype(_DTYPES[match['kind']])}")
        members.append((f"{sample.key}.{name}.npy", npy_bytes(array)))
    meta = {"schema_version": SCHEMA_VERSION, "key": sample.key, **sample.meta}
    members.append((f"{sample.key}.json", json.dumps(meta, sort_keys=True, ensure_ascii=False).encode()))
    return members


def decode_sample(key: str, members: dict[str, bytes]) -> TokenSample:
    """Inverse of `encode_sample`; `members` is keyed by what follows `KEY.`."""
    arrays = {name.removesuffix(".npy"): read_npy(data) for name, data in members.items() if name.endswith(".npy")}
    return TokenSample(key, arrays, json.loads(members["json"]))


@dataclass(frozen=True)
class TokenizerInfo:
    """Which tokenizer made the codes; readers refuse another."""

    name: str  # built-in name, folder name or hub id, as given
    fingerprint: str  # sha256 over configuration and weights
    codebook_size: int
    bit_order: str | None = None  # "little" or "big" for lookup-free quantization
    strides: tuple[int, ...] = ()  # (time, height, width) or (hop,)
    num_quantizers: int = 1
    sample_rate_hz: int | None = None
    width: int | None = None  # of text states


@dataclass(frozen=True)
class ShardInfo:
    """One finished shard."""

    name: str
    split: str  # "train" or "val"
    num_samples: int
    num_bytes: int
    sha256: str
    resolution: tuple[int, int]  # lowest (height, width) in it; buckets never share a shard
    num_frames: int = 0  # of each of its samples' windows, 1 for images and stills; 0: they differ


@dataclass(frozen=True)
class DatasetInfo:
    """`dataset.json`, written last: where it stands, the data set is whole."""

    tokenizers: dict[str, TokenizerInfo]  # "video", "audio", "text", "motion", "structure"
    resolutions: list[tuple[int, int]]  # (height, width), lowest first
    num_frames: int
    fps: tuple[int, int]
    counts: dict[str, int]
    shards: list[ShardInfo]
    members: list[str]
    vocabulary: dict[str, int] = field(default_factory=dict)
    curated: str = ""  # fingerprint of the curated run it was made from
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> "DatasetInfo":
        data = json.loads(text)
        if data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"dataset.json has schema version {data.get('schema_version')!r}, Reelmill reads {SCHEMA_VERSION}: "
                "tokenize again, or use the Reelmill that wrote it"
            )
        tokenizers = {
            kind: TokenizerInfo(**{**info, "strides": tuple(info["strides"])})
            for kind, info in data["tokenizers"].items()
        }
        shards = [ShardInfo(**{**shard, "resolution": tuple(shard["resolution"])}) for shard in data["shards"]]
        resolutions = [(height, width) for height, width in data["resolutions"]]
        return DatasetInfo(
            **{
                **data,
                "tokenizers": tokenizers,
                "shards": shards,
                "resolutions": resolutions,
                "fps": (data["fps"][0], data["fps"][1]),
            }
        )


@dataclass(frozen=True)
class SampleRow:
    """A row of `samples-*.parquet` of a token data set; its fields are the Arrow schema."""

    key: str
    shard: str
    split: str
    clip_id: str
    source_id: str
    window_index: int
    start_s: float  # within the clip
    height: int
    width: int
    num_frames: int
    num_video_tokens: int
    num_audio_tokens: int
    num_text_states: int
    num_motion_tokens: int
    num_structure_tokens: int
    caption: str | None
    license: str | None
    psnr_db: float | None  # round trip at the lowest resolution, where it was sampled
    audio_snr_db: float | None
    codes_used: int  # distinct visual codes in the sample


@dataclass(frozen=True)
class TokenizedRow:
    """A row of `ledger/clips-*.parquet` of a token data set: how each clip of the curated run ended."""

    clip_id: str
    source_id: str
    state: str  # "tokenized", "filtered" or "failed"
    stage: str
    reason: str
    detail: str
    split: str | None
    num_samples: int
    caption: str | None
