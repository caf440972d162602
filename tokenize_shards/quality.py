"""Token QA: how well tokens survive the round trip, how much of the codebook they use, whether they are in range."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from schemas.identity import fingerprint
from schemas.shards import SampleRow, TokenizerInfo, TokenSample

FULL_BIT = 0.9  # a bit with at least this entropy counts as carrying information


def is_measured(key: str, every: int | None) -> bool:
    """Whether this sample's round trip is measured: one in `every`, by a hash of its key."""
    return every is not None and int(fingerprint("quality", key)[:13], 16) % every == 0


def psnr_db(original: np.ndarray, decoded: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two uint8 arrays of one shape; 99 dB where they are equal."""
    if original.shape != decoded.shape:
        raise ValueError(f"cannot compare pictures of shape {original.shape} and {decoded.shape}")
    error = float(np.mean(np.square(original.astype(np.float64) - decoded.astype(np.float64))))
    return 99.0 if error == 0 else 10 * math.log10(255**2 / error)


def audio_snr_db(original: np.ndarray, decoded: np.ndarray) -> float | None:
    """Signal-to-noise ratio in dB over the samples both have; None for silence or no sound at all."""
    length = min(len(original), len(decoded))
    signal = original[:length].astype(np.float64)
    power = float(np.sum(np.square(signal)))
    noise = float(np.sum(np.square(signal - decoded[:length].astype(np.float64))))
    if power == 0:
        return None
    return 99.0 if noise == 0 else 10 * math.log10(power / noise)


def motion_snr_db(original: np.ndarray, decoded: np.ndarray) -> float | None:
    """Signal-to-noise ratio in dB of motion maps (T rows columns 2) of one shape; None where nothing moves."""
    return audio_snr_db(original.reshape(-1), decoded.reshape(-1))


def bit_entropies(ones: np.ndarray, total: int) -> np.ndarray:
    """Entropy in [0, 1] bit of each bit, from how often it was one among `total` codes."""
    p = np.clip(ones / max(total, 1), 0, 1)
    inside = (p > 0) & (p < 1)
    entropy = np.zeros(len(p))
    q = p[inside]
    entropy[inside] = -(q * np.log2(q) + (1 - q) * np.log2(1 - q))
    return entropy


def perplexity(counts: np.ndarray) -> float:
    """2 to the entropy of the codes: how many codes would be in use if all in use were equally frequent."""
    p = counts[counts > 0] / max(int(counts.sum()), 1)
    return float(2 ** -np.sum(p * np.log2(p))) if len(p) else 0.0


@dataclass(frozen=True)
class ShardQuality:
    """What QA says of one shard, or of several merged."""

    num_video_codes: int
    video_bit_ones: list[int]  # by bit, least significant first: how many codes have it set
    video_codes_used: int
    video_perplexity: float
    audio_perplexity: list[float]  # by level
    num_measured: int
    psnr_db: float | None  # mean over the measured windows
    audio_snr_db: float | None
    motion_perplexity: float | None = None
    structure_perplexity: float | None = None
    problems: list[str] = field(default_factory=list)  # out of range or of the wrong shape; such a shard is not used

    @property
    def bit_entropy(self) -> list[float]:
        """Entropy in [0, 1] bit of each bit of the visual codes."""
        return [float(e) for e in bit_entropies(np.array(self.video_bit_ones), self.num_video_codes)]

    @property
    def full_bits(self) -> float:
        """Share of the bits that carry at least 0.9 bit of entropy."""
        entropy = self.bit_entropy
        return sum(e >= FULL_BIT for e in entropy) / len(entropy) if entropy else 0.0

    def quarantined(self, min_psnr_db: float | None) -> str | None:
        """Why the shard must not be used, or None."""
        if self.problems:
            return self.problems[0]
        if min_psnr_db is not None and self.psnr_db is not None and self.psnr_db < min_psnr_db:
            return f"mean round-trip PSNR {self.psnr_db:.2f} dB is below quality.min_psnr_db {min_psnr_db:g}"
        return None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "bit_entropy": self.bit_entropy, "full_bits": self.full_bits}


class CodeUse:
    """Counts the codes of samples as they pass."""

    def __init__(self, tokenizers: Mapping[str, TokenizerInfo]):
        video, audio = tokenizers.get("video"), tokenizers.get("audio")
        self._video = np.zeros(video.codebook_size if video else 0, np.int64)
        self._audio = np.zeros((audio.num_quantizers, audio.codebook_size) if audio else (0, 0), np.int64)
        self._others = {
            kind: np.zeros(tokenizers[kind].codebook_size, np.int64)
            for kind in ("motion", "structure")
            if kind in tokenizers
        }

    def add(self, sample: TokenSample) -> None:
        """Counts the sample's codes, visual ones at the lowest resolution; skips those out of range."""
        _count(self._video, sample.arrays.get("video"))
        for kind, counts in self._others.items():
            _count(counts, sample.arrays.get(kind))
        for level, codes in enumerate(sample.arrays.get("audio", ())):
            if level < len(self._audio):
                _count(self._audio[level], codes)

    def quality(self, rows: Sequence[SampleRow], problems: Sequence[str]) -> ShardQuality:
        """The figures of all samples added, with the round trips that `rows` hold."""
        pictures = [row.psnr_db for row in rows if row.psnr_db is not None]
        sounds = [row.audio_snr_db for row in rows if row.audio_snr_db is not None]
        return ShardQuality(
            num_video_codes=int(self._video.sum()),
            video_bit_ones=[int(n) for n in _ones(self._video)],
            video_codes_used=int(np.count_nonzero(self._video)),
            video_perplexity=perplexity(self._video),
            audio_perplexity=[perplexity(level) for level in self._audio],
            num_measured=len(pictures),
            psnr_db=sum(pictures) / len(pictures) if pictures else None,
            audio_snr_db=sum(sounds) / len(sounds) if sounds else None,
            motion_perplexity=self._perplexity("motion"),
            structure_perplexity=self._perplexity("structure"),
            problems=list(problems),
        )

    def _perplexity(self, kind: str) -> float | None:
        return perplexity(self._others[kind]) if kind in self._others else None


def _count(counts: np.ndarray, codes: np.ndarray | None) -> None:
    if codes is not None and codes.size and len(counts):
        inside = codes[codes < len(counts)].astype(np.int64, copy=False)
        values, times = np.unique(inside, return_counts=True)
        counts[values] += times


def _ones(counts: np.ndarray) -> np.ndarray:
    """By bit, how many of the counted codes have it set."""
    used = np.flatnonzero(counts)
    bits = max(len(counts) - 1, 0).bit_length()
    return np.array([counts[used[(used >> bit) & 1 == 1]].sum() for bit in range(bits)], np.int64)


def problems_of(sample: TokenSample, tokenizers: Mapping[str, TokenizerInfo]) -> list[str]:
    """What is wrong with a sample's codes: out of range, of the wrong shape, or not finite. Empty when sound."""
    problems: list[str] = []
    for name, array in sample.arrays.items():
        info = tokenizers.get("video" if name.startswith(("video", "structure")) else name)
        if info is not None and array.size:
            problems += [f"{sample.key}.{name}: {problem}" for problem in _array_problems(name, array, info)]
    if not sample.arrays.get("video", np.empty(0)).size:
        problems.append(f"{sample.key}.video: there are no codes")
    return problems


def _array_problems(name: str, array: np.ndarray, info: TokenizerInfo) -> list[str]:
    if name == "text":
        if array.ndim != 2 or array.shape[1] != info.width:
            return [f"shape {array.shape} is not (L, {info.width})"]
        return [] if np.isfinite(array).all() else ["has values that are not finite"]
    wanted = 2 if name == "audio" else 1 if name == "motion" else 3
    if array.ndim != wanted:
        return [f"shape {array.shape} has not {wanted} axes"]
    if name == "audio" and array.shape[0] != info.num_quantizers:
        return [f"{array.shape[0]} levels, the tokenizer has {info.num_quantizers}"]
    top = int(array.max())
    return [f"code {top} is outside [0, {info.codebook_size})"] if top >= info.codebook_size else []


def merge(parts: Sequence[ShardQuality]) -> dict[str, Any]:
    """Figures of a whole data set: exact for bit entropy and round trips; codes and perplexity stay by shard."""
    bits = max((len(part.video_bit_ones) for part in parts), default=0)
    ones = [sum(part.video_bit_ones[bit] for part in parts if part.video_bit_ones) for bit in range(bits)]
    total = sum(part.num_video_codes for part in parts)
    entropy = [float(e) for e in bit_entropies(np.array(ones, np.float64), total)]
    measured = sum(part.num_measured for part in parts)
    pictures = sum((part.psnr_db or 0.0) * part.num_measured for part in parts)
    return {
        "num_video_codes": total,
        "bit_entropy": entropy,
        "full_bits": sum(e >= FULL_BIT for e in entropy) / bits if bits else 0.0,
        "num_measured": measured,
        "psnr_db": pictures / measured if measured else None,
        "problems": [problem for part in parts for problem in part.problems],
    }
