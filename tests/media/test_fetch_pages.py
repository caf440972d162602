"""Videos of pages by yt-dlp, against a real server of this machine; and what it may not do."""

from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from media.fetch import fetch
from media.fetch_pages import is_page
from media.settings import FetchSettings
from schemas.states import Rejection
from tests.media.test_fetch import DATA, OPEN, server, url

__all__ = ["server"]
ALWAYS = FetchSettings(allow_private_addresses=True, retries=0, timeout_s=60, max_bytes=10**6, pages="always")


@pytest.mark.parametrize(
    ("address", "pages", "expected"),
    [
        ("https://www.youtube.com/watch?v=jNQXAC9IVRw", "never", False),
        ("https://www.youtube.com/watch?v=jNQXAC9IVRw", "known", True),
        ("https://vimeo.com/76979871", "known", True),
        ("https://example.com/a.mp4", "known", False),
        ("https://example.com/a.mp4", "always", True),
    ],
)
def test_which_addresses_are_pages(address: str, pages: str, expected: bool) -> None:
    assert is_page(address, FetchSettings(pages=pages)) is expected


def test_the_video_of_a_page(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert fetch(url(server, "page.html"), tmp_path / "s", ALWAYS).path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("path", "changed", "reason"),
    [
        ("page.html", {"allow_private_addresses": False, "robots": False}, "forbidden_address"),
        ("missing.html", {}, "page_failed"),
        pytest.param("page.html", {"max_bytes": 1000}, "page_failed", marks=pytest.mark.long),
        ("slow", {"timeout_s": 1.5}, "timed_out"),
    ],
)
def test_reasons(
    server: ThreadingHTTPServer, tmp_path: Path, path: str, changed: dict[str, object], reason: str
) -> None:
    with pytest.raises(Rejection) as caught:
        fetch(url(server, path), tmp_path / "s", replace(ALWAYS, **changed))  # type: ignore[arg-type]
    assert caught.value.reason == reason
    if reason == "forbidden_address":
        assert server.hits == []  # type: ignore[attr-defined]


def test_robots_txt_counts_for_pages(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    server.robots = (200, b"User-agent: *\nDisallow: /page")  # type: ignore[attr-defined]
    with pytest.raises(Rejection, match="robots"):
        fetch(url(server, "page.html"), tmp_path / "s", ALWAYS)
    assert server.hits == [] and OPEN.pages == "never"  # type: ignore[attr-defined]
