"""Spark and Flink on this machine as a cluster would have them: Java processes with small heaps, stopped at the end."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from beam_jobs.engines import java_version
from tests.beam_jobs.services import free_port, listens, running, wait_for

POM = Path(__file__).parents[2] / "deploy" / "job-server" / "pom.xml"
JVM = "--job_server_jvm_properties=-Xmx1g"
_BUILD_S = 1200
_EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"


def job_server_jar(engine: str) -> Path:
    """The job server: one that is named, or that Maven builds from `deploy/` into the user's cache; else a skip."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("Java is not there; Spark and Flink need it")
    if (java_version(java) or 0) < 11:
        pytest.skip(f"Java is {java_version(java)}; these tests need 11 or newer")
    variable = f"REELMILL_{engine.upper()}_JAR"
    if named := os.environ.get(variable):
        return Path(named)
    version = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "reelmill" / f"job-server-{version}"
    jar = cache / engine / "job-server.jar"
    if not jar.is_file():
        maven = shutil.which("mvn")
        if maven is None:
            pytest.skip(f"no {engine} job server, and no Maven to build one; name a jar with {variable}")
        _build(maven, engine, cache)
    return jar


def _build(maven: str, engine: str, cache: Path) -> None:
    command = [maven, "-B", "-q", "-f", str(POM), "-P", engine, f"-Dout={cache}", "package"]
    try:
        built = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_S)
    except subprocess.TimeoutExpired:
        pytest.skip(f"Maven could not fetch the {engine} job server's libraries within {_BUILD_S} s")
    if built.returncode:
        why = re.sub(r"https?://[^ ]+", "…", (built.stdout + built.stderr).strip())
        pytest.skip(f"Maven could not build the {engine} job server: {why[-300:]}")


@dataclass(frozen=True)
class SparkCluster:
    """A standalone cluster, by the address of its master."""

    master: str

    def executors(self) -> list[int]:
        """Process ids of the executors that run now, oldest first."""
        return oldest_first(pid for pid, line in _command_lines() if _EXECUTOR in line and "java" in line.split(" ")[0])


@contextmanager
def spark_cluster(jar: Path, folder: Path, num_workers: int = 2) -> Iterator[SparkCluster]:
    """A master and workers of one core each, from the classes in the job server's jar."""
    home = folder / "spark"
    (home / "jars").mkdir(parents=True)
    (home / "jars" / jar.name).symlink_to(jar)
    (home / "RELEASE").touch()
    settings = {
        "SPARK_HOME": str(home), "SPARK_SCALA_VERSION": "2.12", **loopback(),
        "JDK_JAVA_OPTIONS": "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED",
    }  # fmt: skip
    port = free_port()
    master = f"spark://localhost:{port}"
    java = ["java", "-Xmx256m", "-cp", str(jar)]
    with ExitStack() as stack:
        command = [*java, "org.apache.spark.deploy.master.Master", "--host", "localhost", "--port", str(port)]
        stack.enter_context(running([*command, "--webui-port", "0"], folder / "master.log", settings))
        wait_for(lambda: listens(port), folder / "master.log")
        for index in range(num_workers):
            log, work = folder / f"worker-{index}.log", folder / f"worker-{index}"
            command = [*java, "org.apache.spark.deploy.worker.Worker", "--host", "localhost", "--webui-port", "0"]
            command += ["--cores", "1", "--memory", "1g", "--work-dir", str(work), master]
            stack.enter_context(running(command, log, settings))
            wait_for(lambda log=log: "Successfully registered" in log.read_text(errors="replace"), log)  # type: ignore[misc]
        yield SparkCluster(master)


def loopback() -> dict[str, str]:
    """Environment variables with which Spark speaks on this machine only."""
    return {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost"}


def children(pid: int) -> list[int]:
    """Process ids of a process's children that run, oldest first."""
    started = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))  # by any of its threads
    return oldest_first(int(child) for text in started for child in text.split())


def oldest_first(pids: Iterable[int]) -> list[int]:
    """Those that run, by the time they were started; the ids themselves begin again at 1 now and then."""
    found = []
    for pid in pids:
        with suppress(OSError):  # it has just ended
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found.append((int(fields[19]), pid))
    return [pid for _, pid in sorted(found)]


def _command_lines() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            yield int(entry.name), line.replace(b"\0", b" ").decode(errors="replace")
