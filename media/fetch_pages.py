"""Videos of web pages, by yt-dlp (extra `youtube`), which runs in a process of its own under our limits.

That process connects to public addresses only, uses no proxy, runs no script of a site, and hands nothing that it
fetched to a program which could open further addresses: `media.page_download` says how.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from media.fetch_http import Download, turn_at
from media.settings import FetchSettings
from schemas.states import Rejection

PROGRAM = "media.page_download"


def is_page(url: str, settings: FetchSettings) -> bool:
    """Whether the settings leave an address to yt-dlp."""
    return settings.pages == "always" or (settings.pages == "known" and _is_known(url))


@cache
def _is_known(url: str) -> bool:
    """Whether yt-dlp knows the site; looks at the address alone."""
    from yt_dlp.extractor import gen_extractor_classes  # takes long to import, and few runs want it

    return any(each.suitable(url) for each in gen_extractor_classes() if each.IE_NAME != "generic")


def fetch_page(url: str, target: Path, settings: FetchSettings) -> tuple[str, int]:
    """Downloads the video of a page; (sha256, bytes).

    Raises:
        Rejection: as `media.fetch.fetch`; `page_failed` with what yt-dlp says.
    """
    delay_s = Download(url, target, settings).robots_delay_s()
    with turn_at(url, delay_s, settings):
        answer = _run(url, target, settings)
    if "reason" in answer:
        raise Rejection(str(answer["reason"]), str(answer["detail"]))
    if not target.is_file():
        raise Rejection("page_failed", "yt-dlp left no video")
    size = target.stat().st_size
    if size > settings.max_bytes:
        raise Rejection("too_large", f"more than {settings.max_bytes} bytes")
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), size


def _run(url: str, target: Path, settings: FetchSettings) -> dict[str, Any]:
    """What the program answers; it ends, with all it has started, when its time is up or nobody waits for it."""
    order = {
        "url": url, "target": str(target), "max_bytes": settings.max_bytes, "retries": settings.retries,
        "private": settings.allow_private_addresses, "timeout_s": settings.timeout_s,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", PROGRAM, json.dumps(order)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        out, errors = _communicate(process, settings.timeout_s)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    try:
        return dict(json.loads(out.splitlines()[-1]))
    except (IndexError, ValueError):
        last = errors.decode(errors="replace").strip().splitlines()[-1:]
        raise Rejection("page_failed", f"yt-dlp ended without an answer {' '.join(last)}".strip()) from None


def _communicate(process: "subprocess.Popen[bytes]", timeout_s: float) -> tuple[bytes, bytes]:
    """Both outputs, without closing the input, which tells the program that it is still wanted."""
    wanted = process.stdin
    process.stdin = None
    try:
        return process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Rejection("timed_out", f"the download took more than {timeout_s:g} s") from None
    finally:
        if wanted is not None:
            wanted.close()
