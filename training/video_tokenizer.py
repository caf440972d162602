"""`reelmill train video-tokenizer`: MAGVIT-v2 or C-ViViT from a folder of clips or from clip shards."""

from collections.abc import Mapping, Sequence
from typing import Any

from media.commandline import parse
from training.settings_tokenizers import VideoTokenizerTraining

EXAMPLES = (
    "reelmill train video-tokenizer --data clips --output tokenizer --size tiny --optimisation.steps 5000",
    "reelmill train video-tokenizer --data clips --output tokenizer --config my.yaml --running.precision bf16-mixed",
    "reelmill train video-tokenizer --data clips --output tokenizer --architecture cvivit --clips.num_frames 11",
)


def main(argv: Sequence[str]) -> int:
    """The command; gives the exit status."""
    settings, _ = parse(
        VideoTokenizerTraining,
        argv,
        "reelmill train video-tokenizer",
        "Trains a MAGVIT-v2 (or C-ViViT) video tokenizer and exports a folder that `reelmill tokenize` takes.",
        EXAMPLES,
    )
    from training.video_tokenizer_task import train

    measures = train(settings)
    print(f"tokenizer in {settings.output}/tokenizer ({summary(measures)})")
    return 0


def summary(measures: Mapping[str, Any]) -> str:
    """The last line of a training: what was measured, with units."""
    if not measures:
        return "nothing was held back to measure it on"
    return ", ".join(f"{name} {value:.2f}" for name, value in measures.items())
