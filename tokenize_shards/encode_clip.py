"""One clip in, token samples out: windows of video at each resolution, the sound beneath them, the caption's states.

Bytes do not depend on what else is tokenized, where, or by how many workers: batches have a fixed shape, the number of
CPU threads is a setting, and both are part of the fingerprint. Each modality is a part of its own with its own
fingerprint, so that a change of the audio tokenizer redoes audio alone.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from media.images import image_from_bytes
from media.probe import probe
from schemas.identity import fingerprint
from schemas.shards import TokenizerInfo, TokenSample
from schemas.states import Rejection
from tokenize_shards.base import default_device, device_here
from tokenize_shards.clip_media import ClipMedia
from tokenize_shards.clip_parts import AudioPart, Part, Piece, TextPart, VideoPart, pack_pieces, unpack_pieces
from tokenize_shards.motion_parts import MotionPart, StructurePart
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.windows import choose_bucket, clip_duration, plan_windows

CODE_VERSION = 2
"""Raised when the same clip, settings and tokenizers would give other samples than before."""

_OTHER_SIDE = {"left": "right", "right": "left"}


class PartStore(Protocol):
    """Where finished parts of clips are kept between runs, by stage and fingerprint."""

    def get(self, stage: str, fingerprint: str) -> bytes | None: ...

    def put(self, stage: str, fingerprint: str, data: bytes) -> None: ...


class ClipTokenizer:
    """The tokenizers of a run, loaded once, and what they make of a clip.

    Args:
        settings: the run's settings; only those that decide tokens matter here.
        store: keeps finished parts; None: nothing is kept.
        elsewhere: the clips are encoded on other machines, which may have a device that this one lacks; here the
            tokenizers only say who they are.

    Raises:
        ValueError: the device is not here, or a tokenizer cannot be loaded, or cannot take the windows or resolutions
            asked for.
    """

    def __init__(self, settings: TokenizeSettings, store: PartStore | None = None, elsewhere: bool = False):
        self.settings, self.store = settings, store
        device = default_device(settings.device)
        place = device_here(device, elsewhere)
        self.video = VideoPart(settings, device, place)
        sound, encoder, motion = settings.audio.tokenizer, settings.text.encoder, settings.motion.tokenizer
        text = TextPart(encoder, settings, device, place) if encoder is not None else None
        parts: tuple[Part | None, ...] = (
            self.video,
            AudioPart(sound, settings, device, place) if sound is not None else None,
            text,
            MotionPart(motion, settings, device, place) if motion is not None else None,
            StructurePart(self.video) if settings.structure.enabled else None,
        )
        self.parts = [part for part in parts if part is not None]
        with fixed_threads(settings.threads):
            self.empty_caption: np.ndarray | None = text.states("") if text else None
        """States (L D) float16 of the empty caption; None without a text encoder."""

    @property
    def tokenizers(self) -> dict[str, TokenizerInfo]:
        """By modality, what `dataset.json` says of each tokenizer."""
        return {part.kind: part.info for part in self.parts}

    @property
    def fingerprints(self) -> dict[str, str]:
        """By modality: settings, tokenizer and code version."""
        return {part.kind: fingerprint(CODE_VERSION, part.kind, part.identity) for part in self.parts}

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the samples of a clip."""
        return fingerprint("tokenize", self.fingerprints)

    def tokenize(
        self,
        clip_key: str,
        media: str | Path | bytes,
        sidecar: Mapping[str, Any],
        start_s: Fraction | None = None,
    ) -> list[TokenSample]:
        """The samples of a clip, one for each window, in order.

        Args:
            clip_key: letters, digits, '_' and '-'; the samples' keys are `clip_key-0000`, `clip_key-0001`, …
            media: the clip's own file or its bytes, or the source that holds it; an image, where the sidecar says so.
            sidecar: the clip's `KEY.json` or ledger row: ids, span, caption, license, extra; `image` is true for one.
            start_s: where in the media the clip begins, in seconds of its timeline; None: at its first frame.

        Raises:
            Rejection: `too_short`, or the media cannot be decoded (as `media.probe` and `media.images`).
        """
        if self.settings.video.mirror:
            sidecar = {**sidecar, "caption": mirrored_caption(sidecar.get("caption"))}
        with ExitStack() as stack:
            stack.enter_context(fixed_threads(self.settings.threads))
            if sidecar.get("image"):
                clip = self._image(clip_key, media if isinstance(media, bytes) else Path(media).read_bytes(), sidecar)
            else:
                clip = self._clip(clip_key, stack.enter_context(_as_file(media)), sidecar, start_s)
            pieces = [self._pieces(part, clip) for part in self.parts]
        return [self._sample(clip, number, pieces) for number in range(len(clip.windows))]

    def _clip(self, key: str, path: Path, sidecar: Mapping[str, Any], start_s: Fraction | None) -> ClipMedia:
        duration_s = clip_duration(sidecar)
        windows = plan_windows(duration_s, int(sidecar["num_frames"]), self.settings.video)
        about = probe(path)
        origin = about.start_pts * Fraction(about.time_base_num, about.time_base_den) if start_s is None else start_s
        end = None if start_s is None else start_s + duration_s
        crop = tuple(sidecar["crop"]) if sidecar.get("crop") else None
        height, width = (crop[2], crop[3]) if crop else (about.height, about.width)
        sizes = choose_bucket(height, width, self.settings.video.buckets)
        sound, mirrored = about.audio_codec is not None, self.settings.video.mirror
        return ClipMedia(key, windows, sizes, sidecar, origin, end, path, sound, crop=crop, mirrored=mirrored)

    def _image(self, key: str, data: bytes, sidecar: Mapping[str, Any]) -> ClipMedia:
        picture = image_from_bytes(data)
        sizes = choose_bucket(picture.shape[0], picture.shape[1], self.settings.video.buckets)
        windows = plan_windows(Fraction(0), 1, self.settings.video)
        return ClipMedia(key, windows, sizes, sidecar, picture=picture, mirrored=self.settings.video.mirror)

    def _pieces(self, part: Part, clip: ClipMedia) -> list[Piece]:
        if self.store is None:
            return part.encode(clip)
        name, stage = fingerprint(self.fingerprints[part.kind], part.content(clip)), f"tokens-{part.kind}"
        known = self.store.get(stage, name)
        if known is None:
            known = pack_pieces(part.encode(clip))
            self.store.put(stage, name, known)
        return unpack_pieces(known)

    def _sample(self, clip: ClipMedia, number: int, pieces: list[list[Piece]]) -> TokenSample:
        window, sidecar = clip.windows[number], clip.sidecar
        arrays: dict[str, np.ndarray] = {}
        quality: dict[str, float] = {}
        for of_part in pieces:
            piece = of_part[number]
            arrays.update(piece.arrays)
            quality.update(piece.measures)
        meta = {
            "clip_id": sidecar["clip_id"],
            "source_id": sidecar["source_id"],
            "caption": sidecar.get("caption"),
            "license": sidecar.get("license"),
            "window_index": window.index,
            "start_s": float(window.start_s),
            "num_frames": window.num_frames,
            "independent": self.settings.video.independent,
            **({"mirrored": True} if clip.mirrored else {}),
            "fps": [self.settings.video.rate.numerator, self.settings.video.rate.denominator],
            "resolution": list(clip.sizes[0]),
            "resolutions": [list(size) for size in clip.sizes],
            "extra": sidecar.get("extra") or {},
            "quality": quality,
        }
        return TokenSample(clip.sample_key(window), arrays, meta)


def mirrored_caption(caption: str | None) -> str | None:
    """The caption with the words "left" and "right" changed, written as they were: Left, LEFT or left."""
    if caption is None:
        return None
    return re.sub(r"\b(left|right)\b", _other_side, caption, flags=re.IGNORECASE)


def _other_side(found: re.Match[str]) -> str:
    word, other = found[0], _OTHER_SIDE[found[0].lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other


@contextmanager
def fixed_threads(threads: int) -> Iterator[None]:
    """Torch with this number of CPU threads: sums in another number of parts can round otherwise, and flip a code."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _as_file(media: str | Path | bytes) -> Iterator[Path]:
    """A local path; bytes lie in a scratch file for as long as they are needed."""
    if not isinstance(media, bytes):
        yield Path(media)
        return
    if not media:
        raise Rejection("empty_file", "the clip has no bytes")
    with tempfile.NamedTemporaryFile(suffix=".mp4", prefix="clip-") as file:
        file.write(media)
        file.flush()
        yield Path(file.name)
