"""The modalities of a sample, one class each: what it makes of the windows of a clip, and what identifies that."""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from media.audio import read_audio
from media.windows import FrameIndex, FrameReader, resize_and_crop
from schemas.records import Probe
from schemas.shards import TokenizerInfo, npy_bytes, read_npy, video_member
from tokenize_shards.loading import load_audio_tokenizer, load_text_encoder, load_video_tokenizer
from tokenize_shards.quality import audio_snr_db, is_measured, psnr_db
from tokenize_shards.round_trip import decode_frames, decode_sound, encode_frames, encode_sound
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.windows import Window

_GPU_BATCH = 8


@dataclass(frozen=True)
class ClipMedia:
    """A clip at hand: its file, where in it the clip begins, its windows, and the sizes to tokenize at."""

    key: str
    path: Path
    probe: Probe
    origin: Fraction  # seconds on the file's timeline
    end: Fraction | None  # likewise; None where the clip is all of the file
    windows: Sequence[Window]
    sizes: Sequence[tuple[int, int]]  # (height, width), lowest first
    sidecar: Mapping[str, Any]

    def sample_key(self, window: Window) -> str:
        return f"{self.key}-{window.index:04d}"


@dataclass(frozen=True)
class Piece:
    """What one modality adds to one sample."""

    arrays: dict[str, np.ndarray]
    measures: dict[str, float] = field(default_factory=dict)


class VideoPart:
    """Visual codes uint32 (t h w) of each window at each resolution of the clip's bucket."""

    kind = "video"

    def __init__(self, settings: TokenizeSettings, device: torch.device):
        self.tokenizer = load_video_tokenizer(settings.video.tokenizer, device=device)
        self.settings, self.device = settings, device
        self.batch_size = settings.video.batch_size or (1 if device.type == "cpu" else _GPU_BATCH)
        for size in (size for bucket in settings.video.buckets for size in bucket):
            self._check(settings.video.num_frames, size)

    def _check(self, num_frames: int, size: tuple[int, int]) -> None:
        try:
            self.tokenizer.grid(num_frames, *size)
        except ValueError as error:
            raise ValueError(
                f"video tokenizer {self.settings.video.tokenizer!r} cannot take windows of {num_frames} frames at "
                f"{size[0]}x{size[1]}: {error}; change video.num_frames or video.resolutions"
            ) from None

    @property
    def info(self) -> TokenizerInfo:
        made = self.tokenizer
        strides = (made.temporal_stride, made.spatial_stride, made.spatial_stride)
        return TokenizerInfo(
            self.settings.video.tokenizer, made.fingerprint, made.codebook_size, made.bit_order, strides
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What decides these codes besides the clip."""
        return {
            "tokenizer": self.tokenizer.fingerprint,
            "device": self.device.type,
            "batch_size": self.batch_size,
            "quality": self.settings.quality.every,
            **self.settings.token_settings()["video"],
        }

    def content(self, clip: ClipMedia) -> dict[str, Any]:
        """What of the clip decides these codes."""
        return _content(clip)

    def encode(self, clip: ClipMedia) -> list[Piece]:
        """One piece for each window."""
        pieces: list[Piece] = []
        reader = FrameReader(clip.path)
        for windows in _batches(clip.windows, self.batch_size):
            sized = [self._read(reader, clip, window) for window in windows]
            arrays: list[dict[str, np.ndarray]] = [{} for _ in windows]
            measures: list[dict[str, float]] = [{} for _ in windows]
            for rank, size in enumerate(clip.sizes):
                videos = np.stack([frames[rank] for frames in sized])
                codes = encode_frames(self.tokenizer, videos, self.device, self.batch_size)
                for number, window in enumerate(windows):
                    arrays[number][video_member(*size, lowest=rank == 0)] = codes[number]
                    if rank == 0 and is_measured(clip.sample_key(window), self.settings.quality.every):
                        back = decode_frames(self.tokenizer, codes[number], self.device)
                        measures[number]["psnr_db"] = round(psnr_db(videos[number], back), 4)
            pieces += [Piece(*piece) for piece in zip(arrays, measures, strict=True)]
        return pieces

    def _read(self, reader: FrameReader, clip: ClipMedia, window: Window) -> list[np.ndarray]:
        """The window's frames (T H W 3) uint8 at each size, all from one decode."""
        start, rate = clip.origin + window.start_s, self.settings.video.rate
        times = _within([start + k / rate for k in range(window.num_frames)], reader.index, clip)
        full = reader.frames_at(times)
        return [resize_and_crop(full, *size) for size in clip.sizes]


class AudioPart:
    """Audio codes uint16 (Q T') of the sound beneath each window; (Q, 0) where there is none, or for a still."""

    kind = "audio"

    def __init__(self, name: str, settings: TokenizeSettings, device: torch.device):
        self.name, self.tokenizer = name, load_audio_tokenizer(name, device=device)
        self.settings, self.device = settings, device

    @property
    def info(self) -> TokenizerInfo:
        made = self.tokenizer
        return TokenizerInfo(
            self.name,
            made.fingerprint,
            made.codebook_size,
            strides=(made.hop,),
            num_quantizers=made.num_quantizers,
            sample_rate_hz=made.sample_rate_hz,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What decides these codes besides the clip."""
        return {
            "tokenizer": self.tokenizer.fingerprint,
            "device": self.device.type,
            "quality": self.settings.quality.every,
            **self.settings.token_settings()["audio"],
        }

    def content(self, clip: ClipMedia) -> dict[str, Any]:
        """What of the clip decides these codes."""
        return _content(clip)

    def encode(self, clip: ClipMedia) -> list[Piece]:
        """One piece for each window."""
        return [self._piece(clip, window) for window in clip.windows]

    def _piece(self, clip: ClipMedia, window: Window) -> Piece:
        samples = self._read(clip, window)
        if not len(samples):
            return Piece({"audio": np.zeros((self.tokenizer.num_quantizers, 0), np.uint16)})
        codes = encode_sound(self.tokenizer, samples, self.device)
        measures = {}
        if is_measured(clip.sample_key(window), self.settings.quality.every):
            snr = audio_snr_db(samples, decode_sound(self.tokenizer, codes, self.device))
            measures = {} if snr is None else {"audio_snr_db": round(snr, 4)}
        return Piece({"audio": codes}, measures)

    def _read(self, clip: ClipMedia, window: Window) -> np.ndarray:
        """Samples (T,) in [-1, 1] that last as long as the window; none where the clip has no sound."""
        if window.num_frames == 1 or clip.probe.audio_codec is None:
            return np.zeros(0, np.float32)
        rate = self.tokenizer.sample_rate_hz
        count = int(window.num_frames / self.settings.video.rate * rate)
        return read_audio(clip.path, clip.origin + window.start_s, count, rate)


class TextPart:
    """States float16 (L D) of the caption, once for each clip; a clip without a caption has those of the empty one."""

    kind = "text"

    def __init__(self, name: str, settings: TokenizeSettings, device: torch.device):
        self.name, self.encoder = name, load_text_encoder(name, device=device, max_tokens=settings.text.max_tokens)
        self.settings, self.device = settings, device

    @property
    def info(self) -> TokenizerInfo:
        return TokenizerInfo(self.name, self.encoder.fingerprint, codebook_size=0, width=self.encoder.width)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides these states besides the caption."""
        return {
            "encoder": self.encoder.fingerprint,
            "device": self.device.type,
            **self.settings.token_settings()["text"],
        }

    def content(self, clip: ClipMedia) -> dict[str, Any]:
        """What of the clip decides these states."""
        return {"caption": clip.sidecar.get("caption") or "", "windows": len(clip.windows)}

    def encode(self, clip: ClipMedia) -> list[Piece]:
        """One piece for each window, all alike."""
        states = self.states(clip.sidecar.get("caption") or "")
        return [Piece({"text": states}) for _ in clip.windows]

    def states(self, caption: str) -> np.ndarray:
        """States (L D) float16 of one caption."""
        return self.encoder.encode([caption])[0].astype(np.float16)


def _within(times: Sequence[Fraction], index: FrameIndex, clip: ClipMedia) -> list[Fraction]:
    """The times of the nearest frames that belong to the clip: the next shot's first frame may be nearer."""
    if clip.end is None:
        return list(times)
    first = bisect_left(index.pts, clip.origin / index.time_base)
    last = max(first, bisect_left(index.pts, clip.end / index.time_base) - 1)
    return [index.pts[min(max(index.nearest(time), first), last)] * index.time_base for time in times]


def _content(clip: ClipMedia) -> dict[str, Any]:
    """Media and place of a clip; `clip_id` is a hash of the source's content and the span."""
    return {
        "clip_id": clip.sidecar["clip_id"],
        "media_sha256": clip.sidecar.get("media_sha256"),
        "key": clip.key,  # decides which windows are measured
        "windows": [[str(window.start_s), window.num_frames] for window in clip.windows],
        "sizes": [list(size) for size in clip.sizes],
    }


def _batches(windows: Sequence[Window], size: int) -> Iterator[Sequence[Window]]:
    for start in range(0, len(windows), size):
        yield windows[start : start + size]


def pack_pieces(pieces: Sequence[Piece]) -> bytes:
    """The pieces of one clip as bytes: a line of JSON, then the arrays as .npy one after another."""
    bodies = [{name: npy_bytes(array) for name, array in piece.arrays.items()} for piece in pieces]
    head = [
        {"measures": piece.measures, "arrays": [[name, len(body)] for name, body in body_of.items()]}
        for piece, body_of in zip(pieces, bodies, strict=True)
    ]
    return json.dumps(head).encode() + b"\n" + b"".join(body for of_piece in bodies for body in of_piece.values())


def unpack_pieces(data: bytes) -> list[Piece]:
    """Inverse of `pack_pieces`."""
    line, _, rest = data.partition(b"\n")
    pieces, position = [], 0
    for entry in json.loads(line):
        arrays = {}
        for name, length in entry["arrays"]:
            arrays[name] = read_npy(rest[position : position + length])
            position += length
        pieces.append(Piece(arrays, entry["measures"]))
    return pieces
