"""Finished files of a run: written where they are new, left alone where they are not.

A run's manifest (`run.json`, `dataset.json`) vouches for every file beside it. So the manifest goes before the first
file under it changes, and comes back last: a run that is killed in between is unfinished, never half true.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from beam_jobs.units import SCRATCH, Units
from media import storage


@dataclass(frozen=True)
class Products:
    """The files that a run leaves in its output folder.

    Args:
        output: the folder, a path or an fsspec URL.
        manifest: name of the file that commits the run.
    """

    output: str
    manifest: str

    def path(self, name: str) -> str:
        return storage.join(self.output, name)

    def produce(self, name: str, fp: str, write: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """Has `write(path)` make the file, unless it is there already from the same content; returns what `write` did.

        Args:
            name: path within the output folder.
            fp: fingerprint of all that the file's bytes depend on.
            write: writes the file at a path, whole or not at all, and describes it in JSON values.
        """
        note = self._note(name)
        known = self._read_note(note)
        if known is not None and known["fp"] == fp and _size(self.path(name)) == known["num_bytes"]:
            return dict(known["info"])
        self.invalidate()
        storage.remove(note)  # the file is about to differ from what the note says
        info = write(self.path(name))
        known = {"fp": fp, "num_bytes": _size(self.path(name)), "info": info}
        storage.write_bytes_atomic(note, json.dumps(known, sort_keys=True).encode())
        return info

    def invalidate(self) -> None:
        """Takes the manifest away, before what it vouches for changes."""
        storage.remove(self.path(self.manifest))

    def forget(self, name: str) -> None:
        """Has the file made anew when it is next wanted: it is about to change by other hands."""
        storage.remove(self._note(name))

    def keep_only(self, folder: str, pattern: str, names: Iterable[str]) -> None:
        """Removes files of an earlier plan: those in `folder` that match the pattern and are not among the names."""
        keep = set(names)
        for path in storage.list_files(self.path(folder) if folder else self.output, pattern):
            name = path.rpartition("/")[2]
            name = f"{folder}/{name}" if folder else name
            if name not in keep:
                self.invalidate()
                storage.remove(path)
                storage.remove(self._note(name))

    def sweep(self) -> None:
        """Removes what a killed run was in the middle of writing; only local disks can hold such files."""
        if not storage.is_local(self.output):
            return
        storage.remove(storage.join(Units.of(self.output).root, SCRATCH))
        for folder, folders, files in os.walk(self.output.removeprefix("file://")):
            for name in [*folders, *files]:
                if name.startswith(".") and (name.startswith(".tar-") or name.endswith(".tmp")):
                    storage.remove(Path(folder) / name)

    def commit(self, text: str, write_rest: Callable[[], object] = lambda: None) -> None:
        """Writes the manifest, unless it says the same already.

        Args:
            write_rest: writes files that depend on what the manifest says; one that says something else goes before.
        """
        path, data = self.path(self.manifest), text.encode()
        same = storage.exists(path) and storage.read_bytes(path) == data
        if not same:
            self.invalidate()
        write_rest()
        if not same:
            storage.write_bytes_atomic(path, data)

    def _note(self, name: str) -> str:
        return storage.join(Units.of(self.output).root, "products", name.replace("/", "__") + ".json")

    @staticmethod
    def _read_note(path: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads(storage.read_bytes(path)))
        except FileNotFoundError:
            return None


def _size(path: str) -> int | None:
    """Bytes of a file; None where it is not."""
    filesystem, name = url_to_fs(path)
    try:
        return int(filesystem.info(name)["size"])
    except FileNotFoundError:
        return None
