"""Sound by true time: samples at exact positions of the same timeline as the pictures.

Positions are as exact as the container's timestamps: to the sample in mp4, to a millisecond in Matroska and FLV.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.container import InputContainer

from media.containers import audio_stream, open_container, time_base_of
from media.raw_frames import Seconds
from schemas.states import Rejection

_PREROLL_S = Fraction(1)  # decoders need packets before the first sample that counts (AAC 1, Opus 80 ms)
_MARGIN_S = Fraction(1, 25)  # native sound on both sides of a stretch that is resampled, so that its ends are true
_KEPT_S = 3 * _MARGIN_S  # the stretch that follows begins within two margins before the end of the last
_JITTER_S = Fraction(1, 250)  # containers round timestamps; up to this, frames follow each other without a gap


class MonoReader:
    """Mono sound of one file, stretch after stretch.

    It is decoded once from its start, so what a stretch is does not depend on those read before: AAC's noise depends on
    where decoding began. A stretch that begins before the last one, or lies beyond the end or damage, is sought.

    Raises:
        Rejection: as `media.containers.open_container`.
    """

    def __init__(self, path: str | Path):
        self._stack = ExitStack()
        container = self._stack.enter_context(open_container(path))
        stream = audio_stream(container)
        self._track = None if stream is None else _Track(container, stream, "mono", from_start=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, start_s: Seconds, num_samples: int, sample_rate_hz: int) -> np.ndarray:
        """`read_audio` of this file."""
        if self._track is None:
            return np.zeros(0, np.float32)
        rate = self._track.rate
        margin = _MARGIN_S if rate != sample_rate_hz else Fraction(0)
        first = round((Fraction(start_s) - margin) * rate)
        native = self._track.stretch(first, round((Fraction(num_samples, sample_rate_hz) + 2 * margin) * rate))[0]
        samples = _at_rate(native, rate, sample_rate_hz)[round(margin * sample_rate_hz) :][:num_samples]
        return np.clip(np.pad(samples, (0, num_samples - len(samples))), -1.0, 1.0).astype(np.float32)


def read_audio(path: str | Path, start_s: Seconds, num_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Mono sound from `start_s` on the pictures' timeline: float32 (T,) in [-1, 1], T = `num_samples`.

    Where the stream has no sound (before it starts, in gaps, after it ends) there is silence. Without an audio
    stream the array has zero length.

    Raises:
        Rejection: as `media.containers.open_container`; `undecodable_audio` where not one frame can be decoded.
    """
    with MonoReader(path) as reader:
        return reader.read(start_s, num_samples, sample_rate_hz)


def read_audio_native(path: str | Path, start_s: Seconds, end_s: Seconds) -> tuple[np.ndarray, int] | None:
    """Sound of [start, end) at the stream's own rate: float32 (C T), C = 1 or 2, T = round(duration × rate), and rate.

    More than two channels are mixed down to two. None where there is no audio stream.
    """
    with open_container(path) as container:
        stream = audio_stream(container)
        if stream is None:
            return None
        track = _Track(container, stream, "mono" if stream.channels == 1 else "stereo")
        count = round((Fraction(end_s) - Fraction(start_s)) * track.rate)
        return np.clip(track.stretch(round(Fraction(start_s) * track.rate), count), -1, 1), track.rate


def loudness_dbfs(samples: np.ndarray) -> float:
    """RMS level in dB relative to full scale; −120 for silence and for no samples."""
    if samples.size == 0:
        return -120.0
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(-120.0, 10 * float(np.log10(power))) if power > 0 else -120.0


class _Track:
    """Samples of a sound stream, in the layout `mono` or `stereo` at its own rate, by their positions.

    Args:
        from_start: decode from the start on, as long as stretches are read in their order; else each is sought.
    """

    def __init__(self, container: InputContainer, stream: av.AudioStream, layout: str, from_start: bool = False):
        self._container, self._stream, self._layout = container, stream, layout
        self.rate = int(stream.rate)
        self._kept = round(_KEPT_S * self.rate)
        self._in_order, self._begun = from_start, False
        self._parts: Iterator[tuple[int, np.ndarray]] = iter(())
        self._held: deque[tuple[int, np.ndarray]] = deque()  # the last parts decoded; none where there is no going on

    def stretch(self, first: int, count: int) -> np.ndarray:
        """Samples [first, first + count), (C T); silence where there are none.

        Raises:
            Rejection: `undecodable_audio` where not one frame can be decoded.
        """
        out = np.zeros((1 if self._layout == "mono" else 2, count), np.float32)
        start_s, decoded = Fraction(first, self.rate), False
        self._in_order = self._in_order and (not self._begun or (bool(self._held) and first >= self._held[0][0]))
        if not self._in_order:
            self._held.clear()
            _seek(self._container, self._stream, start_s - _PREROLL_S, self._begun)
        if not self._begun or not self._in_order:
            self._begun = True
            self._parts = _positioned(_frames(self._container, self._stream), self.rate, self._layout, first)
        for position, samples in self._until(first + count):
            decoded = True
            begin, end = max(position, first), min(position + samples.shape[1], first + count)
            if begin < end:
                out[:, begin - first : end - first] = samples[:, begin - position : end - position]
        if not decoded and start_s <= 0:
            name = self._stream.codec_context.name
            raise Rejection("undecodable_audio", f"not one frame of the {name} sound can be decoded")
        return out

    def _until(self, end: int) -> Iterator[tuple[int, np.ndarray]]:
        """The parts that are held, and those after them as far as sample `end`."""
        yield from tuple(self._held)
        while not self._held or self._held[-1][0] < end:
            part = next(self._parts, None)
            if part is None:  # the end, or damage beyond which a seek may find more
                self._held.clear()
                return
            if part[1].size:
                self._held.append(part)
            while self._held and self._held[0][0] + self._held[0][1].shape[1] < part[0] - self._kept:
                self._held.popleft()
            yield part


def _seek(container: InputContainer, stream: av.AudioStream, target_s: Fraction, begun: bool) -> None:
    """Goes to a packet at or before the target; to the beginning where the target is there and reading has begun."""
    first = stream.start_time or 0
    target = max(int(target_s / time_base_of(stream)), first)
    if target == first and not begun:
        return
    try:
        container.seek(target, stream=stream, backward=True)
    except av.FFmpegError:  # no index: reading goes on from the start
        return


def _frames(container: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """Frames in order; packets that cannot be decoded leave a gap."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                continue
    except av.FFmpegError:
        return


def _positioned(
    frames: Iterator[av.AudioFrame], rate: int, layout: str, first: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(position in samples on the timeline, float32 (C T)) of each frame, free of the container's rounding.

    Of frames that end before sample `first`, which only lead a decoder in, there are no samples.
    """
    none, wanted = np.zeros((1 if layout == "mono" else 2, 0), np.float32), ("fltp", layout, rate)
    converter = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    shape, expected = None, None
    tick: tuple[int, int] | None = None  # in samples; all frames of a stream have that of the stream
    jitter = int(_JITTER_S * rate)
    for frame in frames:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape is not None and now != shape:  # the stream changes in its middle
            converter = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        shape = now
        position = expected
        if frame.pts is not None:
            if tick is None:
                tick = (time_base_of(frame) * rate).as_integer_ratio()
            told = _rounded(frame.pts * tick[0], tick[1])
            if position is None or abs(told - position) > jitter:
                position = told
        position = position or 0
        frame.pts = None
        if now[2] == rate and position + frame.samples <= first:
            yield position, none
            expected = position + frame.samples
            continue
        try:
            parts = [frame] if now == wanted else converter.resample(frame)
        except av.FFmpegError:  # a damaged frame, of a form that no sound has, is a gap
            converter = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            expected = position + frame.samples
            continue
        for part in parts:
            yield position, _samples_of(part)
            position += part.samples
        expected = position


def _rounded(numerator: int, denominator: int) -> int:
    """`round(Fraction(numerator, denominator))` without fractions, which cost more than decoding does."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest + whole % 2 > denominator)


def _samples_of(frame: av.AudioFrame) -> np.ndarray:
    """Planar float32 samples, (C T); PyAV's own way takes four times as long."""
    out = np.empty((len(frame.planes), frame.samples), np.float32)
    for row, plane in zip(out, frame.planes, strict=True):
        row[:] = np.frombuffer(memoryview(plane), np.float32, frame.samples)
    return out


def _at_rate(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """The samples (T,) at another rate, by swresample; its delay is made up for."""
    if rate == new_rate or len(samples) == 0:
        return samples
    converter = av.AudioResampler(format="fltp", layout="mono", rate=new_rate)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format="fltp", layout="mono")
    frame.sample_rate = rate
    parts = [part.to_ndarray()[0] for part in (*converter.resample(frame), *converter.resample(None))]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
