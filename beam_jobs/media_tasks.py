"""Analysis and cutting as tasks for the process in which untrusted media is opened: JSON in, JSON and JPEG out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from beam_jobs.child import Reply
from beam_jobs.isolation import attempt, is_fatal
from beam_jobs.record_json import from_plain, plain
from curation.analysis import analyze
from curation.settings import CurateSettings
from curation.stills import jpegs_of
from media.cut import cut_clips
from media.fetch import LocalMedia
from media.probe import probe
from schemas.records import Clip, Source, Verdict
from schemas.states import Rejection


def answer(task: str, arguments: Any) -> Reply:
    """What a task comes to: ["done", …], ["rejected", reason, detail], or ["fatal", errno, text]."""
    try:
        outcome = attempt(task, lambda: TASKS[task](arguments))
    except (MemoryError, OSError) as error:
        if not is_fatal(error):
            raise
        return ["fatal", getattr(error, "errno", None), str(error)], []
    return (["rejected", outcome.reason, outcome.detail], []) if isinstance(outcome, Verdict) else outcome


def _analyze(arguments: dict[str, Any]) -> Reply:
    local = LocalMedia(Path(arguments["path"]), arguments["content_sha256"], arguments["num_bytes"])
    found = analyze(from_plain(Source, arguments["source"]), local, from_plain(CurateSettings, arguments["settings"]))
    return ["done", plain(found)], [jpeg for clip in found.clips for jpeg in jpegs_of(clip)]


def _cut(arguments: dict[str, Any]) -> Reply:
    clips = [from_plain(Clip, clip) for clip in arguments["clips"]]
    settings, path = from_plain(CurateSettings, arguments["settings"]), arguments["path"]
    cuts = cut_clips(
        path, clips, arguments["folder"], settings.clips.cut, probe(path), settings.ffmpeg,
        settings.clips.crop_letterbox,
    )  # fmt: skip
    return ["done", [[cut.reason, cut.detail] if isinstance(cut, Rejection) else plain(cut) for cut in cuts]], []


TASKS: dict[str, Callable[[dict[str, Any]], Reply]] = {"analyze": _analyze, "cut": _cut}
