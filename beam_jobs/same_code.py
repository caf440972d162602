"""Workers must run the code that the job was submitted with: others are refused, with both versions named.

Steps travel to the workers by the names of their classes. A worker with other code would find other classes there, or
the same ones that write other bytes under the same fingerprints.
"""

import hashlib
import platform
from functools import cache
from pathlib import Path
from typing import Any

from beam_jobs.code_version import library_version

_PACKAGES = ("beam_jobs", "curation", "media", "schemas", "tokenize_shards")
_KEY = "submitted with"


@cache
def code_here() -> str:
    """This process's code in words: release, hash of the source, Beam, Python.

    The hash is read from disk once, at the first question.
    """
    digest = hashlib.sha256()
    for package in _PACKAGES:
        folder = Path(__file__).parents[1] / package
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    python = ".".join(platform.python_version_tuple()[:2])
    return (
        f"reelmill {library_version('reelmill')} (code {digest.hexdigest()[:12]}), "
        f"Beam {library_version('apache-beam')}, Python {python}"
    )


def check_same_code(submitted: str) -> None:
    """Nothing, where this process runs that code.

    Raises:
        RuntimeError: it does not; names both.
    """
    if submitted != code_here():
        raise RuntimeError(
            f"this worker has {code_here()}, but the job was submitted with {submitted}; give the workers the code "
            "that you submit from (build the image again, restart the worker pool)"
        )


class SameCode:
    """A value that says when it is pickled what code it comes from, and is unpickled by the same code only."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, _KEY: code_here()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = dict(state)
        check_same_code(values.pop(_KEY, "an older release"))
        self.__dict__.update(values)
