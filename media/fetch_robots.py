"""What a site asks of robots: its robots.txt (RFC 9309), and the `noai` marks of single answers."""

import threading
import time
from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

import httpx
from protego import Protego

from schemas.states import Rejection

AGENT = "reelmill"
NO_AI = frozenset({"noai", "noimageai"})

_MAX_BYTES = 512 * 1024  # RFC 9309 §2.5: at least 500 KiB must be read
_MAX_REDIRECTS = 5  # §2.3.1.2
_KEPT_S = 24 * 3600.0  # §2.4
_MAX_DELAY_S = 60.0
_MAX_READ_S = 60.0


class Robots:
    """The rules of every site met, each read once a day; shared by all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, tuple[float, Protego]] = {}

    def delay_s(self, client: httpx.Client, url: str) -> float:
        """Seconds that the site wants between two downloads; at most a minute.

        Raises:
            Rejection: `robots_disallowed`, `robots_unavailable`. httpx.HTTPError: the site cannot be reached.
        """
        rules = self._rules_of(client, url)
        if not rules.can_fetch(url, AGENT):
            raise Rejection(
                "robots_disallowed",
                f"robots.txt of {urlsplit(url).netloc} keeps robots out; fetch.robots says what counts",
            )
        return min(float(rules.crawl_delay(AGENT) or 0.0), _MAX_DELAY_S)

    def _rules_of(self, client: httpx.Client, url: str) -> Protego:
        site = urljoin(url, "/robots.txt")
        with self._lock:
            known = self._rules.get(site)
        if known and time.monotonic() - known[0] < _KEPT_S:
            return known[1]
        rules = Protego.parse(_read(client, site))
        with self._lock:
            self._rules[site] = (time.monotonic(), rules)
        return rules


ROBOTS = Robots()


def _read(client: httpx.Client, site: str) -> str:
    """robots.txt as it stands; empty where there is none, or none that a robot may see (RFC 9309 §2.3.1.3).

    Raises:
        Rejection: `robots_unavailable` for 5xx, which means that all is forbidden (§2.3.1.4).
    """
    for _ in range(_MAX_REDIRECTS + 1):
        with client.stream("GET", site) as response:
            if response.is_redirect:
                site = urljoin(site, response.headers["location"])
                if not site.startswith(("http://", "https://")):
                    return ""
                continue
            if response.status_code >= 500 or response.status_code == 429:
                raise Rejection("robots_unavailable", f"{site} answers {response.status_code}, which forbids all")
            return _body(response) if response.status_code == 200 else ""
    return ""


def _body(response: httpx.Response) -> str:
    data, deadline = bytearray(), time.monotonic() + _MAX_READ_S
    for block in response.iter_raw():
        data += block
        if len(data) >= _MAX_BYTES:
            break
        if time.monotonic() > deadline:
            raise Rejection(
                "robots_unavailable", f"{response.url} takes more than {_MAX_READ_S:g} s, which forbids all"
            )
    return bytes(data[:_MAX_BYTES]).decode(errors="replace")


def check_marks(values: Iterable[str]) -> None:
    """Reads the `X-Robots-Tag` headers of an answer, `noai, noindex` or `somebot: noai`.

    Raises:
        Rejection: `noai`.
    """
    for value in values:
        agent = "*"
        for part in value.lower().split(","):
            name, colon, rest = part.partition(":")
            if colon and name.strip() != "unavailable_after":
                agent, part = name.strip(), rest
            if agent in ("*", AGENT) and part.strip() in NO_AI:
                raise Rejection("noai", f"the server marks it {part.strip()}; fetch.noai says whether that counts")
