"""Settings of what is dropped: limits of the scores, and duplicates. Nothing heavy is imported here."""

from dataclasses import dataclass, fields
from typing import Literal

from media.bounds import check_between


@dataclass(frozen=True)
class FilterSettings:
    """Limits of the scores; inclusive, and null is off. The scores themselves are defined in `schemas.scores`.

    Args:
        min_duration_s: shortest clip in seconds.
        max_duration_s: longest clip in seconds.
        min_motion: least mean luma change per frame at 24 fps, in grey levels (0–255).
        max_motion: greatest mean luma change per frame at 24 fps, in grey levels (0–255).
        min_sharpness: least variance of the Laplacian.
        max_sharpness: greatest variance of the Laplacian.
        min_luma: darkest mean luma in [0, 1].
        max_luma: brightest mean luma in [0, 1].
        min_luma_std: least contrast, standard deviation of luma in [0, 1].
        max_luma_std: greatest contrast, standard deviation of luma in [0, 1].
        min_freeze: least share of repeated frames in [0, 1].
        max_freeze: greatest share of repeated frames in [0, 1].
        min_letterbox: least share of constant black border in [0, 1].
        max_letterbox: greatest share of constant black border in [0, 1].
        min_height: least height in pixels.
        max_height: greatest height in pixels.
        min_width: least width in pixels.
        max_width: greatest width in pixels.
        min_loudness_dbfs: quietest sound in dBFS.
        max_loudness_dbfs: loudest sound in dBFS.
        min_watermark: least probability of a watermark in [0, 1].
        max_watermark: greatest probability of a watermark in [0, 1].
        min_text_area: least share of burnt-in text in [0, 1].
        max_text_area: greatest share of burnt-in text in [0, 1].
        min_clip_score: least cosine of keyframe and caption in [-1, 1].
        max_clip_score: greatest cosine of keyframe and caption in [-1, 1].
        min_aesthetic: least aesthetic score, about 1–10.
        max_aesthetic: greatest aesthetic score, about 1–10.
        min_nsfw: least probability of adult content in [0, 1].
        max_nsfw: greatest probability of adult content in [0, 1].
        min_speech: least share of speech in [0, 1].
        max_speech: greatest share of speech in [0, 1].
        min_caption_words: fewest words in the caption.
        max_caption_words: most words in the caption.
        missing: what becomes of a clip that has no value for a score with a limit: `keep` lets it pass, `reject`
            makes it `filtered(stage, no_<score>)`.
    """

    min_duration_s: float | None = None
    max_duration_s: float | None = None
    min_motion: float | None = None
    max_motion: float | None = None
    min_sharpness: float | None = None
    max_sharpness: float | None = None
    min_luma: float | None = None
    max_luma: float | None = None
    min_luma_std: float | None = None
    max_luma_std: float | None = None
    min_freeze: float | None = None
    max_freeze: float | None = None
    min_letterbox: float | None = None
    max_letterbox: float | None = None
    min_height: float | None = None
    max_height: float | None = None
    min_width: float | None = None
    max_width: float | None = None
    min_loudness_dbfs: float | None = None
    max_loudness_dbfs: float | None = None
    min_watermark: float | None = None
    max_watermark: float | None = None
    min_text_area: float | None = None
    max_text_area: float | None = None
    min_clip_score: float | None = None
    max_clip_score: float | None = None
    min_aesthetic: float | None = None
    max_aesthetic: float | None = None
    min_nsfw: float | None = None
    max_nsfw: float | None = None
    min_speech: float | None = None
    max_speech: float | None = None
    min_caption_words: float | None = None
    max_caption_words: float | None = None
    missing: Literal["keep", "reject"] = "keep"

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not entry.name.startswith("min_"):
                continue
            name = entry.name.removeprefix("min_")
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if low is not None and high is not None and low > high:
                raise ValueError(
                    f"filters.min_{name} {low} is above filters.max_{name} {high}, so nothing could pass; swap them"
                )
        if self.missing not in ("keep", "reject"):
            raise ValueError(f"filters.missing {self.missing!r} is not one of keep, reject")


@dataclass(frozen=True)
class DedupSettings:
    """Which copies are dropped; each names what it duplicates, and the best copy (unmarked, then largest) stays.

    Args:
        exact: sources with equal bytes are analysed once.
        near: clips whose perceptual hashes agree are copies: re-encoded, scaled or letterboxed.
        near_distance: mean Hamming distance, in bits of 64, up to which two clips are near duplicates. 0–24.
    """

    exact: bool = True
    near: bool = True
    near_distance: float = 8.0

    def __post_init__(self) -> None:
        check_between("dedup.near_distance", self.near_distance, 0, 24)
