"""Token shards on disk: one tar at a time, then the rows that describe it, and `dataset.json` last."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from media import storage, tar
from schemas.identity import fingerprint
from schemas.shard_index import IndexBuilder
from schemas.shards import DatasetInfo, SampleRow, ShardInfo, TokenizerInfo, TokenSample, encode_sample, npy_bytes
from schemas.vocabulary import NUM_SPECIAL, Vocabulary
from tokenize_shards.quality import CodeUse, ShardQuality, problems_of
from tokenize_shards.settings import SplitSettings

DATASET_FILE = "dataset.json"
EMPTY_CAPTION_FILE = "empty_caption.npy"
SPLITS = ("train", "val")
TOKEN_COUNTS = ("video_tokens", "audio_tokens", "text_states", "motion_tokens", "structure_tokens")
"""What is summed over all samples; each is a column of `samples-*.parquet` after `num_`."""
_TAR_BLOCK = 512


@dataclass(frozen=True)
class WrittenShard:
    """A finished shard, the rows of `samples-*.parquet` for it, and its token QA."""

    info: ShardInfo
    rows: list[SampleRow]
    quality: ShardQuality


def split_of(sidecar: Mapping[str, Any], settings: SplitSettings) -> str:
    """ "train" or "val", the same for all clips of one source video.

    The hash is of the source's content, so that a copy under another name, or another span of the same file in
    the manifest, cannot stand on both sides.

    Args:
        sidecar: the clip's `KEY.json` (`content_sha256`, else `source_id`, and `extra`).

    Raises:
        ValueError: `split.column` is set and the clip's source has no `train` or `val` in it.
    """
    if settings.column is not None:
        value = _extra(sidecar).get(settings.column)
        if value not in SPLITS:
            raise ValueError(
                f"split.column is {settings.column!r} but source {sidecar.get('source_id')} has {value!r} there; "
                "give every row of the manifest `train` or `val`, or drop split.column"
            )
        return str(value)
    source = sidecar.get("content_sha256") or sidecar["source_id"]
    share = int(fingerprint("split", source)[:13], 16) / 16**13
    return "val" if share < settings.val_fraction else "train"


def _extra(sidecar: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = sidecar.get("extra") or {}
    return json.loads(extra) if isinstance(extra, str) else extra


def sample_bytes(sample: TokenSample) -> int:
    """Bytes that the sample takes in a tar: header and padded body of each member."""
    return sum(_TAR_BLOCK + -(-len(data) // _TAR_BLOCK) * _TAR_BLOCK for _, data in encode_sample(sample))


def write_shard(
    folder: str, name: str, split: str, samples: Iterable[TokenSample], tokenizers: Mapping[str, TokenizerInfo]
) -> WrittenShard:
    """Writes `folder/name` atomically, samples in the order given, checked as they pass, and their index behind them.

    Raises:
        ValueError: no samples, a sample whose members or types are not those of the first, a lowest resolution
            of another aspect bucket, or one key twice.
    """
    rows: list[SampleRow] = []
    use, index = CodeUse(tokenizers), IndexBuilder()
    checked = _checked(samples, name)
    state: dict[str, Any] = {"resolution": None, "problems": []}

    def members() -> Iterator[tuple[str, bytes]]:
        for sample in checked:
            use.add(sample)
            state["problems"] += problems_of(sample, tokenizers)
            state["resolution"] = state["resolution"] or _resolution(sample)
            rows.append(sample_row(sample, name, split))
            encoded = encode_sample(sample)
            index.add(encoded)
            yield from encoded
        if not rows:
            raise ValueError(f"shard {name} has no samples; plan only shards that have some")

    num_bytes, sha256 = tar.write_tar(storage.join(folder, name), members(), index.to_bytes)
    lengths = {row.num_frames for row in rows}
    num_frames = lengths.pop() if len(lengths) == 1 else 0
    info = ShardInfo(name, split, len(rows), num_bytes, sha256, state["resolution"], num_frames)
    return WrittenShard(info, rows, use.quality(rows, state["problems"]))


def _checked(samples: Iterable[TokenSample], name: str) -> Iterator[TokenSample]:
    """The samples, as long as they are alike: what a shard may hold is decided by its first sample."""
    first: tuple[Any, ...] | None = None
    seen: set[str] = set()
    for sample in samples:
        members = tuple((member, array.dtype.str) for member, array in sample.arrays.items())
        form = (_resolution(sample), members)
        first = first or form
        if form != first:
            raise ValueError(f"sample {sample.key} does not fit shard {name}: it is {form}, the shard holds {first}")
        if sample.key in seen:
            raise ValueError(f"sample {sample.key} is in shard {name} twice")
        seen.add(sample.key)
        yield sample


def _resolution(sample: TokenSample) -> tuple[int, int]:
    height, width = sample.meta["resolution"]
    return int(height), int(width)


def sample_row(sample: TokenSample, shard: str, split: str) -> SampleRow:
    """The row of `samples-*.parquet` for one sample."""
    meta, arrays = sample.meta, sample.arrays
    height, width = _resolution(sample)
    quality = meta.get("quality") or {}
    video = arrays["video"]
    return SampleRow(
        key=sample.key, shard=shard, split=split, clip_id=meta["clip_id"], source_id=meta["source_id"],
        window_index=meta["window_index"], start_s=meta["start_s"], height=height, width=width,
        num_frames=meta["num_frames"], num_video_tokens=video.size, num_audio_tokens=_size(arrays, "audio"),
        num_text_states=len(arrays["text"]) if "text" in arrays else 0, num_motion_tokens=_size(arrays, "motion"),
        num_structure_tokens=_size(arrays, "structure"), caption=meta.get("caption"),
        license=meta.get("license"), psnr_db=quality.get("psnr_db"), audio_snr_db=quality.get("audio_snr_db"),
        codes_used=len(np.unique(video)),
    )  # fmt: skip


def _size(arrays: Mapping[str, np.ndarray], name: str) -> int:
    return arrays[name].size if name in arrays else 0


def sample_dict(row: SampleRow) -> dict[str, Any]:
    """The row keyed by its Parquet columns."""
    return asdict(row)


def vocabulary_sizes(tokenizers: Mapping[str, TokenizerInfo]) -> dict[str, int]:
    """Offsets and sizes of the token ids that these tokenizers' codes take in a language model."""
    video, audio, motion = (tokenizers.get(kind) for kind in ("video", "audio", "motion"))
    vocabulary = Vocabulary(
        visual_size=video.codebook_size if video else 0,
        audio_levels=audio.num_quantizers if audio else 0,
        audio_codebook_size=audio.codebook_size if audio else 0,
        motion_size=motion.codebook_size if motion else 0,
    )
    return {
        "special": NUM_SPECIAL,
        "visual_offset": vocabulary.visual_offset,
        "visual_size": vocabulary.visual_size,
        "audio_offset": vocabulary.audio_offset,
        "audio_levels": vocabulary.audio_levels,
        "audio_codebook_size": vocabulary.audio_codebook_size,
        "motion_offset": vocabulary.motion_offset,
        "motion_size": vocabulary.motion_size,
        "size": vocabulary.size,
    }


def dataset_counts(rows: Iterable[SampleRow]) -> dict[str, int]:
    """Samples, clips, sources and tokens of the data set, and samples by split."""
    counts: Counter[str] = Counter(samples=0, **dict.fromkeys(TOKEN_COUNTS, 0))
    clips, sources = set(), set()
    for row in rows:
        counts["samples"] += 1
        counts[f"samples.{row.split}"] += 1
        for name in TOKEN_COUNTS:
            counts[name] += getattr(row, f"num_{name}")
        clips.add(row.clip_id)
        sources.add(row.source_id)
    return {**counts, "clips": len(clips), "sources": len(sources)}


def write_dataset(folder: str, info: DatasetInfo, empty_caption: np.ndarray | None = None) -> None:
    """Writes `dataset.json`, the commit of the data set, and before it the states of the empty caption (L D float16).

    The latter are what a trainer puts in a caption's place when it drops captions for guidance.
    """
    if empty_caption is not None:
        storage.write_bytes_atomic(storage.join(folder, EMPTY_CAPTION_FILE), npy_bytes(empty_caption))
    storage.write_bytes_atomic(storage.join(folder, DATASET_FILE), info.to_json().encode())


def read_dataset(folder: str) -> DatasetInfo:
    """What `dataset.json` in the folder says.

    Raises:
        FileNotFoundError: there is none, so the folder is no finished data set.
        ValueError: it is not valid, or of another schema version.
    """
    path = storage.join(folder, DATASET_FILE)
    if not storage.exists(path):
        raise FileNotFoundError(
            f"no {DATASET_FILE} in {folder}: it is no folder of token shards, or `reelmill tokenize` has not finished "
            "there; run that command again, it goes on where it stopped"
        )
    try:
        return DatasetInfo.from_json(storage.read_bytes(path).decode())
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is not a valid data set manifest ({error!r}); run `reelmill tokenize` again"
        ) from None


def members_of(samples: Sequence[TokenSample]) -> list[str]:
    """Names of the members that any of the samples has, video at the lowest resolution first."""
    names = {name for sample in samples for name in sample.arrays}
    order = ("video", "audio", "text", "motion", "structure")
    return sorted(names, key=lambda name: (order.index(name.split("_")[0]), name))
