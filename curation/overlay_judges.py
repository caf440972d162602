"""What pictures of a clip say of overlays, beside the evidence over time."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from curation.overlay_network import with_text
from curation.settings import CurateSettings
from curation.stills import CENTRE, middles
from curation.text_area import LEAST_AREA, text_area


def places_judged(settings: CurateSettings) -> tuple[Fraction, ...]:
    """Where in each clip pictures are looked at, as shares of its duration."""
    return middles(settings.text.frames) if settings.text.enabled else ()


def overlay_scores(
    watermark: float | None, pictures: Mapping[Fraction, np.ndarray], settings: CurateSettings
) -> dict[str, float]:
    """`watermark` and `text_area`, those of them that are taken.

    Args:
        watermark: probability from the evidence over time; None where there is none.
        pictures: by their place in the clip, (H W 3) uint8 RGB: the centre and `places_judged`.
    """
    scores: dict[str, float] = {}
    if settings.watermark.enabled and settings.watermark.model:
        from curation.watermark_classifier import classifier  # it imports torch's models, which few runs need

        watermark = classifier(settings.watermark.model).probability(pictures[CENTRE])
    if settings.text.enabled:
        scores["text_area"] = text_area([pictures[place] for place in places_judged(settings)], settings.text)
        if watermark is not None:
            watermark = with_text(watermark, scores["text_area"] >= LEAST_AREA)
    if watermark is not None:
        scores["watermark"] = watermark
    return scores
