"""Token samples of random codes, for tests of what reads shards."""

import numpy as np

from schemas.shards import TokenSample

TEXT_WIDTH = 16


def token_sample(
    seed: int, grid: tuple[int, int, int] = (2, 4, 4), audio: tuple[int, int] = (2, 4), text_length: int = 3
) -> TokenSample:
    """Random codes: video (t h w) in [0, 2^18), audio (Q T) in [0, 1024), text states (L 16)."""
    rng = np.random.default_rng(seed)
    low_t, low_h, low_w = grid
    return TokenSample(
        f"sample-{seed:04d}",
        {
            "video": rng.integers(2**18, size=grid).astype(np.uint32),
            f"video_{16 * low_h}x{16 * low_w}": rng.integers(2**18, size=(low_t, 2 * low_h, 2 * low_w)).astype(
                np.uint32
            ),
            "audio": rng.integers(1024, size=audio).astype(np.uint16),
            "text": rng.normal(size=(text_length, TEXT_WIDTH)).astype(np.float16),
        },
        {"caption": f"caption {seed}"},
    )
