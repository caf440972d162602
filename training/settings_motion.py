"""Settings of `reelmill train motion-tokenizer`; importing this loads no model code."""

from dataclasses import dataclass, field
from typing import Any, Literal

from training.settings_tokenizers import HeldBack, Optimisation, Running


@dataclass(frozen=True)
class MotionClips:
    """Which stretches of 24 frames are taken from the clips, and how they are varied.

    Args:
        include: patterns of file names below the data folder; empty takes all.
        rates: frames a second at which motion is taken from training clips. The tokenizer's own is 6 (4 s a stretch);
            at higher rates shorter clips serve as well, and their motion is slower. Held-back clips are read at 6.
        hop_s: seconds from one stretch of a training clip to the next; held-back ones do not overlap.
        max_stretches: stretches taken from one clip at one rate, evenly spread.
        pan_share: share of the training stretches to which the motion of a camera is added: a pan, and a zoom.
        max_pan: its fastest pan in the tokenizer's unit, about a hundredth of the frame for each frame.
        max_motion: training vectors are clipped to this along each axis; longer ones are mostly false matches on flat
            ground, and one of them outweighs hundreds of true ones in a squared error.
        max_bytes: memory for all motion maps.
    """

    include: list[str] = field(default_factory=list)
    rates: list[float] = field(default_factory=lambda: [6.0])
    hop_s: float = 2.0
    max_stretches: int = 64
    pan_share: float = 0.5
    max_pan: float = 3.0
    max_motion: float = 6.0
    max_bytes: int = 8 << 30

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0 or self.hop_s <= 0 or self.max_stretches < 1:
            raise ValueError(
                f"clips.rates {self.rates}, hop_s {self.hop_s}, max_stretches {self.max_stretches}: above 0"
            )
        if self.max_motion <= 0:
            raise ValueError(f"clips.max_motion is {self.max_motion}; it must be above 0")
        if not 0 <= self.pan_share <= 1:
            raise ValueError(f"clips.pan_share is {self.pan_share}; it lies in [0, 1]")


@dataclass(frozen=True)
class MotionLosses:
    """Weights of the losses (Video-LaVIT, arXiv 2402.03161 A.1).

    Args:
        commitment_weight: pull of the latents towards their codes, beside the mean squared error of the maps.
        min_code_usage: a code used less often a batch (in the moving average) is replaced; must be below
            135 · batch size / codebook size.
        quantizer_start: step from which latents are quantized, so that the codebook starts from latents that mean
            something.
    """

    commitment_weight: float = 0.25
    min_code_usage: float = 0.05
    quantizer_start: int = 0


@dataclass(frozen=True)
class MotionTokenizerTraining:
    """Everything about one training of Video-LaVIT's motion tokenizer.

    Args:
        data: folder of clips (searched recursively) or of clip shards (*.tar) made by `reelmill curate`.
        output: folder for checkpoints, TensorBoard logs and `tokenizer/`, which `reelmill tokenize` takes.
        size: `tiny` (for CPUs) or `base` (the paper's).
        model: fields of the model that differ from the size's, for instance `{width: 128}`.
        name: what shards will call this tokenizer.
        start_from: folder or built-in name of a tokenizer whose weights to start from.
        held_back: which clips are for validation only.
        clips: which stretches are taken, and how they are varied.
        losses: weights of the losses.
        optimisation: how the weights are learnt.
        running: where and how often.
    """

    data: str
    output: str
    size: Literal["tiny", "base"] = "base"
    model: dict[str, Any] = field(default_factory=dict)
    name: str = "lavit-motion"
    start_from: str = ""
    held_back: HeldBack = field(default_factory=HeldBack)
    clips: MotionClips = field(default_factory=MotionClips)
    losses: MotionLosses = field(default_factory=MotionLosses)
    optimisation: Optimisation = field(default_factory=lambda: Optimisation(betas=(0.9, 0.99), batch_size=32))
    running: Running = field(default_factory=Running)
