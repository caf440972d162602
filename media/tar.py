"""Tar shards with equal bytes for equal members, written whole or not at all."""

import hashlib
import io
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from media import storage


def write_tar(
    path: str | Path, members: Iterable[tuple[str, bytes]], behind: Callable[[], bytes] | None = None
) -> tuple[int, str]:
    """Writes an uncompressed tar of (name, bytes) in the order given; returns its size in bytes and its sha256.

    Headers say nothing of time, user or machine: mtime 0, uid 0, mode 0644.

    Args:
        behind: gives what is written behind the end of the tar, where readers of tar do not look; asked when all
            members are written.

    Raises:
        ValueError: a name is absolute, leaves the folder, or comes twice.
    """
    seen: set[str] = set()
    local = Path(str(path).removeprefix("file://")) if storage.is_local(path) else None
    if local is not None:  # beside its target, so that finishing it is a rename
        local.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=local.parent if local else None, prefix=".tar-") as scratch:
        temporary = Path(scratch) / "shard.tar"
        with temporary.open("wb") as raw:
            writer = _Hashing(raw)
            sink: Any = writer  # all that a stream of blocks needs is `write`
            with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for name, data in members:
                    _check_name(name)
                    if name in seen:
                        raise ValueError(f"member {name!r} comes twice in {path}")
                    seen.add(name)
                    tar.addfile(_header(name, len(data)), io.BytesIO(data))
            if behind is not None:
                writer.write(behind())
        storage.move_file_atomic(temporary, path)
    return writer.num_bytes, writer.digest.hexdigest()


class _Hashing:
    """A file that counts and hashes what is written to it."""

    def __init__(self, file: io.BufferedWriter):
        self.file, self.digest, self.num_bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        return self.file.write(data)


def _header(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _check_name(name: str) -> None:
    parts = PurePosixPath(name).parts
    if not name or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(f"tar member {name!r} leaves its folder; relative names without '..' are allowed")


def read_tar(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """Yields (name, bytes) of every regular file in order, as a stream.

    Raises:
        ValueError: a member's name leaves the folder, it is a link or a device, or the tar is damaged.
    """
    with storage.open_read(path) as file:
        try:
            with tarfile.open(fileobj=file, mode="r|") as tar:
                for info in tar:
                    if info.isdir():
                        continue
                    _check_name(info.name)
                    if not info.isfile():
                        raise ValueError(f"tar member {info.name!r} in {path} is not a regular file")
                    data = tar.extractfile(info)
                    yield info.name, data.read() if data else b""
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{path} is damaged or not a tar: {error}; make the shard again") from error


def read_samples(path: str | Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yields (key, {what follows `key.`: bytes}) for runs of members that share their key, as WebDataset does.

    The key of a member is its path up to the first dot of the last component.
    """
    key: str | None = None
    sample: dict[str, bytes] = {}
    for name, data in read_tar(path):
        folder, _, file = name.rpartition("/")
        stem, _, rest = file.partition(".")
        member_key = f"{folder}/{stem}" if folder else stem
        if member_key != key:
            if key is not None:
                yield key, sample
            key, sample = member_key, {}
        sample[rest] = data
    if key is not None:
        yield key, sample
