"""One http(s) download: resumed where it broke off, patient with busy servers, polite, and within its limits."""

import email.utils
import hashlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
import tenacity

from media.fetch_addresses import PublicBackend
from media.fetch_hosts import hold_off, turn
from media.fetch_robots import AGENT, ROBOTS, check_marks
from media.settings import FetchSettings
from schemas.states import Rejection

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_PAUSE_S = 30.0  # of our own back-off


class _Again(Exception):
    """A failure that may pass; carries the rejection it becomes when it does not."""

    def __init__(self, rejection: Rejection, pause_s: float = 0.0):
        super().__init__(str(rejection))
        self.rejection, self.pause_s = rejection, pause_s


def web_client(settings: FetchSettings) -> httpx.Client:
    """A client that follows no redirect by itself, uses no proxy, and connects to allowed addresses only."""
    transport = httpx.HTTPTransport(trust_env=False)
    if not settings.allow_private_addresses:
        transport._pool = httpcore.ConnectionPool(network_backend=PublicBackend())
    timeout = httpx.Timeout(min(60.0, settings.timeout_s))
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    return httpx.Client(transport=transport, timeout=timeout, headers=headers, trust_env=False)


@contextmanager
def failures_of(url: str) -> Iterator[None]:
    """What goes wrong on the way to a server, as what may pass and what will not."""
    host = host_of(url)
    try:
        yield
    except httpx.TimeoutException as error:
        raise _Again(Rejection("timed_out", f"{host} does not answer in time")) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as error:
        raise Rejection("unsupported_url", str(error)) from error
    except httpx.TransportError as error:
        raise _Again(Rejection("unreachable", f"{host}: {error}")) from error


class Download:
    """One download, across all its attempts."""

    def __init__(self, url: str, target: Path, settings: FetchSettings):
        self.url, self.target, self.settings = url, target, settings
        self.deadline = time.monotonic() + settings.timeout_s
        self.digest = hashlib.sha256()
        self.received, self.total = 0, None  # type: int, int | None
        self.validator: str | None = None  # ETag or date of what has been received so far

    def run(self) -> tuple[str, int]:
        """(sha256, bytes) of the file at the target.

        Raises:
            Rejection: as `media.fetch.fetch`.
        """
        try:
            with web_client(self.settings) as client:
                delay_s = self._retrying(self._delay_s, client, self.url)
                with turn_at(self.url, delay_s, self.settings):
                    self.deadline = time.monotonic() + self.settings.timeout_s  # waiting is not the download's fault
                    self._retrying(self._attempt, client)
        except _Again as failure:
            raise failure.rejection from failure
        return self.digest.hexdigest(), self.received

    def robots_delay_s(self) -> float:
        """Seconds that the site wants between two downloads, where nothing keeps robots out.

        Raises:
            Rejection: `robots_disallowed`, or the site cannot be asked.
        """
        try:
            with web_client(self.settings) as client:
                return float(self._retrying(self._delay_s, client, self.url))
        except _Again as failure:
            raise failure.rejection from failure

    @property
    def _retrying(self) -> tenacity.Retrying:
        return tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self.settings.retries + 1),
            wait=self._pause,
            retry=tenacity.retry_if_exception_type(_Again),
            reraise=True,
        )

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: what the server asks for, else doubling; within the time that is left.

        Raises:
            _Again: the server wants to be left alone for longer than there is time.
        """
        failure = state.outcome.exception() if state.outcome else None
        asked, left = failure.pause_s if isinstance(failure, _Again) else 0.0, self.deadline - time.monotonic()
        if isinstance(failure, _Again) and asked > left:
            raise failure
        return max(asked, min(0.25 * 2**state.attempt_number, _MAX_PAUSE_S, max(0.0, left)))

    def _delay_s(self, client: httpx.Client, url: str) -> float:
        """Seconds that the site's robots.txt wants between two downloads."""
        if not self.settings.robots:
            return 0.0
        with failures_of(url):
            try:
                return ROBOTS.delay_s(client, url)
            except Rejection as rejection:
                raise _Again(rejection) if rejection.reason == "robots_unavailable" else rejection from rejection

    def _attempt(self, client: httpx.Client) -> None:
        url = self.url
        with failures_of(url):
            for _ in range(self.settings.max_redirects + 1):
                self._check_time()
                self._delay_s(client, url)
                with client.stream("GET", url, headers=self._range()) as response:
                    if response.status_code not in _REDIRECTS:
                        self._receive(response)
                        return
                    url = urljoin(url, response.headers.get("location", ""))
                    if not url.startswith(("http://", "https://")):
                        raise Rejection("unsupported_url", f"redirected to {url.split(':')[0]}:, which is not http")
        raise Rejection("too_many_redirects", f"more than {self.settings.max_redirects} redirects")

    def _range(self) -> dict[str, str]:
        if not self.received or not self.validator:
            return {}
        return {"Range": f"bytes={self.received}-", "If-Range": self.validator}

    def _receive(self, response: httpx.Response) -> None:
        status, host = response.status_code, host_of(self.url)
        if status in _RETRIED:
            pause_s = retry_after_s(response.headers.get("retry-after", ""))
            if pause_s:
                hold_off(site_of(self.url), pause_s)
            raise _Again(Rejection(f"http_{status}", f"{host} answers {status}"), pause_s)
        if status not in (200, 206):
            raise Rejection(f"http_{status}", f"{host} answers {status} {response.reason_phrase}".rstrip())
        if self.settings.noai:
            check_marks(response.headers.get_list("x-robots-tag"))
        self._begin(response)
        with self.target.open("ab") as file:
            for block in response.iter_raw():  # as it arrives, so that a trickle meets the deadline
                self._check_size(self.received + len(block))
                file.write(block)
                self.digest.update(block)
                self.received += len(block)
                self._check_time()
        if self.total is not None and self.received < self.total:
            raise _Again(Rejection("incomplete", f"{self.received} of {self.total} bytes arrived"))

    def _begin(self, response: httpx.Response) -> None:
        """Goes on with what is there, or begins anew, as the server answers; knows the length from here on."""
        resumed = response.headers.get("content-range", "").startswith(f"bytes {self.received}-")
        if response.status_code == 206 and not (resumed and self.received):
            self._restart()
            raise _Again(Rejection("incomplete", "the server answers with another range than was asked for"))
        if response.status_code == 200:
            self._restart()
            self.validator = _validator(response)
        length = response.headers.get("content-length", "")
        self.total = self.received + int(length) if length.isdigit() else None
        self._check_size(self.total or 0)

    def _restart(self) -> None:
        self.received, self.digest, self.validator = 0, hashlib.sha256(), None
        self.target.unlink(missing_ok=True)

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self.settings.max_bytes:
            raise Rejection("too_large", f"more than {self.settings.max_bytes} bytes")

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise Rejection("timed_out", f"the download took more than {self.settings.timeout_s:g} s")


def turn_at(url: str, delay_s: float, settings: FetchSettings) -> AbstractContextManager[None]:
    """A turn at the host of an address, as settings and robots.txt have it."""
    interval_s = max(delay_s, settings.min_interval_s)
    return turn(site_of(url), settings.max_per_host, interval_s, settings.timeout_s)


def _validator(response: httpx.Response) -> str | None:
    """What says that a later answer is the same object; weak tags do not."""
    tag = str(response.headers.get("etag", ""))
    return tag if tag and not tag.startswith("W/") else response.headers.get("last-modified")


def retry_after_s(text: str) -> float:
    """Seconds that a `Retry-After` header asks for, a number or a date; 0 where it says neither."""
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


def site_of(url: str) -> str:
    """Host, and port where that is a special one."""
    return urlsplit(url).netloc.rpartition("@")[2]


def host_of(url: str) -> str:
    return urlsplit(url).hostname or url
