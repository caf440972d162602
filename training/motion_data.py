"""Motion maps for the motion tokenizer's trainer: from clips, held in memory, with the motion of a camera added."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from media.windows import FrameReader
from tokenize_shards.motion_vectors import FPS, FRAMES, motion_map
from training.clips_data import VIDEO_SUFFIXES, ClipSource, find_clips, load
from training.settings_motion import MotionClips


def motion_maps(source: ClipSource, rate: Fraction, hop_s: Fraction, limit: int = 0) -> list[np.ndarray]:
    """The motion maps of a clip's stretches of 24 frames, each (24 20 36 2) float16; none of a shorter clip.

    Args:
        rate: frames a second.
        hop_s: seconds from one stretch to the next.
        limit: at most so many, evenly spread; 0 takes all.
    """
    with source.on_disk() as path:
        reader = FrameReader(path)
        first, last = (reader.index.pts[edge] * reader.index.time_base for edge in (0, -1))
        count = int((last - first - (FRAMES - 1) / rate) / hop_s) + 1 if last - first >= (FRAMES - 1) / rate else 0
        chosen = [position * count // limit for position in range(limit)] if 0 < limit < count else range(count)
        starts = [first + number * hop_s for number in chosen]
        times = [[start + k / rate for k in range(FRAMES)] for start in starts]
        return [motion_map(reader.frames_at(stretch)).astype(np.float16) for stretch in times]


def load_motion(
    folder: Path, clips: MotionClips, held_back: Callable[[str], bool]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(training, validation) motion maps of every clip below `folder`.

    Raises:
        ValueError: no clip is long enough, or the maps would not fit into `clips.max_bytes`.
    """

    def read(source: ClipSource, kept: bool) -> list[np.ndarray]:
        return motion_maps(source, FPS, FRAMES / FPS) if kept else _training_maps(source, clips)

    train, val = load(find_clips(folder, VIDEO_SUFFIXES, clips.include), held_back, read, clips.max_bytes)
    if not train:
        raise ValueError(
            f"no clip for training below {folder} has {FRAMES} frames at {max(clips.rates):g} fps; "
            "use longer clips, a higher rate in clips.rates, or hold fewer back"
        )
    return train, val


def _training_maps(source: ClipSource, clips: MotionClips) -> list[np.ndarray]:
    rates = [Fraction(rate).limit_denominator(1000) for rate in clips.rates]
    hop_s = Fraction(clips.hop_s).limit_denominator(1000)
    return [motion for rate in rates for motion in motion_maps(source, rate, hop_s, clips.max_stretches)]


def motion_batch(maps: Sequence[np.ndarray], clips: MotionClips, batch_size: int, generator: torch.Generator) -> Tensor:
    """Random maps, clipped, mirrored half the time, with a camera's motion added to some: B 24 20 36 2 float32."""
    batch = []
    for _ in range(batch_size):
        motion = torch.from_numpy(maps[int(torch.randint(len(maps), (), generator=generator))].astype(np.float32))
        motion = motion.clamp(-clips.max_motion, clips.max_motion)
        if _chance(0.5, generator):
            motion = motion.flip(2) * torch.tensor([-1.0, 1.0])
        if _chance(clips.pan_share, generator):
            motion = motion + camera_motion(motion.shape[1], motion.shape[2], clips.max_pan, generator)
        batch.append(motion)
    return torch.stack(batch)


def camera_motion(rows: int, columns: int, max_pan: float, generator: torch.Generator) -> Tensor:
    """24 rows columns 2: a pan whose speed changes evenly, and a zoom; zero in the first frame, as in every map."""
    ends = (torch.rand(2, 2, generator=generator) * 2 - 1) * max_pan
    if _chance(0.5, generator):
        ends[1] = ends[0]  # steady
    time = torch.linspace(0, 1, FRAMES)[:, None, None, None]
    pan = ends[0] * (1 - time) + ends[1] * time
    zoom = float(torch.randn((), generator=generator)) * 0.3 * max_pan * _chance(0.3, generator)
    across, down = torch.linspace(-1, 1, columns), torch.linspace(-1, 1, rows)
    places = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1)  # rows columns (x y)
    motion = pan + zoom * places
    motion[0] = 0
    return motion


def _chance(share: float, generator: torch.Generator) -> bool:
    return float(torch.rand((), generator=generator)) < share
