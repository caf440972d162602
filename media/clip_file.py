"""One clip to an mp4 by x264 and FFmpeg's AAC in this process, from frames as they come out of a decoder."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer

from media.cut_program import Sound, aac_options, timescale
from media.settings import X264_EXACT, CutSettings
from schemas.records import Span

_BLOCK = 8192  # samples that go to the encoder at a time
_MPEG_RANGE = 1  # AVColorRange


def write_clip(
    target: Path, first: av.VideoFrame, frames: Iterable[tuple[int, av.VideoFrame]], span: Span, sound: Sound | None,
    settings: CutSettings, rate: Fraction,
) -> None:  # fmt: skip
    """An mp4 of these frames at their own times and of the sound beside them. Equal input gives equal bytes.

    Args:
        first: of the frames, which has the size and the colours of all.
        frames: (timestamp, 4:2:0 frame) on the source's timeline.
        rate: frames per second, for the encoder to go by.
    """
    options = {
        "fflags": "+bitexact", "movflags": "+faststart", "video_track_timescale": str(timescale(span.time_base)),
    }  # fmt: skip
    with av.open(str(target), "w", format="mp4", options=options) as container:
        pictures = _Pictures(container, first, span, settings, rate)
        samples = _Samples(container, sound, settings, span.time_base)
        for pts, frame in frames:
            pictures.add(pts, frame)
            samples.add_until(pts - span.start_pts)
        samples.finish()
        pictures.finish()


class _Pictures:
    """Frames to the video stream."""

    def __init__(
        self, container: OutputContainer, first: av.VideoFrame, span: Span, settings: CutSettings, rate: Fraction
    ):
        self._container, self._span, self._time_base = container, span, span.time_base
        options = {"crf": str(settings.crf), "preset": settings.preset, **X264_EXACT}
        self._stream = container.add_stream("libx264", rate=rate, options=options)
        context = self._stream.codec_context
        context.height, context.width, context.pix_fmt = first.height, first.width, "yuv420p"
        self._stream.time_base = context.time_base = self._time_base
        context.sample_aspect_ratio = Fraction(1)
        context.thread_count, context.thread_type = settings.threads, "FRAME"
        context.flags |= av.codec.context.Flags.bitexact
        context.color_range, context.colorspace = _MPEG_RANGE, first.colorspace
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        self._start: int | None = None  # decoding time of the first packet
        self._last: av.Packet | None = None

    def add(self, pts: int, frame: av.VideoFrame) -> None:
        frame.pts, frame.time_base = pts - self._span.start_pts, self._time_base
        frame.pict_type = av.video.frame.PictureType.NONE  # that of the source is no wish
        self._mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Writes the rest. The muxer takes the track's length from the packet written last: to the span's end."""
        self._mux(self._stream.encode(None))
        last = self._last
        if last is not None and last.dts is not None:
            last.duration = max(1, self._span.end_pts - self._span.start_pts - (last.dts - (self._start or 0)))
            self._container.mux(last)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            if self._last is None:
                self._start = packet.dts
            else:
                self._container.mux(self._last)
            self._last = packet


class _Samples:
    """Sound to its stream, as far as the pictures are."""

    def __init__(self, container: OutputContainer, sound: Sound | None, settings: CutSettings, time_base: Fraction):
        self._container, self._sound, self._next = container, sound, 0
        if sound is None:
            return
        self._per_tick = time_base * sound.rate
        stream = container.add_stream("aac", rate=sound.rate, options=aac_options(settings))
        stream.layout = "mono" if sound.samples.shape[0] == 1 else "stereo"
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.bit_rate = settings.audio_bitrate_kbps * 1000
        self._stream = stream

    def add_until(self, ticks: int) -> None:
        """Writes all sound up to this time, and up to a block more."""
        if self._sound is not None:
            num_samples = -(-ticks * self._per_tick.numerator // self._per_tick.denominator)
            self._add(self._sound, min(num_samples, self._sound.samples.shape[1]))

    def finish(self) -> None:
        """Writes the rest."""
        if self._sound is not None:
            self._add(self._sound, self._sound.samples.shape[1])
            self._container.mux(self._stream.encode(None))

    def _add(self, sound: Sound, until: int) -> None:
        while self._next < until:
            samples = np.ascontiguousarray(sound.samples[:, self._next : self._next + _BLOCK], np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self._stream.layout.name)
            frame.sample_rate, frame.pts = sound.rate, self._next
            frame.time_base = Fraction(1, sound.rate)
            self._container.mux(self._stream.encode(frame))
            self._next += _BLOCK
