"""The watermark score on marked clips and their clean twins: what each threshold finds and what it wrongly flags.

    python -m benchmarks.watermarks --data ../shared/data

`DATA/watermarks.csv` has a row for each pair: file, clean_twin, style.
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from curation.measurements import Measurements
from curation.watermark import OverlayEvidence
from media.decode import decode_frames

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def watermark_of(path: Path) -> float:
    """The greatest probability over a whole clip; 0 where there is no evidence."""
    measurements, evidence = Measurements(), OverlayEvidence()
    for frame in decode_frames(path, max_side=256):
        evidence.push(measurements.push(frame.image, frame.pts, frame.time_base), frame.index)
    evidence.finish()
    return evidence.probability(0, len(measurements.pts)) or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..", "shared", "data"))
    data = parser.parse_known_args()[0].data  # names of benchmarks may stand beside
    if not (data / "watermarks.csv").is_file():
        print(f"not run: no watermarks.csv in {data}; name its folder with --data")
        return
    marked: dict[str, list[float]] = defaultdict(list)
    clean: list[float] = []
    with (data / "watermarks.csv").open() as stream:
        for row in csv.DictReader(stream):
            marked[row["style"]].append(watermark_of(data / row["file"]))
            clean.append(watermark_of(data / row["clean_twin"]))
    everything = np.concatenate(list(map(np.array, marked.values())))
    print(f"{'threshold':>9} {'marked':>7} {'clean':>7}  " + " ".join(f"{style:>12}" for style in sorted(marked)))
    for limit in THRESHOLDS:
        shares = " ".join(f"{np.mean(np.array(marked[style]) > limit):12.3f}" for style in sorted(marked))
        print(f"{limit:9.1f} {np.mean(everything > limit):7.3f} {np.mean(np.array(clean) > limit):7.3f}  {shares}")


if __name__ == "__main__":
    main()
