"""One decode of a source: shots, measurements and candidate clips, then keyframes by random access."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from curation.candidates import candidate
from curation.letterbox import Border, crop_of, cropped
from curation.measurements import Measurements
from curation.overlay_judges import overlay_scores, places_judged
from curation.settings import CurateSettings
from curation.shots import find_shots, find_stretches, make_detector, to_span
from curation.speech import speech_share
from curation.stills import CENTRE, places_wanted
from curation.watermark import OverlayEvidence
from media.audio import MonoReader, loudness_dbfs
from media.decode import decode_frames
from media.encode import jpeg_bytes
from media.fetch import LocalMedia
from media.probe import probe
from media.windows import FrameReader
from schemas.records import Analysis, Clip, Probe, Source, Still, failed
from schemas.states import Rejection

KEYFRAME_QUALITY = 90
LOUDNESS_RATE_HZ = 16_000
_COUNTED = ("decode_errors", "read_errors", "unordered_pts", "missing_pts", "size_changes")


@dataclass(frozen=True)
class _Decoded:
    """What the one decode leaves behind; no pictures."""

    measurements: Measurements
    overlay: OverlayEvidence
    boundaries: list[tuple[int, int]]
    notes: Counter[str]


def analyze(source: Source, local: LocalMedia, settings: CurateSettings) -> Analysis:
    """Everything that one decode of a source says.

    Memory does not grow with the length of the source, save for some 30 bytes a frame and a JPEG for each clip.

    Args:
        source: the input, with the bounds (seconds after the first frame) within which shots are sought.
        local: its file and the hash of its content.
        settings: those of analysis, shots, clips, decoding, watermark, text, speech and pictures count.

    Raises:
        Rejection: what probing and decoding reject, and `no_frames_in_bounds`.
    """
    cv2.setNumThreads(1)  # workers share the cores; OpenCV's own threads would fight them
    facts = probe(local.path)
    decoded = _decode(source, local, settings, facts)
    measured = decoded.measurements
    end_pts = _end_pts(measured.pts, facts)
    time_base = Fraction(facts.time_base_num, facts.time_base_den)
    times_s = [tick * float(time_base) for tick in measured.pts]
    boundaries = find_shots(decoded.boundaries, times_s, settings.shots.min_shot_s)
    stretches = find_stretches(boundaries, measured.pts, end_pts, float(time_base), settings.clips)
    clips = []
    for stretch in stretches:
        span = to_span(stretch, measured.pts, end_pts, facts.time_base_num, facts.time_base_den)
        clip = candidate(source, local.content_sha256, span, stretch.shot_index, settings.clips)
        clips.append(_measured(clip, stretch.first, stretch.last, decoded, settings, facts))
    borders = [measured.border(stretch.first, stretch.last) for stretch in stretches]
    return Analysis(
        source=source, content_sha256=local.content_sha256, probe=facts, num_frames=len(measured.pts),
        num_shots=len(boundaries) + 1, clips=tuple(_with_media(clips, borders, local, facts, decoded.notes, settings)),
        notes=_as_notes(decoded.notes),
    )  # fmt: skip


def _decode(source: Source, local: LocalMedia, settings: CurateSettings, facts: Probe) -> _Decoded:
    time_base = Fraction(facts.time_base_num, facts.time_base_den)
    zero = facts.start_pts * time_base  # the manifest counts from the first frame
    notes: Counter[str] = Counter()
    detector = make_detector(settings.shots)
    measurements, overlay = Measurements(), OverlayEvidence()
    frames = decode_frames(
        local.path,
        max_side=settings.analysis.max_side,
        start_s=None if source.start_s is None else zero + Fraction(source.start_s),
        end_s=None if source.end_s is None else zero + Fraction(source.end_s),
        limits=settings.decode,
        threads=settings.analysis.threads,
        notes=notes,
    )
    for frame in frames:
        taken = measurements.push(frame.image, frame.pts, frame.time_base)
        detector.push(frame.image)
        if settings.watermark.enabled:
            overlay.push(taken, frame.index)
    if not measurements.pts:
        bounds = f"{source.start_s or 0:g}–{'end' if source.end_s is None else format(source.end_s, 'g')} s"
        raise Rejection("no_frames_in_bounds", f"no frame lies within {bounds}; the video has {facts.duration_s} s")
    overlay.finish()
    return _Decoded(measurements, overlay, detector.finish(), notes)


def _end_pts(pts: Sequence[int], facts: Probe) -> int:
    """End of the last frame: as long as the usual frame of this stream."""
    if len(pts) > 1:
        step = int(np.median(np.diff(np.asarray(pts[-1000:], dtype=np.int64))))
    elif facts.fps_num:
        step = round(Fraction(facts.fps_den, facts.fps_num) / Fraction(facts.time_base_num, facts.time_base_den))
    else:
        step = 1
    return pts[-1] + max(step, 1)


def _measured(clip: Clip, first: int, last: int, decoded: _Decoded, settings: CurateSettings, facts: Probe) -> Clip:
    """The clip with every score the decode gives, and its hashes."""
    scores = decoded.measurements.scores(first, last, clip.span.duration_s)
    scores |= {"height": float(facts.height), "width": float(facts.width)}
    watermark = decoded.overlay.probability(first, last) if settings.watermark.enabled else None
    if watermark is not None:
        scores["watermark"] = watermark
    hashes = decoded.measurements.hashes(first, last, settings.analysis.num_hashes)
    return replace(clip, phash=hashes).with_scores(**{name: round(value, 6) for name, value in scores.items()})


def _with_media(
    clips: list[Clip], borders: list[Border], local: LocalMedia, facts: Probe, notes: Counter[str],
    settings: CurateSettings,
) -> list[Clip]:  # fmt: skip
    """The clips that go on, with keyframe, crop and loudness; one whose keyframe cannot be had is failed."""
    if all(clip.verdict for clip in clips):
        return clips
    damaged = bool(notes["decode_errors"] or notes["read_errors"])
    reader = FrameReader(local.path, use_decord=not damaged)
    pictured = [
        clip if clip.verdict else _with_pictures(clip, border, reader, settings)
        for clip, border in zip(clips, borders, strict=True)
    ]
    return pictured if facts.audio_codec is None else _with_sound(pictured, local, settings)


def _with_pictures(clip: Clip, border: Border, reader: FrameReader, settings: CurateSettings) -> Clip:
    span, stored = clip.span, (CENTRE, *places_wanted(settings))
    places = dict.fromkeys(stored + places_judged(settings))
    try:
        images = list(reader.frames_at([span.start + (span.end - span.start) * place for place in places]))
    except Rejection as rejection:
        return clip.with_verdict(failed("keyframe", rejection.reason, rejection.detail))
    crop = crop_of(border, images[0])
    if crop is not None and settings.clips.crop_letterbox:
        images = [cropped(image, crop) for image in images]
    scores = overlay_scores(clip.scores.get("watermark"), dict(zip(places, images, strict=True)), settings)
    clip = clip.with_scores(**{name: round(value, 6) for name, value in scores.items()})
    keyframe, *others = (jpeg_bytes(image, KEYFRAME_QUALITY) for image in images[: len(stored)])
    stills = tuple(Still(str(place), jpeg=jpeg) for place, jpeg in zip(stored[1:], others, strict=True))
    return replace(clip, keyframe_jpeg=keyframe, stills=stills, crop=crop)


def _with_sound(clips: list[Clip], local: LocalMedia, settings: CurateSettings) -> list[Clip]:
    """The clips with what their sound says; sound that cannot be decoded is sound that is absent."""
    try:
        with MonoReader(local.path) as sound:
            return [clip if clip.verdict else _heard(clip, sound, settings) for clip in clips]
    except Rejection:
        return clips


def _heard(clip: Clip, sound: MonoReader, settings: CurateSettings) -> Clip:
    num_samples = round((clip.span.end - clip.span.start) * LOUDNESS_RATE_HZ)
    try:
        samples = sound.read(clip.span.start, num_samples, LOUDNESS_RATE_HZ)
    except Rejection:
        return clip
    if not len(samples):
        return clip
    clip = clip.with_scores(loudness_dbfs=round(loudness_dbfs(samples), 3))
    if settings.speech.enabled:
        clip = clip.with_scores(speech=round(speech_share(samples, settings.speech.threshold), 6))
    return clip


def _as_notes(notes: Counter[str]) -> tuple[str, ...]:
    """Sorted; what is counted with its number, what was made normal by its name."""
    return tuple(sorted(f"{name}:{count}" if name in _COUNTED else name for name, count in notes.items() if count))
