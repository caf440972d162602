"""Files come whole or not at all, on disks and object stores alike."""

from pathlib import Path

import fsspec
import pytest

from media import storage


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "a [b] #1")
    fs = fsspec.filesystem("memory")
    if fs.exists("/store"):
        fs.rm("/store", recursive=True)
    return "memory://store"


def test_what_is_written_can_be_read_listed_and_removed(root: str) -> None:
    first, second = storage.join(root, "x", "b.bin"), storage.join(root, "x", "a.bin")
    storage.makedirs(storage.join(root, "x"))
    storage.write_bytes_atomic(first, b"one")
    storage.write_bytes_atomic(second, b"three")
    assert storage.exists(first) and storage.read_bytes(first) == b"one" and storage.size(second) == 5
    listed = storage.list_files(root, "**/*.bin")
    assert [name.rsplit("/", 1)[1] for name in listed] == ["a.bin", "b.bin"]
    assert [storage.read_bytes(name) for name in listed] == [b"three", b"one"]
    storage.remove(storage.join(root, "x"))
    storage.remove(storage.join(root, "x"))
    assert not storage.exists(first) and storage.list_files(root, "**/*.bin") == []


def test_files_go_to_and_from_storage(root: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"data")
    target = storage.join(root, "deep", "er", "out")
    storage.put_file_atomic(tmp_path / "in", target)
    storage.get_file(target, tmp_path / "back" / "file")
    assert (tmp_path / "back" / "file").read_bytes() == b"data"
    storage.move_file_atomic(tmp_path / "in", storage.join(root, "moved"))
    assert storage.read_bytes(storage.join(root, "moved")) == b"data" and not (tmp_path / "in").exists()


def test_a_failed_write_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    target = tmp_path / "file"
    storage.write_bytes_atomic(target, b"old")
    with pytest.raises(TypeError):
        storage.write_bytes_atomic(target, "not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_missing_files_are_said_to_be_missing(root: str) -> None:
    assert not storage.exists(storage.join(root, "nothing"))
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(root, "nothing"))


@pytest.mark.parametrize(
    ("root", "parts", "joined"),
    [
        ("/a/", ("b", "c.tar"), "/a/b/c.tar"),
        ("/", ("b",), "/b"),
        ("a", ("b/", "/c"), "a/b/c"),
        ("gs://bucket/run", ("clips", "x"), "gs://bucket/run/clips/x"),
    ],
)
def test_join(root: str, parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(root, *parts) == joined


@pytest.mark.parametrize(
    ("path", "local"), [("/a", True), ("a/b", True), ("file:///a", True), ("s3://a/b", False), ("https://a/b", False)]
)
def test_is_local(path: str, local: bool) -> None:
    assert storage.is_local(path) is local
