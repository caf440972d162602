"""Analysis and cutting as they are called from a worker: the same functions, run in a process of their own."""

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import replace
from itertools import accumulate, chain, groupby
from operator import itemgetter
from typing import Any

from apache_beam.utils.thread_pool_executor import shared_unbounded_instance

from beam_jobs.child import CHILDREN, Reply
from beam_jobs.record_json import from_plain, plain
from curation.settings import CurateSettings
from curation.stills import with_jpegs
from media.fetch import LocalMedia
from schemas.records import Analysis, Clip, CutClip, Source
from schemas.states import Rejection

_PART_S, _PARTS_EACH = 8.0, 2  # least length of a part, for which a source is opened anew, and most parts for each core
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
    """`media.cut.cut_clips` with these settings, apart; in several parts at once where this caller may have the cores.

    Raises:
        Rejection: as there, and `timed_out`, `decoder_died`. MemoryError, OSError: the machine's memory or disk is out.
    """
    pool = shared_unbounded_instance()  # its threads keep no command from ending
    begun = [pool.submit(_cut_part, path, part, folder, settings) for part in parts_of(clips, CHILDREN.for_one)]
    wait(begun)
    return list(chain.from_iterable(part.result() for part in begun))


def parts_of(clips: Sequence[Clip], at_once: int) -> list[Sequence[Clip]]:
    """The clips in order, as parts that last about equally long; one where not several are cut at once."""
    lengths_s = [clip.span.duration_s for clip in clips]
    total_s = sum(lengths_s)
    num_parts = min(_PARTS_EACH * at_once, int(total_s / _PART_S)) if at_once > 1 else 1
    if num_parts <= 1:
        return [clips]
    ends_s = accumulate(lengths_s)
    of = [int((end_s - length_s / 2) * num_parts / total_s) for end_s, length_s in zip(ends_s, lengths_s, strict=True)]
    return [[clip for _, clip in part] for _, part in groupby(zip(of, clips, strict=True), key=itemgetter(0))]


def _cut_part(path: str, clips: Sequence[Clip], folder: str, settings: CurateSettings) -> list[CutClip | Rejection]:
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
