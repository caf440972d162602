"""`reelmill train motion-tokenizer`: Video-LaVIT's motion codes from a folder of clips or from clip shards."""

from collections.abc import Sequence

from media.commandline import parse
from training.settings_motion import MotionTokenizerTraining
from training.video_tokenizer import summary

EXAMPLES = (
    "reelmill train motion-tokenizer --data clips --output motion --size tiny --optimisation.steps 5000",
    "reelmill train motion-tokenizer --data clips --output motion --clips.rates [6,12]",
)


def main(argv: Sequence[str]) -> int:
    """The command; gives the exit status."""
    settings, _ = parse(
        MotionTokenizerTraining,
        argv,
        "reelmill train motion-tokenizer",
        "Trains Video-LaVIT's motion tokenizer on motion vectors of clips and exports a folder that\n"
        "`reelmill tokenize` takes.",
        EXAMPLES,
    )
    from training.motion_tokenizer_task import train

    measures = train(settings)
    print(f"tokenizer in {settings.output}/tokenizer ({summary(measures)})")
    return 0
