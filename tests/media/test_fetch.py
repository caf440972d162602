"""Downloads against a real server: limits, retries, resumption, and addresses that are refused."""

import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from media.fetch import fetch
from media.fetch_addresses import PublicBackend, public_addresses
from media.fetch_http import retry_after_s
from media.fetch_robots import ROBOTS, check_marks
from media.settings import FetchSettings
from schemas.states import Rejection

DATA = bytes(range(256)) * 2000
PAGE = b'<html><head><title>t</title></head><body><video src="/ok.mp4"></video></body></html>'
OPEN = FetchSettings(allow_private_addresses=True, retries=2, timeout_s=20, max_bytes=10**6)


class _Handler(BaseHTTPRequestHandler):
    """Each path misbehaves in its own way; `server.hits` counts the requests for each."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hits = self.server.hits  # type: ignore[attr-defined]
        if self.path == "/robots.txt":
            self._send(*self.server.robots)  # type: ignore[attr-defined]
            return
        hits.append((self.path, self.headers.get("Range")))
        first = [path for path, _ in hits].count(self.path) == 1
        name = self.path.partition("?")[0].strip("/").partition(".")[0]
        {
            "ok": lambda: self._send(200, DATA),
            "moved": lambda: self._send(302, b"", {"Location": "/ok.mp4"}),
            "loop": lambda: self._send(302, b"", {"Location": "/loop"}),
            "tofile": lambda: self._send(302, b"", {"Location": "file:///etc/passwd"}),
            "busy": lambda: self._send(503, b"") if first else self._send(200, DATA),
            "broken": lambda: self._send(500, b""),
            "endless": self._endless,
            "slow": self._slow,
            "partial": lambda: self._partial(first),
            "changing": lambda: self._partial(first, changing=True),
            "noai": lambda: self._send(200, DATA, {"X-Robots-Tag": "noindex, NoAI"}),
            "later": lambda: self._send(429, b"", {"Retry-After": "1"}) if first else self._send(200, DATA),
            "tomorrow": lambda: self._send(503, b"", {"Retry-After": "86400"}),
            "page": lambda: self._send(200, PAGE, {"Content-Type": "text/html"}),
            "long": lambda: self._held(0.3),
        }.get(name, lambda: self._send(404, b"nothing here"))()

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(bytes(100_000))

    def _slow(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"x")
            time.sleep(0.05)

    def _held(self, seconds: float) -> None:
        """Answers late; `server.most` is how many such requests there were at once."""
        server = self.server
        with server.counting:  # type: ignore[attr-defined]
            server.now += 1  # type: ignore[attr-defined]
            server.most = max(server.most, server.now)  # type: ignore[attr-defined]
        time.sleep(seconds)
        with server.counting:  # type: ignore[attr-defined]
            server.now -= 1  # type: ignore[attr-defined]
        self._send(200, DATA)

    def _partial(self, first: bool, changing: bool = False) -> None:
        """Breaks off in the middle at first; then serves the range asked for, or all of what is another file now."""
        begin = 0 if changing else int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("ETag", '"v1"' if first or not changing else '"v2"')
        self.send_header("Content-Length", str(len(DATA) - begin))
        self.end_headers()
        self.wfile.write(DATA[begin : 200_000 if first else None])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing on the terminal."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the turns at hosts are kept
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # clients that hang up
    server.hits, server.robots = [], (404, b"")  # type: ignore[attr-defined]
    server.now, server.most, server.counting = 0, 0, threading.Lock()  # type: ignore[attr-defined]
    ROBOTS.__init__()  # type: ignore[misc]  # the port may have been another test's
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{path}"


@pytest.mark.parametrize("path", ["ok.mp4", "ok.mp4?token=1", "moved", "busy", "partial.mp4", "changing.mp4", "later"])
def test_what_arrives_is_whole(server: ThreadingHTTPServer, tmp_path: Path, path: str) -> None:
    local = fetch(url(server, path), tmp_path, OPEN)
    assert local.path.read_bytes() == DATA and local.path.parent == tmp_path
    assert (local.num_bytes, local.content_sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())


def test_a_broken_download_goes_on_where_it_stopped(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    fetch(url(server, "partial.mp4"), tmp_path, OPEN)
    assert [given for _, given in server.hits] == [None, "bytes=200000-"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "reason", "requests"),
    [
        ("missing.mp4", "http_404", 1),
        ("loop", "too_many_redirects", 6),
        ("tofile", "unsupported_url", 1),
        ("endless", "too_large", 1),
        ("broken", "http_500", 2),
        ("tomorrow", "http_503", 1),
        ("noai.mp4", "noai", 1),
    ],
)
def test_reasons(server: ThreadingHTTPServer, tmp_path: Path, path: str, reason: str, requests: int) -> None:
    settings = FetchSettings(allow_private_addresses=True, retries=1, timeout_s=20, max_bytes=10**6)
    with pytest.raises(Rejection) as caught:
        fetch(url(server, path), tmp_path, settings)
    assert caught.value.reason == reason
    assert len(server.hits) == requests  # type: ignore[attr-defined]


def test_a_trickle_is_stopped_in_time(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Rejection) as caught:
        fetch(url(server, "slow"), tmp_path, FetchSettings(allow_private_addresses=True, timeout_s=0.5, retries=0))
    assert caught.value.reason == "timed_out" and time.monotonic() - start < 15


def test_private_addresses_are_refused_by_default(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(Rejection) as caught:
        fetch(url(server, "ok.mp4"), tmp_path, FetchSettings())
    assert caught.value.reason == "forbidden_address" and server.hits == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0", "::1",
        "fe80::1", "fd00::1", "::ffff:10.0.0.1", "2002:0a00:0001::1", "64:ff9b::10.0.0.1", "2130706433", "0x7f.1",
    ],
)  # fmt: skip
def test_special_ranges_are_no_public_addresses(host: str) -> None:
    with pytest.raises(Rejection, match="not a public address"):
        public_addresses(host, 80)


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(host: str) -> None:
    assert public_addresses(host, 80) == [host]


def test_one_private_address_among_public_ones_is_enough() -> None:
    with pytest.raises(Rejection, match=r"10\.0\.0\.1"):
        public_addresses("two.example", 80, resolver("8.8.8.8", "10.0.0.1"))


def test_a_name_that_changes_its_address_gains_nothing(server: ThreadingHTTPServer) -> None:
    """DNS rebinding: what is connected to is the address that was checked, and each connection is checked."""
    asked = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return resolver("127.0.0.1")(host, port)

    with pytest.raises(Rejection, match="not a public address"):
        PublicBackend(resolve).connect_tcp("rebound.example", server.server_address[1])
    assert asked == ["rebound.example"] and server.hits == []  # type: ignore[attr-defined]


def resolver(*addresses: str) -> Callable[..., list[tuple[object, ...]]]:
    return lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]


@pytest.mark.parametrize(
    ("robots", "path", "reason"),
    [
        ((200, b"User-agent: *\nDisallow: /ok"), "ok.mp4", "robots_disallowed"),
        ((200, b"User-agent: *\nDisallow: /*.mp4$"), "ok.mp4", "robots_disallowed"),
        ((200, b"User-agent: *\nDisallow: /ok"), "moved", "robots_disallowed"),
        ((200, b"User-agent: reelmill\nDisallow: /\n\nUser-agent: *\nAllow: /"), "ok.mp4", "robots_disallowed"),
        ((200, b"User-agent: *\nDisallow: /\nAllow: /ok"), "ok.mp4", None),
        ((200, b"User-agent: other\nDisallow: /"), "ok.mp4", None),
        ((200, b"\xff\x00 no rules"), "ok.mp4", None),
        ((404, b""), "ok.mp4", None),
        ((403, b""), "ok.mp4", None),
        ((500, b""), "ok.mp4", "robots_unavailable"),
    ],
)
def test_robots_txt(
    server: ThreadingHTTPServer, tmp_path: Path, robots: tuple[int, bytes], path: str, reason: str | None
) -> None:
    server.robots = robots  # type: ignore[attr-defined]
    settings = replace(OPEN, retries=1)
    if reason is None:
        assert fetch(url(server, path), tmp_path, settings).num_bytes == len(DATA)
    else:
        with pytest.raises(Rejection) as caught:
            fetch(url(server, path), tmp_path, settings)
        assert caught.value.reason == reason
        assert fetch(url(server, path), tmp_path, replace(settings, robots=False)).num_bytes == len(DATA)


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (["noai"], True), (["noindex, NoImageAI"], True), (["index", "noai"], True), (["reelmill: noai"], True),
        (["otherbot: noai"], False), (["otherbot: noindex, reelmill: noai"], True), (["noindex, nofollow"], False),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"], True), ([], False),
    ],
)  # fmt: skip
def test_noai_marks(values: list[str], refused: bool) -> None:
    if refused:
        with pytest.raises(Rejection, match="noai"):
            check_marks(values)
    else:
        check_marks(values)


def test_noai_can_be_switched_off(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert fetch(url(server, "noai.mp4"), tmp_path, replace(OPEN, noai=False)).num_bytes == len(DATA)


@pytest.mark.parametrize(
    ("text", "least_s", "most_s"),
    [("7", 7, 7), ("", 0, 0), ("soon", 0, 0), ("-3", 0, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
     ("Fri, 31 Dec 2100 23:59:59 GMT", 1e9, 3e9)],
)  # fmt: skip
def test_retry_after(text: str, least_s: float, most_s: float) -> None:
    assert least_s <= retry_after_s(text) <= most_s


def test_a_server_that_wants_rest_gets_it(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    began = time.monotonic()
    fetch(url(server, "later"), tmp_path, OPEN)
    assert time.monotonic() - began >= 1
    for path, reason in (("tomorrow", "http_503"), ("ok.mp4", "busy_host")):
        with pytest.raises(Rejection) as caught:
            fetch(url(server, path), tmp_path, OPEN)
        assert caught.value.reason == reason


def test_so_many_downloads_of_a_host_at_a_time(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    settings = replace(OPEN, max_per_host=2)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda index: fetch(url(server, f"long?{index}"), tmp_path, settings), range(5)))
    assert server.most == 2  # type: ignore[attr-defined]


def test_downloads_of_a_host_keep_their_distance(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    server.robots = (200, b"User-agent: *\nCrawl-delay: 0.4")  # type: ignore[attr-defined]
    began = time.monotonic()
    for index in range(3):
        fetch(url(server, f"ok?{index}"), tmp_path, replace(OPEN, min_interval_s=0.1))
    assert 0.8 <= time.monotonic() - began < 20


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (str(tmp_path / "pipe.mp4"), "/dev/zero"):
        with pytest.raises(Rejection, match="no regular file"):
            fetch(path, tmp_path, OPEN)


def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    settings = FetchSettings(allow_private_addresses=True, retries=0, timeout_s=5)
    with pytest.raises(Rejection) as caught:
        fetch("http://127.0.0.1:9/a.mp4", tmp_path, settings)
    assert caught.value.reason == "unreachable"


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_local_files_are_used_where_they_lie(tmp_path: Path, prefix: str) -> None:
    (tmp_path / "a.mp4").write_bytes(DATA)
    local = fetch(f"{prefix}{tmp_path}/a.mp4", tmp_path / "scratch", OPEN)
    assert local.path == tmp_path / "a.mp4" and not (tmp_path / "scratch").exists()
    assert local.content_sha256 == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    ("name", "reason"), [("none.mp4", "not_found"), ("folder", "not_media"), ("large.mp4", "too_large")]
)
def test_local_reasons(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "large.mp4").write_bytes(bytes(2 * 10**6))
    with pytest.raises(Rejection) as caught:
        fetch(str(tmp_path / name), tmp_path, OPEN)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("memory://fetch/none.mp4", "not_found"),
        ("memory://fetch/large.mp4", "too_large"),
        ("nosuch://x/a.mp4", "unsupported_url"),
    ],
)
def test_store_reasons(tmp_path: Path, uri: str, reason: str) -> None:
    fsspec.filesystem("memory").pipe_file("/fetch/large.mp4", bytes(2 * 10**6))
    with pytest.raises(Rejection) as caught:
        fetch(uri, tmp_path, OPEN)
    assert caught.value.reason == reason


def test_objects_are_copied_from_their_store(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/fetch/ok.mp4", DATA)
    assert fetch("memory://fetch/ok.mp4", tmp_path, OPEN).path.read_bytes() == DATA
