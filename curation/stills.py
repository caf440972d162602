"""Which pictures of a clip the models see: its keyframe at the centre, and more where a setting asks for them."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

from curation.settings import CurateSettings
from schemas.records import Clip

CENTRE = Fraction(1, 2)


def middles(frames: int) -> tuple[Fraction, ...]:
    """Middles of so many equal parts of [0, 1]: 1/2; 1/4 and 3/4; 1/6, 1/2 and 5/6; …"""
    return tuple(Fraction(2 * part + 1, 2 * frames) for part in range(frames))


def places_wanted(settings: CurateSettings) -> tuple[Fraction, ...]:
    """Where in each clip pictures are taken besides the centre, in order of time."""
    counts = [
        settings.caption.frames if settings.caption.model else 1,
        settings.clip_score.frames if settings.clip_score.model else 1,
        settings.aesthetic.frames if settings.aesthetic.head and settings.aesthetic.model else 1,
        settings.nsfw.frames if settings.nsfw.enabled else 1,
    ]
    return tuple(sorted({place for count in counts for place in middles(count)} - {CENTRE}))


def pictures_at(clip: Clip, frames: int) -> tuple[str, ...]:
    """sha256 of the pictures for a model that sees so many; one that could not be decoded is left out."""
    known = {str(CENTRE): clip.keyframe_sha256, **{still.place: still.sha256 for still in clip.stills}}
    return tuple(sha256 for place in middles(frames) if (sha256 := known.get(str(place))))


def jpegs_of(clip: Clip) -> list[bytes]:
    """Every picture that the clip still carries, the keyframe first."""
    return [clip.keyframe_jpeg, *(still.jpeg for still in clip.stills)]


def with_jpegs(clip: Clip, jpegs: Iterator[bytes]) -> Clip:
    """The clip with its pictures, taken from the front of all that there are; inverse of `jpegs_of`."""
    keyframe = next(jpegs)
    stills = tuple(replace(still, jpeg=next(jpegs)) for still in clip.stills)
    return replace(clip, keyframe_jpeg=keyframe, stills=stills)


def all_sha256(clips: Iterable[Clip]) -> set[str]:
    """Names of all pictures of these clips."""
    return {sha for clip in clips for sha in (clip.keyframe_sha256, *(still.sha256 for still in clip.stills)) if sha}
