"""Media from anywhere to a local file, within limits of size, time, redirects and addresses."""

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from media import storage
from media.fetch_http import Download
from media.fetch_pages import fetch_page, is_page
from media.settings import FetchSettings
from schemas.identity import fingerprint
from schemas.states import Rejection


@dataclass(frozen=True)
class LocalMedia:
    """A file of this machine and the hash of its bytes."""

    path: Path
    content_sha256: str
    num_bytes: int


def fetch(uri: str, scratch: Path, settings: FetchSettings) -> LocalMedia:
    """The media at a local path, `file:`, http(s) or fsspec URL as a local file.

    Local files are used where they lie. Downloads go on where they broke off, as the server's ranges allow.

    Args:
        scratch: folder for downloads; whoever called removes what is in it.

    Raises:
        Rejection: `not_found`, `not_media` (a folder or device), `unreadable`, `too_large`, `timed_out`,
            `unreachable`, `forbidden_address`, `too_many_redirects`, `unsupported_url`, `incomplete`,
            `robots_disallowed`, `robots_unavailable`, `busy_host`, `noai`, `page_failed`, or `http_<status>`.
    """
    if uri.startswith(("http://", "https://")):
        scratch.mkdir(parents=True, exist_ok=True)
        target = scratch / file_name(uri)
        sha256, size = (fetch_page if is_page(uri, settings) else _download)(uri, target, settings)
        return LocalMedia(target, sha256, size)
    if storage.is_local(uri):
        return _in_place(Path(_local_name(uri)), settings)
    return _from_store(uri, scratch, settings)


def _download(url: str, target: Path, settings: FetchSettings) -> tuple[str, int]:
    return Download(url, target, settings).run()


def _local_name(uri: str) -> str:
    return unquote(urlsplit(uri).path) if uri.startswith("file://") else uri


def file_name(uri: str) -> str:
    """A name of our own making: nothing of the server's reaches the disk but a short, plain suffix."""
    suffix = Path(urlsplit(uri).path).suffix
    plain = suffix if suffix[1:].isalnum() and len(suffix) <= 6 else ""
    return fingerprint("download", uri)[:20] + plain


def _in_place(path: Path, settings: FetchSettings) -> LocalMedia:
    try:
        if path.is_dir():
            raise Rejection("not_media", f"{path} is a folder")
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for, a device read without end
            raise Rejection("not_media", f"{path} is no regular file")
        size = state.st_size
        if size > settings.max_bytes:
            raise Rejection("too_large", f"{size} bytes are over the limit of {settings.max_bytes}")
        return LocalMedia(path, _sha256(path), size)
    except FileNotFoundError:
        raise Rejection("not_found", f"no file {path}") from None
    except OSError as error:
        raise Rejection("unreadable", f"{path}: {error.strerror or error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_store(uri: str, scratch: Path, settings: FetchSettings) -> LocalMedia:
    """A copy of an object in a store that fsspec knows."""
    local = scratch / file_name(uri)
    try:
        size = storage.size(uri)
        if size > settings.max_bytes:
            raise Rejection("too_large", f"{size} bytes are over the limit of {settings.max_bytes}")
        storage.get_file(uri, local)
    except FileNotFoundError:
        raise Rejection("not_found", f"no object {uri}") from None
    except (ImportError, ValueError) as error:
        raise Rejection("unsupported_url", f"{uri}: {error}") from error
    except OSError as error:
        raise Rejection("unreachable", f"{uri}: {error}") from error
    return LocalMedia(local, _sha256(local), local.stat().st_size)
