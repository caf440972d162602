"""One clip by the ffmpeg program: pictures that have to be turned, scaled or otherwise made normal, and any codec."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg as ff
import numpy as np

from media.containers import DEMUXERS
from media.cut_plan import CutPlan
from media.ffmpeg import PROTOCOLS, run_ffmpeg
from media.normalize import Filter
from media.settings import X264_EXACT, CutSettings
from schemas.records import Clip

_SEEK_BACK_S = Fraction(2)  # containers index by decoding time: the key frame wanted may lie this much earlier


@dataclass(frozen=True)
class Sound:
    """The span's own samples, float32 (C T)."""

    samples: np.ndarray
    rate: int


def seek_points(clip: Clip, first_s: Fraction) -> list[Fraction | None]:
    """Where reading may begin, in the order to try: near the span, then at the beginning where that was not exact."""
    seek = clip.span.start - _SEEK_BACK_S
    return [seek, None] if seek > first_s else [None]


def write_by_program(plan: CutPlan, clip: Clip, seek: Fraction | None, sound: Sound | None, target: Path) -> None:
    """Writes the clip.

    Args:
        seek: seconds at which reading begins; None is the beginning.

    Raises:
        Rejection: `ffmpeg_failed`, `ffmpeg_timed_out`.
    """
    raw = target.with_name("sound.f32")
    if sound is not None and not raw.exists():
        raw.write_bytes(np.ascontiguousarray(sound.samples.T, dtype="<f4").tobytes())
    run_ffmpeg(_command(plan, clip, seek, sound, raw, target), plan.ffmpeg, 600 + 120 * clip.span.duration_s)


def _command(plan: CutPlan, clip: Clip, seek: Fraction | None, sound: Sound | None, raw: Path, target: Path) -> Any:
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
        streams.append(ff.input(f"file:{raw}", f="f32le", ar=sound.rate, ac=sound.samples.shape[0])["a"])
    return ff.output(*streams, f"file:{target}", **_output_options(plan, clip, sound))


def _filters(plan: CutPlan, clip: Clip) -> list[Filter]:
    """Later frames only, deinterlaced, cut by timestamp, scaled, turned, cropped to even sides, 8-bit 4:2:0."""
    span, normal, window = clip.span, plan.normal, plan.window(clip)
    height, width = plan.size
    flags = "area" if height <= normal.coded_height and width <= normal.coded_width else "bicubic"
    colors = {"out_color_matrix": "bt709", "out_range": "tv"} if normal.hdr else {}
    rate: list[Filter] = [("fps", {"fps": str(own_rate(plan.settings))})] if plan.settings.fps else []
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


def _output_options(plan: CutPlan, clip: Clip, sound: Sound | None) -> dict[str, Any]:
    settings, span = plan.settings, clip.span
    tick = 1 / own_rate(settings) if settings.fps else span.time_base
    options: dict[str, Any] = {
        "f": "mp4", "c:v": settings.codec, "crf": settings.crf, "preset": settings.preset, "threads": settings.threads,
        "fflags": "+bitexact", "flags:v": "+bitexact", "movflags": "+faststart", "map_metadata": -1, "map_chapters": -1,
        "filter_threads": 1, "video_track_timescale": timescale(tick),
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
        if settings.audio_codec == "aac":
            options |= aac_options(settings)
    return options


def aac_options(settings: CutSettings) -> dict[str, str]:
    """How FFmpeg's AAC encoder works: without what puts noise, or the other channel, where tokenizers seek sound.

    From 64 kbit/s on its fast search is the better one (so FFmpeg's manual; at 128 it was nearer to 7 of 8 recordings),
    at a quarter of the cost.
    """
    exact = {"aac_pns": "0", "aac_is": "0"}
    return exact | {"aac_coder": "fast"} if settings.audio_bitrate_kbps >= 64 else exact


def own_rate(settings: CutSettings) -> Fraction:
    """The rate asked for, exact: 29.97 means 30000/1001."""
    return Fraction(settings.fps or 0).limit_denominator(1001)


def timescale(time_base: Fraction) -> int:
    """Ticks per second in which every timestamp of the span is whole; at least 1,000 where that allows."""
    scale = time_base.denominator
    while scale < 1000:
        scale *= 2
    return min(scale, 2**31 - 1)
