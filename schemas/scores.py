"""The scores a clip can carry, in the order in which they are judged: ledger columns and filters follow from these."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """What one number says about a clip."""

    name: str
    stage: str
    doc: str


SCORES: tuple[Score, ...] = (
    Score("duration_s", "shots", "seconds between the first frame and the end of the last"),
    Score(
        "motion",
        "shots",
        "mean absolute luma change between frames, in grey levels (0–255) per frame at 24 fps",
    ),
    Score("sharpness", "shots", "variance of the Laplacian of luma at analysis size, median over frames"),
    Score("luma", "shots", "mean luma in [0, 1]"),
    Score("luma_std", "shots", "standard deviation of luma within a frame in [0, 1], median over frames"),
    Score("freeze", "shots", "share of frames equal to the frame before, in [0, 1]"),
    Score("letterbox", "shots", "share of the picture that is constant black border, in [0, 1]"),
    Score("height", "shots", "pixels of the displayed picture's height"),
    Score("width", "shots", "pixels of the displayed picture's width"),
    Score("loudness_dbfs", "shots", "RMS level of the clip's sound in dBFS; absent without an audio stream"),
    Score("speech", "audio", "share of the clip's duration with speech, in [0, 1]"),
    Score("watermark", "watermark", "probability in [0, 1] that an overlay lies over the picture"),
    Score("text_area", "text", "share of the picture under text that stays in one place, in [0, 1]"),
    Score("aesthetic", "aesthetic", "LAION aesthetic score, about 1–10"),
    Score("nsfw", "nsfw", "probability in [0, 1] of adult content"),
    Score("caption_words", "caption", "words in the caption"),
    Score("caption_repetition", "caption", "greatest share of repeated 2-, 3- and 4-word phrases, in [0, 1]"),
    Score("clip_score", "clip_score", "cosine of the CLIP embeddings of pictures and caption, in [-1, 1]"),
)

SCORE_NAMES: tuple[str, ...] = tuple(score.name for score in SCORES)
