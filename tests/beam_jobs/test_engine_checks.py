"""An engine that is not there, a wrong jar, an old Java, a place that workers do not see: said before any work."""

import socket
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_jobs.engines import check_engine, check_jar, java_version
from beam_jobs.runner import beam_options

SPARK = "org.apache.beam.runners.spark.SparkJobServerDriver"
EVERYWHERE = {"input": "s3://bucket/in.csv", "output": "s3://bucket/run"}


def write_jar(path: Path, main: str = SPARK, java: int = 8) -> Path:
    """A jar with one class of this Java's format."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "META-INF/MANIFEST.MF", f"Manifest-Version: 1.0\r\nMain-Class: {main[:40]}\r\n {main[40:]}\r\n"
        )
        archive.writestr(main.replace(".", "/") + ".class", struct.pack(">IHH", 0xCAFEBABE, 0, java + 44) + b"rest")
    return path


def write_java(path: Path, version: str) -> Path:
    """A launcher that only says which Java it is."""
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def port() -> Iterator[int]:
    """A port of this machine at which something answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def spark(tmp_path: Path) -> list[str]:
    """Flags of a Spark job whose Java and jar are sound."""
    return [
        "--runner=SparkRunner", f"--job_server_java_launcher={write_java(tmp_path / 'java', '17.0.1')}",
        f"--spark_job_server_jar={write_jar(tmp_path / 'server.jar')}",
    ]  # fmt: skip


def check(flags: list[str], places: dict[str, str | None] = EVERYWHERE) -> None:
    check_engine(beam_options(flags, 1), places)


def test_an_engine_that_is_there_passes(spark: list[str], port: int, tmp_path: Path) -> None:
    check([*spark, f"--spark_master_url=spark://127.0.0.1:{port}"], {"output": str(tmp_path)})
    check([*spark, "--spark_master_url=local[2]"], {"output": "run"})
    check(["--runner=PortableRunner", f"--job_endpoint=localhost:{port}"], {"output": "run"})
    check([], {"output": "run"})


def test_an_engine_that_does_not_answer(spark: list[str]) -> None:
    with socket.socket() as closed:  # bound but not listening: nobody else takes the port meanwhile
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ValueError, match=f"--spark_master_url: nothing answers at 127.0.0.1:{port}"):
            check([*spark, f"--spark_master_url=spark://127.0.0.1:{port}"])
        with pytest.raises(ValueError, match="--job_endpoint: nothing answers"):
            check(["--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}"])
    with pytest.raises(ValueError, match="write HOST:PORT"):
        check([*spark, "--spark_master_url=spark://somewhere"])


def test_java_that_is_missing_or_too_old(tmp_path: Path) -> None:
    jar = write_jar(tmp_path / "server.jar", java=11)
    flags = ["--runner=SparkRunner", f"--spark_job_server_jar={jar}", "--spark_master_url=local"]
    old = write_java(tmp_path / "java", "1.8.0_392")
    assert java_version(str(old)) == 8
    with pytest.raises(ValueError, match=r"is Java 8, and .*server.jar needs Java 11"):
        check([*flags, f"--job_server_java_launcher={old}"])
    with pytest.raises(FileNotFoundError, match="there is no '/nowhere/java'"):
        check([*flags, "--job_server_java_launcher=/nowhere/java"])


def test_jars_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make job-server ENGINE=flink"):
        check_jar(tmp_path / "missing.jar", "flink")
    (tmp_path / "text.jar").write_text("not a jar")
    with pytest.raises(ValueError, match="not a jar with a job server"):
        check_jar(tmp_path / "text.jar", "spark")
    with pytest.raises(ValueError, match=r"no job server of Flink: its main class is .*SparkJobServerDriver"):
        check_jar(write_jar(tmp_path / "spark.jar"), "flink")
    assert check_jar(write_jar(tmp_path / "server.jar", java=11), "spark") == 11


@pytest.mark.parametrize(
    ("places", "message"),
    [
        pytest.param({"output": "run"}, "output is run, .*file:///.*/run if every worker", id="output"),
        pytest.param({**EVERYWHERE, "input": "/data/a.mp4"}, "input is /data/a.mp4", id="input"),
    ],
)
def test_places_that_the_workers_of_a_cluster_do_not_see(places: dict[str, str], message: str) -> None:
    flags = ["--runner=DataflowRunner", "--project=reel-mill-123", "--region=europe-west4", "--job_name=a"]
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="pip install 'reelmill[gcp]'")
    with pytest.raises(ValueError, match=message):
        check([*flags, "--temp_location=gs://reels/tmp"], places)
    check([*flags, "--temp_location=gs://reels/tmp"], {**EVERYWHERE, "output": "file:///mnt/run"})
