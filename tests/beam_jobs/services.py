"""Job servers and worker pools of the portable path, started as a cluster would have them."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.beam_jobs.runs import environment

_BEAM = version("apache-beam")
_PRISM = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{_BEAM}"


@contextmanager
def portable_flags(folder: Path, workers_in: Path | None = None) -> Iterator[list[str]]:
    """Flags for a job server and an external worker pool, both running while the context lasts.

    Args:
        workers_in: where the workers stand, and so find their code; None: as this process.
    """
    port_file = folder / "job_server.port"
    server = [
        sys.executable, "-m", "apache_beam.runners.portability.local_job_service_main",
        "--port", "0", "--port_file", str(port_file), "--staging_dir", str(folder / "staging"),
    ]  # fmt: skip
    with running(server, folder / "server.log"), worker_pool(folder, workers_in) as pool:
        wait_for(port_file.is_file, folder / "server.log")
        endpoint = f"localhost:{port_file.read_text().strip()}"
        yield ["--runner=PortableRunner", f"--job_endpoint={endpoint}", *pool.flags]


@dataclass(frozen=True)
class WorkerPool:
    """A pool that starts a Python process for each worker that an engine asks for."""

    pid: int
    port: int

    @property
    def flags(self) -> list[str]:
        return ["--environment_type=EXTERNAL", f"--environment_config=localhost:{self.port}"]


@contextmanager
def worker_pool(folder: Path, stands_in: Path | None = None) -> Iterator[WorkerPool]:
    """A worker pool of this machine.

    Args:
        stands_in: the folder it is started in, and finds its code in; None: as this process.
    """
    port = free_port()
    command = [sys.executable, "-m", "beam_jobs.worker_pool", f"--service_port={port}"]
    with running(command, folder / "pool.log", cwd=stands_in) as process:
        wait_for(lambda: listens(port), folder / "pool.log")
        yield WorkerPool(process.pid, port)


def prism_binary() -> Path:
    """Beam's Prism of our version: the one named, or one that Go builds into the user's cache; else a skip."""
    named = os.environ.get("REELMILL_PRISM")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "reelmill" / f"prism-{_BEAM}"
    if not (cache / "prism").is_file():
        go = shutil.which("go")
        if go is None:
            pytest.skip("Prism is not there and Go, which would build it, is not either; name one with REELMILL_PRISM")
        _build_prism(go, cache)
    return cache / "prism"


def _build_prism(go: str, cache: Path) -> None:
    settings = {**os.environ, "GOBIN": str(cache)}
    try:
        built = subprocess.run([go, "install", _PRISM], env=settings, capture_output=True, text=True, timeout=400)
    except subprocess.TimeoutExpired:
        pytest.skip("Go did not build Prism within 400 s; name one with REELMILL_PRISM")
    if built.returncode:
        why = re.sub(r"https?://[^ ]+", "…", built.stderr.strip())
        pytest.skip(f"Go could not build Prism: {why[-200:]}")


@contextmanager
def running(
    command: list[str], log: Path, settings: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs while the context lasts.

    Args:
        settings: further environment variables.
    """
    with log.open("wb") as file:
        variables = {**environment(), **(settings or {})}
        process = subprocess.Popen(command, env=variables, cwd=cwd, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(ready: Callable[[], bool], log: Path, timeout_s: float = 300.0) -> None:
    end = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > end:
            pytest.fail(f"a service did not start: {log.read_text()[-1000:]}")
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("localhost", port)) == 0
