"""Pictures and sound in the types that files have, through the tokenizers and back."""

import numpy as np
import torch
from torch import Tensor

from tokenize_shards.acceleration import autocast
from tokenize_shards.base import AudioTokenizer, VideoTokenizer
from tokenize_shards.motion import MotionTokenizer
from tokenize_shards.settings_parts import Precision


@torch.inference_mode()
def encode_frames(
    tokenizer: VideoTokenizer,
    videos_BTHWC: np.ndarray,
    device: torch.device,
    batch_size: int | None = None,
    precision: Precision = "float32",
) -> np.ndarray:
    """Codes (B t h w) uint32 of RGB frames (B T H W 3) uint8, or of such a video as float32 in [-1, 1].

    Args:
        batch_size: the batch is padded to this many, so that kernels always see one shape; None: as it is.
    """
    video = torch.from_numpy(videos_BTHWC).to(device).permute(0, 4, 1, 2, 3)
    if videos_BTHWC.dtype == np.uint8:
        video = video.float() / 127.5 - 1
    with autocast(device, precision):
        codes = tokenizer.encode(_padded(video, batch_size or len(video)))
    return codes[: len(videos_BTHWC)].cpu().numpy().astype(np.uint32)


@torch.inference_mode()
def decode_frames(tokenizer: VideoTokenizer, codes_thw: np.ndarray, device: torch.device) -> np.ndarray:
    """RGB frames (T H W 3) uint8 of a grid of codes."""
    indices = torch.from_numpy(codes_thw.astype(np.int64))[None].to(device)
    video_CTHW = tokenizer.decode(indices)[0].float().clamp(-1, 1)
    return ((video_CTHW + 1) * 127.5).round().byte().permute(1, 2, 3, 0).cpu().numpy()


@torch.inference_mode()
def decode_images(tokenizer: VideoTokenizer, codes_thw: np.ndarray, device: torch.device) -> np.ndarray:
    """RGB frames (T H W 3) uint8 of codes each step of which is an image of its own."""
    return np.concatenate([decode_frames(tokenizer, step[None], device) for step in codes_thw])


@torch.inference_mode()
def encode_motion(tokenizer: MotionTokenizer, maps_PTHW2: np.ndarray, batch_size: int) -> np.ndarray:
    """Codes (P·n,) uint16 of P motion maps one after another, n each."""
    codes = []
    for start in range(0, len(maps_PTHW2), batch_size):
        maps = torch.from_numpy(maps_PTHW2[start : start + batch_size])
        codes.append(tokenizer.encode(_padded(maps, batch_size))[: len(maps)].cpu().numpy())
    return np.concatenate(codes).reshape(-1).astype(np.uint16)


@torch.inference_mode()
def decode_motion(tokenizer: MotionTokenizer, codes: np.ndarray) -> np.ndarray:
    """Motion maps (T rows columns 2) float32 of codes (P·n,), those of all pieces one after another."""
    pieces = torch.from_numpy(codes.astype(np.int64)).view(-1, tokenizer.num_codes)
    return tokenizer.decode(pieces).flatten(0, 1).cpu().numpy()


@torch.inference_mode()
def encode_sound(tokenizer: AudioTokenizer, samples: np.ndarray, device: torch.device) -> np.ndarray:
    """Codes (Q T') uint16 of mono samples (T,) float32 in [-1, 1] at the tokenizer's rate."""
    sound_B1T = torch.from_numpy(np.ascontiguousarray(samples, np.float32)).to(device)[None, None]
    return tokenizer.encode(sound_B1T)[0].cpu().numpy().astype(np.uint16)


@torch.inference_mode()
def decode_sound(tokenizer: AudioTokenizer, codes_QT: np.ndarray, device: torch.device) -> np.ndarray:
    """Samples (T,) float32 in [-1, 1] of audio codes; none for no codes."""
    if not codes_QT.size:
        return np.zeros(0, np.float32)
    codes = torch.from_numpy(codes_QT.astype(np.int64))[None].to(device)
    return tokenizer.decode(codes)[0, 0].float().clamp(-1, 1).cpu().numpy()


def _padded(batch: Tensor, size: int) -> Tensor:
    """The batch with its last element repeated up to `size`."""
    missing = size - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing > 0 else batch
