"""Opening untrusted media: only real containers, only local files, and a true reason when it cannot be opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from schemas.states import Rejection

DEMUXERS = (
    "aa,aac,ac3,aiff,alaw,amr,ape,asf,asf_o,au,av1,avi,caf,dv,eac3,f4v,flac,flv,gif,gxf,h261,h263,h264,hevc,ivf,live_flv,"
    "lmlm4,m4v,matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,mpegtsraw,mpegvideo,mulaw,mxf,nsv,nut,obu,"
    "ogg,rm,swf,tta,vc1,vc1test,vvc,vob,w64,wav,wtv,wv,xmv,yuv4mpegpipe"
)
"""Containers that hold their own media. Playlists, which can name other files and hosts, are not among them."""

MAX_PIXELS = 1 << 27
"""Of one picture, whatever settings allow: 16384x8192, some 200 MB. FFmpeg itself would believe twice that."""

OPEN_OPTIONS = {"protocol_whitelist": "file,pipe", "format_whitelist": DEMUXERS}

_MAGIC = ((4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (0, b"\x1a\x45\xdf\xa3"), (0, b"RIFF"), (0, b"FLV"), (0, b"OggS"))


@contextmanager
def open_container(path: str | Path) -> Iterator[InputContainer]:
    """An open container; closed on leaving.

    Raises:
        Rejection: `not_found`, `unreadable`, `empty_file`, `not_media` (no container at all), `damaged_container`
            (one that begins like media but has no usable header).
    """
    name = str(path)
    _check_file(Path(name))
    try:
        container = av.open(f"file:{name}", options=dict(OPEN_OPTIONS), metadata_errors="replace")
    except (av.FFmpegError, UnicodeError) as error:
        message = getattr(error, "strerror", None) or str(error)
        if _looks_like_media(Path(name)):
            raise Rejection(
                "damaged_container", f"the file begins like media but cannot be opened: {message}"
            ) from error
        raise Rejection("not_media", f"no known media container: {message}") from error
    try:
        yield container
    finally:
        container.close()


def _check_file(path: Path) -> None:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise Rejection("not_media", f"{path.name} is a folder")
        if size == 0:
            raise Rejection("empty_file", "the file has no bytes")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise Rejection("not_found", f"no file {path}") from None
    except OSError as error:
        raise Rejection("unreadable", f"{path}: {error.strerror}") from error


def _looks_like_media(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
    return any(head[offset : offset + len(magic)] == magic for offset, magic in _MAGIC)


def video_stream(container: InputContainer) -> av.VideoStream:
    """The stream that is the video: the container's best one that is no cover picture.

    Raises:
        Rejection: `no_video_stream`, `picture_too_large`.
    """
    return _bounded(_best(container))


def _bounded(stream: av.VideoStream) -> av.VideoStream:
    """The stream, whose decoder will refuse pictures that are too large wherever in the stream they come."""
    context = stream.codec_context
    if context is not None:
        if context.width * context.height > MAX_PIXELS:
            raise Rejection("picture_too_large", f"{context.width}x{context.height} is over {MAX_PIXELS} pixels")
        context.options = {**context.options, "max_pixels": str(MAX_PIXELS)}
    return stream


def _best(container: InputContainer) -> av.VideoStream:
    candidates = [stream for stream in container.streams.video if not _is_cover(stream)]
    best = container.streams.best("video")
    if best in candidates:
        return best
    if candidates:
        return candidates[0]
    kinds = sorted({str(stream.type) for stream in container.streams})
    raise Rejection("no_video_stream", f"the file holds {', '.join(kinds) or 'no streams at all'}")


def audio_stream(container: InputContainer) -> av.AudioStream | None:
    """The container's best sound stream that has a decoder; None where there is none."""
    best = container.streams.best("audio")
    streams = [best] if isinstance(best, av.AudioStream) else list(container.streams.audio)
    return next((stream for stream in streams if stream.codec_context is not None and stream.rate), None)


def time_base_of(item: av.stream.Stream | av.frame.Frame) -> Fraction:
    """Seconds per tick, exact.

    Raises:
        Rejection: `undecodable` where there is none.
    """
    if item.time_base is None:
        raise Rejection("undecodable", "the stream has no time base")
    return Fraction(item.time_base)


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
