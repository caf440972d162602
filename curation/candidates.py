"""Candidate clips: from stretches of frames to records with an id, scores and, where they are too short, a verdict."""

from collections.abc import Sequence
from dataclasses import replace

from curation.settings import ClipSettings
from schemas.identity import clip_id
from schemas.records import Caption, Clip, Source, Span, Verdict
from schemas.states import ClipState

CAPTION_SCORES = ("caption_words", "caption_repetition")


def candidate(source: Source, content_sha256: str, span: Span, shot_index: int, settings: ClipSettings) -> Clip:
    """A clip that knows its span, its id and what the manifest says of its source.

    One shorter than `min_duration_s` already has its verdict, `filtered(shots, too_short)`.
    """
    clip = Clip(
        clip_id=clip_id(content_sha256, span.start_pts, span.end_pts, span.time_base),
        source_id=source.source_id, uri=source.uri, content_sha256=content_sha256, span=span, shot_index=shot_index,
        scores={"duration_s": span.duration_s}, license=source.license, extra=source.extra,
    )  # fmt: skip
    if source.caption:
        clip = with_caption(clip, Caption(source.caption, "manifest", "ok"))
    if span.duration_s < settings.min_duration_s:
        too_short = Verdict(ClipState.FILTERED, "shots", "too_short", span.duration_s, settings.min_duration_s)
        clip = clip.with_verdict(too_short)
    return clip


def with_caption(clip: Clip, caption: Caption) -> Clip:
    """The clip with a caption and what its words alone say about it as scores."""
    words = caption.text.lower().split()
    return replace(clip, caption=caption).with_scores(
        caption_words=float(len(words)), caption_repetition=round(repetition(words), 6)
    )


def repetition(words: Sequence[str]) -> float:
    """Share in [0, 1] of the 2-, 3- or 4-word phrases that repeat an earlier one; of the three, the greatest.

    A caption in which a model got caught (`a dog and a dog and a dog and`) is above one half; good ones are below 0.3.
    """
    shares = [0.0]
    for length in (2, 3, 4):
        phrases = [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]
        if phrases:
            shares.append(1 - len(set(phrases)) / len(phrases))
    return max(shares)
