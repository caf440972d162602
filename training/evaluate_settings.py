"""Settings of `reelmill evaluate`. Imports nothing heavy."""

from dataclasses import dataclass, field
from typing import Literal

from media.commandline import CommandLine
from training.generate_settings import SamplingSettings


def greedy() -> SamplingSettings:
    return SamplingSettings(temperature=0.0, top_p=1.0, guidance=1.0)


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of `reelmill evaluate`.

    Args:
        model: folder or hub id of a language model.
        data: folder of token shards, or a list of them.
        output: JSON file for the figures; empty: evaluation.json in the model's folder.
        split: which samples are judged; baselines are fitted on the train split.
        tasks: which tasks; null: those the model was trained on.
        limit: samples at most.
        batch_size: samples at once.
        generate: samples whose future is generated and held against the truth, in pixels; 0: none.
        given_s: seconds they are given.
        sampling: of that generation.
        device: auto (cuda when there is one), cuda or cpu.
        seed: of what is drawn.
    """

    model: str = ""
    data: list[str] | str = ""
    output: str = ""
    split: Literal["train", "val", "all"] = "val"
    tasks: list[str] | None = None
    limit: int = 256
    batch_size: int = 8
    generate: int = 16
    given_s: float = 1.125
    sampling: SamplingSettings = field(default_factory=greedy)
    device: Literal["auto", "cuda", "cpu"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.model or not self.data:
            raise ValueError("model and data must be named: --model DIR --data TOKENS")
        if min(self.limit, self.batch_size) < 1 or self.generate < 0:
            raise ValueError("limit and batch_size must be 1 or more, generate 0 or more")


EVALUATE = CommandLine(
    EvaluateSettings,
    "reelmill evaluate",
    "How well a language model predicts held-out clips: bits per token beside baselines, futures in pixels, captions.",
    (
        "reelmill evaluate --model lm --data tokens",
        "reelmill evaluate --model lm --data tokens --generate 64 --sampling.temperature 0.9 --output figures.json",
    ),
)
