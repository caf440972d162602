"""Media from anywhere to a local file, within limits of size, time, redirects and addresses."""

import hashlib
import ipaddress
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpcore
import httpx
import tenacity

from media import storage
from media.settings import FetchSettings
from schemas.identity import fingerprint
from schemas.states import Rejection

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_PAUSE_S = 30.0


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
        Rejection: `not_found`, `not_media` (a folder), `unreadable`, `too_large`, `timed_out`, `unreachable`,
            `forbidden_address`, `too_many_redirects`, `unsupported_url`, `incomplete`, or `http_<status>`.
    """
    if uri.startswith(("http://", "https://")):
        scratch.mkdir(parents=True, exist_ok=True)
        return _Download(uri, scratch / file_name(uri), settings).run()
    if storage.is_local(uri):
        return _in_place(Path(_local_name(uri)), settings)
    return _from_store(uri, scratch, settings)


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
        size = path.stat().st_size
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


class _PublicBackend(httpcore.SyncBackend):
    """Connects to public addresses only, and to the very address it checked: a second DNS answer changes nothing."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: object = None,
    ) -> httpcore.NetworkStream:
        address = public_address(host, port)
        return super().connect_tcp(address, port, timeout, local_address, socket_options)  # type: ignore[arg-type]


def public_address(host: str, port: int) -> str:
    """The first address of the host, all of which must be public.

    Raises:
        Rejection: `forbidden_address` for private, loopback, link-local and other special ranges; `unreachable`.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Rejection("unreachable", f"{host} has no address: {error}") from error
    addresses = [str(info[4][0]) for info in infos]
    for address in addresses:
        ip = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(ip, "ipv4_mapped", None)
        if not (mapped or ip).is_global or ip.is_multicast:
            raise Rejection(
                "forbidden_address",
                f"{host} is {address}, which is not a public address; fetch.allow_private_addresses permits it",
            )
    return addresses[0]


class _Again(Exception):
    """A failure that may pass; carries the rejection it becomes when it does not."""

    def __init__(self, rejection: Rejection, pause_s: float = 0.0):
        super().__init__(str(rejection))
        self.rejection, self.pause_s = rejection, pause_s


class _Download:
    """One http(s) download, resumed across attempts."""

    def __init__(self, url: str, target: Path, settings: FetchSettings):
        self.url, self.target, self.settings = url, target, settings
        self.deadline = time.monotonic() + settings.timeout_s
        self.digest = hashlib.sha256()
        self.received, self.total = 0, None  # type: int, int | None
        self.validator: str | None = None  # ETag or date of what has been received so far

    def run(self) -> LocalMedia:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.settings.retries + 1),
            wait=self._pause,
            retry=tenacity.retry_if_exception_type(_Again),
            reraise=True,
        )
        try:
            with self._client() as client:
                retrying(self._attempt, client)
        except _Again as failure:
            raise failure.rejection from failure
        return LocalMedia(self.target, self.digest.hexdigest(), self.received)

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: what the server asks for, else doubling; within the time that is left."""
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.pause_s if isinstance(failure, _Again) else 0.0
        wanted = max(asked, 0.25 * 2**state.attempt_number)
        return max(0.0, min(wanted, _MAX_PAUSE_S, self.deadline - time.monotonic()))

    def _client(self) -> httpx.Client:
        transport = httpx.HTTPTransport(trust_env=False)
        if not self.settings.allow_private_addresses:
            transport._pool = httpcore.ConnectionPool(network_backend=_PublicBackend())
        timeout = httpx.Timeout(min(60.0, self.settings.timeout_s))
        headers = {"User-Agent": "reelmill", "Accept-Encoding": "identity"}
        return httpx.Client(transport=transport, timeout=timeout, headers=headers, trust_env=False)

    def _attempt(self, client: httpx.Client) -> None:
        url = self.url
        try:
            for _ in range(self.settings.max_redirects + 1):
                self._check_time()
                with client.stream("GET", url, headers=self._range()) as response:
                    if response.status_code not in _REDIRECTS:
                        self._receive(response)
                        return
                    url = urljoin(url, response.headers.get("location", ""))
                    if not url.startswith(("http://", "https://")):
                        raise Rejection("unsupported_url", f"redirected to {url.split(':')[0]}:, which is not http")
        except httpx.TimeoutException as error:
            raise _Again(Rejection("timed_out", f"{_host(url)} does not answer in time")) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
            raise Rejection("unsupported_url", str(error)) from error
        except httpx.TransportError as error:
            raise _Again(Rejection("unreachable", f"{_host(url)}: {error}")) from error
        raise Rejection("too_many_redirects", f"more than {self.settings.max_redirects} redirects")

    def _range(self) -> dict[str, str]:
        if not self.received or not self.validator:
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self.validator}

    def _receive(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in _RETRIED:
            raise _Again(Rejection(f"http_{status}", f"{_host(self.url)} answers {status}"), _retry_after(response))
        if status not in (200, 206):
            raise Rejection(f"http_{status}", f"{_host(self.url)} answers {status} {response.reason_phrase}".rstrip())
        resumed = status == 206 and response.headers.get("content-range", "").startswith(f"bytes {self.received}-")
        if status == 206 and not resumed:
            self._restart()
            raise _Again(Rejection("incomplete", "the server answers with another range than was asked for"))
        if not resumed:
            self._restart()
            self.validator = _validator(response)
        length = response.headers.get("content-length", "")
        self.total = self.received + int(length) if length.isdigit() else None
        self._check_size(self.total or 0)
        with self.target.open("ab") as file:
            for block in response.iter_raw():  # as it arrives, so that a trickle meets the deadline
                self._check_size(self.received + len(block))
                file.write(block)
                self.digest.update(block)
                self.received += len(block)
                self._check_time()
        if self.total is not None and self.received < self.total:
            raise _Again(Rejection("incomplete", f"{self.received} of {self.total} bytes arrived"))

    def _restart(self) -> None:
        self.received, self.digest, self.validator = 0, hashlib.sha256(), None
        self.target.unlink(missing_ok=True)

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.settings.max_bytes:
            raise Rejection("too_large", f"more than {self.settings.max_bytes} bytes")

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise Rejection("timed_out", f"the download took more than {self.settings.timeout_s:g} s")


def _validator(response: httpx.Response) -> str | None:
    """What says that a later answer is the same object; weak tags do not."""
    tag = str(response.headers.get("etag", ""))
    return tag if tag and not tag.startswith("W/") else response.headers.get("last-modified")


def _retry_after(response: httpx.Response) -> float:
    with suppress(ValueError):
        return max(0.0, float(response.headers.get("retry-after", "0")))
    return 0.0


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
