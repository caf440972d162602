"""Pictures and sound to files: JPEG, contact sheets, and mp4 for what models generate."""

import io
import math
import os
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from media import storage
from media.settings import X264_EXACT

_MAX_JPEG_PIXELS = 100_000_000


def jpeg_bytes(image: np.ndarray, quality: int = 90) -> bytes:
    """The picture (H W 3, uint8, RGB) as a JPEG. Equal pictures give equal bytes."""
    _check_picture(image)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0", optimize=False)
    return buffer.getvalue()


def image_from_jpeg(data: bytes) -> np.ndarray:
    """The picture (H W 3, uint8, RGB) of JPEG bytes.

    Raises:
        ValueError: not a JPEG, damaged, or more than 10^8 pixels.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG"])
        if image.width * image.height > _MAX_JPEG_PIXELS:
            raise ValueError(f"a JPEG of {image.width}x{image.height} is over {_MAX_JPEG_PIXELS} pixels")
        return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{len(data)} bytes are not a readable JPEG: {error}") from error


def contact_sheet(frames: Sequence[np.ndarray] | np.ndarray, columns: int = 8) -> Image.Image:
    """Pictures of one size (each H W 3, uint8) in rows of `columns`, on black.

    Raises:
        ValueError: no pictures, or sizes that differ.
    """
    if len(frames) == 0:
        raise ValueError("a contact sheet needs at least one picture")
    height, width = frames[0].shape[:2]
    columns = min(columns, len(frames))
    rows = math.ceil(len(frames) / columns)
    sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
    for index, frame in enumerate(frames):
        _check_picture(frame)
        if frame.shape[:2] != (height, width):
            raise ValueError(f"picture {index} is {frame.shape[:2]}, the first is {(height, width)}; sizes must agree")
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = frame
    return Image.fromarray(sheet)


def write_video(
    path: str | Path,
    frames: np.ndarray,
    fps: Fraction | int,
    audio: np.ndarray | None = None,
    sample_rate_hz: int | None = None,
    *,
    crf: int = 18,
) -> None:
    """Writes an mp4 (H.264, and AAC where there is sound), whole or not at all, with equal bytes for equal input.

    Odd sizes lose their last row or column: 4:2:0 pictures have even sides.

    Args:
        frames: T H W 3, uint8, RGB.
        audio: float32 in [-1, 1], (T,) mono or (C T); starts with the first frame.
        crf: 0 (lossless) to 51.

    Raises:
        ValueError: shapes or types are not as above.
    """
    _check_video(frames, audio, sample_rate_hz)
    with tempfile.TemporaryDirectory(prefix="write-video-") as scratch:
        temporary = Path(scratch) / "video.mp4"
        with av.open(os.fspath(temporary), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
            video = _video_stream(container, frames, Fraction(fps), crf)
            sound = _audio_stream(container, audio, sample_rate_hz)
            _encode_video(container, video, frames)
            if sound is not None and audio is not None:
                _encode_audio(container, sound, np.atleast_2d(audio), int(sample_rate_hz or 0))
        storage.put_file_atomic(temporary, path)


def _video_stream(
    container: av.container.OutputContainer, frames: np.ndarray, fps: Fraction, crf: int
) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=fps)
    stream.height, stream.width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    stream.options = {"crf": str(crf), "preset": "veryfast", **X264_EXACT}
    return stream


def _audio_stream(
    container: av.container.OutputContainer, audio: np.ndarray | None, sample_rate_hz: int | None
) -> av.AudioStream | None:
    if audio is None or audio.size == 0:
        return None
    stream = container.add_stream("aac", rate=sample_rate_hz)
    stream.layout = "mono" if np.atleast_2d(audio).shape[0] == 1 else "stereo"
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    stream.bit_rate = 128_000
    return stream


def _encode_video(container: av.container.OutputContainer, stream: av.VideoStream, frames: np.ndarray) -> None:
    for index, image in enumerate(frames):
        even = np.ascontiguousarray(image[: stream.height, : stream.width])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts, frame.time_base = index, 1 / Fraction(stream.codec_context.framerate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _encode_audio(
    container: av.container.OutputContainer, stream: av.AudioStream, audio: np.ndarray, sample_rate_hz: int
) -> None:
    samples = np.ascontiguousarray(audio[:2], dtype=np.float32)
    for start in range(0, samples.shape[1], 1024):
        block = np.ascontiguousarray(samples[:, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate_hz, start, Fraction(1, sample_rate_hz)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _check_picture(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture is H W 3 of uint8; this is {image.shape} of {image.dtype}")


def _check_video(frames: np.ndarray, audio: np.ndarray | None, sample_rate_hz: int | None) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or min(frames.shape) < 1:
        raise ValueError(f"frames are T H W 3 of uint8, T ≥ 1; these are {frames.shape} of {frames.dtype}")
    if frames.shape[1] < 2 or frames.shape[2] < 2:
        raise ValueError(f"a video is at least 2x2 pixels; this is {frames.shape[1]}x{frames.shape[2]}")
    if audio is not None and audio.size and not sample_rate_hz:
        raise ValueError("sound needs its sample_rate_hz")
