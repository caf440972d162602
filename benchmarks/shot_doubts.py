"""What the cascade's small network is in doubt about on plain edits, and what TransNetV2 says there.

    python -m benchmarks.shot_doubts --data ../shared/data [--edits 60]

This is where the constants of `curation.second_opinion` come from. The edits are plain cuts, dissolves and fades of 8
to 24 frames between clips that were held back from training, and that the edited videos of DATA are not made of.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator

from curation import second_opinion, train_transitions, transnet
from curation.cascade import split_at_valleys
from curation.second_opinion import UNDER_WAY, SecondOpinion, Stretch
from curation.transition_network import HEIGHT, WIDTH, probabilities

FOLDERS = ("clips_droid", "clips_misc", "clips_audio")
LENGTH, SHORTEST, LONGEST = 500, 30, 90  # frames of an edit at least, and of a shot
EDGE = 8  # frames at the ends of an edit, where a transition is seen in part


@dataclass
class Found:
    """What was found in some edits, and how far from the true ends of gradual transitions it begins and ends."""

    total: int = 0
    missed: int = 0
    false: int = 0
    late: list[int] = field(default_factory=list)

    def add(self, found: list[Stretch], events: list[Stretch], num_frames: int) -> None:
        for event in events:
            if not EDGE < event[0] <= event[1] < num_frames - EDGE:
                continue
            met = [boundary for boundary in found if meets(boundary, event)]
            self.total, self.missed = self.total + 1, self.missed + (not met)
            if met and event[1] > event[0]:
                self.late += [met[0][0] - event[0], event[1] - met[-1][1]]
        self.false += sum(not any(meets(boundary, event) for event in events) for boundary in found)

    def row(self) -> str:
        hits, short = self.total - self.missed, np.array(self.late)
        f1 = 2 * hits / max(2 * hits + self.false + self.missed, 1)
        return (
            f"F1 {f1:.4f}, {self.missed} missed, {self.false} false of {self.total}; ends that are more than one frame "
            f"short: {np.mean(short > 1):.3f}"
        )


def plain_edit(clips: list[np.ndarray], generator: Generator) -> tuple[np.ndarray, list[Stretch]]:
    """Frames (T 27 48 3) uint8, and the transitions: frames [first, last) are mixed, none at a cut."""
    frames, events, free = _shot(clips, generator), [], 0
    while len(frames) < LENGTH:
        shot = _shot(clips, generator)
        kind, length = generator.choice(3, p=[0.5, 0.3, 0.2]), int(generator.choice((8, 12, 16, 24)))
        length = min(length, len(frames) - free - 2, len(shot) - 2)
        overlap = 0 if kind == 0 or length < 4 else length if kind == 1 else length // 2
        first, share = len(frames) - overlap, (np.arange(1, overlap + 1) / (overlap + 1))[:, None, None, None]
        out, into = frames[first:], shot[:overlap]
        mixed = [out * (1 - share) + into * share] if kind == 1 else [out * (1 - share), into * share]
        frames = np.concatenate([frames[:first], *mixed, shot[overlap:]])
        free = first + sum(map(len, mixed))
        events.append((first, free))
    return np.round(frames).astype(np.uint8), events


def _shot(clips: list[np.ndarray], generator: Generator) -> np.ndarray:
    clip = clips[generator.integers(len(clips))]
    length = min(len(clip), int(generator.integers(SHORTEST, LONGEST + 1)))
    first = int(generator.integers(0, len(clip) - length + 1))
    return clip[first : first + length].astype(np.float32)


def meets(boundary: Stretch, event: Stretch) -> bool:
    """Whether a boundary lies on a transition, give or take a frame."""
    return boundary[0] <= event[1] + 1 and boundary[1] >= event[0] - 1


def boundaries(middle: np.ndarray, extent: np.ndarray) -> list[Stretch]:
    found = transnet.boundaries_from(middle, extent, 0.5, UNDER_WAY)
    return [part for first, last in found for part in split_at_valleys(middle, first, last, 0.5)]


def held_back(data: Path) -> list[np.ndarray]:
    """The clips that nothing was learnt from, at 27 × 48."""
    folders = [data / name for name in FOLDERS]
    names = {path.name for folder in folders for path in folder.rglob("*") if path.is_file()}
    excluded = {name for name in names if not train_transitions.is_held_back(name)}
    library = train_transitions.read_library(folders, excluded | train_transitions.sources_of(data / "cuts.csv"))
    small = [
        [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for frame in footage.frames]
        for _, footage in library
    ]
    return [np.stack(frames) for frames in small if len(frames) >= 48]


def run(clips: list[np.ndarray], num_edits: int) -> None:
    alone, together, seen, num_frames = Found(), Found(), 0, 0
    there: list[float] = []
    nothing: list[float] = []
    for seed in range(num_edits):
        frames, events = plain_edit(clips, np.random.default_rng(5000 + seed))
        middle, extent = probabilities(list(frames))
        alone.add(boundaries(middle, extent), events, len(frames))
        second = SecondOpinion()
        last = len(frames) - 1
        second.follow(
            middle, extent, lambda index, frames=frames, last=last: frames[min(max(index, 0), last)], whole=True
        )
        doubts = [doubt for opinion in second.opinions for doubt in opinion.doubts]
        seen += sum(len(opinion.middle) for opinion in second.opinions)
        second.give(middle, extent)
        for doubt in doubts:
            (there if any(meets(doubt, event) for event in events) else nothing).append(middle[slice(*doubt)].max())
        together.add(boundaries(middle, extent), events, len(frames))
        num_frames += len(frames)
    print(f"{len(clips)} clips, {num_edits} edits, {num_frames} frames")
    print(f"small network alone: {alone.row()}\nwith TransNetV2:     {together.row()}")
    print(f"TransNetV2 saw {seen / num_frames:.3f} of the frames, margins included")
    for what, peaks in (("transitions", there), ("none", nothing)):
        print(f"doubts where there are {what}: {len(peaks)}, it finds transitions in {sum(p > 0.5 for p in peaks)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("..", "shared", "data"))
    parser.add_argument("--edits", type=int, default=60)
    arguments, _ = parser.parse_known_args()  # names of benchmarks may stand beside
    if not (arguments.data / "cuts.csv").is_file():
        print(f"not run: no cuts.csv in {arguments.data}; name its folder with --data")
        return
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print(f"in doubt: peaks from {second_opinion.UNSURE} to {second_opinion.SURE}")
    run(held_back(arguments.data), arguments.edits)


if __name__ == "__main__":
    main()
