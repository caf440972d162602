"""Damaged files by the hundred: the sums hold, nothing is left behind, and what is cut is what its span says.

`REELMILL_FUZZ=1000` sets how many mutants there are, `REELMILL_FUZZ_MEDIA=DIR` what they are made of: real files
beneath that folder, the smallest first. `REELMILL_FUZZ_TABLE=FILE` gets the outcomes by mutation.
"""

import os
import subprocess
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from media.tar import read_tar
from tests.beam_jobs.mutations import MUTATIONS, write_mutants
from tests.beam_jobs.processes import MARK, left_behind, stop
from tests.beam_jobs.runs import ONE_PROCESS, command, environment, ledger
from tests.media_factory import make_video

COUNT = int(os.environ.get("REELMILL_FUZZ", "56"))
PER_JOB = 112  # a multiple of the number of mutations
SEED = int(os.environ.get("REELMILL_FUZZ_SEED", "20240507"))
NUM_FILES = 150


def real_files(folder: Path) -> list[Path]:
    """Small real files, or small ones made here in every usual container."""
    named = os.environ.get("REELMILL_FUZZ_MEDIA")
    if named:
        files = sorted(path for path in Path(named).rglob("*.*") if path.suffix not in (".csv", ".json"))
        sized = sorted((path.stat().st_size, path) for path in files if path.is_file())
        return [path for size, path in sized if size][:NUM_FILES]
    vp8 = ("-c:v", "libvpx", "-b:v", "200k")
    mpeg4 = ("-c:v", "mpeg4", "-q:v", "5")
    return [
        make_video(folder / "h264.mp4", seconds=1.2, shots=2, extra=("-movflags", "+faststart")),
        make_video(folder / "late_index.mov", seconds=1.2),
        make_video(folder / "fragmented.mp4", seconds=1, extra=("-movflags", "frag_keyframe+empty_moov")),
        make_video(folder / "h264.mkv", seconds=1, vfr=True),
        make_video(folder / "vp8.webm", seconds=1, codec=vp8, audio_codec=("-c:a", "libopus")),
        make_video(folder / "mpeg4.avi", seconds=1, codec=mpeg4, audio_codec=("-c:a", "mp3")),
        make_video(folder / "h264.ts", seconds=1),
    ]


@pytest.mark.long
@pytest.mark.parametrize("job", range(-(-COUNT // PER_JOB)))
@pytest.mark.timeout(3600)
def test_mutants_of_real_files_cost_a_row_each(job: int, tmp_path: Path) -> None:
    seeds = range(SEED + job * PER_JOB, SEED + min(COUNT, (job + 1) * PER_JOB))
    made = write_mutants(real_files(tmp_path / "real"), tmp_path / "mutants", seeds)
    check_job(tmp_path, made)


def check_job(folder: Path, made: dict[str, str]) -> None:
    """Curates the mutants in `folder/mutants`, and looks at what that left."""
    mark, temporary = uuid.uuid4().hex, folder / "tmp"
    temporary.mkdir()
    args = ["curate", "--input", "mutants", "--output", "run", "--clips.min_duration_s", "0.2", *ONE_PROCESS]
    try:
        done = subprocess.run(
            command(*args), cwd=folder, env={**environment(), MARK: mark, "TMPDIR": str(temporary)}, text=True,
            capture_output=True, timeout=3000,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr[-3000:]
        assert left_behind(mark) == []
    finally:
        stop(mark)
    sources, clips = ledger(folder / "run", "sources"), ledger(folder / "run", "clips")
    assert sorted(Path(row["uri"]).name for row in sources) == sorted(made)
    assert {row["state"] for row in sources} <= {"done", "duplicate", "failed"}
    assert {row["state"] for row in clips} <= {"kept", "filtered", "duplicate", "failed"}
    internal = [row["detail"] for row in (*sources, *clips) if row["reason"] == "internal_error"]
    assert internal == []
    check_files(folder, sorted(row["clip_id"] for row in clips if row["state"] == "kept"))
    tell(made, sources)


def check_files(folder: Path, kept: Sequence[str]) -> None:
    """Every kept clip lies in a shard, and nothing lies about that no longer belongs to anything."""
    shards = sorted((folder / "run" / "clips").glob("*.tar"))
    members = [name for shard in shards for name, _ in read_tar(str(shard))]
    assert sorted(name.removesuffix(".mp4") for name in members if name.endswith(".mp4")) == kept
    left = [path for path in (folder / "tmp").rglob("*") if path.is_file()]
    assert [path for path in left if path.suffix != ".cube"] == []  # tables of HDR colours are kept for the next run
    assert not (folder / "run" / ".work" / "scratch").exists()
    assert list((folder / "run").rglob("*.tmp")) == []


def tell(made: dict[str, str], sources: Sequence[dict[str, object]]) -> None:
    """Adds the outcomes to the table that was asked for."""
    path = os.environ.get("REELMILL_FUZZ_TABLE")
    if path:
        found = Counter(
            f"{made[Path(str(row['uri'])).name]},{row['state']},{row['stage'] or ''},{row['reason'] or ''}"
            for row in sources
        )
        with Path(path).open("a") as file:
            file.writelines(f"{line},{count}\n" for line, count in sorted(found.items()))


def test_a_seed_makes_the_same_mutant_again(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 8)
    seeds = range(2 * len(MUTATIONS))
    first = write_mutants([tmp_path / "a.bin"], tmp_path / "1", seeds)
    assert write_mutants([tmp_path / "a.bin"], tmp_path / "2", seeds) == first and len(set(first.values())) == 7
    assert all((tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes() for name in first)
