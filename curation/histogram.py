"""A small histogram as SVG, in the colours of the page it stands in."""

import numpy as np

WIDTH, HEIGHT, BASE = 320, 92, 74
NUM_BINS = 32


def histogram_svg(kept: np.ndarray, rejected: np.ndarray, low: float | None = None, high: float | None = None) -> str:
    """Bars of kept clips with the rejected stacked on them, and a line at each limit.

    The axis ends at the 99.5th percentile, so that one outlier does not flatten the rest; what lies beyond is in
    the last bar. Classes: `kept`, `rejected`, `limit`, `axis`. Every number in it is formatted here, so the text is
    safe to embed.
    """
    everything = np.concatenate([kept, rejected])
    left, right = _range(everything, [limit for limit in (low, high) if limit is not None])
    edges = np.linspace(left, right, NUM_BINS + 1)
    low_counts = np.histogram(np.clip(kept, left, right), edges)[0]
    high_counts = np.histogram(np.clip(rejected, left, right), edges)[0]
    tallest = max(int((low_counts + high_counts).max()), 1)
    step = WIDTH / NUM_BINS
    bars = []
    for index, (below, above) in enumerate(zip(low_counts.tolist(), high_counts.tolist(), strict=True)):
        bottom = float(BASE)
        for kind, count in (("kept", below), ("rejected", above)):
            height = count / tallest * (BASE - 14)
            if count:
                height = max(height, 1.0)
                bottom -= height
                bars.append(
                    f'<rect class="{kind}" x="{index * step + 0.5:.1f}" y="{bottom:.1f}" '
                    f'width="{step - 1:.1f}" height="{height:.1f}"/>'
                )
    marks = [_limit(limit, left, right, name) for name, limit in (("min", low), ("max", high)) if limit is not None]
    body = "".join([*bars, _axis(everything, left, right), *marks])
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-hidden="true">{body}</svg>'


def _range(values: np.ndarray, limits: list[float]) -> tuple[float, float]:
    left, right = float(values.min()), float(np.percentile(values, 99.5, method="higher"))
    left, right = min([left, *limits]), max([right, *limits])
    if right <= left:
        pad = abs(left) * 0.1 or 1.0
        return left - pad, right + pad
    return left, right


def _axis(values: np.ndarray, left: float, right: float) -> str:
    """A line with its ends named, or with the one value that all clips share."""
    line = f'<line class="axis" x1="0" y1="{BASE}" x2="{WIDTH}" y2="{BASE}"/>'
    shared = float(values.min())
    if shared == float(values.max()):
        x = (shared - left) / (right - left) * WIDTH
        return f'{line}<text x="{x:.1f}" y="{HEIGHT - 5}" text-anchor="middle">{shared:.4g}</text>'
    return (
        f'{line}<text x="0" y="{HEIGHT - 5}">{left:.4g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 5}" text-anchor="end">{right:.4g}</text>'
    )


def _limit(limit: float, left: float, right: float, name: str) -> str:
    x = (limit - left) / (right - left) * WIDTH
    anchor, shift = ("start", 4) if x < WIDTH / 2 else ("end", -4)
    return (
        f'<line class="limit" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{BASE}"/>'
        f'<text class="limit" x="{x + shift:.1f}" y="9" text-anchor="{anchor}">{name} {limit:.4g}</text>'
    )
