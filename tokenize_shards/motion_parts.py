"""What moves in a clip, as parts of its samples: motion codes, and codes of flow and depth."""

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from media.windows import resize_and_crop
from schemas.shards import TokenizerInfo
from tokenize_shards.acceleration import batch_size
from tokenize_shards.clip_media import ClipMedia
from tokenize_shards.clip_parts import Piece, VideoPart, WindowPart
from tokenize_shards.loading import load_motion_tokenizer
from tokenize_shards.motion_vectors import DURATION_S, FPS, FRAMES, motion_map
from tokenize_shards.quality import is_measured, motion_snr_db, psnr_db
from tokenize_shards.round_trip import decode_frames, decode_motion, encode_frames, encode_motion
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.structure import load_structure_encoder, structure_video
from tokenize_shards.windows import Window


class MotionPart(WindowPart):
    """Motion codes uint16 (n,) of each window: those of its first 4 s, then of the next, … (0,) for a still."""

    kind = "motion"

    def __init__(self, name: str, settings: TokenizeSettings, device: torch.device, place: torch.device):
        self.name, self.tokenizer = name, load_motion_tokenizer(name, device=place)
        self.settings, self.device = settings, device
        self.batch_size = batch_size(settings.video, device)

    @property
    def info(self) -> TokenizerInfo:
        made, config = self.tokenizer, self.tokenizer.config
        strides = tuple(size // cells for size, cells in zip(config.shape, config.grid, strict=True))
        return TokenizerInfo(self.name, made.fingerprint, made.codebook_size, strides=strides)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides these codes besides the clip."""
        return self.identity_with(tokenizer=self.tokenizer.fingerprint, batch_size=self.batch_size)

    def content(self, clip: ClipMedia) -> dict[str, Any]:
        """What of the clip decides these codes."""
        return {name: value for name, value in clip.content().items() if name != "sizes"}

    def piece(self, clip: ClipMedia, window: Window) -> Piece:
        count = 0 if window.still else int(window.num_frames / self.settings.video.rate / DURATION_S)
        if not count:
            return Piece({"motion": np.zeros(0, np.uint16)})
        starts = [number * DURATION_S for number in range(count)]
        maps = np.stack([self._map(clip, window, start) for start in starts])
        codes = encode_motion(self.tokenizer, maps, self.batch_size)
        measures = {}
        if is_measured(clip.sample_key(window), self.settings.quality.every):
            snr = motion_snr_db(maps.reshape(-1, *maps.shape[2:]), decode_motion(self.tokenizer, codes))
            measures = {} if snr is None else {"motion_snr_db": round(snr, 4)}
        return Piece({"motion": codes}, measures)

    def _map(self, clip: ClipMedia, window: Window, start_s: Fraction) -> np.ndarray:
        return motion_map(clip.frames(window, FPS, FRAMES, start_s))


class StructurePart(WindowPart):
    """Codes uint32 (t h w) of flow and depth of each window, by the tokenizer of its pictures at the lowest size."""

    kind = "structure"

    def __init__(self, video: VideoPart):
        self.video, self.settings, self.device = video, video.settings, video.device
        wanted = self.settings.structure
        self.encoder = load_structure_encoder(video.tokenizer, wanted.flow, wanted.depth, video.place)

    @property
    def info(self) -> TokenizerInfo:
        made = self.video.info
        return TokenizerInfo(made.name, self.encoder.fingerprint, made.codebook_size, made.bit_order, made.strides)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides these codes besides the clip."""
        own = {"batch_size": self.video.batch_size, "precision": self.video.precision}
        return self.identity_with(encoder=self.encoder.fingerprint, **own)

    def content(self, clip: ClipMedia) -> dict[str, Any]:
        """What of the clip decides these codes."""
        return {**clip.content(), "sizes": list(clip.sizes[0])}

    def piece(self, clip: ClipMedia, window: Window) -> Piece:
        frames = clip.frames(window, self.settings.video.rate, window.num_frames)
        video = structure_video(resize_and_crop(frames, *clip.sizes[0]), self.encoder.flow, self.encoder.depth)
        made = self.video
        codes = encode_frames(made.tokenizer, video[None], self.device, made.batch_size, made.precision)[0]
        measures = {}
        if is_measured(clip.sample_key(window), self.settings.quality.every):
            shown = ((video + 1) * 127.5).round().astype(np.uint8)
            measures["structure_psnr_db"] = round(psnr_db(shown, decode_frames(made.tokenizer, codes, self.device)), 4)
        return Piece({"structure": codes}, measures)
