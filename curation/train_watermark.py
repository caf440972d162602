"""Trains the watermark network on synthetic overlays over clean clips.

    python -m curation.train_watermark --data DIR --exclude watermarks.csv --output curation/weights/watermark

`--data` holds clean single-shot clips at any depth. `--exclude` is a CSV whose column `clean_twin` names clips that a
benchmark uses; they are left out, and so is a third of the others by the hash of their names (`is_held_out`): the
benchmark's clean clips that the network has never seen. Marks of the style `center` are never trained on.
"""

import argparse
import csv
import math
import random
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from curation.measurements import Measurements
from curation.overlay_network import Calibration, OverlayNetwork, as_input, save, strongest
from curation.overlay_scenes import varied
from curation.overlay_synthesis import STYLES, apply, overlay, recompressed
from curation.settings_models import TextSettings
from curation.text_area import LEAST_AREA, text_area
from curation.watermark import MIN_SAMPLES, gradients
from media.decode import decode_frames
from schemas.states import Rejection

HELD_OUT_STYLE = "center"
HELD_OUT_SHARE, VALIDATION_SHARE = 1 / 3, 0.1
NUM_FRAMES = 6  # of a stretch, evenly over 2.5 s
STRETCH = 20  # samples
MAX_STRETCHES = 4  # of one clip
SIZES = (*((144, 256),) * 6, (171, 256), (192, 256), (256, 256), (256, 144))
WIDTH, PAIRS = 8, 16  # pairs of a clean stretch and the same with a mark in a batch
LEARNING_RATE = 3e-3
PRIOR = 0.1  # share of marked clips for which the probability is calibrated
VISIBLE, INVISIBLE = 1.2, 0.2  # grey levels per pixel that a mark adds to the mean gradient of a place
PLACE_WEIGHT, EMPTY_WEIGHT = 0.5, 5


@dataclass(frozen=True)
class Stretch:
    """Frames (T H W) uint8 of a clean clip."""

    frames: np.ndarray
    clip: str


@dataclass(frozen=True)
class Pair:
    """Mean gradients (3 H W) float32 without and with a mark, and how much the mark adds at each place (h w)."""

    clean: np.ndarray
    marked: np.ndarray
    added: np.ndarray
    style: str


def stretches_of(path: Path, name: str, max_side: int = 256) -> list[Stretch]:
    """Frames of the first stretches of a clip at analysis size."""
    measurements, grays = Measurements(), []
    for frame in decode_frames(path, max_side=max_side):
        taken = measurements.push(frame.image, frame.pts, frame.time_base)
        if taken.sampled:
            grays.append(taken.gray)
        if len(grays) == MAX_STRETCHES * STRETCH:
            break
    parts = (grays[start : start + STRETCH] for start in range(0, len(grays), STRETCH))
    return [Stretch(_spread(part), name) for part in parts if len(part) >= MIN_SAMPLES]


def _spread(frames: list[np.ndarray]) -> np.ndarray:
    return np.stack([frames[index * (len(frames) - 1) // (NUM_FRAMES - 1)] for index in range(NUM_FRAMES)])


def pair(stretch: Stretch, style: str, size: tuple[int, int], generator: random.Random) -> Pair:
    """A varied stretch with a random mark and without."""
    scene = varied(stretch.frames, *size, generator)
    marked = apply(scene, overlay(*size, style, generator))
    quality = generator.randint(45, 95)
    clean_maps, marked_maps = (_mean_gradients(recompressed(each, quality)) for each in (scene, marked))
    return Pair(clean_maps, marked_maps, _added(_mean_gradients(scene), _mean_gradients(marked)), style)


def _mean_gradients(frames: np.ndarray) -> np.ndarray:
    parts = [gradients(frame) for frame in frames]
    return np.stack([np.mean([part[plane] for part in parts], axis=0) for plane in range(3)])


def _added(clean: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Mean change of the mean gradient in the squares of 8 × 8 pixels, (h w) grey levels per pixel."""
    change = torch.from_numpy(np.hypot(*(marked - clean)[:2]))
    return F.avg_pool2d(change[None, None], 8, ceil_mode=True)[0, 0].numpy()


def is_held_out(clip: str) -> bool:
    """Whether a clip is kept from training, so that it can tell how often clean clips are flagged."""
    return zlib.crc32(f"held out {clip}".encode()) / 2**32 < HELD_OUT_SHARE


def split(stretches: list[Stretch]) -> tuple[list[Stretch], list[Stretch]]:
    """Training and validation stretches, by clip."""

    def of_validation(stretch: Stretch) -> bool:
        return zlib.crc32(f"split {stretch.clip}".encode()) / 2**32 < VALIDATION_SHARE

    return [s for s in stretches if not of_validation(s)], [s for s in stretches if of_validation(s)]


def loss_of(network: OverlayNetwork, pairs: list[Pair]) -> torch.Tensor:
    """Cross-entropy of the pictures and, half as heavy, of their places; both classes count as much."""
    maps = torch.from_numpy(np.stack([p.clean for p in pairs] + [p.marked for p in pairs]).astype(np.float32))
    places = network.places(as_input(*maps.unbind(1)))  # 2B h w
    added = torch.from_numpy(np.stack([p.added for p in pairs]).astype(np.float32))
    visible = added > VISIBLE
    seen = visible.flatten(1).any(1)  # a mark that nobody could see is none
    logits = strongest(places)
    clean, marked = logits[: len(pairs)], logits[len(pairs) :][seen]
    loss = (F.softplus(clean).mean() + F.softplus(-marked).sum() / max(1, len(marked))) / 2
    here, empty = places[len(pairs) :][visible], places[len(pairs) :][added < INVISIBLE]
    without = torch.cat([places[: len(pairs)].flatten(), empty])
    of_places = F.softplus(-here).sum() / max(1, len(here)) + EMPTY_WEIGHT * F.softplus(without).mean()
    return loss + PLACE_WEIGHT * of_places / 2


def train(stretches: list[Stretch], epochs: int, seed: int, log: bool = True) -> tuple[OverlayNetwork, Calibration]:
    """The network and its calibration on clips it has not seen; marks are drawn anew in each epoch."""
    torch.manual_seed(seed)
    generator = random.Random(seed)
    training, validation = split(stretches)
    network = OverlayNetwork(WIDTH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    steps = epochs * max(1, len(training) // PAIRS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    styles = [style for style in STYLES if style != HELD_OUT_STYLE]
    checks = validation_pairs(validation)
    for epoch in range(epochs):
        network.train()
        losses = []
        order = generator.sample(training, len(training))
        for start in range(0, max(1, len(order) - PAIRS + 1), PAIRS):
            size = generator.choice(SIZES)
            batch = [pair(s, generator.choice(styles), size, generator) for s in order[start : start + PAIRS]]
            loss = loss_of(network, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if log:
            print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}; {report(network, checks)}", flush=True)
    return network, replace(calibrate(network, checks), **text_evidence(validation))


def validation_pairs(stretches: list[Stretch]) -> list[Pair]:
    """Every stretch under marks of all styles in turn, the held-out style among them; the same for every run."""
    generator = random.Random(1)
    order = [STYLES[(index + turn) % len(STYLES)] for turn in range(2) for index in range(len(stretches))]
    pairs = [pair(s, style, SIZES[0], generator) for s, style in zip(stretches * 2, order, strict=True)]
    return [each for each in pairs if (each.added > VISIBLE).any()]


@torch.inference_mode()
def logits_of(network: OverlayNetwork, pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the clean and of the marked pictures."""
    network.eval()
    maps = [torch.from_numpy(each.astype(np.float32)) for p in pairs for each in (p.clean, p.marked)]
    logits = np.array([float(network(as_input(*planes)[None])) for planes in maps])
    return logits[::2], logits[1::2]


def report(network: OverlayNetwork, pairs: list[Pair]) -> str:
    """Share of each style above the logit that 3 % of the clean pictures pass."""
    clean, marked = logits_of(network, pairs)
    limit = float(np.quantile(clean, 0.97))
    styles = np.array([p.style for p in pairs])
    shares = {style: float(np.mean(marked[styles == style] > limit)) for style in STYLES if (styles == style).any()}
    return "found at 3 % of clean: " + " ".join(f"{style} {share:.2f}" for style, share in shares.items())


def calibrate(network: OverlayNetwork, pairs: list[Pair]) -> Calibration:
    """Platt's scale and bias, for data of which a tenth is marked."""
    clean, marked = (torch.tensor(each, dtype=torch.float64) for each in logits_of(network, pairs))
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scale, bias = parameters
        value = (1 - PRIOR) * F.softplus(scale * clean + bias).mean()
        value = value + PRIOR * F.softplus(-scale * marked - bias).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return Calibration(*parameters.detach().tolist())


def text_evidence(stretches: list[Stretch]) -> dict[str, float]:
    """Log likelihood ratios of a mark where text is found in the first and last frame of a stretch, and where not.

    Both shares count one stretch of each kind more than there was, so that no ratio is infinite.
    """
    generator, settings = random.Random(2), TextSettings()
    styles = [style for style in STYLES if style != HELD_OUT_STYLE]
    found = {"clean": 1, "marked": 1}
    for index, stretch in enumerate(stretches):
        ends = stretch.frames[[0, -1]]
        _, height, width = ends.shape
        marked = apply(ends, overlay(height, width, styles[index % len(styles)], generator))
        for kind, frames in (("clean", ends), ("marked", marked)):
            pictures = [cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB) for frame in frames]
            found[kind] += text_area(pictures, settings) >= LEAST_AREA
    clean, marked_share = (found[kind] / (len(stretches) + 2) for kind in ("clean", "marked"))
    return {"text_found": math.log(marked_share / clean), "text_absent": math.log((1 - marked_share) / (1 - clean))}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of clean clips")
    parser.add_argument("--exclude", type=Path, help="CSV with a column clean_twin")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)  # the weights do not depend on how many cores there are
    excluded: set[str] = set()
    if arguments.exclude:
        with arguments.exclude.open() as stream:
            excluded = {Path(row["clean_twin"]).name for row in csv.DictReader(stream)}
    paths = sorted(path for folder in arguments.data for path in folder.rglob("*") if path.is_file())
    stretches: list[Stretch] = []
    for path in paths:
        if path.name not in excluded and not is_held_out(path.name):
            try:
                stretches += stretches_of(path, path.name)
            except Rejection as rejection:
                print(f"{path.name} is left out: {rejection}")
    print(f"{len(stretches)} stretches of {len(paths)} clips", flush=True)
    network, calibration = train(stretches, arguments.epochs, arguments.seed)
    save(network, arguments.output, calibration)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
