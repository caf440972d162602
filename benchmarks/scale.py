"""What a hundred million clips take: a million of them simulated, and a finished run's own figures scaled up.

    python -m benchmarks.scale --run curated --clips 100000000 --vcpu_hour 0.04

The simulation places a million keys in shards, copies and reads their places as a new generation does, and replays and
reports a ledger of a million rows, each in a process of its own. `--run` adds the paper part: bytes of every kind of
file and record that passes between workers, and hours and cost by stage from `timings.json`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.coders import FastPrimitivesCoder

from beam_jobs.flow import KeptClip, SourceResult
from beam_jobs.record_json import from_json
from benchmarks.retune_replay import GROUP, ROWS, write_ledger
from curation.duplicates import band_keys, fingerprinted
from curation.ledger_rows import read_run_info
from media.parquet import write_parquet
from schemas.arrow import SOURCES_SCHEMA
from schemas.records import Analysis, Clip, Source, Verdict, clip_row, source_row
from schemas.states import ClipState, SourceState

CLIP_BYTES, SHARD_BYTES = 2_000_000, 512 * 2**20
_START = """
import sys, time, hashlib
from benchmarks.retune_replay import peak_mb
folder = sys.argv[1]
def told(count, start, baseline):
    print(count, time.perf_counter() - start[0], time.process_time() - start[1], peak_mb() - baseline)
"""
_STEPS = {
    "shards planned": """
from media.shard_plan import plan_shards
keys = [hashlib.sha256(str(number).encode()).hexdigest()[:20] for number in range(%(rows)d)]
sizes = [(key, %(clip)d // 2 + number %% 97 * %(clip)d // 97) for number, key in enumerate(keys)]
baseline, start = peak_mb(), (time.perf_counter(), time.process_time())
told(len(plan_shards(sizes, %(shard)d)), start, baseline)
""",
    "places copied for a new generation": """
from beam_jobs.products import Products
from beam_jobs.standing import standing
baseline, start = peak_mb(), (time.perf_counter(), time.process_time())
found = standing(Products(folder, "run.json"), "placed/clips-*.parquet", "clip_id", {})
told(len(found.parts), start, baseline)
""",
    "places read by a worker, one part": """
from pathlib import Path
from beam_jobs.standing import read_standing
part = sorted(Path(folder, ".work", "standing").glob("*.parquet"))[0]
baseline, start = peak_mb(), (time.perf_counter(), time.process_time())
told(sum(1 for _ in read_standing(str(part))), start, baseline)
""",
    "retune": """
from curation.ledger_rows import read_run_info
from curation.replay import replay
from curation.settings import FilterSettings
baseline, start = peak_mb(), (time.perf_counter(), time.process_time())
result = replay(folder, read_run_info(folder), FilterSettings(min_motion=0.4), FilterSettings(min_motion=0.2), 5)
told(sum(tally.clips for tally in result.after.values()), start, baseline)
""",
    "report": """
from curation import card, report_data
from curation.report import build_report
from pathlib import Path
baseline, start = peak_mb(), (time.perf_counter(), time.process_time())
build_report(folder)
told(Path(folder, "report.html").stat().st_size, start, baseline)
""",
}


def simulate(rows: int) -> None:
    """Prints what each step of a million clips takes, in a process of its own."""
    print(f"| {rows:,} clips | comes to | seconds | CPU seconds | MB above the imports |\n|---|---|---|---|---|")
    with TemporaryDirectory(prefix="reelmill-scale-") as scratch:
        folder = Path(scratch, "run")
        write_ledger(folder, rows)
        write_sources(folder, rows // 20)
        write_places(folder, rows)
        sizes = {"clip": CLIP_BYTES, "shard": SHARD_BYTES, "rows": rows}
        for name, code in _STEPS.items():
            step = _START + (code % sizes if "%(" in code else code)
            done = subprocess.run(
                [sys.executable, "-c", step, str(folder)], stdout=subprocess.PIPE, text=True, check=True
            )
            count, seconds, cpu, megabytes = map(float, done.stdout.split())
            print(f"| {name} | {count:,.0f} | {seconds:.1f} | {cpu:.1f} | {megabytes:.0f} |", flush=True)


def write_sources(folder: Path, count: int) -> None:
    """A ledger of inputs, as small as it may be."""
    sample = source_row(Source("0" * 20, "https://example.org/videos/0.mp4"), None, state=SourceState.DONE).__dict__ | {
        "num_clips": 20,
        "duration_s": 200.0,
    }
    write_parquet(folder / "ledger" / "sources-00000.parquet", (sample for _ in range(count)), SOURCES_SCHEMA)


def write_places(folder: Path, rows: int, part: int = 200_000) -> None:
    """Which clip lies in which shard, in parts of the ledger's size."""
    (folder / "placed").mkdir()
    for number, start in enumerate(range(0, rows, part)):
        index = range(start, min(start + part, rows))
        table = pa.table(
            {
                "clip_id": [f"{each * 2654435761 % 2**80:020x}" for each in index],
                "shard": [f"clips-{each // 268:05d}.tar" for each in index],
            }
        )
        pq.write_table(table, folder / "placed" / f"clips-{number:05d}.parquet", row_group_size=GROUP)


# --- on paper ---------------------------------------------------------------------------------------------------------


def paper(run_dir: str, clips: float, vcpu_hour: float) -> None:
    """Scales a finished run up to so many candidate clips: files, rows, bytes, hours and cost."""
    run = read_run_info(run_dir)
    candidates, inputs, kept = run.counts["clips"], run.counts["sources"], max(run.counts.get("clips.kept", 0), 1)
    factor = clips / candidates
    hours = run.hours
    print(f"\nFrom {run_dir}: {inputs} inputs, {hours['sources']:.3f} h; {candidates} candidates, {kept} kept.")
    print(f"Scaled to {clips:,.0f} candidates: {factor * inputs:,.0f} inputs, {factor * kept:,.0f} kept clips;")
    print(f"{factor * hours['sources']:,.0f} h of video, {factor * hours['kept']:,.0f} h kept.\n")
    print_files(run_dir, factor)
    print_shuffles(run_dir, factor)
    print_stages(run_dir, factor, hours["sources"], vcpu_hour)


def print_files(run_dir: str, factor: float) -> None:
    """Files and bytes of each kind."""
    run, folder = read_run_info(run_dir), Path(run_dir)
    shard_bytes = sum(shard.num_bytes for shard in run.shards)
    print("| what | files | bytes |\n|---|---|---|")
    print(f"| clip shards of 512 MiB | {factor * shard_bytes / SHARD_BYTES:,.0f} | {size(factor * shard_bytes)} |")
    for kind, rows in (("clips", run.counts["clips"]), ("sources", run.counts["sources"])):
        ledger = sum(path.stat().st_size for path in folder.glob(f"ledger/{kind}-*.parquet"))
        parts = 1 + factor * rows / 200_000
        print(f"| ledger of {kind}, {ledger / rows:.0f} bytes a row | {parts:,.0f} | {size(factor * ledger)} |")
    entry = (len(run.to_json()) - len(_without_shards(run_dir))) / max(len(run.shards), 1)
    print(f"| run.json, {entry:.0f} bytes a shard | 1 | {size(entry * factor * shard_bytes / SHARD_BYTES)} |")
    for stage in sorted(path for path in (folder / ".work").iterdir() if path.is_dir()):
        files = [path for path in stage.glob("*/*") if path.is_file()]
        if files and stage.name not in ("outcome", "inputs", "products"):
            total = sum(path.stat().st_size for path in files)
            print(f"| .work/{stage.name} | {factor * len(files):,.0f} | {size(factor * total)} |")


def _without_shards(run_dir: str) -> str:
    values = json.loads((Path(run_dir) / "run.json").read_text())
    return json.dumps({**values, "shards": []}, indent=2, sort_keys=True, ensure_ascii=False)


def print_shuffles(run_dir: str, factor: float) -> None:
    """Bytes that pass between workers, by the step that groups them, as Beam encodes them."""
    coder = FastPrimitivesCoder()
    totals: dict[str, int] = {}
    for analysis in analyses(run_dir):
        result = SourceResult(analysis.source, analysis, analysis.content_sha256)
        totals["DropCopies"] = totals.get("DropCopies", 0) + len(coder.encode(result))
        for clip in analysis.clips:
            for step, number in clip_bytes(coder, clip).items():
                totals[step] = totals.get(step, 0) + number
    print("\n| shuffle | bytes |\n|---|---|")
    for step, number in totals.items():
        print(f"| {step} | {size(factor * number)} |")
    print(f"| all | {size(factor * sum(totals.values()))} |")


def clip_bytes(coder: FastPrimitivesCoder, clip: Clip) -> dict[str, int]:
    """What one clip that is kept moves at each step."""
    whole, small = len(coder.encode(clip)), len(coder.encode(fingerprinted(clip)))
    kept = len(coder.encode(KeptClip(clip, sidecar=b" " * 1200)))
    row = len(coder.encode(clip_row(clip.with_verdict(Verdict(ClipState.KEPT)))))
    return {
        "DropSameClips": whole,
        "DropNearCopies, bands": len(list(band_keys(clip.phash))) * small,
        "DropNearCopies, join": whole,
        "Cut": whole,
        "Shards, by hash": kept,
        "Shards, spread": kept,
        "Ledger": row,
    }


def analyses(run_dir: str) -> Iterator[Analysis]:
    """The finished analyses of a run."""
    for path in sorted((Path(run_dir) / ".work" / "analyze").glob("*/*")):
        data = path.read_bytes()
        if not json.loads(data).get("rejected"):
            yield from_json(Analysis, data)


def print_stages(run_dir: str, factor: float, source_hours: float, vcpu_hour: float) -> None:
    """Hours of one core and cost by stage, from the run's own seconds."""
    stages = json.loads((Path(run_dir) / "timings.json").read_text())["stages"]
    print("\n| stage | vCPU-hours per 1,000 h of video | vCPU-hours in all | cost |\n|---|---|---|---|")
    total = 0.0
    for name, entry in stages.items():
        hours = entry.get("seconds", 0.0) / 3600
        if hours and source_hours:
            total += factor * hours
            print(f"| {name} | {1000 * hours / source_hours:,.0f} | {factor * hours:,.0f} | "
                  f"{factor * hours * vcpu_hour:,.0f} |")  # fmt: skip
    print(f"| all | | {total:,.0f} | {total * vcpu_hour:,.0f} |")


def size(num_bytes: float) -> str:
    """Bytes as `3.1 TB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} PB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="clips that are simulated; 0: none")
    parser.add_argument("--run", help="folder of a finished run, to be scaled up")
    parser.add_argument("--clips", type=float, default=1e8, help="candidate clips it is scaled to")
    parser.add_argument("--vcpu_hour", type=float, default=0.04, help="price of one vCPU for an hour")
    chosen = parser.parse_known_args()[0]  # names of benchmarks may stand beside
    if chosen.rows:
        simulate(chosen.rows)
    if chosen.run:
        paper(chosen.run, chosen.clips, chosen.vcpu_hour)


if __name__ == "__main__":
    main()
