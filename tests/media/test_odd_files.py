"""Every odd real file gives frames or a true reason: none crashes, hangs or passes for what it is not."""

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media.audio import read_audio
from media.cut import cut_clips
from media.decode import decode_frames
from media.probe import probe
from media.settings import CutSettings
from media.windows import FrameReader
from schemas.records import Clip, CutClip, Span
from schemas.states import Rejection

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Odd:
    """What is true of one file: displayed size, frames, first and last timestamp, what was made normal."""

    name: str
    size: tuple[int, int]  # width, height
    num_frames: int
    first_s: Fraction
    last_s: Fraction
    notes: frozenset[str] = frozenset()
    audio_codec: str | None = None


def _odd(
    name: str, width: int, height: int, frames: int, first: str, last: str, notes: str = "", audio: str | None = None
) -> Odd:
    return Odd(name, (width, height), frames, Fraction(first), Fraction(last), frozenset(notes.split()), audio)


FILES = (
    _odd("ax_bbb_642x642_768kbps_30fps_vp9.webm", 642, 642, 90, "0", "1483333333/500000000", "", None),
    _odd(
        "ax_bbb_800x640_768kbps_30fps_avc_2b_firstpts_10_sec.mp4",
        1137,
        640,
        120,
        "10",
        "419/30",
        "square_pixels:1137/800",
        None,
    ),
    _odd("ax_bear-vp9-odd-dimensions.webm", 161, 121, 30, "0", "121/125", "", None),
    _odd("ax_bear-vp9.webm", 320, 240, 82, "0", "2703/1000", "", None),
    _odd("ax_bt601.mov", 640, 428, 30, "0", "29029/30000", "", "aac"),
    _odd("ax_hdr10-video-with-sdr-container.mp4", 1920, 1080, 28, "0", "9841/10000", "tone_mapped:pq", "aac"),
    _odd("ax_hlg10-color-test.mp4", 1920, 1080, 9, "0", "3001/11250", "tone_mapped:hlg", "aac"),
    _odd("ax_long_180p_av1.mp4", 320, 180, 21766, "0", "1451/4", "", "aac"),
    _odd("ax_sample.avi", 960, 400, 96, "0", "97097/24000", "", "mp3"),
    _odd("ax_sample.flv", 1080, 720, 30, "67/1000", "517/500", "", "aac"),
    _odd("ax_sample_android_slow_motion.mp4", 1280, 720, 7, "0", "44281/90000", "", None),
    _odd("ax_sample_empty_track.mp4", 1080, 720, 30, "0", "43543/45000", "", "aac"),
    _odd("ax_sample_fragmented.mp4", 1080, 720, 30, "1001/15000", "31031/30000", "", "aac"),
    _odd("ax_sample_mdat_too_long.mp4", 1080, 720, 30, "0", "29029/30000", "", "aac"),
    _odd("ax_sample_missing_stsd.mp4", 1080, 720, 30, "0", "29029/30000", "", None),
    _odd("ax_sample_rotate_and_reflect.mp4", 720, 1080, 30, "0", "29029/30000", "mirrored rotated:270", "aac"),
    _odd("ax_sample_vvc.mp4", 320, 180, 120, "0", "119/24", "", None),
    _odd("ax_sample_with_increasing_timestamps_320w_240h_5s.mp4", 320, 240, 300, "0", "299/60", "", "aac"),
    _odd("ax_sample_with_srt.mkv", 1080, 720, 30, "0", "967/1000", "", "ac3"),
    _odd("ax_sample_without_stss.mp4", 1080, 720, 30, "0", "29029/30000", "", None),
    _odd("ax_silent-black-10s.mp4", 320, 240, 300, "0", "299/30", "", "aac"),
    _odd("decord_unordered.mov", 50, 50, 4, "0", "3/32", "", None),
    _odd("decord_video_0.mov", 568, 320, 3, "0", "1/15", "", None),
    _odd("decord_video_180.mov", 568, 320, 3, "0", "1/15", "rotated:180", None),
    _odd("decord_video_90.mov", 320, 568, 3, "0", "1/15", "rotated:90", None),
    _odd("fire2_rot180_vfr.mp4", 1280, 720, 25, "0", "102593/45000", "rotated:180", "aac"),
    _odd("made_bitflips.mp4", 720, 480, 240, "0", "8", "decode_errors", "aac"),
    _odd("made_exact_duplicate.mp4", 720, 480, 241, "0", "8", "", "aac"),
    _odd("made_frozen.mp4", 320, 214, 90, "0", "89/30", "", None),
    _odd("made_hdr10.mp4", 320, 214, 60, "0", "59/30", "tone_mapped:pq", None),
    _odd("made_interlaced.mpg", 1024, 576, 75, "27/50", "7/2", "deinterlaced square_pixels:64/45", "mp2"),
    _odd("made_letterbox.mp4", 480, 480, 241, "0", "8", "", None),
    _odd("made_mono_8k.mp4", 854, 480, 98, "0", "33/8", "", "aac"),
    _odd("made_no_audio.mp4", 720, 480, 241, "0", "8", "", None),
    _odd("made_odd_dims.mkv", 319, 181, 30, "0", "967/1000", "", None),
    _odd("made_one_frame.mp4", 720, 480, 1, "0", "0", "", None),
    _odd("made_reencoded_duplicate.mp4", 360, 240, 241, "0", "8", "", None),
    _odd("made_rot90.mp4", 480, 720, 241, "0", "8", "rotated:270", "aac"),
    _odd("made_truncated_faststart.mp4", 720, 480, 16, "0", "1/2", "decode_errors truncated", "aac"),
    _odd("made_truncated_no_moov.mp4", 720, 480, 17, "0", "8/15", "decode_errors truncated", "aac"),
    _odd("made_vfr.mp4", 720, 480, 133, "0", "8", "", None),
    _odd("mdn_elf_vp8.webm", 720, 480, 241, "0", "8", "", "vorbis"),
    _odd("mdn_flower_fragmented.mp4", 960, 540, 150, "1001/15000", "151151/30000", "", "aac"),
    _odd("no_duration.webm", 1280, 720, 74, "0", "609/125", "", "opus"),
    _odd("tc_av1_video.mkv", 640, 360, 125, "0", "124/25", "", None),
    _odd("tc_h264_10bits.mp4", 200, 200, 30, "0", "29/30", "", None),
    _odd("ünï cödé näme (1) #x.mp4", 720, 480, 30, "0", "29/30", "", "aac"),
)

REASONS = {
    "ax_sample_audio_only_15s.mp4": "no_video_stream",
    "ax_sample_malformed_free_box.mp4": "damaged_container",
    "made_audio_only.mp4": "no_video_stream",
    "made_html_error_page.mp4": "not_media",
    "made_not_a_video.mp4": "not_media",
    "made_zero_byte.mp4": "empty_file",
}

DAMAGED = {"made_bitflips.mp4", "made_truncated_faststart.mp4", "made_truncated_no_moov.mp4"}
TOO_LONG_FOR_FULL_SIZE = {"ax_long_180p_av1.mp4", "ax_hdr10-video-with-sdr-container.mp4"}


def test_the_table_names_every_file(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "odd").iterdir()} == {odd.name for odd in FILES} | set(REASONS)


@pytest.mark.parametrize("odd", FILES, ids=lambda odd: odd.name)
def test_frames(shared_data: Path, odd: Odd) -> None:
    path, notes = shared_data / "odd" / odd.name, Counter[str]()
    facts = probe(path)
    frames = [(frame.time, frame.image.shape) for frame in decode_frames(path, max_side=64, notes=notes)]
    times = [time for time, _ in frames]
    assert ((facts.width, facts.height), facts.audio_codec) == (odd.size, odd.audio_codec)
    assert (len(times), times[0], times[-1], set(notes)) == (odd.num_frames, odd.first_s, odd.last_s, odd.notes)
    assert times == sorted(set(times)) and times[0] == facts.start_pts * Fraction(
        facts.time_base_num, facts.time_base_den
    )
    assert len({shape for _, shape in frames}) == 1 and max(frames[0][1]) <= 64


@pytest.mark.parametrize("name", REASONS)
def test_reasons(shared_data: Path, name: str) -> None:
    for read in (probe, lambda path: next(decode_frames(path)), FrameReader):
        with pytest.raises(Rejection) as caught:
            read(shared_data / "odd" / name)
        assert caught.value.reason == REASONS[name]


@pytest.mark.parametrize(
    "odd", [odd for odd in FILES if odd.name not in TOO_LONG_FOR_FULL_SIZE], ids=lambda odd: odd.name
)
def test_random_access_and_cuts_agree_with_decoding_in_order(shared_data: Path, tmp_path: Path, odd: Odd) -> None:
    path = shared_data / "odd" / odd.name
    first = odd.num_frames // 2
    last = min(odd.num_frames, first + 6)
    frames = list(decode_frames(path, end_s=None if last == odd.num_frames else _time_of(path, last)))[first:]
    reader = FrameReader(path, use_decord=odd.name not in DAMAGED)
    middle = frames[len(frames) // 2]
    assert odd.name in DAMAGED or np.array_equal(reader.frames_at([middle.time])[0], middle.image)
    facts, base = probe(path), frames[0].time_base
    end = _time_of(path, last) / base if last < odd.num_frames else frames[-1].pts + 1
    clip = Clip("c", "s", "u", "h", Span(frames[0].pts, int(end), base.numerator, base.denominator, len(frames)), 0)
    outcome = cut_clips(path, [clip], tmp_path, CutSettings(preset="ultrafast"), facts)[0]
    assert isinstance(outcome, CutClip), outcome
    found = [frame.time for frame in decode_frames(outcome.path, max_side=64)]
    assert found == [frame.time - frames[0].time for frame in frames]
    assert len(read_audio(path, frames[0].time, 800, 8000)) == (0 if odd.audio_codec is None else 800)


def _time_of(path: Path, position: int) -> Fraction:
    """Time of a frame by its position among those that can be decoded."""
    return next(frame.time for frame in decode_frames(path, max_side=16) if frame.index == position)
