"""Pictures from a keyframe and motion codes: what a codec shows of its vectors, without the residual.

Where frame k has moved by v_k since the frame before, it shows at x what the keyframe shows at

    from_k(x) = from_{k-1}(x − v_k(x)),   from_0(x) = x

so that the keyframe is sampled once, however long the motion is.
"""

import cv2
import numpy as np

from schemas.shards import TokenSample
from tokenize_shards.motion_vectors import pixels_per_frame
from tokenize_shards.round_trip import decode_motion
from training.generation import Generator
from training.sequences import num_keyframes


def moved(keyframe_HWC: np.ndarray, motion_THW2: np.ndarray) -> np.ndarray:
    """(T H W 3) uint8: the keyframe, moved.

    Args:
        motion_THW2: motion maps of any size, in units of `motion_vectors.motion_map`.
    """
    height, width = keyframe_HWC.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    place = np.stack([columns, rows], axis=-1)
    source, frames = place, []
    for motion in pixels_per_frame(motion_THW2.astype(np.float32), height, width):
        source = _seen_at(source, place - cv2.resize(motion, (width, height), interpolation=cv2.INTER_LINEAR))
        frames.append(_seen_at(keyframe_HWC, source))
    return np.stack(frames)


def _seen_at(picture: np.ndarray, place_HW2: np.ndarray) -> np.ndarray:
    """What a picture shows at (x, y), bilinearly; beyond its border, what stands there."""
    return cv2.remap(picture, place_HW2[..., 0], place_HW2[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def rendered(sample: TokenSample, generator: Generator) -> np.ndarray:
    """(T H W 3) uint8, 24 frames at 6 fps for every 135 motion codes: each keyframe with the motion after it."""
    count, motion = num_keyframes(sample), sample.arrays["motion"]
    clips = []
    for index, codes in enumerate(np.split(motion, count)):
        keyframe = generator.frames(sample.arrays["video"][index : index + 1])[0]
        clips.append(moved(keyframe, decode_motion(generator.tokenizers.motion, codes)))
    return np.concatenate(clips)
