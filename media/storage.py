"""Files on local disks and object stores, by fsspec: nothing half-written is ever taken for finished."""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem


def _open_fs(path: str | Path) -> tuple[Any, str]:
    """The file system of a path and the path within it."""
    return url_to_fs(str(path))


def is_local(path: str | Path) -> bool:
    """Whether the path names a file of this machine (`/x`, `x`, `file:///x`)."""
    text = str(path)
    return "://" not in text or text.startswith(("file://", "local://"))


def join(root: str | Path, *parts: str) -> str:
    """`root/part/part`, for local paths and URLs alike."""
    return "/".join([str(root).rstrip("/"), *(part.strip("/") for part in parts)])


def absolute(path: str | Path, folder: str) -> str:
    """The path as it is meant from any folder: a relative local one starts at `folder`, a URL is what it is."""
    return str(path) if not is_local(path) or "://" in str(path) else str(Path(folder) / path)


def exists(path: str | Path) -> bool:
    fs, name = _open_fs(path)
    return bool(fs.exists(name))


def makedirs(path: str | Path) -> None:
    """Makes the folder and its parents; on object stores, where folders need no making, does what the store does."""
    fs, name = _open_fs(path)
    fs.makedirs(name, exist_ok=True)


def remove(path: str | Path) -> None:
    """Removes a file or a folder with all it holds; what is not there is no error."""
    fs, name = _open_fs(path)
    with suppress(FileNotFoundError):
        fs.rm(name, recursive=True)


def read_bytes(path: str | Path) -> bytes:
    """Raises FileNotFoundError where there is no such file."""
    fs, name = _open_fs(path)
    return bytes(fs.cat_file(name))


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Writes the file whole or not at all: temporary name in the same folder, fsync, rename.

    Object stores show an object only once its upload is complete, so there a plain put is as good.
    """
    fs, name = _open_fs(path)
    if not isinstance(fs, LocalFileSystem):
        fs.pipe_file(name, data)
        return
    temporary = _temporary_name(Path(name))
    try:
        with temporary.open("wb") as file:
            file.write(data)
            _sync(file)
        _rename(temporary, Path(name))
    finally:
        temporary.unlink(missing_ok=True)


def put_file_atomic(local: str | Path, path: str | Path) -> None:
    """Copies a local file to `path`, whole or not at all."""
    fs, name = _open_fs(path)
    if not isinstance(fs, LocalFileSystem):
        fs.put_file(str(local), name)
        return
    temporary = _temporary_name(Path(name))
    try:
        with Path(local).open("rb") as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            _sync(file)
        _rename(temporary, Path(name))
    finally:
        temporary.unlink(missing_ok=True)


def move_file_atomic(local: str | Path, path: str | Path) -> None:
    """Like `put_file_atomic`, but the local file is gone afterwards; within one disk this is a rename."""
    fs, name = _open_fs(path)
    target = Path(name)
    if isinstance(fs, LocalFileSystem):
        target.parent.mkdir(parents=True, exist_ok=True)
        if Path(local).stat().st_dev == target.parent.stat().st_dev:
            with Path(local).open("rb+") as file:
                _sync(file)
            _rename(Path(local), target)
            return
    put_file_atomic(local, path)
    Path(local).unlink()


def get_file(path: str | Path, local: str | Path) -> None:
    """Copies a file from anywhere to a local path."""
    fs, name = _open_fs(path)
    Path(local).parent.mkdir(parents=True, exist_ok=True)
    fs.get_file(name, str(local))


def list_files(root: str | Path, glob: str = "*") -> list[str]:
    """Files under `root` that match the pattern (`**` for any depth), sorted, as paths of the same kind as `root`.

    A folder that is not there has no files.
    """
    fs, name = _open_fs(root)
    found = fs.glob(f"{_escape(name.rstrip('/'))}/{glob}", detail=True)
    files = sorted(path for path, info in found.items() if info["type"] == "file")
    if is_local(root):
        return files
    return [fs.unstrip_protocol(path) for path in files]


def _escape(name: str) -> str:
    """The folder's name with its own brackets and stars made literal."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _temporary_name(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / f".{target.name[:100]}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rename(temporary: Path, target: Path) -> None:
    """Renames and makes the rename itself last through a power cut."""
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_read(path: str | Path) -> Any:
    """A binary file object for reading, local or remote; a context manager."""
    return fsspec.open(str(path), "rb").open()


def size(path: str | Path) -> int:
    """Bytes of a file. Raises FileNotFoundError where there is none."""
    fs, name = _open_fs(path)
    return int(fs.size(name) or 0)
