"""Both jobs on a Spark cluster and on Flink: the bytes of one process, though a worker is killed half-way."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.beam_jobs.runs import command, environment, tree
from tests.beam_jobs.services import WorkerPool, worker_pool
from tests.engines.services import JVM, SparkCluster, children, loopback, spark_cluster

pytestmark = pytest.mark.timeout(2700)
ENGINES = ("spark", "flink")
_PATIENCE_S = 1200.0


@dataclass(frozen=True)
class Engine:
    """What a command is told to run on it, and where its processes are."""

    flags: list[str]
    pool: WorkerPool
    cluster: SparkCluster | None = None

    def python_workers(self) -> list[int]:
        return children(self.pool.pid)

    def executors(self) -> list[int]:
        return self.cluster.executors() if self.cluster else []


@pytest.fixture(scope="module")
def spark(spark_jar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("spark")
    with spark_cluster(spark_jar, folder) as cluster, worker_pool(folder) as pool:
        flags = ["--config", "spark", f"--spark_master_url={cluster.master}", f"--spark_job_server_jar={spark_jar}"]
        yield Engine([*flags, JVM, *pool.flags], pool, cluster)


@pytest.fixture(scope="module")
def flink(flink_jar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with worker_pool(tmp_path_factory.mktemp("flink")) as pool:
        flags = ["--config", "flink", f"--flink_job_server_jar={flink_jar}", "--parallelism=2"]
        yield Engine([*flags, JVM, *pool.flags], pool)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(autouse=True)
def on_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in loopback().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_both_jobs_give_the_bytes_of_one_process(
    engine: Engine, inputs: Path, curated: Path, tokens: Path, model_flags: list[str], tmp_path: Path
) -> None:
    with started("curate", "--input", str(inputs), "--output", "run", *engine.flags, cwd=tmp_path) as job:
        finish(job)
    assert tree(tmp_path / "run") == tree(curated)
    with started("tokenize", "--input", "run", "--output", "set", *model_flags, *engine.flags, cwd=tmp_path) as job:
        finish(job)
    assert tree(tmp_path / "set") == tree(tokens)


KILLED = {
    "spark-python-worker": ("spark", Engine.python_workers),
    "spark-executor": ("spark", Engine.executors),
    "flink-python-worker": ("flink", Engine.python_workers),
}


@pytest.mark.parametrize(
    ("engine", "processes"), [pytest.param(*case, id=name) for name, case in KILLED.items()], indirect=["engine"]
)
def test_a_killed_worker_changes_no_byte(
    engine: Engine, processes: Callable[[Engine], list[int]], inputs: Path, curated: Path, tmp_path: Path
) -> None:
    with started("curate", "--input", str(inputs), "--output", "run", *engine.flags, cwd=tmp_path) as job:
        wait_until(lambda: any((tmp_path / "run").glob(".work/analyze/*/*")), job)
        victim = processes(engine)[-1]
        os.kill(victim, signal.SIGKILL)
        finish(job)
    assert tree(tmp_path / "run") == tree(curated)


@pytest.mark.long
@pytest.mark.parametrize("engine", ["flink"], indirect=True)
def test_where_flink_gives_a_job_up_the_same_command_ends_it_with_the_same_bytes(
    engine: Engine, inputs: Path, curated: Path, tmp_path: Path
) -> None:
    run = ("curate", "--input", str(inputs), "--output", "run", *engine.flags)
    with started(*run, "--flink_conf=restart-strategy.type: none", cwd=tmp_path) as job:
        wait_until(lambda: any((tmp_path / "run").glob(".work/analyze/*/*")), job)
        os.kill(engine.python_workers()[-1], signal.SIGKILL)
        said = job.communicate(timeout=_PATIENCE_S)[0]
        assert job.returncode == 1 and "error: the job broke" in said, said[-3000:]
        assert not (tmp_path / "run" / "run.json").exists()
    with started(*run, cwd=tmp_path) as job:
        finish(job)
    assert tree(tmp_path / "run") == tree(curated)


@contextmanager
def started(*args: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that runs; it ends with the context, and so does the Java that it has started."""
    job = subprocess.Popen(
        command(*args), cwd=cwd, env=environment(), text=True, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    with job:
        try:
            yield job
        finally:
            with suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


def finish(job: subprocess.Popen[str]) -> None:
    """Waits for the command's end, which must be a good one."""
    said = job.communicate(timeout=_PATIENCE_S)[0]
    assert job.returncode == 0, said[-3000:]


def wait_until(ready: Callable[[], bool], job: subprocess.Popen[str], timeout_s: float = _PATIENCE_S) -> None:
    end = time.monotonic() + timeout_s
    while not ready():
        assert job.poll() is None, job.communicate()[0][-3000:]
        assert time.monotonic() < end, "nothing was analysed in time"
        time.sleep(0.02)
