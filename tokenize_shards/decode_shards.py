"""Token samples back to media: an mp4 with sound for each resolution, one of structure, one of motion in colours, a
wav, and a contact sheet of them all.
"""

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
from tokenize_shards.acceleration import hold_weights
from tokenize_shards.base import AudioTokenizer, VideoTokenizer, default_device
from tokenize_shards.inspect_shards import RUN_FILE, clip_samples
from tokenize_shards.loading import load_audio_tokenizer, load_motion_tokenizer, load_video_tokenizer
from tokenize_shards.motion import MotionTokenizer
from tokenize_shards.motion_vectors import FPS, motion_pictures
from tokenize_shards.quality import psnr_db
from tokenize_shards.round_trip import decode_frames, decode_images, decode_motion, decode_sound
from tokenize_shards.settings import InspectSettings

COLUMNS = 8  # frames of a sample in the contact sheet
_SHEET_WIDTH = 160  # pixels of one picture there


def decode_samples(samples: Sequence[TokenSample], info: DatasetInfo, settings: InspectSettings) -> str:
    """Writes `KEY_<h>x<w>.mp4`, `KEY.wav` and so on, and `contact-sheet.jpg`; returns a sentence of what lies where.

    Raises:
        ValueError: the tokenizers at hand are not those that made the tokens.
    """
    folder, tokenizers = settings.decode or ".", Tokenizers(info, settings)
    originals = _originals(samples, settings.source) if settings.source else {}
    rows: list[np.ndarray] = []
    measured: list[float] = []
    for sample in samples:
        pictures = tokenizers.pictures(sample)
        _write(folder, sample, pictures, tokenizers)
        _write_motion(folder, sample, tokenizers)
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


class Tokenizers:
    """Those that made a data set, for decoding.

    Raises:
        ValueError: those at hand are others.
    """

    def __init__(self, info: DatasetInfo, settings: InspectSettings):
        made = info.tokenizers
        self.device = default_device(settings.device)
        self.video = load_video_tokenizer(settings.video_tokenizer or made["video"].name, device=self.device)
        check_tokenizer("video", self.video, made["video"], "--video_tokenizer")
        hold_weights(getattr(self.video, "decoder", None), "float32")
        self.audio: AudioTokenizer | None = None
        self.motion: MotionTokenizer | None = None
        if "audio" in made:
            self.audio = load_audio_tokenizer(settings.audio_tokenizer or made["audio"].name, device=self.device)
            check_tokenizer("audio", self.audio, made["audio"], "--audio_tokenizer")
        if "motion" in made:
            self.motion = load_motion_tokenizer(settings.motion_tokenizer or made["motion"].name, device=self.device)
            check_tokenizer("motion", self.motion, made["motion"], "--motion_tokenizer")

    def pictures(self, sample: TokenSample) -> dict[str, np.ndarray]:
        """By member, frames (T H W 3) uint8 at each resolution that the sample has."""
        decode = decode_images if sample.meta.get("independent") else decode_frames
        found = {name: codes for name, codes in sample.arrays.items() if name.startswith("video") and codes.size}
        return {name: decode(self.video, codes, self.device) for name, codes in found.items()}

    def structure(self, sample: TokenSample) -> np.ndarray | None:
        """Flow and depth as the colours of frames (T H W 3) uint8."""
        codes = sample.arrays.get("structure", np.zeros(0))
        return decode_frames(self.video, codes, self.device) if codes.size else None

    def sound(self, sample: TokenSample) -> np.ndarray | None:
        """Samples (T,) float32; None where the data set has no sound."""
        if self.audio is None or "audio" not in sample.arrays:
            return None
        return decode_sound(self.audio, sample.arrays["audio"], self.device)


def check_tokenizer(
    kind: str, made: VideoTokenizer | AudioTokenizer | MotionTokenizer, info: TokenizerInfo, flag: str
) -> None:
    """Raises ValueError unless this is the tokenizer that made the shard's tokens."""
    if made.fingerprint != info.fingerprint:
        raise ValueError(
            f"the {kind} tokens were made by {info.name!r} {info.fingerprint[:12]}, but the tokenizer at hand is "
            f"{made.name!r} {made.fingerprint[:12]}: decoding with another would give noise; name the right one with "
            f"{flag} FOLDER"
        )


def _write(folder: str, sample: TokenSample, pictures: Mapping[str, np.ndarray], tokenizers: Tokenizers) -> None:
    fps, sound, structure = Fraction(*sample.meta["fps"]), tokenizers.sound(sample), tokenizers.structure(sample)
    rate_hz = tokenizers.audio.sample_rate_hz if tokenizers.audio else None
    for frames in pictures.values():
        name = f"{sample.key}_{frames.shape[1]}x{frames.shape[2]}.mp4"
        write_video(storage.join(folder, name), frames, fps, sound, rate_hz)
    if structure is not None:
        write_video(storage.join(folder, f"{sample.key}_structure.mp4"), structure, fps)
    if sound is not None and len(sound) and rate_hz:
        storage.write_bytes_atomic(storage.join(folder, f"{sample.key}.wav"), wav_bytes(sound, rate_hz))


def _write_motion(folder: str, sample: TokenSample, tokenizers: Tokenizers) -> None:
    """`KEY_motion.mp4`: the decoded motion in colours, at the 6 fps it is made of."""
    codes = sample.arrays.get("motion", np.zeros(0))
    if tokenizers.motion is not None and codes.size:
        pictures = motion_pictures(decode_motion(tokenizers.motion, codes))
        write_video(storage.join(folder, f"{sample.key}_motion.mp4"), pictures, FPS)


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
    return {sample.key: frames[:, :, ::-1] if meta.get("mirrored") else frames}
