"""Trains the watermark network on synthetic overlays over clean clips.

    python -m curation.train_watermark --data DIR --exclude watermarks.csv --output curation/weights/watermark

`--data` holds clean single-shot clips at any depth. `--exclude` is a CSV whose column `clean_twin` names clips that a
benchmark uses; they are left out, and so is a third of the others by the hash of their names (`is_held_out`), on which
one can see how often clean clips are flagged; `--all` learns from these too. One style of mark (`tiled`) is never
trained on: it tells whether the network knows marks or only these styles. Every epoch draws its marks anew.
"""

import argparse
import csv
import math
import random
import zlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from curation.measurements import Measurements
from curation.overlay_network import Calibration, OverlayNetwork, as_input, save
from curation.overlay_synthesis import STYLES, apply, overlay, recompressed
from curation.settings_models import TextSettings
from curation.text_area import LEAST_AREA, text_area
from curation.watermark import MIN_SAMPLES, gradients
from media.decode import decode_frames
from schemas.states import Rejection

CLEAN, HELD_OUT_STYLE = "clean", "tiled"
TRAINED_STYLES = tuple(style for style in STYLES if style != HELD_OUT_STYLE)
HELD_OUT_SHARE, VALIDATION_SHARE = 1 / 3, 0.12
PRIOR = 0.1  # share of marked clips for which the probability is calibrated
MAX_SAMPLES = 20  # frames of one example
WIDTH, BATCH, RATE, WARM_UP = 12, 32, 3e-3, 0.1

Clips = dict[str, list[np.ndarray]]  # stretches (T H W) uint8 of each clip, by its name


@dataclass(frozen=True)
class Example:
    """Mean gradients (3 H W) float16 of a stretch, with or without a mark."""

    maps: np.ndarray
    style: str  # CLEAN or the mark's
    clip: str


def stretches_of(path: Path, max_side: int = 256) -> list[np.ndarray]:
    """The first two stretches (T H W) uint8 of a clip, of up to 2.5 s."""
    measurements, grays = Measurements(), []
    for frame in decode_frames(path, max_side=max_side):
        taken = measurements.push(frame.image, frame.pts, frame.time_base)
        if taken.sampled:
            grays.append(taken.gray)
        if len(grays) == 2 * MAX_SAMPLES:
            break
    parts = (grays[start : start + MAX_SAMPLES] for start in range(0, len(grays), MAX_SAMPLES))
    return [np.stack(part) for part in parts if len(part) >= MIN_SAMPLES]


def example_of(frames: np.ndarray, style: str, clip: str, generator: random.Random) -> Example:
    """Frames (T H W) uint8 under a random mark of a style, or under none, compressed again."""
    if style != CLEAN:
        frames = apply(frames, overlay(frames.shape[1], frames.shape[2], style, generator))
    return Example(_mean_gradients(recompressed(frames, generator.randint(35, 95))), style, clip)


def examples_to_judge_by(clips: Clips, marks: int = 2) -> list[Example]:
    """Every stretch as it is, and again under `marks` random overlays; the same each time."""
    found: list[Example] = []
    for clip, stretches in clips.items():
        generator = random.Random(zlib.crc32(clip.encode()))
        for stretch in stretches:
            styles = [CLEAN, *(generator.choice(STYLES) for _ in range(marks))]
            found += [example_of(stretch, style, clip, generator) for style in styles]
    return found


def examples_to_learn_from(clips: Clips, generator: random.Random) -> list[Example]:
    """Every stretch, altered at random, clean and under a mark of a style that is trained on."""
    found: list[Example] = []
    for clip, stretches in clips.items():
        for stretch in stretches:
            frames = altered(stretch, generator)
            styles = (CLEAN, generator.choice(TRAINED_STYLES))
            found += [example_of(frames, style, clip, generator) for style in styles]
    return found


def altered(frames: np.ndarray, generator: random.Random) -> np.ndarray:
    """Some of the frames (T H W) uint8 in a row; half of them mirrored, cropped to 3/4 of a side, of other contrast."""
    count = generator.randint(max(MIN_SAMPLES, len(frames) // 2), len(frames))
    first = generator.randint(0, len(frames) - count)
    frames = frames[first : first + count]
    if generator.random() < 0.5:
        frames = frames[:, :, ::-1]
    if generator.random() < 0.5:
        height, width = (3 * side // 4 for side in frames.shape[1:])
        top, left = (
            generator.randint(0, whole - part) for whole, part in zip(frames.shape[1:], (height, width), strict=True)
        )
        frames = frames[:, top : top + height, left : left + width]
    if generator.random() < 0.5:
        contrast, mean = generator.uniform(0.5, 1.4), frames.mean()
        frames = np.clip((frames - mean) * contrast + mean + generator.uniform(-30, 30), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(frames)


def _mean_gradients(frames: np.ndarray) -> np.ndarray:
    parts = [gradients(frame) for frame in frames]
    return np.stack([np.mean([part[plane] for part in parts], axis=0) for plane in range(3)]).astype(np.float16)


def train(clips: Clips, epochs: int, seed: int) -> tuple[OverlayNetwork, Calibration]:
    """The network and its calibration on clips it has not seen."""
    torch.manual_seed(seed)
    generator = random.Random(seed)
    validation = examples_to_judge_by({clip: clips[clip] for clip in clips if is_for_validation(clip)})
    training = {clip: clips[clip] for clip in clips if not is_for_validation(clip)}
    network = OverlayNetwork(WIDTH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    for epoch in range(epochs):
        network.train()
        drawn = batches(examples_to_learn_from(training, generator), generator)
        losses = []
        for index, batch in enumerate(drawn):
            set_rate(optimizer, (epoch + index / len(drawn)) / epochs)
            maps = torch.from_numpy(np.stack([example.maps for example in batch]).astype(np.float32))
            target = torch.tensor([float(example.style != CLEAN) for example in batch])
            loss = F.binary_cross_entropy_with_logits(network(as_input(*maps.unbind(1))), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}", flush=True)
        if (epoch + 1) % 10 == 0 or epoch + 1 == epochs:
            print(f"  found at 3 % of clean: {report(network, validation)}", flush=True)
    return network, calibrate(network, validation)


def set_rate(optimizer: torch.optim.Optimizer, done: float) -> None:
    """The learning rate at a share `done` of the training: up at first, then down by a cosine to nothing."""
    share = done / WARM_UP if done < WARM_UP else (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2
    for group in optimizer.param_groups:
        group["lr"] = RATE * share


def is_held_out(clip: str) -> bool:
    """Whether a clip is kept from training, so that it can tell how often clean clips are flagged."""
    return zlib.crc32(f"held out {clip}".encode()) / 2**32 < HELD_OUT_SHARE


def is_for_validation(clip: str) -> bool:
    return zlib.crc32(f"split {clip}".encode()) / 2**32 < VALIDATION_SHARE


def batches(examples: list[Example], generator: random.Random) -> list[list[Example]]:
    """Shuffled batches of pictures of one size each; a rest of fewer than 4 waits its turn."""
    by_shape: dict[tuple[int, ...], list[Example]] = defaultdict(list)
    for example in generator.sample(examples, len(examples)):
        by_shape[example.maps.shape].append(example)
    found = [group[start : start + BATCH] for group in by_shape.values() for start in range(0, len(group), BATCH)]
    found = [batch for batch in found if len(batch) >= 4]
    generator.shuffle(found)
    return found


@torch.inference_mode()
def logits_of(network: OverlayNetwork, examples: list[Example]) -> np.ndarray:
    network.eval()
    maps = (torch.from_numpy(example.maps.astype(np.float32)) for example in examples)
    return np.array([float(network(as_input(*planes)[None])) for planes in maps])


def report(network: OverlayNetwork, examples: list[Example]) -> str:
    """Share of each kind above the logit that 3 % of the clean examples pass."""
    logits = logits_of(network, examples)
    styles = np.array([example.style for example in examples])
    limit = float(np.quantile(logits[styles == CLEAN], 0.97)) if (styles == CLEAN).any() else 0.0
    shares = {style: float(np.mean(logits[styles == style] > limit)) for style in STYLES if (styles == style).any()}
    return " ".join(f"{style} {share:.2f}" for style, share in shares.items())


def calibrate(network: OverlayNetwork, examples: list[Example]) -> Calibration:
    """Platt's scale and bias, for data of which a tenth is marked."""
    logits = torch.tensor(logits_of(network, examples), dtype=torch.float64)
    marked = torch.tensor([float(example.style != CLEAN) for example in examples], dtype=torch.float64)
    weight = torch.where(marked > 0, PRIOR / marked.sum(), (1 - PRIOR) / (1 - marked).sum())
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(
            parameters[0] * logits + parameters[1], marked, weight, reduction="sum"
        )
        value.backward()
        return value

    optimizer.step(loss)
    return Calibration(*parameters.detach().tolist())


def text_evidence(stretches: list[np.ndarray]) -> dict[str, float]:
    """Log likelihood ratios of a mark where text is found in the first and last frame of a stretch, and where not.

    Both shares count one stretch of each kind more than there was, so that no ratio is infinite.
    """
    generator, settings = random.Random(2), TextSettings()
    found = {"clean": 1, "marked": 1}
    for index, stretch in enumerate(stretches):
        ends = stretch[[0, -1]]
        _, height, width = ends.shape
        marked = apply(ends, overlay(height, width, TRAINED_STYLES[index % len(TRAINED_STYLES)], generator))
        for kind, frames in (("clean", ends), ("marked", marked)):
            pictures = [cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB) for frame in frames]
            found[kind] += text_area(pictures, settings) >= LEAST_AREA
    clean, with_mark = (found[kind] / (len(stretches) + 2) for kind in ("clean", "marked"))
    return {"text_found": math.log(with_mark / clean), "text_absent": math.log((1 - with_mark) / (1 - clean))}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of clean clips")
    parser.add_argument("--exclude", type=Path, help="CSV with a column clean_twin")
    parser.add_argument("--all", action="store_true", help="learn from the third of the clips, too, that is held out")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # the weights do not depend on how many cores there are
    excluded: set[str] = set()
    if arguments.exclude:
        if not arguments.exclude.is_file():
            parser.error(f"--exclude {arguments.exclude}: there is no such file")
        with arguments.exclude.open() as stream:
            excluded = {Path(row["clean_twin"]).name for row in csv.DictReader(stream)}
    paths = sorted(path for folder in arguments.data for path in folder.rglob("*") if path.is_file())
    clips: Clips = {}
    for path in paths:
        if path.name not in excluded and (arguments.all or not is_held_out(path.name)):
            try:
                clips[path.name] = stretches_of(path)
            except Rejection as rejection:
                print(f"{path.name} is left out: {rejection}")
    if len({is_for_validation(clip) for clip, stretches in clips.items() if stretches}) < 2:
        folders = ", ".join(map(str, arguments.data))
        parser.error(f"--data {folders}: too few clips there, {len(clips)}; some must be left for validation")
    print(f"{sum(map(len, clips.values()))} stretches of {len(clips)} clips", flush=True)
    network, calibration = train(clips, arguments.epochs, arguments.seed)
    for_text = [stretch for clip in clips if is_for_validation(clip) for stretch in clips[clip][:1]]
    save(network, arguments.output, replace(calibration, **text_evidence(for_text)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
