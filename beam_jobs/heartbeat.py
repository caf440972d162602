"""How far the workers of this machine are: each process keeps one small file of sums, which the command adds up.

Beam's own counters arrive when a stage is over, and from some workers never. A file per process, written at most twice
a second, is there at once, from any runner whose workers start with the command's environment.

    <folder>/<process>-<random>.json    {"analyze": {"items": 12, "reused": 0, "seconds": 73.5, "began": …, "last": …}}
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FOLDER = "REELMILL_PROGRESS"
"""Environment variable that names the folder; without it nothing is written."""
_EVERY_S = 0.5


@dataclass(frozen=True)
class Beat:
    """Sums of one stage."""

    items: int = 0  # finished now
    reused: int = 0  # finished by an earlier run
    clips: int = 0  # found in them
    video_s: float = 0.0  # length of what went through, reused or not
    began: float = 0.0  # when work on the first began, in seconds of the wall clock; 0: not yet
    last: float = 0.0  # when the last was finished

    def plus(self, other: "Beat") -> "Beat":
        """Both together."""
        began = min((when for when in (self.began, other.began) if when), default=0.0)
        return Beat(
            self.items + other.items, self.reused + other.reused, self.clips + other.clips,
            self.video_s + other.video_s, began, max(self.last, other.last),
        )  # fmt: skip


class Heart:
    """The sums of this process.

    Args:
        folder: where its file goes.
    """

    def __init__(self, folder: str):
        self._path = Path(folder) / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        self._lock, self._written = threading.Lock(), 0.0
        self._sums: dict[str, Beat] = {}

    def add(self, stage: str, beat: Beat) -> None:
        """Adds to a stage, and writes all sums if the last time is long enough ago."""
        with self._lock:
            self._sums[stage] = self._sums.get(stage, Beat()).plus(beat)
            now = time.monotonic()
            if now - self._written >= _EVERY_S:
                self._written = now
                self._write()

    def _write(self) -> None:
        """Whole or not at all, but not for ever: nobody needs it after a power cut."""
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps({stage: asdict(beat) for stage, beat in self._sums.items()}))
            temporary.replace(self._path)
        except OSError:  # the folder is gone with the command that watched it
            return


_HEARTS: dict[str, Heart] = {}


def beat(stage: str, **sums: float) -> None:
    """Adds to the sums of this process; does nothing where nobody watches."""
    folder = os.environ.get(FOLDER)
    if folder:
        heart = _HEARTS.get(folder) or _HEARTS.setdefault(folder, Heart(folder))
        heart.add(stage, Beat(**sums))  # type: ignore[arg-type]


def read_beats(folder: str) -> dict[str, Beat]:
    """By stage, what all processes have done, in the order in which they began."""
    found: dict[str, Beat] = {}
    for path in sorted(Path(folder).glob("*.json")):
        for stage, sums in _read(path).items():
            found[stage] = found.get(stage, Beat()).plus(Beat(**sums))
    return dict(sorted(found.items(), key=lambda entry: (entry[1].began, entry[0])))


_FIELDS = frozenset(entry.name for entry in fields(Beat))


def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):  # it has just gone
        return {}
    return {stage: sums for stage, sums in found.items() if sums.keys() == _FIELDS}
