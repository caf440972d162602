"""Shards are plain tars with equal bytes for equal members, and hostile ones are refused."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from media.tar import read_samples, read_tar, write_tar

MEMBERS = [("k0.mp4", b"video"), ("k0.json", b"{}"), ("k1.mp4", b""), ("k1.json", b"[]")]


def test_size_and_hash_are_those_of_the_file(tmp_path: Path) -> None:
    size, digest = write_tar(tmp_path / "a.tar", MEMBERS)
    data = (tmp_path / "a.tar").read_bytes()
    assert (size, digest) == (len(data), hashlib.sha256(data).hexdigest())


def test_equal_members_give_equal_bytes_anywhere(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", MEMBERS)
    write_tar("memory://shards/b.tar", iter(MEMBERS))
    write_tar("memory://shards/c.tar", list(read_tar("memory://shards/b.tar")))
    c = list(read_tar("memory://shards/c.tar"))
    assert c == list(read_tar(tmp_path / "a.tar")) == MEMBERS


def test_samples_are_grouped_by_key(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("d/k.video.npy", b"1"), ("d/k.json", b"2"), ("l.json", b"3")])
    assert list(read_samples(tmp_path / "a.tar")) == [("d/k", {"video.npy": b"1", "json": b"2"}), ("l", {"json": b"3"})]


def test_webdataset_reads_what_we_write(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", MEMBERS)
    samples = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [(s["__key__"], s["mp4"], s["json"]) for s in samples] == [("k0", b"video", b"{}"), ("k1", b"", b"[]")]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "", "a\\b"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leaves its folder"):
        write_tar(tmp_path / "a.tar", [(name, b"")])
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="comes twice"):
        write_tar(tmp_path / "a.tar", [("a", b""), ("a", b"")])


@pytest.mark.parametrize(("name", "kind"), [("../x", tarfile.REGTYPE), ("x", tarfile.SYMTYPE), ("x", tarfile.LNKTYPE)])
def test_hostile_members_are_refused(tmp_path: Path, name: str, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info, io.BytesIO())
    with pytest.raises(ValueError, match=r"leaves its folder|not a regular file"):
        list(read_tar(tmp_path / "a.tar"))


def test_a_damaged_tar_is_said_to_be_damaged(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a", bytes(5000))])
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:2000])
    with pytest.raises(ValueError, match="damaged"):
        list(read_tar(tmp_path / "a.tar"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text("abcdefghijÄ_-0", min_size=1, max_size=150), st.binary(max_size=2000), max_size=6))
def test_reading_gives_back_what_was_written(tmp_path: Path, members: dict[str, bytes]) -> None:
    write_tar(tmp_path / "p.tar", members.items())
    assert list(read_tar(tmp_path / "p.tar")) == list(members.items())
