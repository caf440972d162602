"""Near copies: which changes to a clip are seen through, and which different clips are taken for one another.

    python -m benchmarks.near_copies --data ../shared/data

Copies of 40 clips are made with ffmpeg and compared with their originals; then all clips of `DATA/clips_droid`, many of
them takes of one scene by one camera, are compared with each other. Every pair that would be merged is printed.
"""

import argparse
import random
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2

from curation.duplicates import Fingerprinted, band_keys, mean_distance, near_duplicates
from curation.measurements import Measurements
from curation.settings import AnalysisSettings, DedupSettings
from media.decode import decode_frames
from media.ffmpeg import ffmpeg_path

CHANGES: dict[str, Sequence[str]] = {
    "re-encoded, crf 36": ("-crf", "36"),
    "half size, crf 30": ("-vf", "scale=trunc(iw/4)*2:-2", "-crf", "30"),
    "double size, crf 32": ("-vf", "scale=iw*2:-2", "-crf", "32"),
    "letterboxed to a square": ("-vf", "pad=iw:max(iw\\,ih):0:(oh-ih)/2", "-crf", "28"),
    "pillarboxed": ("-vf", "pad=trunc(iw/3)*4:ih:(ow-iw)/2:0", "-crf", "28"),
    "brighter, less colour": ("-vf", "eq=brightness=0.06:contrast=1.15:saturation=0.6", "-crf", "28"),
    "4 % cut off each side": ("-vf", "crop=trunc(iw*0.46)*2:trunc(ih*0.46)*2", "-crf", "28"),
    "half the frame rate": ("-r", "15", "-crf", "28"),
}
SHORT_S = 10  # seconds: longer clips are left out


def hashes_of(path: Path) -> tuple[tuple[int, ...], float]:
    """Perceptual hashes of a whole file as one clip, and its duration in seconds."""
    settings, measurements = AnalysisSettings(), Measurements()
    time_base = None
    for frame in decode_frames(path, max_side=settings.max_side):
        measurements.push(frame.image, frame.pts, frame.time_base)
        time_base = frame.time_base
    duration_s = float((measurements.pts[-1] - measurements.pts[0]) * time_base) if time_base else 0.0
    return measurements.hashes(0, len(measurements.pts), settings.num_hashes), duration_s


def recall(originals: dict[Path, tuple[int, ...]], limit: float, scratch: Path) -> None:
    for change, arguments in CHANGES.items():
        found, furthest = 0, 0.0
        for path, hashes in originals.items():
            copy = scratch / "copy.mp4"
            command = [ffmpeg_path(), "-y", "-v", "error", "-threads", "1", "-i", str(path), *arguments, "-an"]
            codec = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1"]
            subprocess.run([*command, *codec, str(copy)], check=True)
            other, _ = hashes_of(copy)
            bits = mean_distance(hashes, other)
            found += bits <= limit and not set(band_keys(hashes)).isdisjoint(band_keys(other))
            furthest = max(furthest, bits)
        print(f"{change:26} {found:3} of {len(originals)} found; furthest {furthest:.1f} bits", flush=True)


def merged(clips: dict[str, tuple[int, ...]], limit: float) -> None:
    pairs = near_duplicates([Fingerprinted(name, hashes, ()) for name, hashes in sorted(clips.items())], limit)
    print(f"\n{len(pairs)} of {len(clips)} different clips merged")
    for copy, kept in sorted(pairs.items()):
        print(f"  {copy} with {kept}: {mean_distance(clips[copy], clips[kept]):.1f} bits")
    names = sorted(clips)
    nearest = min(
        (mean_distance(clips[a], clips[b]), a, b) for index, a in enumerate(names) for b in names[index + 1 :]
    )
    print(f"nearest two: {nearest[1]} and {nearest[2]}, {nearest[0]:.1f} bits; the limit is {limit:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..", "shared", "data"))
    data = parser.parse_known_args()[0].data  # names of benchmarks may stand beside
    if not (data / "clips_droid").is_dir():
        print(f"not run: no clips_droid in {data}; name its folder with --data")
        return
    cv2.setNumThreads(1)
    limit = DedupSettings().near_distance
    takes = {path: hashes_of(path) for path in sorted((data / "clips_droid").iterdir())}
    others = [path for name in ("clips_misc", "clips_audio") for path in sorted((data / name).iterdir())]
    generator = random.Random(3)
    short = [path for path, (_, duration_s) in takes.items() if duration_s <= SHORT_S]
    originals = {path: takes[path][0] for path in generator.sample(short, 30)}
    for path in generator.sample(others, len(others)):
        hashes, duration_s = hashes_of(path) if len(originals) < 40 else ((), SHORT_S + 1.0)
        if duration_s <= SHORT_S:
            originals[path] = hashes
    with tempfile.TemporaryDirectory() as scratch:
        recall(originals, limit, Path(scratch))
    merged({path.name: hashes for path, (hashes, _) in takes.items()}, limit)


if __name__ == "__main__":
    main()
