"""Clips to files of their own: exactly the frames of the span, upright and progressive, sound on the same timeline."""

import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg as ff
import numpy as np

from media import storage
from media.audio import read_audio_native
from media.containers import DEMUXERS, audio_stream, open_container, video_stream
from media.decode import reduced_size
from media.ffmpeg import PROTOCOLS, ffmpeg_path, run_ffmpeg
from media.normalize import Filter, Normalization, normalization_of
from media.settings import X264_EXACT, CutSettings
from schemas.records import Clip, Crop, CutClip, Probe
from schemas.states import Rejection

_SEEK_BACK_S = Fraction(2)  # containers index by decoding time: the key frame wanted may lie this much earlier
_CODEC_FRAME = 2048  # samples by which an encoder's padding may differ (AAC 1024, twice that with SBR)


@dataclass(frozen=True)
class _Plan:
    """What all clips of one source share."""

    path: str
    stream_index: int
    normal: Normalization
    size: tuple[int, int]  # stored (height, width) after scaling
    shown: tuple[int, int]  # displayed (height, width) of those
    crop: bool  # whether black bars are cut away
    has_audio: bool
    settings: CutSettings
    ffmpeg: str

    @property
    def done(self) -> list[str]:
        notes = list(self.normal.notes)
        if self.size != self.normal.stored_size:
            notes.append(f"scaled:{self.shown[1]}x{self.shown[0]}")
        return notes

    def window(self, clip: Clip) -> Crop:
        """The part of the scaled picture that is written: the clip's crop or all of it, with even sides."""
        (height, width), crop = self.shown, clip.crop
        if crop is None or not self.crop:
            return Crop(0, 0, height // 2 * 2, width // 2 * 2)
        full_height, full_width = self.normal.display_size
        top, bottom = _even(crop.top, crop.top + crop.height, Fraction(height, full_height))
        left, right = _even(crop.left, crop.left + crop.width, Fraction(width, full_width))
        return Crop(top, left, bottom - top, right - left)


def _even(first: int, last: int, scale: Fraction) -> tuple[int, int]:
    """A stretch of pixels after scaling: the even ones within."""
    return math.ceil(first * scale / 2) * 2, math.floor(last * scale / 2) * 2


def cut_clips(
    path: str | Path,
    clips: Sequence[Clip],
    folder: str | Path,
    settings: CutSettings,
    probe: Probe,
    ffmpeg: str | None = None,
    crop_letterbox: bool = False,
) -> list[CutClip | Rejection]:
    """Writes `<folder>/<clip_id>.mp4` for each clip; a clip that cannot be cut is its own rejection.

    Frames are chosen by their timestamps, never by index ÷ rate, and keep them relative to the span's start. Sound
    is cut to the sample, with silence where the source has none, so both begin at 0. Each file is verified before
    it gets its name: as many frames as the span has, as many samples as last as long. Equal input gives equal bytes.

    Args:
        crop_letterbox: writes only the rectangle that a clip's `crop` names, where it has one.

    Returns:
        One entry for each clip, in order. Reasons: `frame_count_mismatch`, `sample_count_mismatch`,
        `picture_too_small`, `ffmpeg_failed`, `ffmpeg_timed_out`.

    Raises:
        Rejection: the source cannot be opened at all.
    """
    plan = _plan(str(path), settings, ffmpeg_path(ffmpeg), crop_letterbox)
    Path(folder).mkdir(parents=True, exist_ok=True)
    outcomes: list[CutClip | Rejection] = []
    for clip in clips:
        try:
            outcomes.append(_cut(plan, clip, Path(folder), Fraction(probe.start_pts) * _time_base(probe)))
        except Rejection as rejection:
            outcomes.append(rejection)
    return outcomes


def _time_base(probe: Probe) -> Fraction:
    return Fraction(probe.time_base_num, probe.time_base_den)


def _plan(path: str, settings: CutSettings, ffmpeg: str, crop: bool) -> _Plan:
    with open_container(path) as container:
        stream = video_stream(container)
        first = next((frame for frame in _safely(container, stream)), None)
        if first is None:
            raise Rejection("undecodable", "not one frame can be decoded")
        normal = normalization_of(first, stream)
        index, has_audio = stream.index, audio_stream(container) is not None
    size = _scaled_size(normal, settings.max_side)
    shown = (size[1], size[0]) if normal.transposed else size
    return _Plan(path, index, normal, size, shown, crop, has_audio, settings, ffmpeg)


def _safely(container: av.container.InputContainer, stream: av.VideoStream) -> Any:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _scaled_size(normal: Normalization, max_side: int | None) -> tuple[int, int]:
    """(height, width) before rotation; even along each axis that is scaled anyway."""
    coded = (normal.coded_height, normal.coded_width)
    target = reduced_size(*normal.stored_size, max_side)
    height, width = (
        old if new == old else max(2, round(Fraction(new, 2)) * 2) for new, old in zip(target, coded, strict=True)
    )
    return height, width


def _cut(plan: _Plan, clip: Clip, folder: Path, first_s: Fraction) -> CutClip:
    window = plan.window(clip)
    if min(window.height, window.width) < 2:
        raise Rejection("picture_too_small", f"{plan.size[1]}x{plan.size[0]} has no even size of 2 pixels or more")
    with tempfile.TemporaryDirectory(prefix=".cut-", dir=folder) as scratch:
        sound = _sound(plan, clip, Path(scratch) / "sound.f32")
        target = Path(scratch) / "clip.mp4"
        seek = clip.span.start - _SEEK_BACK_S
        num_frames = -1
        for start in ([seek] if seek > first_s else []) + [None]:  # from the beginning where seeking was not exact
            run_ffmpeg(_command(plan, clip, start, sound, target), plan.ffmpeg, 600 + 120 * clip.span.duration_s)
            num_frames, num_samples, rate = _count(target)
            if num_frames == _expected_frames(plan, clip, num_frames):
                break
        _verify(plan, clip, num_frames, num_samples, rate)
        final = folder / f"{clip.clip_id}.mp4"
        data = target.read_bytes()
        storage.move_file_atomic(target, final)
    fps = _own_rate(plan.settings) if plan.settings.fps else _average_fps(clip)
    return CutClip(
        clip_id=clip.clip_id, path=str(final), num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
        num_frames=num_frames, width=window.width, height=window.height, fps_num=fps.numerator, fps_den=fps.denominator,
        num_audio_samples=num_samples, audio_sample_rate_hz=rate,
        done=",".join([*plan.done, *_cropped(plan, window), *_lost(plan, sound)]),
    )  # fmt: skip


def _cropped(plan: _Plan, window: Crop) -> list[str]:
    whole = (window.height, window.width) == plan.shown
    return [] if whole else [f"cropped:{window.width}x{window.height}"]


def _lost(plan: _Plan, sound: "_Sound | None") -> list[str]:
    return ["sound_lost"] if plan.has_audio and sound is None else []


def _average_fps(clip: Clip) -> Fraction:
    """Frames ÷ seconds of the span: exact for a constant rate."""
    return Fraction(clip.span.num_frames) / (clip.span.end - clip.span.start)


def _own_rate(settings: CutSettings) -> Fraction:
    """The rate asked for, exact: 29.97 means 30000/1001."""
    return Fraction(settings.fps or 0).limit_denominator(1001)


@dataclass(frozen=True)
class _Sound:
    path: Path
    rate: int
    channels: int


def _sound(plan: _Plan, clip: Clip, path: Path) -> _Sound | None:
    """The span's own samples in a raw file; None without sound or where it cannot be decoded."""
    if not plan.has_audio:
        return None
    try:
        native = read_audio_native(plan.path, clip.span.start, clip.span.end)
    except Rejection:
        return None
    if native is None or native[0].shape[1] == 0:
        return None
    samples, rate = native
    path.write_bytes(np.ascontiguousarray(samples.T, dtype="<f4").tobytes())
    return _Sound(path, rate, samples.shape[0])


def _command(plan: _Plan, clip: Clip, seek: Fraction | None, sound: _Sound | None, target: Path) -> Any:
    """The ffmpeg-python node: source and raw sound in, one mp4 out."""
    source_options: dict[str, Any] = {
        "protocol_whitelist": PROTOCOLS, "format_whitelist": DEMUXERS, "threads": 1, "noautorotate": None,
        "copyts": None,
    }  # fmt: skip
    if seek is not None:
        source_options |= {"seek_timestamp": 1, "noaccurate_seek": None, "ss": f"{float(seek):.6f}"}
    source = ff.input(f"file:{plan.path}", **source_options)
    video = source[str(plan.stream_index)]
    for name, options in _filters(plan, clip):
        video = video.filter(name, **options)
    streams = [video]
    if sound is not None:
        streams.append(ff.input(f"file:{sound.path}", f="f32le", ar=sound.rate, ac=sound.channels)["a"])
    return ff.output(*streams, f"file:{target}", **_output_options(plan, clip, sound))


def _filters(plan: _Plan, clip: Clip) -> list[Filter]:
    """Later frames only, deinterlaced, cut by timestamp, scaled, turned, cropped to even sides, 8-bit 4:2:0."""
    span, normal, window = clip.span, plan.normal, plan.window(clip)
    height, width = plan.size
    flags = "area" if height <= normal.coded_height and width <= normal.coded_width else "bicubic"
    colors = {"out_color_matrix": "bt709", "out_range": "tv"} if normal.hdr else {}
    rate: list[Filter] = [("fps", {"fps": str(_own_rate(plan.settings))})] if plan.settings.fps else []
    return [
        ("select", {"expr": "isnan(prev_selected_pts)+gt(pts,prev_selected_pts)"}),
        *normal.deinterlace_filters(),
        ("settb", {"expr": f"{span.time_base_num}/{span.time_base_den}"}),
        ("trim", {"start_pts": str(span.start_pts), "end_pts": str(span.end_pts)}),
        ("setpts", {"expr": f"PTS-({span.start_pts})"}),
        *rate,
        *normal.size_filters(height, width, flags),
        *normal.orientation_filters(),
        ("sidedata", {"mode": "delete", "type": "DISPLAYMATRIX"}),
        ("crop", {"w": str(window.width), "h": str(window.height), "x": str(window.left), "y": str(window.top)}),
        *([("scale", colors)] if colors else []),
        ("format", {"pix_fmts": "yuv420p"}),
    ]


def _output_options(plan: _Plan, clip: Clip, sound: _Sound | None) -> dict[str, Any]:
    settings, span = plan.settings, clip.span
    tick = 1 / _own_rate(settings) if settings.fps else span.time_base
    options: dict[str, Any] = {
        "f": "mp4", "c:v": settings.codec, "crf": settings.crf, "preset": settings.preset, "threads": settings.threads,
        "fflags": "+bitexact", "flags:v": "+bitexact", "movflags": "+faststart", "map_metadata": -1, "map_chapters": -1,
        "filter_threads": 1, "video_track_timescale": _timescale(tick),
    }  # fmt: skip
    if settings.codec == "libx264":
        options |= X264_EXACT
    if settings.codec == "libvpx-vp9":  # it has no presets, and wants to be told that crf alone counts
        del options["preset"]
        options |= {"b:v": 0, "deadline": "good", "cpu-used": 4}
    if settings.fps is None:
        options |= {"fps_mode": "passthrough", "enc_time_base:v": f"{span.time_base_num}/{span.time_base_den}"}
        # The muxer takes the track's length from the packet written last: that one lasts to the end of the span.
        rest = f"{span.end_pts - span.start_pts}-(DTS-STARTDTS)"
        options["bsf:v"] = f"setts=pts=PTS:dts=DTS:duration='if(eq(NEXT_DTS,NOPTS),{rest},DURATION)'"
    if sound is not None:
        options |= {"c:a": settings.audio_codec, "b:a": f"{settings.audio_bitrate_kbps}k", "flags:a": "+bitexact"}
        if settings.audio_codec == "aac":  # noise substitution would put noise where tokenizers seek sound
            options["aac_pns"] = 0
    return options


def _timescale(time_base: Fraction) -> int:
    """Ticks per second in which every timestamp of the span is whole; at least 1,000 where that allows."""
    scale = time_base.denominator
    while scale < 1000:
        scale *= 2
    return min(scale, 2**31 - 1)


def _count(path: Path) -> tuple[int, int, int | None]:
    """(video packets, decoded samples of sound, their rate) of a finished file."""
    with open_container(path) as container:
        video = video_stream(container)
        sound = audio_stream(container)
        frames = samples = 0
        for packet in container.demux([video, sound] if sound is not None else [video]):
            if packet.stream is video:
                frames += int(packet.size > 0 and not packet.is_discard)
            else:
                samples += sum(frame.samples for frame in packet.decode() if isinstance(frame, av.AudioFrame))
        return frames, samples, int(sound.rate) if sound is not None else None


def _expected_frames(plan: _Plan, clip: Clip, found: int) -> int:
    """As many as the span has; at a rate of one's own, as many as last as long, to within one."""
    if plan.settings.fps is None:
        return clip.span.num_frames
    expected = round(clip.span.duration_s * plan.settings.fps)
    return found if abs(found - expected) <= 1 and found > 0 else max(expected, 1)


def _verify(plan: _Plan, clip: Clip, num_frames: int, num_samples: int, rate: int | None) -> None:
    expected = _expected_frames(plan, clip, num_frames)
    if num_frames != expected:
        raise Rejection("frame_count_mismatch", f"the cut has {num_frames} frames, its span {expected}")
    if rate is None:
        return
    wanted = round((clip.span.end - clip.span.start) * rate)
    if abs(num_samples - wanted) > _CODEC_FRAME:
        raise Rejection("sample_count_mismatch", f"the cut has {num_samples} samples of sound, its span {wanted}")
