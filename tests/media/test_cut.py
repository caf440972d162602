"""A cut has exactly the frames of its span at their own times, and its sound beside them."""

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media.audio import read_audio, read_audio_native
from media.cut import cut_clips
from media.cut_pass import CutPass
from media.cut_plan import plan_of
from media.cut_program import Sound
from media.decode import Frame, decode_frames
from media.ffmpeg import ffmpeg_path
from media.probe import probe
from media.settings import CutSettings
from schemas.records import Clip, CutClip, Span
from schemas.states import Rejection

Media = Callable[[str], Path]
FAST = CutSettings(preset="ultrafast", crf=10)


def clip_of(frames: Sequence[Frame], first: int, last: int, name: str = "clip") -> Clip:
    """Frames [first, last) of a whole decode; the last frame of all lasts as long as the one before."""
    base = frames[0].time_base
    end = frames[last].pts if last < len(frames) else 2 * frames[-1].pts - frames[-2].pts
    span = Span(frames[first].pts, end, base.numerator, base.denominator, last - first)
    return Clip(name, "source", "uri", "hash", span, 0)


def cut(path: Path, clips: list[Clip], folder: Path, settings: CutSettings = FAST) -> list[CutClip | Rejection]:
    return cut_clips(path, clips, folder, settings, probe(path))


def one(outcome: list[CutClip | Rejection]) -> CutClip:
    assert isinstance(outcome[0], CutClip), outcome[0]
    return outcome[0]


@pytest.mark.parametrize(
    "name",
    ["plain.mp4", "b_frames.mp4", "late.mp4", "vfr.mp4", "rot90.mp4", "rot180.mp4", "wide_pixels.mp4", "ten_bit.mp4",
     "vp9.webm", "mpeg4.avi", "ts.ts", "interlaced.mpg", "hdr.mp4", "late_sound.mkv"],
)  # fmt: skip
def test_frames_and_their_times_are_those_of_the_span(media: Media, tmp_path: Path, name: str) -> None:
    whole = list(decode_frames(media(name)))
    count = len(whole)
    bounds = [(0, count), (count // 3, count // 3 + 1), (count // 2, count - 2)]
    clips = [clip_of(whole, *pair, name=f"c{index}") for index, pair in enumerate(bounds)]
    for (first, last), outcome in zip(bounds, cut(media(name), clips, tmp_path), strict=True):
        assert isinstance(outcome, CutClip), outcome
        found = list(decode_frames(outcome.path))
        assert [f.time for f in found] == [f.time - whole[first].time for f in whole[first:last]]
        assert outcome.num_frames == len(found) == last - first
        pairs = zip(found, whole[first:last], strict=True)
        assert max(np.abs(a.image.astype(int) - b.image).mean() for a, b in pairs) < 9
        assert probe(outcome.path).rotation == 0


def test_sound_keeps_its_place_beside_the_picture(media: Media, tmp_path: Path) -> None:
    whole = list(decode_frames(media("late_sound.mkv")))
    outcome = one(cut(media("late_sound.mkv"), [clip_of(whole, 6, 24)], tmp_path))  # from 0.25 s; the tone from 0.5 s
    heard = read_audio(outcome.path, 0, 33_075, 44_100)
    onset = int(np.flatnonzero(np.abs(heard) > 0.03)[0]) / 44_100
    assert onset == pytest.approx(0.25, abs=0.004)
    assert abs(outcome.num_audio_samples - 33_075) <= 2048
    assert probe(outcome.path).audio_offset_s == pytest.approx(0, abs=0.001)


def test_the_file_lasts_as_long_as_its_span(media: Media, tmp_path: Path) -> None:
    whole = list(decode_frames(media("vfr.mp4")))
    clip = clip_of(whole, 3, 20)
    assert probe(one(cut(media("vfr.mp4"), [clip], tmp_path)).path).duration_s == pytest.approx(
        clip.span.duration_s, abs=0.005
    )


def test_equal_input_gives_equal_bytes_and_the_record_is_true(media: Media, tmp_path: Path) -> None:
    whole = list(decode_frames(media("plain.mp4")))
    first = one(cut(media("plain.mp4"), [clip_of(whole, 10, 30)], tmp_path / "a"))
    second = one(cut(media("plain.mp4"), [clip_of(whole, 0, 5, "x"), clip_of(whole, 10, 30)], tmp_path / "b")[1:])
    data = Path(first.path).read_bytes()
    assert data == Path(second.path).read_bytes()
    assert (first.num_bytes, first.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (first.width, first.height, Fraction(first.fps_num, first.fps_den)) == (64, 48, 24)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["clip.mp4"]


@pytest.mark.parametrize(
    ("name", "settings", "size", "done"),
    [
        ("odd.mkv", FAST, (62, 46), "cropped:62x46"),
        ("rot90.mp4", FAST, (48, 64), "rotated:90"),
        ("wide_pixels.mp4", FAST, (96, 48), "square_pixels:3/2"),
        ("interlaced.mpg", FAST, (64, 64), "deinterlaced"),
        ("hdr.mp4", FAST, (64, 48), "tone_mapped:pq"),
        ("plain.mp4", CutSettings(preset="ultrafast", max_side=31), (32, 24), "scaled:32x24"),
    ],
)
def test_what_was_made_normal_is_recorded(
    media: Media, tmp_path: Path, name: str, settings: CutSettings, size: tuple[int, int], done: str
) -> None:
    whole = list(decode_frames(media(name)))
    outcome = one(cut(media(name), [clip_of(whole, 1, 4)], tmp_path, settings))
    facts = probe(outcome.path)
    assert (outcome.width, outcome.height) == (facts.width, facts.height) == size
    assert outcome.done == done


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1", "libvpx-vp9"])
def test_other_encoders(media: Media, tmp_path: Path, codec: str) -> None:
    whole = list(decode_frames(media("plain.mp4")))
    presets = {"libsvtav1": "12", "libx265": "ultrafast"}
    settings = CutSettings(codec=codec, crf=30, preset=presets.get(codec, "veryfast"), audio_codec="libopus")
    outcome = one(cut(media("plain.mp4"), [clip_of(whole, 5, 12)], tmp_path, settings))
    assert (outcome.num_frames, outcome.audio_sample_rate_hz) == (7, 48_000)


def test_a_rate_of_ones_own(media: Media, tmp_path: Path) -> None:
    whole = list(decode_frames(media("vfr.mp4")))
    outcome = one(cut(media("vfr.mp4"), [clip_of(whole, 0, 22)], tmp_path, CutSettings(preset="ultrafast", fps=10)))
    times = [frame.time for frame in decode_frames(outcome.path)]
    assert times == [Fraction(k, 10) for k in range(outcome.num_frames)] and (outcome.fps_num, outcome.fps_den) == (
        10,
        1,
    )


def test_a_span_that_the_source_does_not_have_is_a_rejection(media: Media, tmp_path: Path) -> None:
    good = clip_of(list(decode_frames(media("plain.mp4"))), 0, 5, "good")
    bad = Clip("bad", "source", "uri", "hash", Span(0, 5120, 1, 12288, 11), 0)
    outcomes = cut(media("plain.mp4"), [bad, good], tmp_path)
    assert isinstance(outcomes[0], Rejection) and outcomes[0].reason == "frame_count_mismatch"
    assert isinstance(outcomes[1], CutClip)
    assert [path.name for path in tmp_path.iterdir()] == ["good.mp4"]


def test_a_source_that_cannot_be_opened_is_a_rejection(media: Media, broken: Media, tmp_path: Path) -> None:
    clip = Clip("c", "source", "uri", "hash", Span(0, 512, 1, 12288, 1), 0)
    with pytest.raises(Rejection):
        cut_clips(broken("no_header.mp4"), [clip], tmp_path, FAST, probe(media("plain.mp4")))


@pytest.mark.parametrize("name", ["plain.mp4", "b_frames.mp4", "late.mp4", "vfr.mp4", "vp9.webm", "mpeg4.avi", "ts.ts"])
def test_pictures_as_they_are_stored_are_cut_in_one_pass_as_the_program_cuts_them(
    media: Media, tmp_path: Path, name: str
) -> None:
    path, whole = media(name), list(decode_frames(media(name)))
    plan = plan_of(str(path), FAST, ffmpeg_path(), crop=False)
    assert plan.as_stored
    count = len(whole)
    bounds = [(0, 5), (5, count // 2), (count // 2 + 3, count), (2, 9)]  # the last goes back
    clips = [clip_of(whole, *pair, name=f"c{index}") for index, pair in enumerate(bounds)]
    by_program = cut_clips(path, clips, tmp_path / "program", FAST, probe(path), ffmpeg_path())
    with CutPass(plan) as one_pass:
        for clip, expected in zip(clips, by_program, strict=True):
            native = read_audio_native(path, clip.span.start, clip.span.end)
            target = tmp_path / f"{clip.clip_id}.mp4"
            one_pass.write(clip, Sound(*native) if native else None, target)
            assert isinstance(expected, CutClip)
            found, wanted = list(decode_frames(target)), list(decode_frames(expected.path))
            assert [frame.time for frame in found] == [frame.time for frame in wanted]
            pairs = zip(found, wanted, strict=True)
            assert max(np.abs(a.image.astype(int) - b.image).mean() for a, b in pairs) < 3
            assert probe(target).duration_s == pytest.approx(clip.span.duration_s, abs=0.005)


@pytest.mark.parametrize("name", ["rot90.mp4", "wide_pixels.mp4", "ten_bit.mp4", "interlaced.mpg", "hdr.mp4"])
def test_pictures_that_have_to_be_made_normal_are_for_the_program(media: Media, name: str) -> None:
    assert not plan_of(str(media(name)), FAST, ffmpeg_path(), crop=False).as_stored


def test_damage_before_a_clip_does_not_reach_it_by_way_of_another(media: Media, tmp_path: Path) -> None:
    whole = list(decode_frames(media("plain.mp4")))
    data = bytearray(media("plain.mp4").read_bytes())
    middle = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 3
    for place in range(middle, middle + 600, 7):
        data[place] ^= 0x55
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(bytes(data))
    before, after = clip_of(whole, 0, 20, "before"), clip_of(whole, 40, len(whole), "after")
    together = cut(damaged, [before, after], tmp_path / "together")[1]
    alone = cut(damaged, [after], tmp_path / "alone")[0]
    assert type(together) is type(alone)
    if isinstance(together, CutClip) and isinstance(alone, CutClip):
        assert together.sha256 == alone.sha256
