"""Clips to files of their own: exactly the frames of the span, upright and progressive, sound on the same timeline."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path

import av

from media import storage
from media.audio import read_audio_native
from media.containers import audio_stream, open_container, video_stream
from media.cut_pass import CutPass, can_encode_here
from media.cut_plan import CutPlan, plan_of
from media.cut_program import Sound, own_rate, seek_points, write_by_program
from media.ffmpeg import ffmpeg_path
from media.settings import CutSettings
from schemas.records import Clip, CutClip, Probe
from schemas.states import Rejection

_CODEC_FRAME = 2048  # samples by which an encoder's padding may differ (AAC 1024, twice that with SBR)

log = logging.getLogger(__name__)

_Write = Callable[[Path], None]


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
    it gets its name: as many frames as the span has, as many samples as last as long. Equal input gives equal bytes,
    whichever clips are cut together.

    Pictures that are stored as they are shown are decoded once for all clips and encoded in this process; all others
    are a matter for the ffmpeg program, one clip after another.

    Args:
        ffmpeg: a program to cut with, whatever the pictures; None is that of the imageio-ffmpeg wheel where needed.
        crop_letterbox: writes only the rectangle that a clip's `crop` names, where it has one.

    Returns:
        One entry for each clip, in order. Reasons: `frame_count_mismatch`, `sample_count_mismatch`,
        `picture_too_small`, `ffmpeg_failed`, `ffmpeg_timed_out`.

    Raises:
        Rejection: the source cannot be opened at all.
    """
    plan = plan_of(str(path), settings, ffmpeg_path(ffmpeg), crop_letterbox)
    Path(folder).mkdir(parents=True, exist_ok=True)
    first_s = Fraction(probe.start_pts) * Fraction(probe.time_base_num, probe.time_base_den)
    outcomes: dict[int, CutClip | Rejection] = {}
    with ExitStack() as stack:
        one_pass = stack.enter_context(CutPass(plan)) if plan.as_stored and ffmpeg is None else None
        for index, clip in sorted(enumerate(clips), key=lambda each: each[1].span.start):
            try:
                outcomes[index] = _cut(plan, clip, Path(folder), first_s, one_pass)
            except Rejection as rejection:
                outcomes[index] = rejection
    return [outcomes[index] for index in range(len(clips))]


def _cut(plan: CutPlan, clip: Clip, folder: Path, first_s: Fraction, one_pass: CutPass | None) -> CutClip:
    window = plan.window(clip)
    if min(window.height, window.width) < 2:
        raise Rejection("picture_too_small", f"{plan.size[1]}x{plan.size[0]} has no even size of 2 pixels or more")
    if not (plan.is_whole(window) and can_encode_here(plan.settings, None)):
        one_pass = None
    sound = _sound(plan, clip)
    with tempfile.TemporaryDirectory(prefix=".cut-", dir=folder) as scratch:
        target = Path(scratch) / "clip.mp4"
        num_frames, num_samples, rate = _written(plan, clip, target, _ways(plan, clip, first_s, sound, one_pass))
        _verify(plan, clip, num_frames, num_samples, rate)
        final = folder / f"{clip.clip_id}.mp4"
        data = target.read_bytes()
        storage.move_file_atomic(target, final)
    fps = own_rate(plan.settings) if plan.settings.fps else _average_fps(clip)
    cropped = [] if plan.is_whole(window) else [f"cropped:{window.width}x{window.height}"]
    lost = ["sound_lost"] if plan.has_audio and sound is None else []
    return CutClip(
        clip_id=clip.clip_id, path=str(final), num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
        num_frames=num_frames, width=window.width, height=window.height, fps_num=fps.numerator, fps_den=fps.denominator,
        num_audio_samples=num_samples, audio_sample_rate_hz=rate, done=",".join([*plan.done, *cropped, *lost]),
    )  # fmt: skip


def _ways(
    plan: CutPlan, clip: Clip, first_s: Fraction, sound: Sound | None, one_pass: CutPass | None
) -> Iterator[tuple[_Write, bool]]:
    """(what writes the clip, whether it is the last resort), in the order to try."""
    if one_pass is not None and can_encode_here(plan.settings, sound):
        yield partial(one_pass.write, clip, sound), False
    *others, last = seek_points(clip, first_s)
    yield from ((partial(write_by_program, plan, clip, seek, sound), False) for seek in others)
    yield partial(write_by_program, plan, clip, last, sound), True


def _written(
    plan: CutPlan, clip: Clip, target: Path, ways: Iterator[tuple[_Write, bool]]
) -> tuple[int, int, int | None]:
    """`_count` of the clip, written in the first way that gives it its frames, or in the last."""
    for write, last in ways:
        try:
            write(target)
            counts = _count(target)
        except Rejection as rejection:
            if last:
                raise
            log.info("%s: %s; the next way is tried", clip.clip_id, rejection)
            continue
        if last or counts[0] == _expected_frames(plan, clip, counts[0]):
            return counts
    raise AssertionError("unreachable")


def _average_fps(clip: Clip) -> Fraction:
    """Frames ÷ seconds of the span: exact for a constant rate."""
    return Fraction(clip.span.num_frames) / (clip.span.end - clip.span.start)


def _sound(plan: CutPlan, clip: Clip) -> Sound | None:
    """The span's own samples; None without sound or where it cannot be decoded."""
    if not plan.has_audio:
        return None
    try:
        native = read_audio_native(plan.path, clip.span.start, clip.span.end)
    except Rejection:
        return None
    return None if native is None or native[0].shape[1] == 0 else Sound(*native)


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


def _expected_frames(plan: CutPlan, clip: Clip, found: int) -> int:
    """As many as the span has; at a rate of one's own, as many as last as long, to within one."""
    if plan.settings.fps is None:
        return clip.span.num_frames
    expected = round(clip.span.duration_s * plan.settings.fps)
    return found if abs(found - expected) <= 1 and found > 0 else max(expected, 1)


def _verify(plan: CutPlan, clip: Clip, num_frames: int, num_samples: int, rate: int | None) -> None:
    expected = _expected_frames(plan, clip, num_frames)
    if num_frames != expected:
        raise Rejection("frame_count_mismatch", f"the cut has {num_frames} frames, its span {expected}")
    if rate is None:
        return
    wanted = round((clip.span.end - clip.span.start) * rate)
    if abs(num_samples - wanted) > _CODEC_FRAME:
        raise Rejection("sample_count_mismatch", f"the cut has {num_samples} samples of sound, its span {wanted}")
