"""Fetched files that a later stage will want again: by the hash of their bytes, in bounded space."""

import hashlib
import os
from pathlib import Path

from media.fetch import LocalMedia


class FetchCache:
    """A folder that all workers of a machine share. What does not fit is fetched again.

    Files pass in and out as hard links, so that nothing is copied, no lock is needed, and a file somebody works on
    stays his own whatever becomes of the folder. Where the file system has no hard links nothing is kept.

    Args:
        folder: on the same disk as the files; removed by whoever owns it.
        max_bytes: how much the folder may hold; several workers at once may pass it by one file each.
    """

    def __init__(self, folder: Path, max_bytes: int):
        self._folder, self._max_bytes = folder, max_bytes

    def keep(self, local: LocalMedia) -> None:
        """Keeps a file where there is room."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            held = sum(entry.stat().st_size for entry in os.scandir(self._folder))
            if held + local.num_bytes <= self._max_bytes:
                (self._folder / local.content_sha256).hardlink_to(local.path)
        except OSError:  # there already, no hard links, or a full disk: it is only a cache
            return

    def take(self, content_sha256: str, target: Path) -> LocalMedia | None:
        """The file under a name of one's own, its bytes verified; None where it is not kept."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(self._folder / content_sha256)
        except OSError:
            return None
        with target.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != content_sha256:
            target.unlink()
            (self._folder / content_sha256).unlink(missing_ok=True)
            return None
        return LocalMedia(target, found, target.stat().st_size)
