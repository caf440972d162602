"""Ids and fingerprints: hashes of content, so that they survive a move, a re-run and another machine."""

import hashlib
import json
from dataclasses import asdict, is_dataclass
from fractions import Fraction
from pathlib import PurePath
from typing import Any

ID_LENGTH = 20  # hex digits = 80 bits: among 10^9 clips a collision has probability 4e-7


def _plain(value: Any) -> Any:
    """The JSON form of what settings and records are made of."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"__type__": type(value).__name__, **asdict(value)}
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator]
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"cannot fingerprint a {type(value).__name__}: {value!r}")


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, exact floats."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain, ensure_ascii=True)


def fingerprint(*parts: Any) -> str:
    """sha256 (64 hex digits) over the canonical JSON of the parts."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def source_id(uri: str, start_s: float | None = None, end_s: float | None = None) -> str:
    """Id of an input: its URI as given and the bounds within which shots are sought.

    An input that cannot be fetched has one too.
    """
    return fingerprint("source", uri, start_s, end_s)[:ID_LENGTH]


def clip_id(content_sha256: str, start_pts: int, end_pts: int, time_base: Fraction) -> str:
    """Id of a clip: the bytes of its source and its exact half-open span."""
    start, end = start_pts * time_base, end_pts * time_base
    return fingerprint("clip", content_sha256, start, end)[:ID_LENGTH]
