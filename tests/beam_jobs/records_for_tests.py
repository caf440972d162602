"""Small records, so that a test says only what it is about."""

import hashlib
from dataclasses import replace
from fractions import Fraction
from typing import Any

from schemas.identity import clip_id, source_id
from schemas.records import Analysis, Clip, Probe, Source, Span

TIME_BASE = Fraction(1, 1000)


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def source(uri: str = "a.mp4", **changes: Any) -> Source:
    return replace(Source(source_id(uri), uri), **changes)


def probe(**changes: Any) -> Probe:
    whole = Probe("mp4", 1000, "h264", "yuv420p", 64, 48, 10, 1, 1, 1000, 0, 4.0)
    return replace(whole, **changes)


def clip(of: Source, start_ms: int = 0, end_ms: int = 2000, content: str = "content", **changes: Any) -> Clip:
    span = Span(start_ms, end_ms, 1, 1000, (end_ms - start_ms) // 100)
    whole = Clip(
        clip_id=clip_id(sha(content), start_ms, end_ms, TIME_BASE),
        source_id=of.source_id,
        uri=of.uri,
        content_sha256=sha(content),
        span=span,
        shot_index=0,
        phash=(2**63 + 12345,),
        scores={"duration_s": span.duration_s, "height": 48.0, "width": 64.0},
    )
    return replace(whole, **changes)


def analysis(of: Source, *clips: Clip, content: str = "content") -> Analysis:
    return Analysis(of, sha(content), probe(), 40, max(1, len(clips)), clips or (clip(of),))
