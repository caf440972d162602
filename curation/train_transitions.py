"""Trains the transition network on synthetic edits of single-shot clips.

    python -m curation.train_transitions --data DIR … --exclude cuts.csv --output curation/weights/transitions

`--data` holds single-shot clips at any depth. `--exclude` is a CSV whose column `incoming_source` names clips that a
benchmark's edits are made of; they are left out. About one clip in eight is held back: F1 on edits of those is printed.
"""

import argparse
import csv
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from curation.transition_network import TransitionNetwork, load, save
from curation.transition_synthesis import Edit, Footage, edit
from curation.transnet import boundaries_from
from media.decode import decode_frames
from schemas.states import Rejection

HELD_BACK_SHARE = 0.12
MAX_FRAMES = 240  # of a clip
KEPT = (45, 80)  # height and width at which clips are kept, so that there is room for a camera
LENGTH, BATCH, WIDTH = 104, 8, 16
MARGIN = 10  # frames at the ends of a window, where a transition is seen in part
MIDDLE_WEIGHT = 3.0  # middles are rare


def read_library(folders: Sequence[Path], excluded: set[str]) -> list[tuple[str, Footage]]:
    """Name and footage of each clip that can be decoded. Clips whose names begin alike are of one group."""
    found = []
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        if path.name in excluded:
            continue
        try:
            frames = []
            for frame in decode_frames(path, max_side=2 * KEPT[1]):
                frames.append(cv2.resize(frame.image, KEPT[::-1], interpolation=cv2.INTER_AREA))
                if len(frames) == MAX_FRAMES:
                    break
        except Rejection as rejection:
            print(f"{path.name} is left out: {rejection}")
            continue
        found.append((path.name, Footage(np.stack(frames), _group(path))))
    return found


def _group(path: Path) -> str:
    """Clips that share all of their name but its last part, `robot7_0012.mp4`, are alike; others are on their own."""
    stem, _, number = path.stem.rpartition("_")
    return stem if number.isdigit() and stem else path.stem


def split(library: Sequence[tuple[str, Footage]]) -> tuple[list[Footage], list[Footage]]:
    """Footage to learn from, and footage held back."""
    learning: list[Footage] = []
    held_back: list[Footage] = []
    for name, footage in library:
        (held_back if is_held_back(name) else learning).append(footage)
    return learning, held_back


def is_held_back(name: str) -> bool:
    """Whether the clip of this file name is kept out of training; about one in eight is."""
    return zlib.crc32(f"split {name}".encode()) / 2**32 < HELD_BACK_SHARE


def sources_of(table: Path) -> set[str]:
    """Names of the clips that the edits of a benchmark are made of, from the column `incoming_source` of a CSV."""
    with table.open() as stream:
        return {Path(row["incoming_source"]).name for row in csv.DictReader(stream) if row["incoming_source"]}


def train(
    network: TransitionNetwork,
    library: Sequence[Footage],
    held_back: Sequence[Footage],
    steps: int,
    rate: float,
    seed: int,
    report_every: int = 200,
) -> None:
    """Trains the network for so many steps of `BATCH` edits each, at up to this learning rate."""
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    losses: list[float] = []
    for step in range(1, steps + 1):
        network.train()
        loss = loss_of(network, [edit(library, LENGTH, generator) for _ in range(BATCH)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % report_every == 0 or step == steps:
            print(
                f"step {step}/{steps}: loss {np.mean(losses):.4f}; held back: {report(network, held_back)}", flush=True
            )
            losses.clear()


def loss_of(network: TransitionNetwork, edits: Sequence[Edit]) -> Tensor:
    """Mean cross-entropy of both heads over the frames that count."""
    frames = torch.from_numpy(np.stack([made.frames for made in edits]))
    target = torch.from_numpy(np.stack([np.stack([made.middle, made.extent], -1) for made in edits]))  # B T 2
    weight = torch.from_numpy(np.stack([made.weight for made in edits]))[..., None].clone()
    weight[:, :MARGIN] = weight[:, -MARGIN:] = 0
    logits = network(frames)
    loss = F.binary_cross_entropy_with_logits(
        logits, target, weight.expand_as(target), reduction="sum", pos_weight=torch.tensor([MIDDLE_WEIGHT, 1.0])
    )
    return loss / (2 * weight.sum())


@torch.inference_mode()
def report(network: TransitionNetwork, footage: Sequence[Footage], count: int = 60, seed: int = 1) -> str:
    """F1 of boundaries on edits of some footage, the same edits each time, and recall of gradual transitions."""
    network.eval()
    generator = np.random.default_rng(seed)
    hits = false = total = gradual_hits = gradual_total = 0
    errors: list[int] = []
    for _ in range(count):
        made = edit(footage, LENGTH, generator)
        both = torch.sigmoid(network(torch.from_numpy(made.frames)[None])[0]).numpy()
        found = boundaries_from(both[:, 0], both[:, 1], 0.5)
        events = [event for event in boundaries_from(made.middle, made.extent, 0.5) if made.weight[event[0] - 1]]
        for first, last in events:
            if first < MARGIN or last > LENGTH - MARGIN:
                continue
            met = [(a, b) for a, b in found if a <= last + 1 and b >= first - 1]
            total, hits = total + 1, hits + bool(met)
            if last > first:
                gradual_total, gradual_hits = gradual_total + 1, gradual_hits + bool(met)
                errors += [min(a for a, _ in met) - first, last - max(b for _, b in met)] if met else []
        known = boundaries_from(np.maximum(made.middle, made.extent), made.extent, 0.5)
        for a, b in found:
            met_any = any(a <= last + 1 and b >= first - 1 for first, last in known)
            false += not met_any and a >= MARGIN and b <= LENGTH - MARGIN
    late = np.mean(np.array(errors) > 2) if errors else 0.0
    f1 = 2 * hits / max(hits + false + total, 1)
    return (
        f"F1 {f1:.3f} ({total - hits} missed, {false} false of {total}), "
        f"gradual {gradual_hits / max(gradual_total, 1):.3f}, ends more than 2 frames short {late:.3f}"
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of single-shot clips")
    parser.add_argument("--exclude", type=Path, help="CSV with a column incoming_source")
    parser.add_argument("--leave_out", nargs="*", default=[], help="names of further clips to leave out")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--start_from", type=Path, help="folder of weights to go on from")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # the weights do not depend on how many cores there are
    excluded = set(arguments.leave_out)
    if arguments.exclude:
        excluded |= sources_of(arguments.exclude)
    library = read_library(arguments.data, excluded)
    learning, held_back = split(library)
    print(f"{len(learning)} clips to learn from, {len(held_back)} held back, {len(excluded)} excluded", flush=True)
    torch.manual_seed(arguments.seed)
    network = load(str(arguments.start_from)) if arguments.start_from else TransitionNetwork(WIDTH)
    train(network, learning, held_back, arguments.steps, arguments.learning_rate, arguments.seed)
    save(network, arguments.output, width=WIDTH)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
