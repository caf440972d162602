"""Finished units of work by fingerprint: what makes a second run cheap and a killed one resumable.

    .work/<stage>/<first two hex digits>/<fingerprint><suffix>

A unit is written whole or not at all, its name says all that shaped its bytes, and it is never changed. Two
workers that make the same unit at the same time write equal bytes. Any fsspec file system will do.
"""

from dataclasses import dataclass
from pathlib import Path

from beam_jobs.same_code import SameCode
from media import storage

WORK = ".work"
SCRATCH = "scratch"
"""Folder in `.work` for what is not finished."""


@dataclass(frozen=True)
class Units(SameCode):
    """The store of one run's finished units; a plain value, so that it travels to the workers.

    Args:
        root: the `.work` folder of a run, a path or an fsspec URL.
    """

    root: str

    @staticmethod
    def of(output: str) -> "Units":
        """The units of the run or data set in this folder."""
        return Units(storage.join(output, WORK))

    def path(self, stage: str, fp: str, suffix: str = "") -> str:
        return storage.join(self.root, stage, fp[:2], fp + suffix)

    def get(self, stage: str, fp: str, suffix: str = "") -> bytes | None:
        """The unit's bytes; None where it is not finished."""
        try:
            return storage.read_bytes(self.path(stage, fp, suffix))
        except FileNotFoundError:
            return None

    def has(self, stage: str, fp: str, suffix: str = "") -> bool:
        return storage.exists(self.path(stage, fp, suffix))

    def put(self, stage: str, fp: str, data: bytes, suffix: str = "") -> None:
        storage.write_bytes_atomic(self.path(stage, fp, suffix), data)

    def put_file(self, stage: str, fp: str, local: str | Path, suffix: str = "") -> None:
        """Moves a finished local file into the store."""
        storage.move_file_atomic(local, self.path(stage, fp, suffix))
