"""Settings of `reelmill evaluate`. Imports nothing heavy."""

from dataclasses import dataclass, field
from typing import Literal

from media.commandline import CommandLine
from training.generate_settings import SamplingSettings, SuperResolutionSampling


def greedy() -> SamplingSettings:
    return SamplingSettings(temperature=0.0, top_p=1.0, guidance=1.0)


def moderate() -> SamplingSettings:
    return SamplingSettings(temperature=0.7, top_p=1.0, guidance=1.0)


def likeliest() -> SuperResolutionSampling:
    return SuperResolutionSampling(temperature=0.0, choice_temperature=0.0, guidance_text=1.0)


@dataclass(frozen=True)
class FeatureSettings:
    """Networks whose features are compared, each a TorchScript file, or a folder or hub id of a transformers model.

    Args:
        video: of FVD: TorchScript such as I3D (clips B 3 T H W in [-1, 1]), or a model such as VideoMAE.
        audio: of FAD: TorchScript such as VGGish (sound B T in [-1, 1]), or a model such as wav2vec 2.0.
        clip: of CLIPSIM: a CLIP model of transformers; the paper takes ViT-B/16.
        classifier: of the inception score: TorchScript such as C3D (clips to logits), or a video classifier.
        samples: clips that are generated from captions, and held against as many of the split.
        frame_size: pixels of a side that frames are resized to for TorchScript networks.
    """

    video: str | None = None
    audio: str | None = None
    clip: str | None = None
    classifier: str | None = None
    samples: int = 64
    frame_size: int = 224

    def __post_init__(self) -> None:
        if self.samples < 2 or self.frame_size < 1:
            raise ValueError("features.samples must be 2 or more, features.frame_size 1 or more")

    @property
    def wanted(self) -> bool:
        """Whether there is any network."""
        return any((self.video, self.audio, self.clip, self.classifier))


@dataclass(frozen=True)
class EvaluateSettings:
    """Settings of `reelmill evaluate`.

    Args:
        model: folder or hub id of a language model or a super-resolution model.
        data: folder of token shards, or a list of them.
        output: JSON file for the figures; empty: evaluation.json in the model's folder.
        split: which samples are judged; baselines are fitted on the train split.
        tasks: which tasks; null: those the model was trained on.
        limit: samples at most.
        batch_size: samples at once.
        captions: clips at most, each of which is judged under the captions of all of them; 0: none.
        generate: samples whose future (or high resolution) is generated and held against the truth, in pixels; 0: none.
        given_s: seconds they are given.
        sampling: of that generation.
        draws: futures that are drawn besides for each of these samples; the mean of their pictures is judged too. No
            single future has as small a squared error to be expected. 0: none.
        drawing: how they are drawn.
        upsampling: likewise, of a super-resolution model.
        features: networks of FVD, FAD, CLIPSIM and inception score.
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
    captions: int = 64
    generate: int = 16
    given_s: float = 1.125
    sampling: SamplingSettings = field(default_factory=greedy)
    draws: int = 0
    drawing: SamplingSettings = field(default_factory=moderate)
    upsampling: SuperResolutionSampling = field(default_factory=likeliest)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    device: Literal["auto", "cuda", "cpu"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.model or not self.data:
            raise ValueError("model and data must be named: --model DIR --data TOKENS")
        if min(self.limit, self.batch_size) < 1 or self.generate < 0:
            raise ValueError("limit and batch_size must be 1 or more, generate 0 or more")
        if self.captions < 0 or self.captions == 1:
            raise ValueError(
                f"captions {self.captions} must be 2 or more, to be held against each other, or 0 for none"
            )
        if self.draws < 0 or (self.draws > 1 and self.drawing.temperature == 0):
            raise ValueError("draws must be 0 or more; with drawing.temperature 0 all are alike, so give one or none")


EVALUATE = CommandLine(
    EvaluateSettings,
    "reelmill evaluate",
    "How well a model predicts held-out clips: bits per token beside baselines, pixels beside copies, captions.",
    (
        "reelmill evaluate --model lm --data tokens",
        "reelmill evaluate --model super-resolution --data tokens",
        "reelmill evaluate --model lm --data tokens --features.video i3d.pt --features.clip clip-vit-base-patch16",
        "reelmill evaluate --model lm --data tokens --generate 64 --sampling.temperature 0.9 --output figures.json",
    ),
)
