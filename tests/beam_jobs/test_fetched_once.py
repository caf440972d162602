"""What analysis has fetched, cutting finds on the disk; where it is gone, or was another, it is fetched again."""

from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from beam_jobs.analyze import SourceMedia
from beam_jobs.cut import _unchanged
from beam_jobs.job import CurateJob
from curation.settings import CURATE
from media.fetch import LocalMedia
from media.fetch_cache import FetchCache
from schemas.states import Rejection
from tests.media.test_fetch import DATA, server, url

__all__ = ["server"]


def job_in(folder: Path, *flags: str) -> CurateJob:
    args = ["--input", "x", "--output", str(folder / "run"), "--fetch.allow_private_addresses", "true", *flags]
    return CurateJob.of(CURATE.parse(args)[0])


@pytest.mark.parametrize(
    ("flags", "requests"), [((), 1), (("--fetch.cache_bytes", "1000"), 2)], ids=["kept", "does-not-fit"]
)
def test_a_source_is_fetched_once_where_it_fits(
    server: ThreadingHTTPServer, tmp_path: Path, flags: tuple[str, ...], requests: int
) -> None:
    job, address = job_in(tmp_path, *flags), url(server, "ok.mp4")
    with SourceMedia(address, job) as media:
        sha256 = media.content_sha256()
    with SourceMedia(address, job) as media:
        assert Path(_unchanged(media, sha256)).read_bytes() == DATA
        assert Path(_unchanged(media, sha256)).suffix == ".mp4"
    assert len(server.hits) == requests  # type: ignore[attr-defined]
    left = [path.name for path in (tmp_path / "run" / ".work" / "scratch").rglob("*") if path.is_file()]
    assert left == ([sha256] if requests == 1 else [])


def test_a_source_that_is_another_by_now_is_not_cut(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    job = job_in(tmp_path)
    with SourceMedia(url(server, "ok.mp4"), job) as media, pytest.raises(Rejection) as caught:
        _unchanged(media, "0" * 64)
    assert caught.value.reason == "source_changed"


def test_the_cache_gives_what_it_was_given_or_nothing(tmp_path: Path) -> None:
    cache, path = FetchCache(tmp_path / "cache", 10), tmp_path / "a.mp4"
    path.write_bytes(b"12345678")
    name = "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f"
    cache.keep(LocalMedia(path, name, 8))
    cache.keep(LocalMedia(path, "0" * 64, 8))  # does not fit
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [name]
    taken = cache.take(name, tmp_path / "mine" / "b.mp4")
    assert taken == LocalMedia(tmp_path / "mine" / "b.mp4", name, 8)
    (tmp_path / "cache" / name).unlink()
    assert taken.path.read_bytes() == b"12345678"  # one's own, whatever becomes of the cache
    (tmp_path / "cache" / name).write_bytes(b"damaged!")
    assert cache.take(name, tmp_path / "mine" / "c.mp4") is None and not (tmp_path / "cache" / name).exists()
    assert cache.take(name, tmp_path / "mine" / "d.mp4") is None
