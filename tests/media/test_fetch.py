"""Downloads against a real server: limits, retries, resumption, and addresses that are refused."""

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from media.fetch import fetch, public_address
from media.settings import FetchSettings
from schemas.states import Rejection

DATA = bytes(range(256)) * 2000
OPEN = FetchSettings(allow_private_addresses=True, retries=2, timeout_s=20, max_bytes=10**6)


class _Handler(BaseHTTPRequestHandler):
    """Each path misbehaves in its own way; `server.hits` counts the requests for each."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        hits = self.server.hits  # type: ignore[attr-defined]
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

    def _partial(self, first: bool) -> None:
        """Breaks off in the middle at first; then serves the range asked for."""
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(DATA) - begin))
        self.end_headers()
        self.wfile.write(DATA[begin : 200_000 if first else None])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # clients that hang up
    server.hits = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def url(server: ThreadingHTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{path}"


@pytest.mark.parametrize("path", ["ok.mp4", "ok.mp4?token=1", "moved", "busy", "partial.mp4"])
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
    assert caught.value.reason == "timed_out" and time.monotonic() - start < 3


def test_private_addresses_are_refused_by_default(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(Rejection) as caught:
        fetch(url(server, "ok.mp4"), tmp_path, FetchSettings())
    assert caught.value.reason == "forbidden_address" and server.hits == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1", "0.0.0.0"]
)
def test_special_ranges_are_no_public_addresses(host: str) -> None:
    with pytest.raises(Rejection, match="not a public address"):
        public_address(host, 80)


def test_a_public_address_is_allowed() -> None:
    assert public_address("8.8.8.8", 80) == "8.8.8.8"


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
