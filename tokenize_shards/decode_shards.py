"""Token samples back to media: an mp4 with sound for each resolution, a wav, and a contact sheet of them all."""

import io
import wave
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from media import storage
from media.encode import contact_sheet, jpeg_bytes, write_video
from media.probe import probe
from media.windows import read_window
from schemas.shards import DatasetInfo, TokenizerInfo, TokenSample
from schemas.states import Rejection
from tokenize_shards.base import AudioTokenizer, VideoTokenizer, default_device
from tokenize_shards.inspect_shards import RUN_FILE, clip_samples
from tokenize_shards.loading import load_audio_tokenizer, load_video_tokenizer
from tokenize_shards.quality import psnr_db
from tokenize_shards.round_trip import decode_frames, decode_sound
from tokenize_shards.settings import InspectSettings

COLUMNS = 8  # frames of a sample in the contact sheet
_SHEET_WIDTH = 160  # pixels of one picture there


def decode_samples(samples: Sequence[TokenSample], info: DatasetInfo, settings: InspectSettings) -> str:
    """Writes `KEY_<h>x<w>.mp4`, `KEY.wav` and `contact-sheet.jpg`; returns a sentence of what lies where.

    Raises:
        ValueError: the tokenizers at hand are not those that made the tokens.
    """
    folder, device = settings.decode or ".", default_device(settings.device)
    video = load_video_tokenizer(settings.video_tokenizer or info.tokenizers["video"].name, device=device)
    check_tokenizer("video", video, info.tokenizers["video"], "--video_tokenizer")
    audio = None
    if "audio" in info.tokenizers:
        audio = load_audio_tokenizer(settings.audio_tokenizer or info.tokenizers["audio"].name, device=device)
        check_tokenizer("audio", audio, info.tokenizers["audio"], "--audio_tokenizer")
    originals = _originals(samples, settings.source) if settings.source else {}
    rows: list[np.ndarray] = []
    measured: list[float] = []
    for sample in samples:
        sound = decode_sound(audio, sample.arrays["audio"], device) if audio and "audio" in sample.arrays else None
        pictures = {
            name: decode_frames(video, codes, device)
            for name, codes in sample.arrays.items()
            if name.startswith("video") and codes.size
        }
        _write(folder, sample, pictures, sound, audio.sample_rate_hz if audio else None)
        finest = max(pictures.values(), key=lambda frames: frames.shape[1])
        if sample.key in originals:
            rows += _row(originals[sample.key])
            measured.append(psnr_db(originals[sample.key], finest))
        rows += _row(finest)
    sheet = storage.join(folder, "contact-sheet.jpg")
    storage.write_bytes_atomic(sheet, jpeg_bytes(np.asarray(contact_sheet(rows, COLUMNS))))
    beside = ""
    if measured:
        size = "x".join(map(str, samples[0].meta["resolutions"][-1]))
        beside = f", originals above reconstructions (PSNR {np.mean(measured):.2f} dB at {size})"
    return f"{len(samples)} samples decoded → {folder} · {sheet}{beside}"


def check_tokenizer(kind: str, made: VideoTokenizer | AudioTokenizer, info: TokenizerInfo, flag: str) -> None:
    """Raises ValueError unless this is the tokenizer that made the shard's tokens."""
    if made.fingerprint != info.fingerprint:
        raise ValueError(
            f"the {kind} tokens were made by {info.name!r} {info.fingerprint[:12]}, but the tokenizer at hand is "
            f"{made.name!r} {made.fingerprint[:12]}: decoding with another would give noise; name the right one with "
            f"{flag} FOLDER"
        )


def _write(
    folder: str, sample: TokenSample, pictures: Mapping[str, np.ndarray], sound: np.ndarray | None, rate_hz: int | None
) -> None:
    fps = Fraction(*sample.meta["fps"])
    for frames in pictures.values():
        name = f"{sample.key}_{frames.shape[1]}x{frames.shape[2]}.mp4"
        write_video(storage.join(folder, name), frames, fps, sound, rate_hz)
    if sound is not None and len(sound) and rate_hz:
        storage.write_bytes_atomic(storage.join(folder, f"{sample.key}.wav"), wav_bytes(sound, rate_hz))


def wav_bytes(samples: np.ndarray, sample_rate_hz: int) -> bytes:
    """A 16-bit mono wav of samples (T,) in [-1, 1]."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes((np.clip(samples, -1, 1) * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def _row(frames: np.ndarray) -> list[np.ndarray]:
    """Frames spread evenly over a sample, each fitted into one cell of the sheet; blank cells where there are few."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int))
    cells = [_fitted(frames[index]) for index in chosen]
    return cells + [np.zeros_like(cells[0])] * (COLUMNS - len(cells))


def _fitted(frame: np.ndarray) -> np.ndarray:
    """The picture scaled to fit a square cell, on black."""
    scale = _SHEET_WIDTH / max(frame.shape[:2])
    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    cell = np.zeros((_SHEET_WIDTH, _SHEET_WIDTH, 3), np.uint8)
    top, left = (_SHEET_WIDTH - height) // 2, (_SHEET_WIDTH - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return cell


def _originals(samples: Sequence[TokenSample], source: str) -> dict[str, np.ndarray]:
    """By sample key, the frames (T H W 3) uint8 of the finest tokens, where their clips are in the curated run.

    Raises:
        FileNotFoundError: the folder is no curated run.
    """
    if not storage.exists(storage.join(source, RUN_FILE)):
        raise FileNotFoundError(f"--source {source} is no curated run: it has no {RUN_FILE}")
    wanted: dict[str, list[TokenSample]] = {}
    for sample in samples:
        wanted.setdefault(sample.meta["clip_id"], []).append(sample)
    found: dict[str, np.ndarray] = {}
    for key, members in clip_samples(source):
        for sample in wanted.pop(key, []):
            found.update(_original(sample, members["mp4"], sample.meta))
        if not wanted:
            break
    return found


def _original(sample: TokenSample, media: bytes, meta: Mapping[str, Any]) -> dict[str, np.ndarray]:
    with TemporaryDirectory(prefix="inspect-") as scratch:
        path = Path(scratch) / "clip.mp4"
        path.write_bytes(media)
        try:
            about = probe(path)
            start = about.start_pts * Fraction(about.time_base_num, about.time_base_den) + Fraction(meta["start_s"])
            frames = read_window(path, start, meta["num_frames"], Fraction(*meta["fps"]), *meta["resolutions"][-1])
        except Rejection:
            return {}
    return {sample.key: frames}
