"""Settings of what is dropped: limits of the scores, and duplicates. Nothing heavy is imported here."""

import re
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Literal

from media.bounds import check_between

LimitValue = float | str | None
"""Of a score: a number, a quantile of the run such as `q0.2`, or none."""


def quantile_share(text: str, name: str = "a limit") -> Fraction:
    """The share that a quantile names, exactly: 1/5 for `q0.2`.

    Raises:
        ValueError: it names none.
    """
    if not re.fullmatch(r"q0?\.\d+", text) or not 0 < Fraction(text[1:]) < 1:
        raise ValueError(f"{name} {text!r} is neither a number nor a quantile between 0 and 1, such as q0.2")
    return Fraction(text[1:])


@dataclass(frozen=True)
class FilterSettings:
    """Limits of the scores; inclusive, and null is off. The scores themselves are defined in `schemas.scores`.

    A limit is a number, or a quantile of the run: `min_clip_score: q0.2` drops the lowest fifth of the clips that come
    so far, `max_motion: q0.9` the highest tenth. What it came to stands in `run.json` and in each verdict.

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
        min_aesthetic: least aesthetic score, about 1–10.
        max_aesthetic: greatest aesthetic score, about 1–10.
        min_nsfw: least probability of adult content in [0, 1].
        max_nsfw: greatest probability of adult content in [0, 1].
        min_speech: least share of speech in [0, 1].
        max_speech: greatest share of speech in [0, 1].
        min_caption_words: fewest words in the caption.
        max_caption_words: most words in the caption.
        min_caption_repetition: least share of repeated phrases in the caption in [0, 1].
        max_caption_repetition: greatest share of repeated phrases in the caption in [0, 1].
        min_clip_score: least cosine of pictures and caption in [-1, 1].
        max_clip_score: greatest cosine of pictures and caption in [-1, 1].
        missing: what becomes of a clip that has no value for a score with a limit: `keep` lets it pass, `reject`
            makes it `filtered(stage, no_<score>)`.
    """

    min_duration_s: LimitValue = None
    max_duration_s: LimitValue = None
    min_motion: LimitValue = None
    max_motion: LimitValue = None
    min_sharpness: LimitValue = None
    max_sharpness: LimitValue = None
    min_luma: LimitValue = None
    max_luma: LimitValue = None
    min_luma_std: LimitValue = None
    max_luma_std: LimitValue = None
    min_freeze: LimitValue = None
    max_freeze: LimitValue = None
    min_letterbox: LimitValue = None
    max_letterbox: LimitValue = None
    min_height: LimitValue = None
    max_height: LimitValue = None
    min_width: LimitValue = None
    max_width: LimitValue = None
    min_loudness_dbfs: LimitValue = None
    max_loudness_dbfs: LimitValue = None
    min_watermark: LimitValue = None
    max_watermark: LimitValue = None
    min_text_area: LimitValue = None
    max_text_area: LimitValue = None
    min_aesthetic: LimitValue = None
    max_aesthetic: LimitValue = None
    min_nsfw: LimitValue = None
    max_nsfw: LimitValue = None
    min_speech: LimitValue = None
    max_speech: LimitValue = None
    min_caption_words: LimitValue = None
    max_caption_words: LimitValue = None
    min_caption_repetition: LimitValue = None
    max_caption_repetition: LimitValue = None
    min_clip_score: LimitValue = None
    max_clip_score: LimitValue = None
    missing: Literal["keep", "reject"] = "keep"

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, str) and entry.name != "missing":
                quantile_share(value, f"filters.{entry.name}")
            if entry.name.startswith("min_"):
                self._check_order(entry.name.removeprefix("min_"))
        if self.missing not in ("keep", "reject"):
            raise ValueError(f"filters.missing {self.missing!r} is not one of keep, reject")

    def _check_order(self, name: str) -> None:
        low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
        if low is None or high is None or isinstance(low, str) != isinstance(high, str):
            return
        if (quantile_share(low) > quantile_share(high)) if isinstance(low, str) else low > high:
            raise ValueError(
                f"filters.min_{name} {low} is above filters.max_{name} {high}, so nothing could pass; swap them"
            )


@dataclass(frozen=True)
class DedupSettings:
    """Which copies are dropped; each names what it duplicates, and the best copy (unmarked, then largest) stays.

    Args:
        exact: sources with equal bytes are analysed once.
        near: clips whose perceptual hashes agree are copies: re-encoded, scaled or letterboxed.
        semantic: cosine of CLIP embeddings from which two clips show the same, in [0.5, 1], e.g. 0.95; needs
            `clip_score.model`. null compares no embeddings.
        near_distance: mean Hamming distance, in bits of 64, up to which two clips are near duplicates. 0–24.
    """

    exact: bool = True
    near: bool = True
    near_distance: float = 8.0
    semantic: float | None = None

    def __post_init__(self) -> None:
        check_between("dedup.near_distance", self.near_distance, 0, 24)
        if self.semantic is not None:
            check_between("dedup.semantic", self.semantic, 0.5, 1)
