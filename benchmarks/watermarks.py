"""The watermark score on marked clips, their clean twins and other clean clips: the curve, calibration and cost.

    python -m benchmarks.watermarks --data ../shared/data [--text] [--model FILE] [--others 240]

`DATA/watermarks.csv` has a row for each pair: file, clean_twin, style; no training has seen them. The other clean clips
are of clips_droid, clips_misc and clips_audio, those that `curation.train_watermark` leaves out.
"""

import argparse
import csv
import hashlib
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.analysis import analyze
from curation.duplicates import MARKED
from curation.settings import ClipSettings, CurateSettings, TextSettings, WatermarkSettings
from curation.train_watermark import PRIOR, is_held_out
from media.fetch import LocalMedia
from schemas.records import Source

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
BINS = ((0.0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 1.0))


@dataclass(frozen=True)
class Found:
    """What one file was given."""

    file: str
    style: str  # "twin" and "other" are clean
    watermark: float
    text_area: float
    cpu_s: float


def judged(data: Path, file: str, style: str, settings: CurateSettings) -> Found:
    """The greatest probability over the clips of a file; 0 where there is no evidence."""
    path = data / file
    local = LocalMedia(path, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    start = time.process_time()
    clips = analyze(Source(file, str(path)), local, settings).clips
    cpu_s = time.process_time() - start
    watermark, area = (
        max((c.scores.get(name, 0.0) for c in clips), default=0.0) for name in ("watermark", "text_area")
    )
    return Found(file, style, watermark, area, cpu_s)


def files_of(data: Path, num_others: int) -> list[tuple[str, str]]:
    """(file, style): marked clips, their twins, and other clean clips."""
    with (data / "watermarks.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    twins = sorted({row["clean_twin"] for row in rows})
    folders = ("clips_misc", "clips_audio", "clips_droid")
    clean = [f"{folder}/{path.name}" for folder in folders for path in sorted((data / folder).iterdir())]
    held_out = [file for file in clean if file not in twins and is_held_out(Path(file).name)]
    others = random.Random(0).sample(held_out, min(num_others, len(held_out)))
    marked = [(row["file"], row["style"]) for row in rows]
    return marked + [(file, "twin") for file in twins] + [(file, "other") for file in sorted(others)]


def report(found: list[Found]) -> None:
    marked = {style: _values(found, style) for style in sorted({f.style for f in found} - {"twin", "other"})}
    everything, twin, other = np.concatenate(list(marked.values())), _values(found, "twin"), _values(found, "other")
    cost = np.array([1000 * f.cpu_s for f in found])
    print(f"{len(everything)} marked clips, {len(twin)} clean twins, {len(other)} other clean clips")
    print(f"CPU time of the whole analysis: {cost.mean():.0f} ms per clip, median {np.median(cost):.0f}\n")
    print(f"{'threshold':>9} {'marked':>7} {'twins':>7} {'other':>7}  " + " ".join(f"{s:>12}" for s in marked))
    for limit in THRESHOLDS:
        shares = " ".join(f"{np.mean(values > limit):12.3f}" for values in marked.values())
        print(f"{limit:9.2f} {np.mean(everything > limit):7.3f} {np.mean(twin > limit):7.3f} "
              f"{np.mean(other > limit):7.3f}  {shares}{'   the default' if limit == MARKED else ''}")  # fmt: skip
    print(f"\nreliability, clips weighted so that {PRIOR:.0%} are marked\n  probability   share marked")
    clean = np.concatenate([twin, other])
    for low, high in BINS:
        with_mark = PRIOR * np.mean((everything >= low) & (everything < high + (high == 1)))
        without = (1 - PRIOR) * np.mean((clean >= low) & (clean < high + (high == 1)))
        share = f"{with_mark / (with_mark + without):.3f}" if with_mark + without else "none there"
        print(f"  {low:4.2f}–{high:4.2f}     {share}")
    for title, rows in (
        ("marked clips missed", [f for f in found if f.style in marked and f.watermark <= MARKED]),
        ("clean clips flagged", [f for f in found if f.style not in marked and f.watermark > MARKED]),
    ):
        print(f"\n{title} at {MARKED}: {len(rows)}")
        for each in rows:
            print(f"  {each.watermark:.3f}  text {each.text_area:.4f}  {each.style:12} {each.file}")


def _values(found: list[Found], style: str) -> np.ndarray:
    return np.array([f.watermark for f in found if f.style == style])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..", "shared", "data"))
    parser.add_argument("--text", action="store_true", help="with the text detector")
    parser.add_argument("--model", help="another classifier, as `watermark.model`")
    parser.add_argument("--others", type=int, default=240, help="how many of the other clean clips")
    arguments = parser.parse_known_args()[0]  # names of benchmarks may stand beside
    data = arguments.data
    if not (data / "watermarks.csv").is_file():
        print(f"not run: no watermarks.csv in {data}; name its folder with --data")
        return
    settings = CurateSettings(
        str(data), "out", clips=ClipSettings(min_duration_s=0.5), text=TextSettings(enabled=arguments.text),
        watermark=WatermarkSettings(model=arguments.model),
    )  # fmt: skip
    report([judged(data, file, style, settings) for file, style in files_of(data, arguments.others)])


if __name__ == "__main__":
    main()
