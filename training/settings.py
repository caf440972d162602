"""Settings of `reelmill train lm|super-resolution` and `reelmill generate`. Imports nothing heavy."""

from dataclasses import dataclass, field
from typing import Literal

from media.commandline import CommandLine


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with linear warm-up and cosine decay.

    Args:
        learning_rate: the highest.
        final_fraction: of the highest learning rate, at the last step.
        warmup_steps: steps from 0 to the highest.
        weight_decay: of matrices; vectors and embeddings have none.
        beta1: decay of the mean of the gradient.
        beta2: decay of the mean of its square.
        clip_norm: gradients are scaled down to this norm; 0: never.
    """

    learning_rate: float = 1e-3
    final_fraction: float = 0.1
    warmup_steps: int = 100
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ValueError(f"optimizer.learning_rate {self.learning_rate} must be above 0")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"optimizer.final_fraction {self.final_fraction} must be from 0 to 1")
        if min(self.warmup_steps, self.weight_decay, self.clip_norm) < 0:
            raise ValueError("optimizer.warmup_steps, weight_decay and clip_norm must be 0 or more")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise ValueError(f"optimizer.beta1 {self.beta1} and beta2 {self.beta2} must be at least 0 and below 1")


@dataclass(frozen=True)
class LoopSettings:
    """How long, how much at once, on what.

    Args:
        steps: optimizer steps in all.
        batch_size: samples per device and step.
        accumulate: batches whose gradients are added up for one step.
        shards_at_once: shards whose samples are mixed with one another.
        log_every: steps between lines of the log and points of the curves.
        eval_every: steps between evaluations on the val split; 0: only at the end.
        eval_batches: batches of each evaluation.
        save_every: steps between checkpoints; 0: only at the end.
        keep_checkpoints: how many of the newest stay.
        precision: of Lightning Fabric, such as 32-true or bf16-mixed; auto: bf16-mixed on cuda, else 32-true.
        device: auto (cuda when there is one), cuda or cpu.
        devices: how many.
        strategy: for several devices: auto, ddp (each holds the model) or fsdp (they share out its weights, gradients
            and optimizer state).
        threads: CPU threads of torch; null: as torch chooses.
        compile: torch.compile the model.
    """

    steps: int = 1000
    batch_size: int = 8
    accumulate: int = 1
    shards_at_once: int = 16
    log_every: int = 10
    eval_every: int = 0
    eval_batches: int = 8
    save_every: int = 500
    keep_checkpoints: int = 2
    precision: str = "auto"
    device: Literal["auto", "cuda", "cpu"] = "auto"
    devices: int = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    threads: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "eval_batches", "keep_checkpoints", "devices"):
            if getattr(self, name) < 1:
                raise ValueError(f"loop.{name} {getattr(self, name)} must be 1 or more")
        if min(self.eval_every, self.save_every) < 0:
            raise ValueError("loop.eval_every and loop.save_every must be 0 or more")


@dataclass(frozen=True)
class LmModelSettings:
    """Sizes of the language model; the defaults are the tiny one for CPUs.

    Args:
        width: of the hidden states.
        layers: of the Llama backbone.
        heads: of attention; they divide the width.
        mlp_width: of the gated MLP.
        visual_factors: sizes that multiply to the number of visual codes; [262144] is VideoPoet's one softmax,
            [512, 512] predicts a code in two steps.
        pad_given: continuations read the codes of a whole video in which the last given picture stands, as MAGVIT's
            frame prediction does, not those of the given frames alone, as VideoPoet's.
        activation_checkpointing: saves memory for time in training.
    """

    width: int = 256
    layers: int = 6
    heads: int = 4
    mlp_width: int = 704
    visual_factors: list[int] = field(default_factory=lambda: [512, 512])
    pad_given: bool = False
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.mlp_width) < 1:
            raise ValueError("model.width, layers, heads and mlp_width must be 1 or more")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"model.width {self.width} must be an even multiple of model.heads {self.heads}")


def default_tasks() -> dict[str, float]:
    return {
        "unconditional": 0.1, "t2v": 1.0, "t2i": 0.2, "t2av": 0.5, "i2v": 0.5, "continue": 0.5,
        "v2a": 0.5, "a2v": 0.25, "av_continue": 0.25,
    }  # fmt: skip


@dataclass(frozen=True)
class LmSettings:
    """Settings of `reelmill train lm`.

    Args:
        data: folder of token shards, or a list of them.
        output: folder for the model, its checkpoints and curves; a run that was stopped goes on from there.
        model: sizes.
        tasks: how often each task is trained, relative to the others; a sample takes only tasks it can serve.
        image_share: [start, end, switch]: share of steps on images before and after that part of the training
            (VideoPoet: [0.9, 0.1, 0.25]); null: as the tasks' weights say.
        drop_text: share of samples whose caption is replaced by the empty one, for guidance.
        noise: up to this share of the visual codes that are to be predicted is shown wrong to what comes after them;
            against overfitting, and so that the model goes on from its own codes as it does from true ones.
        pixel_weight: of the squared error (in [-1, 1]) of the decoded likeliest codes beside the cross-entropy, where
            the first frames are given; 0: none, as published. The likeliest future is then nearer to what comes.
        pixel_from: share of the steps after which it counts; before, the likeliest codes make no picture to mend.
        optimizer: AdamW.
        loop: length, batches, device.
        seed: of weights, order and tasks.
    """

    data: list[str] | str = ""
    output: str = ""
    model: LmModelSettings = field(default_factory=LmModelSettings)
    tasks: dict[str, float] = field(default_factory=default_tasks)
    image_share: list[float] | None = None
    drop_text: float = 0.1
    noise: float = 0.0
    pixel_weight: float = 0.0
    pixel_from: float = 0.6
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        _named(self.data, self.output)
        if not self.tasks or min(self.tasks.values()) < 0 or sum(self.tasks.values()) <= 0:
            raise ValueError(f"tasks {self.tasks}: give at least one a weight above 0, and none a negative one")
        _share("drop_text", self.drop_text)
        _share("noise", self.noise)
        _pixels(self.pixel_weight, self.pixel_from)
        if self.image_share is not None and (
            len(self.image_share) != 3 or not all(0 <= share <= 1 for share in self.image_share)
        ):
            raise ValueError(f"image_share {self.image_share}: three numbers from 0 to 1 [start, end, switch], or null")


@dataclass(frozen=True)
class SuperResolutionModelSettings:
    """Sizes of the super-resolution transformer; the defaults are the tiny one for CPUs.

    Args:
        width: of the hidden states.
        blocks: of three layers each: vertical, horizontal and temporal windows.
        heads: of attention; they divide the width.
        factors: sizes that multiply to the number of visual codes.
        windows: (t, h, w) in high-resolution tokens of the three layers; 0: the whole axis.
        low_grid: own: the low-resolution codes as they are (published); same: those of the decoded and enlarged low
            resolution, each where the code that it helps predict stands. Learns from fewer clips.
        low_noise: highest share of low-resolution codes replaced by random ones; it is drawn anew for each sample.
        drop_text: share of samples without caption.
        drop_low: share of samples without low-resolution codes.
    """

    width: int = 128
    blocks: int = 2
    heads: int = 4
    factors: list[int] = field(default_factory=lambda: [512, 512])
    windows: list[list[int]] = field(default_factory=lambda: [[1, 0, 4], [1, 4, 0], [0, 8, 8]])
    low_grid: Literal["own", "same"] = "own"
    low_noise: float = 0.2
    drop_text: float = 0.1
    drop_low: float = 0.1

    def __post_init__(self) -> None:
        for name in ("low_noise", "drop_text", "drop_low"):
            _share(f"model.{name}", getattr(self, name))


@dataclass(frozen=True)
class SuperResolutionSettings:
    """Settings of `reelmill train super-resolution`.

    Args:
        data: folder of token shards with two resolutions, or a list of them.
        output: folder for the model, its checkpoints and curves; a run that was stopped goes on from there.
        low: HEIGHTxWIDTH of the low resolution; null: the data set's lowest.
        pixel_weight: of the squared error (in [-1, 1]) of the decoded likeliest codes beside the cross-entropy; 0:
            none, as published. Such a model is asked in one round: --upsampling.steps 1.
        pixel_from: share of the steps after which it counts; before, the likeliest codes make no picture to mend.
        high: HEIGHTxWIDTH of the high resolution; null: the next above it.
        model: sizes.
        optimizer: AdamW.
        loop: length, batches, device.
        seed: of weights, order and masks.
    """

    data: list[str] | str = ""
    output: str = ""
    low: str | None = None
    high: str | None = None
    model: SuperResolutionModelSettings = field(default_factory=SuperResolutionModelSettings)
    pixel_weight: float = 0.0
    pixel_from: float = 0.3
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        _named(self.data, self.output)
        _pixels(self.pixel_weight, self.pixel_from)


@dataclass(frozen=True)
class MaskGitModelSettings:
    """Sizes of the masked transformer; the defaults are the tiny one for CPUs.

    Args:
        width: of the hidden states.
        layers: of self-attention, cross-attention to the caption and MLP.
        heads: of attention; they divide the width.
        factors: sizes that multiply to the number of visual codes.
    """

    width: int = 192
    layers: int = 6
    heads: int = 4
    factors: list[int] = field(default_factory=lambda: [512, 512])


@dataclass(frozen=True)
class MaskGitSettings:
    """Settings of `reelmill train maskgit`.

    Args:
        data: folder of token shards, or a list of them.
        output: folder for the model, its checkpoints and curves; a run that was stopped goes on from there.
        model: sizes.
        image_share: share of steps on the first latent frame alone, which is an image.
        continue_share: share of the other steps in which the first latent frames are known, as in continuations.
        drop_text: share of samples without caption.
        optimizer: AdamW.
        loop: length, batches, device.
        seed: of weights, order and masks.
    """

    data: list[str] | str = ""
    output: str = ""
    model: MaskGitModelSettings = field(default_factory=MaskGitModelSettings)
    image_share: float = 0.2
    continue_share: float = 0.25
    drop_text: float = 0.1
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        _named(self.data, self.output)
        for name in ("image_share", "continue_share", "drop_text"):
            _share(name, getattr(self, name))


def _named(data: list[str] | str, output: str) -> None:
    if not data or not output:
        raise ValueError("data and output must be named: --data TOKENS --output DIR")


def _pixels(weight: float, start: float) -> None:
    if weight < 0:
        raise ValueError(f"pixel_weight {weight} must be 0 or more")
    _share("pixel_from", start)


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} {value} must be from 0 to 1")


TRAIN_LM = CommandLine(
    LmSettings,
    "reelmill train lm",
    "The language model over video and audio tokens, from token shards. A stopped run goes on where it was.",
    (
        "reelmill train lm --data tokens --output lm",
        "reelmill train lm --data tokens --output lm --config lm-300m --loop.devices 8 --loop.strategy fsdp",
        "reelmill train lm --data tokens --output lm --loop.steps 2000 --tasks '{t2v: 1, v2a: 0.5}'",
    ),
)

TRAIN_SUPER_RESOLUTION = CommandLine(
    SuperResolutionSettings,
    "reelmill train super-resolution",
    "The upscaler of video tokens, from shards with two resolutions. A stopped run goes on where it was.",
    (
        "reelmill train super-resolution --data tokens --output super-resolution",
        "reelmill train super-resolution --data tokens --output sr --config super-resolution-videopoet-1",
    ),
)

TRAIN_MASKGIT = CommandLine(
    MaskGitSettings,
    "reelmill train maskgit",
    "Phenaki's masked transformer over video tokens, from token shards. A stopped run goes on where it was.",
    (
        "reelmill train maskgit --data tokens --output maskgit",
        "reelmill train maskgit --data tokens --output maskgit --loop.steps 5000 --image_share 0.2",
    ),
)
