"""Motion maps from a codec's motion vectors, as Video-LaVIT takes them (arXiv 2402.03161, A.1).

A clip of 24 frames at 6 fps is encoded anew as MPEG-4 Part 2 with a key frame every 12 frames, whatever codec it came
in, and decoded with the vectors of its 16x16 macroblocks:

    frames   I  P  P  …  P  I  P  …  P        an I frame has no vectors: the first map is zero,
             0  1  2     11 12 13     23      the one at 12 is the mean of those at 11 and 13
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F

from media.windows import FrameReader
from schemas.states import Rejection

FRAMES, FPS, KEY_EVERY = 24, Fraction(6), 12
GRID = (20, 36)
DURATION_S = FRAMES / FPS
_BLOCK = 16
_BIT_RATE = 8_000_000
# Of vectors over frame width and height, in the published training data; the tokenizer takes a tenth of it as 1.
_DEVIATION = np.array([0.0993703, 0.1130276], np.float32) / 10


def read_motion(path: str | Path, start_s: Fraction) -> np.ndarray:
    """The motion map of the 4 s from `start_s` on: (24 20 36 2) float32, as `motion_map`.

    Raises:
        Rejection: as `media.decode.decode_frames`.
    """
    times = [start_s + k / FPS for k in range(FRAMES)]
    return motion_map(FrameReader(path).frames_at(times))


def motion_map(frames: np.ndarray) -> np.ndarray:
    """Frames (24 H W 3) uint8 → (24 20 36 2) float32: to the right and down since the frame before, in units of a
    hundredth of the frame's size, roughly (the deviation of the published training data)."""
    motion = torch.from_numpy(block_motion(frames) / _DEVIATION)
    resized = F.interpolate(motion.permute(0, 3, 1, 2), GRID, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).contiguous().numpy()


def pixels_per_frame(motion: np.ndarray, height: int, width: int) -> np.ndarray:
    """A motion map (… 2) in pixels of a frame of that size: the inverse of its scaling."""
    return motion * _DEVIATION * np.array([width, height], np.float32)


def motion_pictures(motion: np.ndarray, scale: int = 8, brightest: float = 3.0) -> np.ndarray:
    """Motion maps (T rows columns 2) as colours: uint8 (T H W 3), each cell `scale` x `scale` pixels.

    The hue is the direction (red to the right, then yellow-green down, cyan to the left, violet up); what does not move
    is white, and motion of `brightest` or more has its full colour.
    """
    speed = np.hypot(motion[..., 0], motion[..., 1])
    angle = np.degrees(np.arctan2(motion[..., 1], motion[..., 0])) % 360
    full = np.clip(speed / brightest, 0, 1) * 255
    colours = np.stack([angle / 2, full, np.full_like(full, 255)], axis=-1).round().astype(np.uint8)
    rows = [cv2.cvtColor(frame, cv2.COLOR_HSV2RGB) for frame in colours]
    return np.stack(rows).repeat(scale, axis=1).repeat(scale, axis=2)


def block_motion(frames: np.ndarray) -> np.ndarray:
    """How the content of each macroblock moved since the frame before: (T ⌈H/16⌉ ⌈W/16⌉ 2) float32, to the right over
    the width and down over the height; zero for blocks without a vector.

    Args:
        frames: (T H W 3) uint8; odd sides lose a row or column.

    Raises:
        ValueError: not such frames.
        Rejection: `encode_failed`, the codec cannot take them.
    """
    if frames.ndim != 4 or frames.dtype != np.uint8 or min(frames.shape[1:3]) < 2:
        raise ValueError(f"frames are T H W 3 of uint8, not {frames.shape} of {frames.dtype}")
    height, width = (side // 2 * 2 for side in frames.shape[1:3])
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    motion = np.zeros((len(frames), rows, columns, 2), np.float32)
    try:
        for number, vectors in enumerate(_vectors(_encode(frames[:, :height, :width]))):
            if vectors is not None:
                motion[number] = _to_blocks(vectors, rows, columns)
    except av.FFmpegError as error:
        raise Rejection("encode_failed", f"MPEG-4 cannot take frames of {height}x{width}: {error}") from error
    for key in range(KEY_EVERY, len(frames) - 1, KEY_EVERY):
        motion[key] = (motion[key - 1] + motion[key + 1]) / 2
    return motion / np.array([width, height], np.float32)


def _encode(frames: np.ndarray) -> io.BytesIO:
    """The frames as MPEG-4 Part 2 in an AVI, key frames where they are due and nowhere else."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = _BIT_RATE
        stream.gop_size = KEY_EVERY
        stream.thread_count = 1
        stream.options = {"sc_threshold": "1000000000", "bf": "0"}  # no key frames at cuts, no bidirectional ones
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    return file


def _vectors(file: io.BytesIO) -> Iterator[np.ndarray | None]:
    """Of each frame in order, FFmpeg's table of its motion vectors."""
    with av.open(file, "r") as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        stream.codec_context.options = {"flags2": "+export_mvs"}
        for frame in container.decode(stream):
            table = frame.side_data.get("MOTION_VECTORS")
            yield None if table is None else table.to_ndarray()


def _to_blocks(vectors: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """One vector in pixels for each macroblock; of several the largest in each direction, of none zero.

    The codec's vector points from the block to where it came from, in the frame before (`source` -1).
    """
    scale = np.maximum(vectors["motion_scale"], 1).astype(np.float32)
    moved = np.stack([vectors["source"] * vectors[axis] / scale for axis in ("motion_x", "motion_y")], axis=1)
    row = np.clip(vectors["dst_y"] // _BLOCK, 0, rows - 1)
    column = np.clip(vectors["dst_x"] // _BLOCK, 0, columns - 1)
    blocks = np.full((rows, columns, 2), -np.inf, np.float32)
    np.maximum.at(blocks, (row, column), moved.astype(np.float32))
    return np.where(np.isfinite(blocks), blocks, 0)
