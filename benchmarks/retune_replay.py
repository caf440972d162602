"""Seconds and memory of `reelmill retune` on a ledger of a million clips, beside loading it whole into Arrow."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.arrow import CLIPS_SCHEMA
from schemas.run import RunInfo
from schemas.scores import SCORES

ROWS, PART, GROUP = 1_000_000, 200_000, 10_000
_REPLAY = """
import sys, time
from benchmarks.retune_replay import peak_mb
from curation.ledger_rows import read_run_info
from curation.replay import replay
from curation.settings import FilterSettings
baseline, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
run = read_run_info(sys.argv[1])
result = replay(sys.argv[1], run, FilterSettings(min_motion=0.4), FilterSettings(min_motion=0.2, min_luma=0.3), 5)
counted = sum(tally.clips for tally in result.after.values())
print(counted, time.perf_counter() - start, time.process_time() - cpu, peak_mb() - baseline)
"""
_WHOLE = """
import sys, time
import pyarrow.parquet as pq
from benchmarks.retune_replay import peak_mb
baseline, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
print(pq.read_table(sys.argv[1] + "/ledger").num_rows, time.perf_counter() - start, time.process_time() - cpu,
      peak_mb() - baseline)
"""


def peak_mb() -> float:
    """The most memory this process has had, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def write_ledger(folder: Path, rows: int) -> None:
    """A ledger of so many rows, one in ten a copy, one in five below `min_motion` 0.4."""
    generator = np.random.default_rng(0)
    (folder / "ledger").mkdir(parents=True)
    for part, start in enumerate(range(0, rows, PART)):
        table = _part(generator, start, min(PART, rows - start))
        pq.write_table(table, folder / "ledger" / f"clips-{part:05d}.parquet", row_group_size=GROUP, compression="zstd")
    stages = {"near_dedup": "run", "clip_score": "run"}
    info = RunInfo("curate", {"filters": {"min_motion": 0.4}}, {}, {}, stages, {}, [])
    (folder / "run.json").write_text(info.to_json())


def _part(generator: np.random.Generator, start: int, count: int) -> pa.Table:
    number = np.arange(start, start + count)
    ids = pa.array([f"{int(index) * 2654435761 % 2**80:020x}" for index in number])
    motion = generator.gamma(2.0, 0.5, count)
    stopped, copies = motion < 0.4, (number % 10 == 0) & (motion >= 0.4)
    columns = {name: pa.nulls(count, CLIPS_SCHEMA.field(name).type) for name in CLIPS_SCHEMA.names}
    seconds = generator.uniform(1, 20, count)
    columns |= {
        "clip_id": ids,
        "source_id": ids,
        "uri": pa.array([f"https://example.org/videos/{index // 20}.mp4" for index in number]),
        "state": pa.array(np.where(stopped, "filtered", np.where(copies, "duplicate", "kept"))),
        "stage": pa.array(np.where(stopped, "shots", np.where(copies, "dedup", ""))),
        "reason": pa.array(np.where(stopped, "min_motion", np.where(copies, "near_duplicate", ""))),
        "duplicate_of": pa.array([f"{int(index) * 2654435761 % 2**80:020x}" for index in number + 1], mask=~copies),
        "start_s": pa.array(np.zeros(count)),
        "end_s": pa.array(seconds),
        "detail": pa.array([""] * count),
        "extra": pa.array(["{}"] * count),
    }
    for name in ("start_pts", "end_pts", "time_base_num", "time_base_den", "num_frames", "shot_index"):
        columns[name] = pa.array(np.ones(count, dtype=np.int64))
    for score in SCORES:
        columns[f"score_{score.name}"] = pa.array(
            generator.uniform(0, 1, count), mask=stopped & (score.name == "clip_score")
        )
    columns["score_motion"], columns["score_duration_s"] = pa.array(motion), pa.array(seconds)
    return pa.table(columns, schema=CLIPS_SCHEMA)


def measure(code: str, folder: Path) -> list[float]:
    """What a process of its own prints: rows, seconds, CPU seconds, MB above what its imports take."""
    printed = subprocess.run([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    rows, *figures = map(float, printed.stdout.split())
    if rows != ROWS:
        raise RuntimeError(f"counted {rows:.0f} clips of {ROWS}")
    return figures


def main() -> None:
    """Prints a table: retune, and for comparison reading every column of the ledger at once."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        write_ledger(folder, ROWS)
        figures = {"retune": measure(_REPLAY, folder), "reading the ledger whole": measure(_WHOLE, folder)}
    print(f"| {ROWS:,} clips | seconds | CPU seconds | MB above the imports |\n|---|---|---|---|")
    for name, (seconds, cpu, megabytes) in figures.items():
        print(f"| {name} | {seconds:.1f} | {cpu:.1f} | {megabytes:.0f} |")
