"""The training loop of the token models: Lightning Fabric, AdamW, curves, checkpoints, exact resume.

All that is random in a step is a function of (seed, step), and the reader counts the batches it handed out, so a run
that was killed and goes on gives the same curve, digit for digit on a CPU.
"""

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from schemas.shards import TokenSample
from training.batches import BatchLoader
from training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from training.settings import LoopSettings, OptimizerSettings
from training.sharding import fsdp_strategy, whole, whole_state

logger = logging.getLogger(__name__)
CURVE_FILE = "curve.jsonl"


@dataclass(frozen=True)
class StepLoss:
    """What one batch gives: a scalar with gradient, how many tokens it is the mean of, and further numbers."""

    loss: Tensor
    num_tokens: int
    metrics: dict[str, float]


class Objective(Protocol):
    """What is trained."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def forward_methods(self) -> tuple[str, ...]:
        """Of the model, besides forward, that a step calls."""
        ...

    def loss(self, model: Any, samples: list[TokenSample], step: int, micro_step: int) -> StepLoss:
        """The loss of a batch; whatever is random in it depends on the step and the micro step alone."""
        ...

    def evaluate(self, model: Any) -> dict[str, float]:
        """Figures on the val split; empty where there is none."""
        ...

    def export(self, output: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes the model, with these weights, as others load it."""
        ...


def make_fabric(loop: LoopSettings, output: Path) -> Fabric:
    """Fabric on cuda when there is one; TensorBoard below OUTPUT/tensorboard."""
    if loop.threads is not None:
        torch.set_num_threads(loop.threads)
    cuda = torch.cuda.is_available() if loop.device == "auto" else loop.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise ValueError("loop.device is cuda, but torch sees none; choose cpu or auto")
    precision: Any = loop.precision if loop.precision != "auto" else ("bf16-mixed" if cuda else "32-true")
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=loop.devices,
        strategy=fsdp_strategy(loop.devices) if loop.strategy == "fsdp" else loop.strategy,
        precision=precision,
        loggers=TensorBoardLogger(str(output), name="tensorboard", version=""),
    )
    fabric.launch()
    return fabric


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Of step 0, 1, …: a line up to the highest, then half a cosine down to the final fraction of it."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    low = settings.final_fraction
    return settings.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def make_optimizer(model: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW; weight decay on the matrices of linear layers only."""
    decayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if id(p) in decayed], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2))


class Trainer:
    """Trains an objective for a number of steps, from its last checkpoint if there is one."""

    def __init__(
        self, fabric: Fabric, objective: Objective, loader: BatchLoader, loop: LoopSettings,
        optimizer: OptimizerSettings, output: Path, console: Console | None = None,
    ):  # fmt: skip
        self.fabric, self.objective, self.loader = fabric, objective, loader
        self.loop, self.optimizer_settings, self.output = loop, optimizer, output
        self.console = console or Console()
        model: Any = torch.compile(objective.model) if loop.compile else objective.model
        self.model = fabric.setup_module(model)
        self.bare_optimizer = make_optimizer(objective.model, optimizer)  # of the weights as they are shared out
        self.optimizer: Any = fabric.setup_optimizers(self.bare_optimizer)
        for name in objective.forward_methods:
            self.model.mark_forward_method(name)
        self.first_step = self._resume()

    def fit(self) -> dict[str, float]:
        """Trains to the last step; gives the figures of the last evaluation and the last training loss."""
        batches: Iterator[list[TokenSample]] = iter(self.loader)
        figures: dict[str, float] = {}
        self.model.train()
        with self._progress() as progress:
            bar = progress.add_task("", total=self.loop.steps, completed=self.first_step, loss="", speed="")
            since, tokens = time.perf_counter(), 0
            for step in range(self.first_step, self.loop.steps):
                point = self._step(step, batches)
                tokens += int(point.pop("num_tokens"))
                done = step + 1
                if done % self.loop.log_every == 0 or done == self.loop.steps:
                    speed = tokens / (time.perf_counter() - since)
                    self._log(done, point, speed)
                    progress.update(bar, loss=f"loss {point['loss']:.4f}", speed=f"{speed:,.0f} tokens/s")
                    since, tokens = time.perf_counter(), 0
                progress.update(bar, completed=done)
                if self._due(done, self.loop.eval_every):
                    figures = {**self._evaluate(done), "train_loss": point["loss"]}
                if self._due(done, self.loop.save_every):
                    self._save(done)
        self.export()
        return figures or self._evaluate(self.loop.steps)

    def export(self) -> None:
        """The model as it is now, in the output folder."""
        weights = whole_state(self.objective.model.state_dict())
        if self.fabric.is_global_zero:
            self.objective.export(self.output, weights)
        self.fabric.barrier()

    def _due(self, done: int, every: int) -> bool:
        return done == self.loop.steps or (every > 0 and done % every == 0)

    def _step(self, step: int, batches: Iterator[list[TokenSample]]) -> dict[str, float]:
        rate = learning_rate(step, self.loop.steps, self.optimizer_settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total, num_tokens, metrics = 0.0, 0, {}
        for micro_step in range(self.loop.accumulate):
            last = micro_step + 1 == self.loop.accumulate
            with self.fabric.no_backward_sync(self.model, enabled=not last):
                result = self.objective.loss(self.model, next(batches), step, micro_step)
                self.fabric.backward(result.loss / self.loop.accumulate)
            mean: Any = self.fabric.all_reduce(result.loss.detach())  # over ranks
            total += float(mean) / self.loop.accumulate
            num_tokens += result.num_tokens * self.fabric.world_size
            metrics = result.metrics
        if not math.isfinite(total):
            raise RuntimeError(f"the loss became {total} at step {step + 1}; lower optimizer.learning_rate")
        if self.optimizer_settings.clip_norm:
            norm = self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.optimizer_settings.clip_norm)
            metrics = {**metrics, "gradient_norm": float(whole(norm))}  # type: ignore[arg-type]
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": total, "learning_rate": rate, "num_tokens": num_tokens, **metrics}

    def _evaluate(self, done: int) -> dict[str, float]:
        self.model.eval()
        with torch.no_grad():
            figures = self.objective.evaluate(self.model)
        self.model.train()
        if figures:
            self._log(done, {f"val_{name}": value for name, value in figures.items()}, None)
        return figures

    def _log(self, step: int, point: dict[str, float], speed: float | None) -> None:
        if not self.fabric.is_global_zero:
            return
        with (self.output / CURVE_FILE).open("a") as file:
            file.write(json.dumps({"step": step, **point}, sort_keys=True) + "\n")
        shown = dict(point) if speed is None else {**point, "tokens_per_second": speed}
        self.fabric.log_dict(shown, step)
        if not self.console.is_terminal:
            words = [f"{name} {value:.4g}" for name, value in shown.items()]
            self.console.print(f"step {step}/{self.loop.steps}  " + "  ".join(words), soft_wrap=True)

    def _progress(self) -> Progress:
        columns = ("{task.completed}/{task.total}", "{task.fields[loss]}", "{task.fields[speed]}")
        return Progress(
            BarColumn(), *(TextColumn(column) for column in columns), TimeRemainingColumn(), console=self.console,
            transient=True, disable=not (self.console.is_terminal and self.fabric.is_global_zero),
        )  # fmt: skip

    def _save(self, done: int) -> None:
        save_checkpoint(
            self.output, done, {"model": self.objective.model}, {"adamw": self.bare_optimizer},
            {"loader": self.loader.state_dict()}, keep_last=self.loop.keep_checkpoints,
            write=self.fabric.is_global_zero,
        )  # fmt: skip
        self.fabric.barrier()

    def _resume(self) -> int:
        """The step to go on with; the curve is cut back to it."""
        found = latest_checkpoint(self.output)
        if found is None:
            (self.output / CURVE_FILE).unlink(missing_ok=True)
            return 0
        extra = load_checkpoint(found, {"model": self.objective.model}, {"adamw": self.bare_optimizer})
        self.loader.load_state_dict(extra["loader"])
        step = int(extra["step"])
        if self.fabric.is_global_zero:
            _cut_curve(self.output / CURVE_FILE, step)
            self.console.print(f"going on from step {step} ({found})")
        return step


def _cut_curve(path: Path, step: int) -> None:
    """Removes the points after a step."""
    lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
    path.write_text("".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step))


def read_curve(output: Path) -> list[dict[str, float]]:
    """The points of OUTPUT/curve.jsonl."""
    return [json.loads(line) for line in (output / CURVE_FILE).read_text().splitlines()]
