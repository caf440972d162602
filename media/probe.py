"""What a file says of itself, and what its first frames say; one container open, a few packets read."""

from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer

from media.containers import audio_stream, open_container, time_base_of, video_stream
from media.normalize import normalization_of
from schemas.records import Probe
from schemas.states import Rejection

_MAX_PACKETS = 2000
_MAX_BYTES = 64 << 20
"""How far first frames are sought; a video whose first frame needs more is not decodable in practice."""

_COLOR_SPACES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020c"}


def probe(path: str | Path) -> Probe:
    """Container, codecs, size as displayed, exact time base and start, sound and its offset.

    Raises:
        Rejection: `not_found`, `empty_file`, `not_media`, `damaged_container`, `no_video_stream`, `undecodable`.
    """
    with open_container(path) as container:
        return _probe(container, Path(path).stat().st_size)


def _probe(container: InputContainer, num_bytes: int) -> Probe:
    video, audio = video_stream(container), audio_stream(container)
    frame, sound = _first_frames(container, video, audio)
    normal = normalization_of(frame, video)
    height, width = normal.display_size
    time_base = time_base_of(video)
    fps = Fraction(video.average_rate or 0)
    start_pts = frame.pts if frame.pts is not None else (frame.dts or 0)
    return Probe(
        container=container.format.name,
        num_bytes=num_bytes,
        video_codec=video.codec_context.codec.canonical_name,
        pixel_format=frame.format.name,
        width=width,
        height=height,
        fps_num=fps.numerator,
        fps_den=fps.denominator,
        time_base_num=time_base.numerator,
        time_base_den=time_base.denominator,
        start_pts=start_pts,
        duration_s=_duration_s(container, video),
        rotation=normal.rotation,
        interlaced=normal.deinterlace,
        hdr=normal.hdr,
        color_space=_COLOR_SPACES.get(int(frame.colorspace)),
        has_alpha=normal.has_alpha,
        audio_codec=audio.codec_context.codec.canonical_name if audio else None,
        audio_sample_rate_hz=audio.rate if audio else None,
        audio_channels=audio.channels if audio else None,
        audio_offset_s=float(_time(sound) - start_pts * time_base) if sound is not None else None,
    )


def _time(frame: av.AudioFrame) -> Fraction:
    return Fraction(frame.pts or 0) * time_base_of(frame)


def _duration_s(container: InputContainer, video: av.VideoStream) -> float | None:
    """Of the video stream, or else of the container; None where neither header says."""
    if video.duration and video.time_base:
        return float(video.duration * video.time_base)
    if container.duration and container.duration > 0:
        return container.duration / av.time_base
    return None


def _first_frames(
    container: InputContainer, video: av.VideoStream, audio: av.AudioStream | None
) -> tuple[av.VideoFrame, av.AudioFrame | None]:
    """The first decodable frame of either stream. Sound that begins long after the picture is not waited for."""
    picture: av.VideoFrame | None = None
    sound: av.AudioFrame | None = None
    failure, num_bytes = "no packet holds a picture", 0
    streams = [video] if audio is None else [video, audio]
    try:
        for index, packet in enumerate(container.demux(streams)):
            num_bytes += packet.size
            try:
                for frame in packet.decode():
                    if isinstance(frame, av.VideoFrame):
                        picture = picture or frame
                    elif isinstance(frame, av.AudioFrame):
                        sound = sound or frame
            except av.FFmpegError as error:
                failure = str(error.strerror)
            if (picture and (sound or audio is None)) or index > _MAX_PACKETS or num_bytes > _MAX_BYTES:
                break
    except av.FFmpegError as error:
        failure = str(error.strerror)
    if picture is None:
        codec = video.codec_context.name if video.codec_context else "unknown"
        raise Rejection("undecodable", f"no picture of the {codec} stream can be decoded: {failure}")
    return picture, sound
