"""The loop that the tokenizer trainers share: schedule, adversary, moving average, logs, exact resume, export."""

import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from tokenize_shards.loading import save_tokenizer
from training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from training.settings_tokenizers import Optimisation, Running

log = logging.getLogger(__name__)


class TokenizerTask(Protocol):
    """What differs between the tokenizers."""

    adversary_start: int

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def adversary(self) -> nn.Module | None:
        """The discriminator, if there is one."""
        ...

    def batch(self, step: int, generator: torch.Generator) -> Tensor:
        """The training batch of a step, on the CPU."""
        ...

    def losses(self, model: nn.Module, adversary: nn.Module | None, batch: Tensor, step: int) -> dict[str, Tensor]:
        """The tokenizer's losses by name, weighted; names that start with `_` are logged only."""
        ...

    def adversary_losses(self, model: nn.Module, adversary: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        """The discriminator's losses by name, weighted; called right after `losses` with the same batch."""
        ...

    def validate(self, model: nn.Module, limit: int, writer: SummaryWriter | None, step: int) -> dict[str, float]:
        """Measures on at most `limit` (0: all) held-back clips; reconstructions go to `writer`."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """JSON state of the task that a checkpoint must hold."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes `extra_state` back."""
        ...


def learning_rate(step: int, settings: Optimisation) -> float:
    """Linear warm-up, then a cosine to `final_share` of the highest rate at the last step."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / settings.steps)))
    return settings.learning_rate * rise * (settings.final_share + (1 - settings.final_share) * fall)


def make_fabric(running: Running) -> Fabric:
    """Lightning Fabric on the device asked for; seeds torch and sets its CPU threads."""
    if running.threads:
        torch.set_num_threads(running.threads)
    fabric = Fabric(accelerator=running.device, devices=running.num_devices, precision=running.precision)
    fabric.launch()
    fabric.seed_everything(running.seed + fabric.global_rank, verbose=False)
    return fabric


class TokenizerLoop:
    """Trains the model of a task and exports the moving average of its weights."""

    def __init__(
        self, task: TokenizerTask, optimisation: Optimisation, running: Running, output: Path, fabric: Fabric
    ) -> None:
        self.task, self.settings, self.running, self.output, self.fabric = task, optimisation, running, output, fabric
        averaging = get_ema_multi_avg_fn(optimisation.ema_decay)
        self.average = AveragedModel(task.model, multi_avg_fn=averaging, use_buffers=False).to(fabric.device)
        self.model, self.optimizer = self._set_up(task.model)
        self.adversary: nn.Module | None = None
        self.adversary_optimizer: Any = None
        if task.adversary is not None:
            self.adversary, self.adversary_optimizer = self._set_up(task.adversary)
        self.generator = torch.Generator().manual_seed(running.seed + 1000 * fabric.global_rank)
        self.writer = SummaryWriter(str(output / "tensorboard")) if fabric.is_global_zero else None
        self.totals: dict[str, float] = defaultdict(float)
        self.step = 0

    def _set_up(self, module: nn.Module) -> tuple[nn.Module, Any]:
        settings = self.settings
        optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        return self.fabric.setup_module(module), self.fabric.setup_optimizers(optimizer)

    def run(self) -> dict[str, float]:
        """From the last checkpoint, if there is one, to the last step; gives the final validation."""
        self._resume()
        with Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        ) as progress:
            bar = progress.add_task("training", total=self.settings.steps, completed=self.step)
            while self.step < self.settings.steps:
                self._train_step()
                self.step += 1
                progress.update(bar, completed=self.step)
                self._report(progress)
        return self._finish()

    def _report(self, progress: Progress) -> None:
        if self.step % self.running.log_every == 0:
            numbers = self._log()
            progress.console.print(f"step {self.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
        last = self.step == self.settings.steps
        if self.step % self.running.validate_every == 0 and not last:
            measures = self.validate(self.running.validate_clips)
            progress.console.print(f"step {self.step} held back: {_listed(measures)}")
        if self.step % self.running.checkpoint_every == 0 or last:
            self._save()

    def _train_step(self) -> None:
        batch = self.fabric.to_device(self.task.batch(self.step, self.generator))
        active = self.adversary if self.step >= self.task.adversary_start else None
        rate = learning_rate(self.step, self.settings)
        if active is not None:
            active.requires_grad_(False)
        self.model.train()
        losses = self.task.losses(self.model, active, batch, self.step)
        self._descend(self.model, self.optimizer, losses, rate)
        self.average.update_parameters(getattr(self.model, "module", self.model))
        if active is not None:
            active.requires_grad_(True)
            losses = self.task.adversary_losses(self.model, active, batch, self.step)
            self._descend(active, self.adversary_optimizer, losses, rate)

    def _descend(self, module: nn.Module, optimizer: Any, losses: dict[str, Tensor], rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = torch.stack([value for name, value in losses.items() if not name.startswith("_")]).sum()
        if not torch.isfinite(loss):
            raise ValueError(f"the loss is {float(loss)} at step {self.step}; lower optimisation.learning_rate")
        optimizer.zero_grad()
        self.fabric.backward(loss)
        if self.settings.max_grad_norm:
            self.fabric.clip_gradients(module, optimizer, max_norm=self.settings.max_grad_norm)
        optimizer.step()
        for name, value in losses.items():
            self.totals[name.lstrip("_")] += float(value.detach())

    def _log(self) -> dict[str, float]:
        numbers = {name: total / self.running.log_every for name, total in self.totals.items()}
        numbers["learning_rate"] = learning_rate(self.step - 1, self.settings)
        self.totals.clear()
        if self.writer is not None:
            for name, value in numbers.items():
                self.writer.add_scalar(f"train/{name}", value, self.step)
        return numbers

    @property
    def averaged_model(self) -> nn.Module:
        """The moving average of the weights, with the buffers of the model itself, in evaluation mode."""
        averaged = self.average.module
        source = getattr(self.model, "module", self.model)
        for mine, theirs in zip(averaged.buffers(), source.buffers(), strict=True):
            mine.copy_(theirs)
        return averaged.eval()

    def validate(self, limit: int) -> dict[str, float]:
        """Measures of the averaged model on held-back clips, also written to TensorBoard."""
        measures = self.task.validate(self.averaged_model, limit, self.writer, self.step)
        if self.writer is not None:
            for name, value in measures.items():
                self.writer.add_scalar(f"val/{name}", value, self.step)
        return measures

    def _modules(self) -> tuple[dict[str, nn.Module], dict[str, Any]]:
        modules = {"model": self.model, "average": self.average}
        optimizers = {"model": self.optimizer}
        if self.adversary is not None:
            modules["adversary"] = self.adversary
            optimizers["adversary"] = self.adversary_optimizer
        return modules, optimizers

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            extra = {"task": self.task.extra_state(), "totals": dict(self.totals)}
            modules, optimizers = self._modules()
            generators = {"data": self.generator}
            keep = self.running.keep_checkpoints
            save_checkpoint(self.output, self.step, modules, optimizers, extra, generators, keep)

    def _resume(self) -> None:
        found = latest_checkpoint(self.output)
        if found is None:
            return
        extra = load_checkpoint(found, *self._modules(), {"data": self.generator})
        self.task.restore(extra["task"])
        self.totals.update(extra["totals"])
        self.step = extra["step"]
        log.info("going on from %s", found)

    def _finish(self) -> dict[str, float]:
        measures = self.validate(0)
        if self.fabric.is_global_zero:
            dtype = getattr(torch, self.running.export_dtype)
            fingerprint = save_tokenizer(self.averaged_model, self.output / "tokenizer", dtype)
            summary = {"schema": 1, "steps": self.step, "fingerprint": fingerprint, "held_back": measures}
            (self.output / "metrics.json").write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n")
        if self.writer is not None:
            self.writer.close()
        return measures


def _listed(measures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in measures.items()) or "nothing is held back"
