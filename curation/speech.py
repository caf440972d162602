"""Speech in the sound of a clip, by Silero VAD (https://github.com/snakers4/silero-vad, MIT).

Only the ONNX weights of the package are used, by ONNX Runtime on one thread: importing the package would import torch
and set its number of threads.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from curation.settings_models import EXTRA

FRAME, CONTEXT = 512, 64  # samples at 16 kHz: the network judges 32 ms at a time and sees 4 ms before them
_BLOCK = 512  # frames per call
_STATE = (1, 1, 128)


def speech_weights() -> Path:
    """The network's weights.

    Raises:
        FileNotFoundError: the package that holds them is not installed.
    """
    package = importlib.util.find_spec("silero_vad")
    if package is None or package.origin is None or importlib.util.find_spec("onnxruntime") is None:
        raise FileNotFoundError(f"speech.enabled needs silero-vad and onnxruntime; install {EXTRA}")
    return Path(package.origin).parent / "data" / "silero_vad_16k_sequence.onnx"


def speech_share(samples: np.ndarray, threshold: float) -> float:
    """Share in [0, 1] of the sound whose 32 ms frames are speech with at least this probability.

    Args:
        samples: (T,) float in [-1, 1], mono at 16 kHz; T > 0.
    """
    return float((speech_probabilities(samples) >= threshold).mean())


def speech_probabilities(samples: np.ndarray) -> np.ndarray:
    """(ceil(T / 512),) probability in [0, 1] of each 32 ms frame; the last is filled up with silence.

    Each frame comes with the last samples of the one before it, and the network's state goes from block to block:

        frame k     | 64 samples of frame k - 1 | 512 samples |
    """
    count = -(-len(samples) // FRAME)
    frames = np.zeros((count, FRAME), np.float32)
    frames.reshape(-1)[: len(samples)] = samples
    before = np.zeros((count, CONTEXT), np.float32)
    before[1:] = frames[:-1, -CONTEXT:]
    inputs = np.concatenate((before, frames), axis=1)
    hidden = cell = np.zeros(_STATE, np.float32)
    found = [np.zeros(0, np.float32)]
    for start in range(0, count, _BLOCK):
        feed = {"input": inputs[start : start + _BLOCK], "h": hidden, "c": cell}
        values, hidden, cell = _session().run(["speech_probs", "hn", "cn"], feed)
        found.append(values.reshape(-1))
    return np.concatenate(found)


@cache
def _session() -> Any:
    """The network, once per process."""
    import onnxruntime  # of an extra: a run without this score does not need it

    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(speech_weights()), options, providers=["CPUExecutionProvider"])
