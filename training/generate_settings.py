"""Settings of `reelmill generate`. Imports nothing heavy."""

from dataclasses import dataclass, field
from typing import Literal

from media.commandline import CommandLine

GENERATED_TASKS = Literal[
    "unconditional", "t2v", "t2i", "t2av", "i2v", "continue", "inpaint", "outpaint", "stylize", "v2a", "a2v",
    "av_continue", "keyframe_motion", "image_motion", "story",
]  # fmt: skip
REGIONS = Literal["central", "horizontal", "vertical", "dynamic", "quarter"]


@dataclass(frozen=True)
class SamplingSettings:
    """How the language model's codes are drawn.

    Args:
        temperature: divides the logits; 0 takes the most likely code (greedy).
        top_k: only the k most likely codes; 0 means all.
        top_p: only the smallest set of codes that holds this much probability; 1 means all.
        guidance: classifier-free guidance scale; 1 means none, the prompt is followed more above it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.95
    guidance: float = 2.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; allowed is 0 (greedy) and above")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; allowed is 0 (all codes) and above")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; allowed is above 0 up to 1 (all codes)")


@dataclass(frozen=True)
class SuperResolutionSampling:
    """How high-resolution codes are drawn; the defaults of guidance are the first published stage's (A.5.2).

    Args:
        steps: rounds of masked prediction.
        temperature: of the codes; 0 takes the most likely.
        choice_temperature: of the noise on the confidence, annealed to 0.
        guidance_text: scale of the text; 1 means none.
        guidance_low: scale of the low-resolution tokens; 1 means none.
    """

    steps: int = 24
    temperature: float = 1.0
    choice_temperature: float = 4.5
    guidance_text: float = 4.0
    guidance_low: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; allowed is 1 and more")
        if self.temperature < 0 or self.choice_temperature < 0:
            raise ValueError("temperature and choice_temperature cannot be negative; 0 is greedy")


@dataclass(frozen=True)
class MaskedSampling:
    """How a masked transformer's codes are drawn.

    Args:
        steps: rounds of masked prediction; Phenaki takes 12 to 48.
        temperature: of the codes; 0 takes the most likely.
        choice_temperature: of the noise on the confidence, annealed to 0.
        guidance: classifier-free guidance scale; 1 means none.
        schedule: of the share of tokens that stay hidden.
    """

    steps: int = 24
    temperature: float = 1.0
    choice_temperature: float = 4.5
    guidance: float = 2.0
    schedule: Literal["cosine", "linear", "square", "cubic", "sqrt"] = "cosine"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"masked.steps is {self.steps}; allowed is 1 and more")
        if self.temperature < 0 or self.choice_temperature < 0:
            raise ValueError("masked.temperature and choice_temperature cannot be negative; 0 is greedy")


# What a task needs: the names of the settings that must be given.
INPUTS: dict[str, tuple[str, ...]] = {
    "t2v": ("prompt",),
    "t2i": ("prompt",),
    "t2av": ("prompt",),
    "i2v": ("image",),
    "continue": ("video",),
    "inpaint": ("video",),
    "outpaint": ("video",),
    "stylize": ("video",),
    "v2a": ("video",),
    "a2v": ("audio",),
    "av_continue": ("video",),
    "image_motion": ("image",),
    "story": ("story",),
}


@dataclass(frozen=True)
class StructureNetworks:
    """What sees the structure of a video; those that made the shards the model was trained on.

    Args:
        flow: TorchScript file of a flow network; null: OpenCV's dense inverse search.
        depth: folder or hub id of a depth-estimation model; null: flow alone.
    """

    flow: str | None = None
    depth: str | None = None


@dataclass(frozen=True)
class GenerateSettings:
    """Settings of `reelmill generate`.

    Args:
        model: folder or hub id of a language model or a MaskGIT model.
        output: the mp4; a contact sheet is written beside it (.jpg).
        task: what to make of what.
        prompt: the caption of the video to make.
        negative_prompt: what guidance moves away from; empty: from no caption.
        image: file of the first frame, for i2v and image_motion, and if wanted for stylize.
        video: file to continue, fill in, put sound to or take the structure of.
        audio: file (audio or video) whose sound is given, for a2v.
        mask: picture that is white where a video is to be filled in, for inpaint; null: the region.
        region: what is to be filled in (inpaint) or what is kept (outpaint), where there is no mask.
        story: YAML or JSON file: a list of prompts with durations, `- {prompt: …, duration_s: 2.125}`.
        start_s: where to read from in the video or audio; null: the start, and for continue the last second.
        given_s: seconds of the video that a continuation sees, rounded to what the tokenizer takes.
        duration_s: length of the result; null: one window of the model. Longer ones continue from their last second.
        size: HEIGHTxWIDTH, one the model was trained on; null: the first of them.
        count: how many to make at once; their files are numbered.
        sound: also make the sound of a silent result, where the model can.
        super_resolution: folder or hub id of a super-resolution model that is applied to the result.
        structure: networks of stylize.
        sampling: of a language model.
        masked: of a MaskGIT model.
        upsampling: of the super-resolution model.
        device: auto (cuda when there is one), cuda or cpu.
        seed: equal seeds give equal results.
    """

    model: str = ""
    output: str = ""
    task: GENERATED_TASKS = "t2v"
    prompt: str = ""
    negative_prompt: str = ""
    image: str | None = None
    video: str | None = None
    audio: str | None = None
    mask: str | None = None
    region: REGIONS = "central"
    story: str | None = None
    start_s: float | None = None
    given_s: float = 1.125
    duration_s: float | None = None
    size: str | None = None
    count: int = 1
    sound: bool = True
    super_resolution: str | None = None
    structure: StructureNetworks = field(default_factory=StructureNetworks)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    masked: MaskedSampling = field(default_factory=MaskedSampling)
    upsampling: SuperResolutionSampling = field(default_factory=SuperResolutionSampling)
    device: Literal["auto", "cuda", "cpu"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.model or not self.output:
            raise ValueError("model and output must be named: --model DIR --output FILE.mp4")
        for name in INPUTS.get(self.task, ()):
            if not getattr(self, name):
                raise ValueError(f"--task {self.task} needs --{name}")
        if not self.output.endswith(".mp4"):
            raise ValueError(f"output {self.output} must be an .mp4 file")
        if self.count < 1:
            raise ValueError(f"count {self.count} must be 1 or more")
        if self.given_s <= 0:
            raise ValueError(f"given_s {self.given_s} must be above 0")
        if self.duration_s is not None and self.duration_s <= 0:
            raise ValueError(f"duration_s {self.duration_s} must be above 0, or null for one window")


GENERATE = CommandLine(
    GenerateSettings,
    "reelmill generate",
    "Video with sound from text, an image, video or audio.",
    (
        'reelmill generate --model lm --task t2v --prompt "a red car" --output car.mp4',
        "reelmill generate --model lm --task i2v --image first.jpg --output moving.mp4 --super_resolution sr",
        "reelmill generate --model lm --task continue --video start.mp4 --duration_s 6 --output longer.mp4",
        "reelmill generate --model maskgit --task story --story story.yaml --output story.mp4",
        'reelmill generate --model lm --task stylize --video walk.mp4 --prompt "a paper robot" --output robot.mp4',
        "reelmill generate --model lm --task v2a --video silent.mp4 --output with-sound.mp4",
    ),
)
