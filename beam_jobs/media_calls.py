"""Analysis and cutting as they are called from a worker: the same functions, run in a process of their own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from beam_jobs.child import CHILDREN, Reply
from beam_jobs.record_json import from_plain, plain
from curation.settings import CurateSettings
from curation.stills import with_jpegs
from media.fetch import LocalMedia
from schemas.records import Analysis, Clip, CutClip, Source
from schemas.states import Rejection

_GRACE_S = 30.0  # the decoder keeps the limit itself, between two frames; this is for the one that hangs within


def analyze(source: Source, local: LocalMedia, settings: CurateSettings) -> Analysis:
    """`curation.analysis.analyze`, apart.

    Raises:
        Rejection: as there, and `timed_out`, `decoder_died`. MemoryError, OSError: the machine's memory or disk is out.
    """
    limit_s = settings.decode.max_wall_s
    arguments = {
        "source": plain(source), "path": str(local.path), "content_sha256": local.content_sha256,
        "num_bytes": local.num_bytes, "settings": plain(settings),
    }  # fmt: skip
    value, pictures = _call("analyze", arguments, limit_s + min(limit_s, _GRACE_S))
    analysis = from_plain(Analysis, value)
    left = iter(pictures)
    return replace(analysis, clips=tuple(with_jpegs(clip, left) for clip in analysis.clips))


def cut_clips(path: str, clips: Sequence[Clip], folder: str, settings: CurateSettings) -> list[CutClip | Rejection]:
    """`media.cut.cut_clips` with these settings, apart.

    Raises:
        Rejection: as there, and `timed_out`, `decoder_died`. MemoryError, OSError: the machine's memory or disk is out.
    """
    arguments = {"path": path, "clips": plain(clips), "folder": folder, "settings": plain(settings)}
    limit_s = settings.decode.max_wall_s + sum(1200 + 240 * clip.span.duration_s for clip in clips)
    value, _ = _call("cut", arguments, limit_s)
    return [Rejection(*cut) if isinstance(cut, list) else from_plain(CutClip, cut) for cut in value]


def _call(task: str, arguments: Any, timeout_s: float) -> Reply:
    (outcome, *rest), blobs = CHILDREN.call(task, arguments, timeout_s)
    if outcome == "rejected":
        raise Rejection(*rest)
    if outcome == "fatal":
        number, text = rest
        raise MemoryError(text) if number is None else OSError(number, text)
    return rest[0], blobs
