"""Runs of the commands as a user starts them, and what they left behind."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from media.parquet import read_parquet

ONE_PROCESS = ("--direct_num_workers=1", "--direct_running_mode=in_memory")


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "reelmill", *args]


def environment() -> dict[str, str]:
    """That of a child whose `python` is ours, as Beam's worker pools want it."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)


def tree(folder: Path) -> dict[str, str]:
    """sha256 of every file that must be the same in equal runs, by its path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("timings.json", "report.html")
        and ".work" not in path.relative_to(folder).parts
    }  # fmt: skip


def ledger(folder: Path, kind: str) -> list[dict[str, Any]]:
    return list(read_parquet(str(folder / "ledger" / f"{kind}-*.parquet")).to_pylist())


def timings(folder: Path) -> dict[str, dict[str, Any]]:
    return dict(json.loads((folder / "timings.json").read_text())["stages"])
