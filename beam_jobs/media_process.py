"""The program in which untrusted media is opened: analysis and cutting, one task after another, for its parent.

python -m beam_jobs.media_process <number of its end of the pipe>
"""

import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from beam_jobs.child import Reply, receive, send
from beam_jobs.isolation import attempt, is_fatal
from beam_jobs.record_json import from_plain, plain
from curation.analysis import analyze
from curation.settings import CurateSettings
from curation.stills import jpegs_of
from media.cut import cut_clips
from media.fetch import LocalMedia
from media.ffmpeg import ffmpeg_path
from media.probe import probe
from schemas.records import Clip, Source, Verdict
from schemas.states import Rejection

_LAST_RESORT_S = 60  # after the parent's own limit: even with the parent gone and the interpreter locked, this ends


def main(pipe: Connection) -> None:
    """Serves until the other end is closed."""
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, tasks), daemon=True).start()
    while True:
        task, timeout_s, arguments = tasks.get()
        signal.setitimer(signal.ITIMER_REAL, timeout_s + _LAST_RESORT_S)
        head, blobs = answer(task, arguments)
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(pipe, head, blobs)


def _listen(pipe: Connection, tasks: "queue.SimpleQueue[Any]") -> None:
    """Takes tasks in; ends this process, and what it has started, when nobody waits for it any more."""
    try:
        while True:
            tasks.put(receive(pipe)[0])
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


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
        path, clips, arguments["folder"], settings.clips.cut, probe(path), ffmpeg_path(settings.ffmpeg),
        settings.clips.crop_letterbox,
    )  # fmt: skip
    return ["done", [[cut.reason, cut.detail] if isinstance(cut, Rejection) else plain(cut) for cut in cuts]], []


TASKS: dict[str, Callable[[dict[str, Any]], Reply]] = {"analyze": _analyze, "cut": _cut}

if __name__ == "__main__":
    main(Connection(int(sys.argv[-1])))
