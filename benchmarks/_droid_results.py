"""`python -m benchmarks._droid_results RUNS DOCS`: the pictures of docs/results.md, from the finished runs.

RUNS holds `tokens`, `lm` and `super-resolution`, each model with its `evaluation.json`; docs/results.md has the
commands. Writes DOCS/results-curves.svg and DOCS/results-samples.jpg.
"""

import itertools
import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

from media.encode import jpeg_bytes
from training.evaluate_settings import greedy, likeliest
from training.evaluate_super_resolution import bicubic
from training.generate_inputs import model_format
from training.generation import Generator
from training.lm import ReelLm
from training.model_folder import Tokenizers, load_model
from training.shards import ShardDataset
from training.super_resolution import SuperResolution
from training.trainer_loop import read_curve

matplotlib.use("svg")
from matplotlib import pyplot as plt

CLIPS, SHOWN = 4, (0, 4, 8, 10, 12, 14, 16)
CPU = torch.device("cpu")


def draw_curves(runs: Path, path: Path) -> None:
    """Nats per token by step: train (averaged), val, and the baselines as lines."""
    figures = {name: json.loads((runs / name / "evaluation.json").read_text()) for name in ("lm", "super-resolution")}
    lines = {
        "lm": {
            "unigram": figures["lm"]["baselines"]["unigram_nats"],
            "previous frame": figures["lm"]["baselines"]["previous_frame_nats"],
        },
        "super-resolution": {"without low resolution": figures["super-resolution"]["masked"]["nats_without_low"]},
    }
    plt.rcParams.update({"svg.hashsalt": "reelmill", "font.size": 9})
    drawing, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for axis, name in zip(axes, lines, strict=True):
        curve = read_curve(runs / name)
        train = [(point["step"], point["loss"]) for point in curve if "loss" in point]
        val = [(point["step"], point["val_loss"]) for point in curve if "val_loss" in point]
        axis.plot(*zip(*train, strict=True), linewidth=0.6, label="train")
        axis.plot(*zip(*val, strict=True), marker=".", label="val")
        for number, (label, nats) in enumerate(lines[name].items()):
            axis.axhline(nats, color="black", linestyle=("--", ":")[number], linewidth=0.8, label=label)
        axis.set(xlabel="step", ylabel="nats per token", title=name)
        axis.legend(frameon=False)
    drawing.savefig(path, metadata={"Date": None})


def draw_samples(runs: Path, path: Path) -> None:
    """By clip, the frames of the truth, of the continuation of its first nine frames, and of the upscaler."""
    model, folder = load_model(ReelLm, runs / "lm", CPU)
    upscaler, _ = load_model(SuperResolution, runs / "super-resolution", CPU)
    generator = Generator(model, Tokenizers(model.config.tokenizers, folder, CPU), CPU, upscaler)
    fmt = model_format(model, generator.tokenizers, None)
    high = next(name for name in ShardDataset(runs / "tokens", "val")[0].arrays if name.startswith("video_"))
    random = torch.Generator().manual_seed(0)
    dataset = ShardDataset(runs / "tokens", "val")
    rows = []
    for sample in itertools.islice(dataset, 0, None, max(1, len(dataset) // CLIPS)):
        done = generator.complete("continue", [sample], greedy(), random, given=3)[0]
        truth, made = (generator.frames(each.arrays["video"]) for each in (sample, done))
        large = generator.frames(sample.arrays[high])
        codes = generator.upscaled(sample.arrays["video"][None], sample.arrays["text"], likeliest(), random)[0]
        side = large.shape[1:3]
        columns = [bicubic(truth, *side), bicubic(made, *side), generator.frames(codes), large]
        rows += [np.concatenate([video[index] for index in SHOWN], axis=1) for video in columns]
        if len(rows) == 4 * CLIPS:
            break
    sheet = np.concatenate(rows)
    assert sheet.shape[0] == 4 * CLIPS * fmt.height * 2
    smaller = Image.fromarray(sheet).resize(
        (sheet.shape[1] * 3 // 4, sheet.shape[0] * 3 // 4), Image.Resampling.LANCZOS
    )
    path.write_bytes(jpeg_bytes(np.asarray(smaller)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    draw_curves(Path(sys.argv[1]), Path(sys.argv[2]) / "results-curves.svg")
    draw_samples(Path(sys.argv[1]), Path(sys.argv[2]) / "results-samples.jpg")
