"""What an engine costs: `reelmill curate` on Spark's local mode and Flink's small cluster, beside one local process.

    make job-server ENGINE=spark && make job-server ENGINE=flink
    python -m benchmarks.engine_overhead --counts 20 100

Processor time is that of all processes, Java's too. An engine whose job server is not built is left out; one that
lies elsewhere is named by REELMILL_SPARK_JAR, REELMILL_FLINK_JAR, as in the tests.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._process_tree import Cost, measure
from benchmarks.beam_overhead import FLAGS, make_videos, write_manifest

JOB_SERVERS = Path(__file__).parents[1] / "deploy" / "job-server" / "target"


def engines() -> dict[str, list[str]]:
    """By name, the flags with which a job runs there."""
    found = {"one process": ["--direct_num_workers=1", "--direct_running_mode=in_memory"]}
    for engine, master in (("spark", "--spark_master_url=local[2]"), ("flink", "--flink_master=[local]")):
        jar = Path(os.environ.get(f"REELMILL_{engine.upper()}_JAR") or JOB_SERVERS / engine / "job-server.jar")
        if jar.is_file():
            found[engine] = [
                "--config", engine, master, f"--{engine}_job_server_jar={jar}", "--job_server_jvm_properties=-Xmx1g",
            ]  # fmt: skip
        else:
            print(f"{engine} is left out: no {jar}; make job-server ENGINE={engine}", file=sys.stderr)
    return found


def run(flags: Sequence[str], manifest: Path, output: Path) -> Cost:
    command = [sys.executable, "-m", "reelmill", "curate", "--input", str(manifest), "--output", str(output), *FLAGS]
    return measure([*command, *flags], {**os.environ, "OMP_NUM_THREADS": "1"}, None)


def compare(paths: Sequence[Path], counts: Sequence[int]) -> None:
    """Runs all of it and prints the table."""
    print("| files | engine | wall s | CPU s | CPU beside one process |\n|---|---|---|---|---|")
    for count in counts:
        alone = 0.0
        for engine, flags in engines().items():
            with TemporaryDirectory(prefix="reelmill-bench-") as scratch:
                write_manifest(paths[:count], Path(scratch, "manifest.csv"))
                cost = run(flags, Path(scratch, "manifest.csv"), Path(scratch, "run"))
            alone = alone or cost.cpu_s
            print(
                f"| {count} | {engine} | {cost.wall_s:.1f} | {cost.cpu_s:.1f} | {cost.cpu_s / alone:.2f} |", flush=True
            )


def main(argv: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_overhead")
    parser.add_argument("--counts", type=int, nargs="+", default=[20, 100])
    options = parser.parse_args(argv)
    with TemporaryDirectory(prefix="reelmill-videos-") as folder:
        compare(make_videos(Path(folder, "videos"), max(options.counts)), options.counts)


if __name__ == "__main__":
    main(sys.argv[1:])
