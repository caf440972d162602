"""The program that runs yt-dlp: one page, one file, one line of JSON as its answer.

python -m media.page_download '{"url": …, "target": …, "max_bytes": …, "timeout_s": …, "retries": …, "private": false}'
"""

import json
import os
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from media.containers import DEMUXERS
from media.fetch_addresses import public_addresses
from media.ffmpeg import PROTOCOLS, ffmpeg_path
from schemas.states import Rejection

_FORMATS = "bv*[protocol^=http]+ba[protocol^=http]/b[protocol^=http]"  # no playlists, which ffmpeg would open


def main(order: dict[str, Any]) -> dict[str, str]:
    """Downloads; what went wrong, or nothing."""
    sys.modules["curl_cffi"] = None  # type: ignore[assignment]  # it would connect past the guard below
    os.environ["YTDLP_NO_PLUGINS"] = "1"
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["max_bytes"] + 1, order["max_bytes"] + 1))
    refused: list[Rejection] = []
    if not order["private"]:
        _guard(refused)
    import yt_dlp

    try:
        with yt_dlp.YoutubeDL(_options(order)) as downloader:
            downloader.download([order["url"]])
    except (Rejection, yt_dlp.utils.YoutubeDLError) as error:
        if refused:  # it is told of in other words by then
            return {"reason": refused[0].reason, "detail": refused[0].detail}
        return {"reason": "page_failed", "detail": " ".join(str(error).split())[:300]}
    return {}


def _guard(refused: list[Rejection]) -> None:
    """Has every connection of this process resolve to public addresses, or to none; notes what was refused."""
    resolve = socket.getaddrinfo

    def guarded(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        infos = resolve(host, port, *args, **kwargs)
        try:
            public_addresses(str(host), 0, lambda *_, **__: infos)
        except Rejection as rejection:
            refused.append(rejection)
            raise
        return infos

    socket.getaddrinfo = guarded


def _options(order: dict[str, Any]) -> dict[str, Any]:
    local_only = ["-protocol_whitelist", PROTOCOLS, "-format_whitelist", DEMUXERS]
    return {
        "format": _FORMATS, "outtmpl": {"default": order["target"].replace("%", "%%")}, "noplaylist": True,
        "playlist_items": "1", "match_filter": _no_live, "max_filesize": order["max_bytes"],
        "socket_timeout": min(60.0, order["timeout_s"]), "retries": order["retries"],
        "fragment_retries": order["retries"], "extractor_retries": order["retries"],
        "proxy": "", "cachedir": False, "js_runtimes": {}, "fixup": "never", "quiet": True, "no_warnings": True,
        "noprogress": True, "logtostderr": True, "merge_output_format": "mkv", "final_ext": None,
        "ffmpeg_location": ffmpeg_path(), "postprocessor_args": {"ffmpeg_i": local_only},
    }  # fmt: skip


def _no_live(info: dict[str, Any], *, incomplete: bool = False) -> str | None:
    return "it is live" if info.get("is_live") else None


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = json.loads(sys.argv[1])
    found = main(task)
    merged = Path(task["target"] + ".mkv")  # yt-dlp adds what it merges into
    if merged.is_file():
        merged.replace(task["target"])
    print(json.dumps(found))
