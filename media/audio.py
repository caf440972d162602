"""Sound by true time: samples at exact positions of the same timeline as the pictures.

Positions are as exact as the container's timestamps: to the sample in mp4, to a millisecond in Matroska and FLV.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from media.containers import audio_stream, open_container, time_base_of
from media.raw_frames import Seconds
from schemas.states import Rejection

_PREROLL_S = Fraction(1)  # decoders need packets before the first sample that counts (AAC 1, Opus 80 ms)
_MARGIN_S = Fraction(1, 25)  # native sound on both sides of a stretch that is resampled, so that its ends are true
_JITTER_S = Fraction(1, 250)  # containers round timestamps; up to this, frames follow each other without a gap


def read_audio(path: str | Path, start_s: Seconds, num_samples: int, sample_rate_hz: int) -> np.ndarray:
    """Mono sound from `start_s` on the pictures' timeline: float32 (T,) in [-1, 1], T = `num_samples`.

    Where the stream has no sound (before it starts, in gaps, after it ends) there is silence. Without an audio
    stream the array has zero length.

    Raises:
        Rejection: as `media.containers.open_container`; `undecodable_audio` where not one frame can be decoded.
    """
    start = Fraction(start_s)
    margin = Fraction(0)
    with open_container(path) as container:
        stream = audio_stream(container)
        if stream is None:
            return np.zeros(0, np.float32)
        rate = int(stream.rate)
        if rate != sample_rate_hz:
            margin = _MARGIN_S
        first = round((start - margin) * rate)
        count = round((Fraction(num_samples, sample_rate_hz) + 2 * margin) * rate)
        native = _stretch(container, stream, first, count, "mono")[0]
    samples = _at_rate(native, rate, sample_rate_hz)[round(margin * sample_rate_hz) :][:num_samples]
    return np.clip(np.pad(samples, (0, num_samples - len(samples))), -1.0, 1.0).astype(np.float32)


def read_audio_native(path: str | Path, start_s: Seconds, end_s: Seconds) -> tuple[np.ndarray, int] | None:
    """Sound of [start, end) at the stream's own rate: float32 (C T), C = 1 or 2, T = round(duration × rate), and rate.

    More than two channels are mixed down to two. None where there is no audio stream.
    """
    with open_container(path) as container:
        stream = audio_stream(container)
        if stream is None:
            return None
        rate = int(stream.rate)
        count = round((Fraction(end_s) - Fraction(start_s)) * rate)
        layout = "mono" if stream.channels == 1 else "stereo"
        return np.clip(_stretch(container, stream, round(Fraction(start_s) * rate), count, layout), -1, 1), rate


def loudness_dbfs(samples: np.ndarray) -> float:
    """RMS level in dB relative to full scale; −120 for silence and for no samples."""
    if samples.size == 0:
        return -120.0
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(-120.0, 10 * float(np.log10(power))) if power > 0 else -120.0


def _stretch(container: InputContainer, stream: av.AudioStream, first: int, count: int, layout: str) -> np.ndarray:
    """Samples [first, first + count) at the stream's rate, (C T); silence where there are none."""
    out = np.zeros((1 if layout == "mono" else 2, count), np.float32)
    start_s = Fraction(first, stream.rate)
    _seek(container, stream, start_s - _PREROLL_S)
    decoded = False
    for position, samples in _positioned(_frames(container, stream), int(stream.rate), layout, first):
        decoded = True
        if position >= first + count:
            break
        begin, end = max(position, first), min(position + samples.shape[1], first + count)
        if begin < end:
            out[:, begin - first : end - first] = samples[:, begin - position : end - position]
    if not decoded and start_s <= 0:
        raise Rejection("undecodable_audio", f"not one frame of the {stream.codec_context.name} sound can be decoded")
    return out


def _seek(container: InputContainer, stream: av.AudioStream, target_s: Fraction) -> None:
    """Goes to a packet at or before the target; stays at the beginning where the target is there."""
    target = int(target_s / time_base_of(stream))
    if target <= (stream.start_time or 0):
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
    tick: Fraction | None = None  # all frames of a stream have that of the stream
    jitter = int(_JITTER_S * rate)
    for frame in frames:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape is not None and now != shape:  # the stream changes in its middle
            converter = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        shape = now
        position = expected
        if frame.pts is not None:
            tick = tick or time_base_of(frame)
            told = _position(frame.pts, tick, rate)
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
            samples = part.to_ndarray()
            yield position, samples
            position += samples.shape[1]
        expected = position


def _position(pts: int, time_base: Fraction, rate: int) -> int:
    """`round(pts * time_base * rate)` without fractions, which cost more than decoding does."""
    whole, rest = divmod(pts * time_base.numerator * rate, time_base.denominator)
    return whole + (2 * rest + whole % 2 > time_base.denominator)


def _at_rate(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """The samples (T,) at another rate, by swresample; its delay is made up for."""
    if rate == new_rate or len(samples) == 0:
        return samples
    converter = av.AudioResampler(format="fltp", layout="mono", rate=new_rate)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), format="fltp", layout="mono")
    frame.sample_rate = rate
    parts = [part.to_ndarray()[0] for part in (*converter.resample(frame), *converter.resample(None))]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
