"""The modalities of a sample, one class each: what it makes of the windows of a clip, and what identifies that."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from media.windows import resize_and_crop
from schemas.shards import TokenizerInfo, npy_bytes, read_npy, video_member
from tokenize_shards.acceleration import batch_size, compile_encoder, hold_weights, precision_of
from tokenize_shards.clip_media import ClipMedia, batches
from tokenize_shards.loading import load_audio_tokenizer, load_text_encoder, load_video_tokenizer
from tokenize_shards.quality import audio_snr_db, is_measured, psnr_db
from tokenize_shards.round_trip import decode_frames, decode_images, decode_sound, encode_frames, encode_sound
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.windows import Window


@dataclass(frozen=True)
class Piece:
    """What one modality adds to one sample."""

    arrays: dict[str, np.ndarray]
    measures: dict[str, float] = field(default_factory=dict)


class Part(Protocol):
    """One modality."""

    kind: str

    @property
    def info(self) -> TokenizerInfo:
        """What `dataset.json` says of its tokenizer."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its codes besides the clip."""
        ...

    def content(self, clip: ClipMedia) -> dict[str, Any]:
        """What of the clip decides its codes."""
        ...

    def encode(self, clip: ClipMedia) -> list[Piece]:
        """One piece for each window."""
        ...


class MediaPart:
    """What the parts share whose codes come from pictures or sound."""

    kind: str
    settings: TokenizeSettings
    device: torch.device

    def identity_with(self, **own: Any) -> dict[str, Any]:
        """What decides the codes besides the clip: what is its own, the device, and the settings of this kind."""
        common = {"device": self.device.type, "quality": self.settings.quality.every}
        return {**common, **self.settings.token_settings()[self.kind], **own}

    def content(self, clip: ClipMedia) -> dict[str, Any]:
        """What of the clip decides these codes."""
        return clip.content()


class WindowPart(MediaPart, ABC):
    """A part that takes a clip window by window."""

    def encode(self, clip: ClipMedia) -> list[Piece]:
        """One piece for each window."""
        return [self.piece(clip, window) for window in clip.windows]

    @abstractmethod
    def piece(self, clip: ClipMedia, window: Window) -> Piece:
        """What this part makes of one window."""


class VideoPart(MediaPart):
    """Visual codes uint32 (t h w) of each window at each resolution of the clip's bucket."""

    kind = "video"

    def __init__(self, settings: TokenizeSettings, device: torch.device, place: torch.device):
        self.tokenizer = load_video_tokenizer(settings.video.tokenizer, device=place)
        self.settings, self.device, self.place = settings, device, place
        self.batch_size = batch_size(settings.video, device)
        self.precision = precision_of(settings.video, device)
        hold_weights(getattr(self.tokenizer, "encoder", None), self.precision, laid_out=not settings.video.compile)
        hold_weights(getattr(self.tokenizer, "decoder", None), "float32")
        if settings.video.compile:
            compile_encoder(self.tokenizer)
        lengths = [1] if settings.video.independent else settings.video.lengths
        for length in lengths:
            for size in (size for bucket in settings.video.buckets for size in bucket):
                self._check(length, size)

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
        own = {"batch_size": self.batch_size, "precision": self.precision}
        return self.identity_with(tokenizer=self.tokenizer.fingerprint, **own)

    def encode(self, clip: ClipMedia) -> list[Piece]:
        """One piece for each window."""
        pieces: list[Piece] = []
        for windows in batches(clip.windows, self.batch_size):
            sized = [self._read(clip, window) for window in windows]
            arrays: list[dict[str, np.ndarray]] = [{} for _ in windows]
            measures: list[dict[str, float]] = [{} for _ in windows]
            for rank, size in enumerate(clip.sizes):
                videos = np.stack([frames[rank] for frames in sized])
                codes = self._codes(videos)
                for number, window in enumerate(windows):
                    arrays[number][video_member(*size, lowest=rank == 0)] = codes[number]
                    if rank == 0 and is_measured(clip.sample_key(window), self.settings.quality.every):
                        measures[number]["psnr_db"] = round(psnr_db(videos[number], self._decoded(codes[number])), 4)
            pieces += [Piece(*piece) for piece in zip(arrays, measures, strict=True)]
        return pieces

    def _read(self, clip: ClipMedia, window: Window) -> list[np.ndarray]:
        """The window's frames (T H W 3) uint8 at each size, all from one decode."""
        full = clip.frames(window, self.settings.video.rate, window.num_frames)
        return [resize_and_crop(full, *size) for size in clip.sizes]

    def _codes(self, videos_BTHWC: np.ndarray) -> np.ndarray:
        """Codes (B t h w); of frames that are images of their own, t = T."""
        if not self.settings.video.independent:
            return encode_frames(self.tokenizer, videos_BTHWC, self.device, self.batch_size, self.precision)
        images = videos_BTHWC.reshape(-1, 1, *videos_BTHWC.shape[2:])
        parts = [images[start : start + self.batch_size] for start in range(0, len(images), self.batch_size)]
        codes = [encode_frames(self.tokenizer, part, self.device, self.batch_size, self.precision) for part in parts]
        joined = np.concatenate(codes)
        return joined.reshape(*videos_BTHWC.shape[:2], *joined.shape[2:])

    def _decoded(self, codes_thw: np.ndarray) -> np.ndarray:
        decode = decode_images if self.settings.video.independent else decode_frames
        return decode(self.tokenizer, codes_thw, self.device)


class AudioPart(WindowPart):
    """Audio codes uint16 (Q T') of the sound beneath each window; (Q, 0) where there is none, or for a still."""

    kind = "audio"

    def __init__(self, name: str, settings: TokenizeSettings, device: torch.device, place: torch.device):
        self.name, self.tokenizer = name, load_audio_tokenizer(name, device=place)
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
        return self.identity_with(tokenizer=self.tokenizer.fingerprint)

    def piece(self, clip: ClipMedia, window: Window) -> Piece:
        samples = clip.samples(window, window.num_frames / self.settings.video.rate, self.tokenizer.sample_rate_hz)
        if not len(samples):
            return Piece({"audio": np.zeros((self.tokenizer.num_quantizers, 0), np.uint16)})
        codes = encode_sound(self.tokenizer, samples, self.device)
        measures = {}
        if is_measured(clip.sample_key(window), self.settings.quality.every):
            snr = audio_snr_db(samples, decode_sound(self.tokenizer, codes, self.device))
            measures = {} if snr is None else {"audio_snr_db": round(snr, 4)}
        return Piece({"audio": codes}, measures)


class TextPart:
    """States float16 (L D) of the caption, once for each clip; a clip without a caption has those of the empty one."""

    kind = "text"

    def __init__(self, name: str, settings: TokenizeSettings, device: torch.device, place: torch.device):
        self.name, self.encoder = name, load_text_encoder(name, device=place, max_tokens=settings.text.max_tokens)
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
