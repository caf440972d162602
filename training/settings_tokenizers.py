"""Settings of `reelmill train video-tokenizer` and `audio-tokenizer`; importing this loads no model code."""

from dataclasses import dataclass, field
from typing import Any, Literal

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true"]


@dataclass(frozen=True)
class HeldBack:
    """Which clips are for validation only.

    Args:
        fraction: share of the clips, chosen by the hash of their names, when there is no table.
        table: a CSV with the split of each clip, its names relative to the data folder; empty means none.
        file_column: the table's column with the names.
        split_column: the table's column with the split; rows that say `val` or `test` are held back.
        names: further names (relative to the data folder) or patterns such as `*/chaplin.mp4` to hold back.
    """

    fraction: float = 0.05
    table: str = ""
    file_column: str = "file"
    split_column: str = "split"
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < 1:
            raise ValueError(f"held_back.fraction is {self.fraction}; it lies in [0, 1)")


@dataclass(frozen=True)
class Optimisation:
    """How the weights are learnt; the defaults are MAGVIT-v2's (arXiv 2310.05737).

    Args:
        steps: optimizer steps in all.
        batch_size: clips or sounds a step, on each device.
        learning_rate: the highest; linear warm-up, then a cosine down to `final_share` of it.
        warmup_steps: steps of the warm-up.
        final_share: learning rate at the end, as a share of the highest.
        betas: of Adam.
        weight_decay: decoupled (AdamW).
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.
        ema_decay: of the moving average of the weights, which is what is exported.
    """

    steps: int = 100_000
    batch_size: int = 8
    learning_rate: float = 1e-4
    warmup_steps: int = 1000
    final_share: float = 0.0
    betas: tuple[float, float] = (0.0, 0.99)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps {self.steps} and batch_size {self.batch_size} must be at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it lies in [0, 1)")


@dataclass(frozen=True)
class Running:
    """Where and how often; changes no result but through `precision`, `threads` and `seed`.

    Args:
        precision: of the matrix work, in Lightning Fabric's words; losses and quantizer stay in float32.
        device: `auto` (cuda when there is one), `cpu`, `cuda`.
        num_devices: data-parallel processes.
        threads: CPU threads; 0 leaves torch's default.
        seed: of the weights and of every draw.
        log_every: steps between rows of numbers.
        validate_every: steps between validations, which also write reconstructions to TensorBoard.
        validate_clips: held-back windows or sounds a validation looks at; the last one looks at all.
        checkpoint_every: steps between checkpoints; a run started again goes on from the last one.
        keep_checkpoints: the newest so many are kept.
        export_dtype: of the exported weights.
    """

    precision: Precision = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_devices: int = 1
    threads: int = 0
    seed: int = 0
    log_every: int = 50
    validate_every: int = 1000
    validate_clips: int = 16
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    export_dtype: Literal["float32", "float16"] = "float32"


@dataclass(frozen=True)
class VideoClips:
    """What is cut from the clips.

    Args:
        include: patterns of file names below the data folder; empty takes all.
        num_frames: frames a window, 1 + k times the tokenizer's temporal stride; 1 trains on stills.
        fps: frames a second.
        resolution: short side in pixels of the windows held in memory, and size of the validation crops.
        crop: side of the random square training crops.
        final_crop: the same for the last `final_share` of the steps, with a batch smaller in proportion to its
            area; 0 keeps `crop`.
        final_share: see `final_crop`.
        max_windows: windows taken from one clip, evenly spread.
        max_bytes: memory for all windows.
    """

    include: list[str] = field(default_factory=list)
    num_frames: int = 17
    fps: float = 8.0
    resolution: int = 128
    crop: int = 128
    final_crop: int = 0
    final_share: float = 0.3
    max_windows: int = 64
    max_bytes: int = 8 << 30

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resolution or self.final_crop > self.resolution:
            raise ValueError(
                f"crop {self.crop} and final_crop {self.final_crop} must be at most resolution {self.resolution}"
            )


@dataclass(frozen=True)
class VideoLosses:
    """Weights of the losses; the defaults are MAGVIT-v2's (arXiv 2310.05737).

    Args:
        reconstruction: `l2` or `l1` over pixels in [-1, 1].
        reconstruction_weight: of it.
        perceptual_trunk: folder or hub id of a vision model of transformers whose hidden states are compared;
            empty turns the perceptual loss off.
        perceptual_weight: of it.
        adversarial_weight: of the non-saturating GAN loss; 0 turns the discriminator off.
        adversarial_start: step at which the discriminator joins.
        r1_weight: of the gradient penalty on real clips (half the squared norm).
        r1_every: steps between penalties, which are scaled up accordingly.
        lecam_weight: of the LeCAM regularization.
        entropy_weight: of the code entropy terms.
        entropy_anneal_ratio: the entropy weight starts at (1 + ratio) times its value …
        entropy_anneal_steps: … and falls to it over so many steps.
        diversity: weight of the entropy of the mean against that of single tokens.
        temperature: τ of the code probabilities.
        commitment_weight: pull of the latents towards ±1.
        group_bits: bits taken together in the entropy of the mean.
        entropy_tokens: tokens drawn for it each step; 0 takes all.
        min_code_usage: of C-ViViT's code vectors, one that is used less often a batch (in the moving average) is
            replaced; must be below tokens a batch / codebook size.
        quantizer_start: step from which C-ViViT's latents are quantized to code vectors.
    """

    reconstruction: Literal["l2", "l1"] = "l2"
    reconstruction_weight: float = 5.0
    perceptual_trunk: str = ""
    perceptual_weight: float = 0.1
    adversarial_weight: float = 0.1
    adversarial_start: int = 0
    r1_weight: float = 10.0
    r1_every: int = 16
    lecam_weight: float = 0.001
    entropy_weight: float = 0.1
    entropy_anneal_ratio: float = 3.0
    entropy_anneal_steps: int = 2000
    diversity: float = 1.0
    temperature: float = 0.01
    commitment_weight: float = 0.25
    group_bits: int = 9
    entropy_tokens: int = 4096
    min_code_usage: float = 0.05
    quantizer_start: int = 0


@dataclass(frozen=True)
class VideoTokenizerTraining:
    """Everything about one training of a MAGVIT-v2 or C-ViViT tokenizer.

    Args:
        data: folder of clips (searched recursively) or of clip shards (*.tar) made by `reelmill curate`.
        output: folder for checkpoints, TensorBoard logs and `tokenizer/`, which `reelmill tokenize` takes.
        architecture: `magvit2`, or `cvivit` (Phenaki's; its windows have 1 + k·2 frames, 11 in the paper).
        size: `tiny` (for CPUs: MAGVIT-v2 on Haar patches), `base`, or, of MAGVIT-v2, `videopoet` (the paper's).
        model: fields of the model that differ from the size's, for instance `{num_bits: 14}`.
        name: what shards will call this tokenizer; by default the architecture's name.
        start_from: folder or built-in name of a tokenizer whose weights to start from; one trained on stills
            (a network of 1-frame kernels) is inflated: its kernels go into the last time slice.
        held_back: which clips are for validation only.
        clips: what is cut from the clips.
        losses: weights of the losses.
        optimisation: how the weights are learnt.
        running: where and how often.
    """

    data: str
    output: str
    architecture: Literal["magvit2", "cvivit"] = "magvit2"
    size: Literal["tiny", "base", "videopoet"] = "base"
    model: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    start_from: str = ""
    held_back: HeldBack = field(default_factory=HeldBack)
    clips: VideoClips = field(default_factory=VideoClips)
    losses: VideoLosses = field(default_factory=VideoLosses)
    optimisation: Optimisation = field(default_factory=Optimisation)
    running: Running = field(default_factory=Running)


@dataclass(frozen=True)
class Sounds:
    """What is cut from the sounds.

    Args:
        include: patterns of file names below the data folder; empty takes all.
        duration_s: length of the training stretches, rounded down to a whole number of codes.
        max_s: seconds read of one file.
        max_bytes: memory for all sounds.
    """

    include: list[str] = field(default_factory=list)
    duration_s: float = 1.0
    max_s: float = 600.0
    max_bytes: int = 8 << 30


@dataclass(frozen=True)
class AudioLosses:
    """Weights of the losses; the defaults are SoundStream's (arXiv 2107.03312 §III-E).

    Args:
        mel_weight: of the multi-scale mel loss.
        mel_windows: window lengths in samples.
        waveform_weight: of the mean absolute difference of samples (0 in the paper).
        adversarial_weight: of the hinge GAN loss; 0 turns the discriminators off, and feature matching with them.
        adversarial_start: step at which the discriminators join.
        feature_weight: of the feature matching loss.
        commitment_weight: pull of the latents towards their codes.
        quantizer_start: step from which latents are quantized; the autoencoder comes first, so that the codebooks
            start from latents that mean something.
        code_dropout: reconstruct each training example from its first n levels, n drawn from 1..Q.
        min_code_usage: a code used less often a batch (in the moving average) is replaced; must be below codes a
            batch / codebook size.
    """

    mel_weight: float = 1.0
    mel_windows: list[int] = field(default_factory=lambda: [64, 128, 256, 512, 1024, 2048])
    waveform_weight: float = 0.0
    adversarial_weight: float = 1.0
    adversarial_start: int = 0
    feature_weight: float = 100.0
    commitment_weight: float = 0.25
    quantizer_start: int = 0
    min_code_usage: float = 2.0
    code_dropout: bool = True


@dataclass(frozen=True)
class AudioTokenizerTraining:
    """Everything about one training of a SoundStream tokenizer.

    Args:
        data: folder of sound or video files (searched recursively) or of clip shards (*.tar).
        output: folder for checkpoints, TensorBoard logs and `tokenizer/`, which `reelmill tokenize` takes.
        size: `tiny` (for CPUs) or `base` (the paper's).
        model: fields of the model that differ from the size's, for instance `{num_quantizers: 8}`.
        name: what shards will call this tokenizer.
        start_from: folder or built-in name of a tokenizer whose weights to start from.
        held_back: which files are for validation only.
        sounds: what is cut from the sounds.
        losses: weights of the losses.
        optimisation: how the weights are learnt.
        running: where and how often.
    """

    data: str
    output: str
    size: Literal["tiny", "base"] = "base"
    model: dict[str, Any] = field(default_factory=dict)
    name: str = "soundstream"
    start_from: str = ""
    held_back: HeldBack = field(default_factory=HeldBack)
    sounds: Sounds = field(default_factory=Sounds)
    losses: AudioLosses = field(default_factory=AudioLosses)
    optimisation: Optimisation = field(default_factory=lambda: Optimisation(betas=(0.5, 0.9), batch_size=16))
    running: Running = field(default_factory=Running)
