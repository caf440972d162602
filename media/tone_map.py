"""HDR to BT.709 as one 3-D table, which libavfilter's `lut3d` applies alike in the decoder and in ffmpeg.

PQ (SMPTE ST 2084) and HLG (ARIB STD-B67, system gamma 1.2) become light in cd/m² on a display of 1,000 cd/m²;
BT.2087's matrix goes from BT.2020 to BT.709 primaries, and what lies outside is moved towards grey of the same
luminance; BT.2390-11's EETF (section 5.4.1) brings the brightest channel to a peak of 203 cd/m² (BT.2408's
reference white), the others follow in proportion, so hues stay; BT.1886's gamma 2.4 encodes it. The
mastering display's metadata is not used: phones write it with permuted primaries and scaled luminances.
"""

import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np

from media import storage

_SIZE = 33  # grid points along each axis; 65 changes no 8-bit value by more than 2
_SOURCE_PEAK, _TARGET_PEAK = 1000.0, 203.0  # cd/m²
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
_LUMA_709 = np.array([0.2126, 0.7152, 0.0722])
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
_TO_709 /= _TO_709.sum(axis=1, keepdims=True)  # the published four decimals would tint white


def pq_to_light(signal: np.ndarray) -> np.ndarray:
    """cd/m² of PQ signals in [0, 1] (ST 2084, equation 4.1)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = np.power(np.clip(signal, 0, 1), 1 / m2)
    return 10_000.0 * np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1)


def light_to_pq(light: np.ndarray) -> np.ndarray:
    """PQ signals in [0, 1] of cd/m² (ST 2084, equation 5.2)."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = np.power(np.clip(light, 0, 10_000) / 10_000, m1)
    return np.power((c1 + c2 * root) / (1 + c3 * root), m2)


def hlg_to_light(signal: np.ndarray) -> np.ndarray:
    """cd/m² (… 3) on a display of 1,000 cd/m² of HLG signals (… 3) in [0, 1] (BT.2100-2, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.clip(signal, 0, 1)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = (scene @ _LUMA_2020)[..., None]
    return _SOURCE_PEAK * scene * np.power(np.maximum(luminance, 1e-9), 0.2)


def eetf(light: np.ndarray) -> np.ndarray:
    """cd/m² compressed from the source's peak to the target's; unchanged below the knee (BT.2390-11, 5.4.1)."""
    source, target = light_to_pq(np.array(_SOURCE_PEAK)), light_to_pq(np.array(_TARGET_PEAK))
    signal, peak = np.minimum(light_to_pq(light) / source, 1.0), float(target / source)
    knee = 1.5 * peak - 0.5
    t = np.clip((signal - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * peak
    return pq_to_light(np.where(signal < knee, signal, spline) * source)


def tone_map(signal: np.ndarray, hdr: str) -> np.ndarray:
    """BT.709 signals (… 3) in [0, 1] of BT.2020 signals (… 3) in [0, 1]; `hdr` is "pq" or "hlg"."""
    light = pq_to_light(signal) if hdr == "pq" else hlg_to_light(signal)
    rgb = light @ _TO_709.T
    grey = np.maximum(rgb @ _LUMA_709, 0)[..., None]
    away = np.minimum(rgb - grey, -1e-9)
    rgb = np.maximum(grey + (rgb - grey) * np.minimum((grey / -away).min(axis=-1, keepdims=True), 1.0), 0)
    brightest = np.maximum(rgb.max(axis=-1, keepdims=True), 1e-6)
    mapped = rgb * (eetf(brightest) / brightest) / _TARGET_PEAK
    return np.power(np.clip(mapped, 0, 1), 1 / 2.4)


@lru_cache
def cube(hdr: str) -> bytes:
    """The table in Adobe's .cube form: red changes fastest."""
    axis = np.linspace(0, 1, _SIZE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    table = tone_map(np.stack([red, green, blue], axis=-1), hdr).reshape(-1, 3)
    lines = [f"LUT_3D_SIZE {_SIZE}", *(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in table)]
    return ("\n".join(lines) + "\n").encode()


def cube_file(hdr: str) -> Path:
    """A file of this user's that holds the table, written once; its name is its content's hash."""
    data = cube(hdr)
    folder = Path(tempfile.gettempdir()) / f"reelmill-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set TMPDIR to a folder of your own")
    path = folder / f"{hdr}-{hashlib.sha256(data).hexdigest()[:16]}.cube"
    if not path.is_file() or path.read_bytes() != data:
        storage.write_bytes_atomic(path, data)
    return path
