"""`reelmill train audio-tokenizer`: SoundStream from a folder of sounds or videos, or from clip shards."""

from collections.abc import Sequence

from media.commandline import parse
from training.settings_tokenizers import AudioTokenizerTraining
from training.video_tokenizer import summary

EXAMPLES = (
    "reelmill train audio-tokenizer --data sounds --output codec --size tiny --optimisation.steps 5000",
    "reelmill train audio-tokenizer --data clips --output codec --losses.adversarial_start 2000",
)


def main(argv: Sequence[str]) -> int:
    """The command; gives the exit status."""
    settings, _ = parse(
        AudioTokenizerTraining,
        argv,
        "reelmill train audio-tokenizer",
        "Trains a SoundStream audio tokenizer and exports a folder that `reelmill tokenize` takes.",
        EXAMPLES,
    )
    from training.audio_tokenizer_task import train

    measures = train(settings)
    print(f"tokenizer in {settings.output}/tokenizer ({summary(measures)})")
    return 0
