"""Whether a job can run where it is sent: asked before any work is done, and answered with the fix."""

import re
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    SparkRunnerOptions,
    StandardOptions,
)

from beam_jobs.dataflow_options import check_dataflow
from media import storage

_CONNECT_S = 5.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})
_PORTS = {"spark": 7077, "flink": 8081}
_DRIVERS = {"spark": "SparkJobServerDriver", "flink": "FlinkJobServerDriver"}
_BUILD = "build one with `make job-server ENGINE={engine}` and name it with --{engine}_job_server_jar"
_GUIDE = "docs/running-at-scale.md"


def check_engine(
    options: PipelineOptions, places: Mapping[str, str | None], devices: Iterable[str | None] = ()
) -> None:
    """Nothing, if the engine is there, its workers can see these places, and those of this machine have the devices.

    Args:
        places: what must be seen by every worker, by what it is, e.g. {"output": "s3://bucket/run"}; None is skipped.
        devices: what models are to run on; None is any.

    Raises:
        ValueError, FileNotFoundError: it cannot run so; names the flag, what is allowed and the fix.
    """
    engine = engine_of(options)
    if engine == "dataflow":
        check_dataflow(options)
    elif engine in _DRIVERS and not options.view_as(PortableOptions).job_endpoint:
        _check_java(options, engine)
    addresses = engine_addresses(options)
    for flag, address in addresses.items():
        _check_reachable(flag, address)
    if engine == "dataflow" or any(not _is_here(address) for address in addresses.values()):
        _check_visible(places, engine)
        _check_environment(options, engine)
    elif not addresses:
        _check_devices(devices)


def engine_of(options: PipelineOptions) -> str:
    """`spark`, `flink`, `dataflow`, `portable`, …: the runner's name as a person says it."""
    name = (options.view_as(StandardOptions).runner or "").rpartition(".")[2]
    return name.lower().removesuffix("runner")


def engine_addresses(options: PipelineOptions) -> dict[str, str]:
    """By flag, the `host:port` lists that this machine will connect to; none where Beam starts the engine itself."""
    endpoint = options.view_as(PortableOptions).job_endpoint
    if endpoint:
        return {} if endpoint == "embed" else {"job_endpoint": endpoint}
    engine = engine_of(options)
    if engine == "spark":
        spark = options.view_as(SparkRunnerOptions)
        if spark.spark_submit_uber_jar and spark.spark_rest_url:
            return {"spark_rest_url": _host_and_port(spark.spark_rest_url, 6066)}
        if spark.spark_master_url.startswith("spark://"):
            return {"spark_master_url": spark.spark_master_url.removeprefix("spark://")}
    if engine == "flink":
        master = options.view_as(FlinkRunnerOptions).flink_master
        if not master.startswith("["):
            return {"flink_master": _host_and_port(master, _PORTS["flink"])}
    return {}


def _host_and_port(address: str, port: int) -> str:
    parts = urlsplit(address if "://" in address else f"//{address}")
    return f"{parts.hostname or ''}:{parts.port or port}"


def _is_here(addresses: str) -> bool:
    """Whether all of these `host:port`s are of this machine."""
    return all(address.rpartition(":")[0] in _LOOPBACK for address in addresses.split(","))


def _check_reachable(flag: str, addresses: str) -> None:
    """Raises ValueError unless one of the `host:port`s answers."""
    why = ""
    for address in addresses.split(","):
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"--{flag} has {address!r}; write HOST:PORT")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
        except OSError as error:
            why = f"{address} ({error.strerror or error})"
        else:
            return
    raise ValueError(f"--{flag}: nothing answers at {why}; start the engine there, or name another address")


def _check_visible(places: Mapping[str, str | None], engine: str) -> None:
    """Raises ValueError where a place is a folder of this machine alone."""
    for what, path in places.items():
        if path is not None and storage.is_local(path) and not path.startswith("file://"):
            whole = storage.absolute(path, str(Path.cwd()))
            raise ValueError(
                f"{what} is {path}, a place of this machine, which the workers of {engine} do not see; use an object "
                f"store (gs://, s3://, hdfs://), or say file://{whole} if every worker has that folder mounted"
            )


def _check_devices(devices: Iterable[str | None]) -> None:
    """Raises ValueError where this machine, which is to do the work, lacks one of them."""
    for device in devices:
        if device is not None and device not in ("cpu", "auto"):
            from curation.devices import pick_device  # torch is imported only where a GPU is asked for

            pick_device(device)


def _check_environment(options: PipelineOptions, engine: str) -> None:
    """Raises ValueError where the workers of a real cluster would have Beam's bare image."""
    portable = options.view_as(PortableOptions)
    if engine == "dataflow" or portable.environment_type or portable.environment_config:
        return
    raise ValueError(
        "the workers need an environment with Reelmill in it: --environment_type=DOCKER --environment_config=IMAGE "
        f"(deploy/ has the Dockerfiles), or --environment_type=EXTERNAL --environment_config=HOST:PORT; {_GUIDE}"
    )


def _check_java(options: PipelineOptions, engine: str) -> None:
    """Raises ValueError, FileNotFoundError unless there is a Java that runs the job server."""
    launcher = options.view_as(JobServerOptions).job_server_java_launcher
    java = shutil.which(launcher)
    if java is None:
        raise FileNotFoundError(
            f"there is no {launcher!r} to run {engine.title()}'s job server; install Java 11 or 17, or name one with "
            "--job_server_java_launcher"
        )
    jar = job_server_jar(options, engine)
    if jar is None:
        return
    wanted, found = check_jar(jar, engine), java_version(java)
    if found is not None and found < wanted:
        raise ValueError(
            f"{java} is Java {found}, and {jar} needs Java {wanted}; install it and name it with "
            "--job_server_java_launcher"
        )


def job_server_jar(options: PipelineOptions, engine: str) -> Path | None:
    """The jar that is named; None where Beam is to download one."""
    spark, flink = options.view_as(SparkRunnerOptions), options.view_as(FlinkRunnerOptions)
    name = spark.spark_job_server_jar if engine == "spark" else flink.flink_job_server_jar
    return Path(name) if name and "://" not in name else None


def check_jar(jar: Path, engine: str) -> int:
    """The oldest Java that runs this job server.

    Raises:
        ValueError, FileNotFoundError: it is none of this engine.
    """
    build = _BUILD.format(engine=engine)
    if not jar.is_file():
        raise FileNotFoundError(f"--{engine}_job_server_jar {jar}: there is no such file; {build}")
    try:
        with zipfile.ZipFile(jar) as archive:
            main = _main_class(archive.read("META-INF/MANIFEST.MF").decode())
            if main is None or not main.endswith(_DRIVERS[engine]):
                raise ValueError(
                    f"{jar} is no job server of {engine.title()}: its main class is {main or 'not named'}, not "
                    f"{_DRIVERS[engine]}; {build}"
                )
            header = archive.read(main.replace(".", "/") + ".class")[:8]
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{jar} is not a jar with a job server in it ({error}); {build}") from error
    return int.from_bytes(header[6:8], "big") - 44  # class files of Java 8 are of version 52


def _main_class(manifest: str) -> str | None:
    unfolded = re.sub(r"\r?\n ", "", manifest)
    found = re.search(r"^Main-Class:\s*(\S+)", unfolded, re.MULTILINE)
    return found[1] if found else None


def java_version(java: str) -> int | None:
    """The feature release, such as 8 or 17; None where it does not say."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r'version "(?:1\.)?(\d+)', said.stderr + said.stdout)
    return int(found[1]) if found else None


def first_local(paths: Iterable[str]) -> str | None:
    """The first of these that is a place of this machine and not said to be everywhere (`file://`)."""
    return next((path for path in paths if storage.is_local(path) and not path.startswith("file://")), None)
