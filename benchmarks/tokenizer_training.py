"""The tiny MAGVIT-v2 beside magvit2-pytorch, trained on the same clips for the same CPU time: PSNR on held-back clips.

Both see the same random crops, with the learning rate falling along a cosine over the time they have; neither has an
adversary or a perceptual loss. The peer has the layers of its README, as many weights as ours, its own losses and
defaults, and 18 bits in two codebooks of 512, which spares it the entropy of 262,144 codes. The last weights count.

The peer comes with the extra `bench`.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tokenizers import MAGVIT2_LAYERS, matched, num_parameters
from media.commandline import parse
from training.clips_data import centre_crop, crop_batch, spread
from training.settings_tokenizers import VideoTokenizerTraining
from training.tokenizer_loop import learning_rate
from training.video_tokenizer_task import VideoTask, psnr

PEER_RATES = (3e-4, 1e-3)
VAL_WINDOWS = 24
Loss = Callable[[Tensor], Tensor]
RoundTrip = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Trained:
    """One network: its weights, its loss of a batch, pixels there and back, and its learning rate."""

    model: nn.Module
    loss: Loss
    round_trip: RoundTrip
    learning_rate: float


def ours(task: VideoTask) -> Trained:
    """What ships, with the losses of its training."""
    model = task.model
    hidden = {"step": 0}

    def loss(batch: Tensor) -> Tensor:
        named = task.losses(model, None, batch.contiguous(memory_format=torch.channels_last_3d), hidden["step"])
        hidden["step"] += 1
        return torch.stack([value for name, value in named.items() if not name.startswith("_")]).sum()

    rate = task.settings.optimisation.learning_rate
    return Trained(model, loss, lambda video: model.decode(model.encode(video)), rate)


def peer(task: VideoTask, rate: float) -> Trained:
    """magvit2-pytorch, as wide as makes it as large as ours."""
    from magvit2_pytorch import VideoTokenizer

    clips = task.settings.clips
    sizes: dict[str, Any] = {"codebook_size": 512, "num_codebooks": 2, "use_gan": False, "perceptual_loss_weight": 0.0}

    def make(width: int) -> nn.Module:
        with torch.device("cpu"):
            return VideoTokenizer(
                image_size=clips.crop, init_dim=width, max_dim=8 * width, layers=MAGVIT2_LAYERS, **sizes
            )

    model: Any = matched(make, range(8, 65, 4), num_parameters(task.model))

    def round_trip(video: Tensor) -> Tensor:
        model.image_size = video.shape[-1]
        decoded: Tensor = model(video)
        model.image_size = clips.crop
        return decoded

    return Trained(model, lambda batch: model(batch, return_loss=True)[0], round_trip, rate)


def train(trained: Trained, task: VideoTask, cpu_seconds: float, precision: torch.dtype) -> int:
    """Trains for so many seconds of CPU time; gives the number of steps."""
    settings = replace(task.settings.optimisation, steps=10_000, learning_rate=trained.learning_rate)
    optimizer = torch.optim.AdamW(trained.model.parameters(), betas=settings.betas, weight_decay=settings.weight_decay)
    generator, step, start = torch.Generator().manual_seed(task.settings.running.seed), 0, time.process_time()
    clips = task.settings.clips
    trained.model.train()
    while (spent := time.process_time() - start) < cpu_seconds:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(round(spent / cpu_seconds * settings.steps), settings)
        batch = crop_batch(task.train_windows, settings.batch_size, clips.num_frames, clips.crop, generator)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = trained.loss(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained.model.parameters(), settings.max_grad_norm or float("inf"))
        optimizer.step()
        step += 1
    return step


@torch.inference_mode()
def held_back_psnr(trained: Trained, task: VideoTask) -> float:
    """Mean over the frames of held-back windows, in dB."""
    trained.model.eval()
    decibels = []
    for window in spread(task.val_windows, VAL_WINDOWS):
        video = centre_crop(window, task.settings.clips.resolution)
        decibels.append(float(psnr(trained.round_trip(video).float().clamp(-1, 1), video).mean()))
    return float(np.mean(decibels))


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one network and measures it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = str(files("tokenize_shards") / "configs" / "magvit2-tiny.yaml")
    table = str(Path(options.data) / "captions.csv")
    flags = ["--data", options.data, "--output", "unused", "--config", config, "--held_back.table", table]
    flags += ["--clips.include", '["clips_droid/*"]', "--clips.max_windows", "4"]
    settings, _ = parse(VideoTokenizerTraining, flags, "benchmark", "", ())
    task = VideoTask(settings, torch.device("cpu"))
    trained = ours(task) if name == "ours" else peer(task, options.rate)
    steps = train(trained, task, options.cpu_seconds, getattr(torch, options.precision))
    return {"steps": steps, "parameters": num_parameters(trained.model), "psnr_db": held_back_psnr(trained, task)}


def in_a_process(name: str, options: argparse.Namespace, rate: float, precision: str) -> dict[str, Any]:
    """The figures of one network, from a fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.tokenizer_training", "--data", options.data]
    command += ["--kind", name, "--rate", str(rate), "--precision", precision]
    command += ["--cpu-seconds", str(options.cpu_seconds)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{name}: {result.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(result.stdout.splitlines()[-1]))


def main() -> None:
    """Prints a table of both, and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=str(Path("..", "shared", "data")), help="clips_droid and captions.csv")
    parser.add_argument("--cpu-seconds", type=float, default=600.0, help="that each may train")
    parser.add_argument("--kind", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=PEER_RATES[0], help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="bfloat16", help=argparse.SUPPRESS)
    options = parser.parse_known_args()[0]  # names of benchmarks may stand beside
    if not (Path(options.data) / "captions.csv").is_file():
        print(f"not run: no captions.csv in {options.data}; name its folder with --data")
        return
    if importlib.util.find_spec("magvit2_pytorch") is None:
        print("not run: magvit2_pytorch is not installed: pip install 'reelmill[bench]'")
        return
    if options.kind:
        print(json.dumps(run(options.kind, options)))
        return
    print(f"{options.cpu_seconds:.0f} CPU seconds each, one thread\n")
    print("| | M weights | steps | held-back PSNR dB |\n|---|---|---|---|")
    rows = {"ours": in_a_process("ours", options, 0.0, "bfloat16")}
    for rate in PEER_RATES:
        rows[f"magvit2-pytorch, learning rate {rate:g}"] = in_a_process("peer", options, rate, "bfloat16")
    for name, row in rows.items():
        print(f"| {name} | {row['parameters'] / 1e6:.1f} | {row['steps']} | {row['psnr_db']:.2f} |")


if __name__ == "__main__":
    main()
