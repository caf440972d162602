"""Clips for the tokenizer trainers: windows of frames, or stretches of sound, held in memory as small integers."""

import csv
import fnmatch
import hashlib
import logging
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from media.containers import open_container
from media.windows import FrameReader
from schemas.states import Rejection
from training.settings_tokenizers import HeldBack, Sounds, VideoClips

log = logging.getLogger(__name__)
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v")
AUDIO_SUFFIXES = (*VIDEO_SUFFIXES, ".wav", ".flac", ".ogg", ".mp3", ".m4a")


@dataclass(frozen=True)
class ClipSource:
    """One file: its name (relative to the data folder, or shard/member) and its bytes or its path."""

    name: str
    path: Path | None = None
    data: bytes | None = None

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """The file itself, or for the time being a copy of the shard's member."""
        if self.path is not None:
            yield self.path
            return
        with tempfile.NamedTemporaryFile(suffix=Path(self.name).suffix) as file:
            file.write(self.data or b"")
            file.flush()
            yield Path(file.name)


def find_clips(
    folder: Path, suffixes: tuple[str, ...] = VIDEO_SUFFIXES, include: Sequence[str] = ()
) -> Iterator[ClipSource]:
    """Every media file below `folder`, in sorted order: plain files, and members of clip shards (*.tar).

    Args:
        include: patterns of names (relative to `folder`, `*` crosses slashes); empty takes all.

    Raises:
        FileNotFoundError: the folder does not exist, or holds neither.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; --data names a folder of clips or of clip shards")
    found = False
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or (include and not matches(name, include)):
            continue
        if path.suffix.lower() in suffixes:
            found = True
            yield ClipSource(name, path=path)
        elif path.suffix == ".tar":
            for source in _members(path, name, suffixes):
                found = True
                yield source
    if not found:
        wanted = f" that match {', '.join(include)}" if include else ""
        raise FileNotFoundError(f"{folder} holds no clips ({', '.join(suffixes)}) and no clip shards{wanted}")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of the patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _members(path: Path, name: str, suffixes: tuple[str, ...]) -> Iterator[ClipSource]:
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and Path(member.name).suffix.lower() in suffixes:
                file = archive.extractfile(member)
                if file is not None:
                    yield ClipSource(f"{name}/{member.name}", data=file.read())


def held_back_test(settings: HeldBack) -> Callable[[str], bool]:
    """A test of names: is this clip for validation only?

    Raises:
        FileNotFoundError: the table does not exist.
        ValueError: it lacks one of the columns.
    """
    listed: frozenset[str] | None = None
    if settings.table:
        with Path(settings.table).open(newline="") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            for column in (settings.file_column, settings.split_column):
                if column not in columns:
                    raise ValueError(f"{settings.table} has no column {column!r}; it has {', '.join(columns)}")
            held = [row[settings.file_column] for row in rows if row[settings.split_column] in ("val", "test")]
        listed = frozenset(held)

    def held_back(name: str) -> bool:
        if matches(name, settings.names) or (listed is not None and name in listed):
            return True
        share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
        return listed is None and not settings.names and share < settings.fraction

    return held_back


def video_windows(
    source: ClipSource, num_frames: int, fps: float, resolution: int, overlap: int = 0
) -> list[np.ndarray]:
    """The windows of a clip, each uint8 (T H W 3): the frames nearest to k/fps, short side = resolution.

    The remainder is dropped; a clip shorter than a window gives none.

    Args:
        overlap: frames that neighbouring windows share (for training; 0 gives the windows of `tokenize`).
    """
    with source.on_disk() as path:
        reader = FrameReader(path)
        start, end = (reader.index.pts[edge] * reader.index.time_base for edge in (0, -1))
        rate = Fraction(fps).limit_denominator(100_000)
        times = [start + k / rate for k in range(int((end - start) * rate + Fraction(1, 2)) + 1)]
        if len(times) < num_frames:
            return []
        frames = [_resize(frame, resolution) for frame in _frames(reader, times)]
    stride = num_frames - overlap
    return [np.stack(frames[first : first + num_frames]) for first in range(0, len(frames) - num_frames + 1, stride)]


def _frames(reader: FrameReader, times: Sequence[Fraction]) -> Iterator[np.ndarray]:
    for first in range(0, len(times), 32):
        yield from reader.frames_at(times[first : first + 32])


def _resize(frame: np.ndarray, resolution: int) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = resolution / min(height, width)
    size = (max(resolution, round(width * scale)), max(resolution, round(height * scale)))
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def audio_samples(source: ClipSource, sample_rate_hz: int, max_s: float) -> np.ndarray | None:
    """The mono sound of a file as float32 in [-1, 1], at most `max_s` long; None without an audio stream."""
    with source.on_disk() as path, open_container(path) as container:
        if not container.streams.audio:
            return None
        resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate_hz)
        blocks, count = [], 0
        for frame in container.decode(audio=0):
            for block in resampler.resample(frame):
                blocks.append(block.to_ndarray().reshape(-1))
                count += len(blocks[-1])
            if count >= max_s * sample_rate_hz:
                break
    if not blocks:
        return None
    return np.concatenate(blocks)[: round(max_s * sample_rate_hz)].clip(-1, 1)


def load(
    sources: Iterable[ClipSource],
    held_back: Callable[[str], bool],
    read: Callable[[ClipSource, bool], list[np.ndarray]],
    max_bytes: int,
    setting: str = "clips.max_bytes",
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(training, validation) arrays of all sources. What cannot be decoded is logged and left out.

    Args:
        read: (source, whether it is held back) → its arrays.
        setting: where `max_bytes` comes from, for the error.

    Raises:
        ValueError: together they would take more than `max_bytes`.
    """
    train: list[np.ndarray] = []
    val: list[np.ndarray] = []
    total = 0
    for source in sources:
        kept = held_back(source.name)
        try:
            arrays = read(source, kept)
        except (Rejection, av.FFmpegError, OSError, ValueError) as error:
            log.warning("left out %s: %s", source.name, error)
            continue
        (val if kept else train).extend(arrays)
        total += sum(array.nbytes for array in arrays)
        if total > max_bytes:
            raise ValueError(
                f"the data up to {source.name} take more than {max_bytes >> 20} MiB in memory; "
                f"give fewer clips, take less of each, or set a larger {setting}"
            )
    return train, val


def load_video_windows(
    folder: Path, clips: VideoClips, held_back: Callable[[str], bool]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(training, validation) windows of every clip below `folder`, uint8 (T H W 3); those for training overlap by half.

    Raises:
        ValueError: no clip is long enough for one window, or the windows would not fit into `clips.max_bytes`.
    """

    def read(source: ClipSource, kept: bool) -> list[np.ndarray]:
        overlap = 0 if kept else clips.num_frames // 2
        return spread(video_windows(source, clips.num_frames, clips.fps, clips.resolution, overlap), clips.max_windows)

    train, val = load(find_clips(folder, VIDEO_SUFFIXES, clips.include), held_back, read, clips.max_bytes)
    if not train:
        raise ValueError(
            f"no clip for training below {folder} has {clips.num_frames} frames at {clips.fps} fps; "
            "use longer clips or hold fewer back"
        )
    return train, val


def spread(items: list[np.ndarray], limit: int) -> list[np.ndarray]:
    """At most `limit` items, evenly spread; all of them where there are no more."""
    if len(items) <= limit:
        return items
    return [items[position * len(items) // limit] for position in range(limit)]


def load_audio(
    folder: Path, sample_rate_hz: int, sounds: Sounds, held_back: Callable[[str], bool]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(training, validation) sounds of every file below `folder`, as int16.

    Raises:
        ValueError: no file has a sound track, or the sounds would not fit into `sounds.max_bytes`.
    """

    def read(source: ClipSource, kept: bool) -> list[np.ndarray]:
        samples = audio_samples(source, sample_rate_hz, sounds.max_s)
        return [] if samples is None or not len(samples) else [np.round(samples * 32767).astype(np.int16)]

    sources = find_clips(folder, AUDIO_SUFFIXES, sounds.include)
    train, val = load(sources, held_back, read, sounds.max_bytes, "sounds.max_bytes")
    if not train:
        raise ValueError(f"no file for training below {folder} has a sound track")
    return train, val


def crop_batch(
    windows: list[np.ndarray], batch_size: int, num_frames: int, crop: int, generator: torch.Generator
) -> Tensor:
    """Random windows, crops and mirrorings: B 3 T crop crop float32 in [-1, 1]."""
    clips = []
    for _ in range(batch_size):
        window = windows[_draw(len(windows), generator)]
        start = _draw(window.shape[0] - num_frames + 1, generator)
        top = _draw(window.shape[1] - crop + 1, generator)
        left = _draw(window.shape[2] - crop + 1, generator)
        clip = torch.from_numpy(window[start : start + num_frames, top : top + crop, left : left + crop])
        clips.append(clip.flip(2) if _draw(2, generator) else clip)
    return torch.stack(clips).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def centre_crop(window: np.ndarray, size: int) -> Tensor:
    """1 3 T size size float32 in [-1, 1] from uint8 (T H W 3)."""
    top, left = (window.shape[1] - size) // 2, (window.shape[2] - size) // 2
    clip = torch.from_numpy(window[:, top : top + size, left : left + size].copy())
    return clip.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def audio_batch(sounds: list[np.ndarray], batch_size: int, length: int, generator: torch.Generator) -> Tensor:
    """Random stretches at random loudness: B 1 T float32 in [-1, 1]; short sounds are padded with silence."""
    batch = torch.zeros(batch_size, 1, length)
    weights = torch.tensor([float(len(sound)) for sound in sounds])
    for row in range(batch_size):
        sound = sounds[int(torch.multinomial(weights, 1, generator=generator))]
        start = _draw(max(1, len(sound) - length + 1), generator)
        piece = torch.from_numpy(sound[start : start + length].astype(np.float32) / 32767)
        gain = 0.3 + 0.7 * float(torch.rand((), generator=generator))
        batch[row, 0, : len(piece)] = piece * gain
    return batch


def _draw(limit: int, generator: torch.Generator) -> int:
    return int(torch.randint(limit, (), generator=generator))
