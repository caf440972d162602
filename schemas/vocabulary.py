"""The token vocabulary of the language model: special, visual, audio, text, motion.

VideoPoet (arXiv 2312.14125, appendix A.5.1): ids 0–255 are special and task tokens, the next 262,144 are
visual (LFQ with 18 bits), the next 4,096 audio (4 levels of 1,024 codes with ids of their own), then text.
Video-LaVIT's motion codes come last, where there are any, so that no other id depends on them.
"""

from dataclasses import dataclass

import numpy as np

NUM_SPECIAL = 256

SPECIAL_TOKENS: dict[str, int] = {
    name: index
    for index, name in enumerate(
        (
            # VideoPoet Table 4
            "pad", "bos", "eos",
            "bot_i", "eot_i", "bov_i", "eov_i", "boa_i", "eoa_i",
            "bov_o", "eov_o", "boa_o", "eoa_o",
            "source_image", "source_video", "source_none",
            "text",  # the slot that a projected text embedding fills
            # one task token for each kind of output
            "task_video", "task_image", "task_audio", "task_audio_video", "task_continue", "task_inpaint",
            "task_outpaint", "task_stylize", "task_motion",
            "res_128x128", "res_128x224", "res_other",
            "duration_1", "duration_17", "duration_41", "duration_other",
            # Video-LaVIT's alternating layout of keyframes and motion
            "bok", "eok", "bom", "eom",
            "mask",
        )
    )
}  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """Where each kind of token begins. All ids are global; codes are local to their kind."""

    visual_size: int = 2**18
    audio_levels: int = 4
    audio_codebook_size: int = 1024
    text_size: int = 0
    motion_size: int = 0

    @property
    def visual_offset(self) -> int:
        return NUM_SPECIAL

    @property
    def audio_offset(self) -> int:
        return self.visual_offset + self.visual_size

    @property
    def text_offset(self) -> int:
        return self.audio_offset + self.audio_levels * self.audio_codebook_size

    @property
    def motion_offset(self) -> int:
        return self.text_offset + self.text_size

    @property
    def size(self) -> int:
        return self.motion_offset + self.motion_size

    def visual_ids(self, codes: np.ndarray) -> np.ndarray:
        """Global ids of visual codes in [0, visual_size), any shape, int64."""
        self._check("visual", codes, self.visual_size)
        return codes.astype(np.int64) + self.visual_offset

    def audio_ids(self, codes_QT: np.ndarray) -> np.ndarray:
        """Global ids of audio codes (Q T) in [0, audio_codebook_size), int64; each level has ids of its own."""
        if codes_QT.shape[0] > self.audio_levels:
            raise ValueError(f"{codes_QT.shape[0]} audio levels do not fit a vocabulary of {self.audio_levels}")
        self._check("audio", codes_QT, self.audio_codebook_size)
        levels = np.arange(codes_QT.shape[0], dtype=np.int64)[:, None] * self.audio_codebook_size
        return codes_QT.astype(np.int64) + levels + self.audio_offset

    def motion_ids(self, codes: np.ndarray) -> np.ndarray:
        """Global ids of motion codes in [0, motion_size), any shape, int64."""
        self._check("motion", codes, self.motion_size)
        return codes.astype(np.int64) + self.motion_offset

    @staticmethod
    def _check(kind: str, codes: np.ndarray, size: int) -> None:
        if codes.size and (int(codes.min()) < 0 or int(codes.max()) >= size):
            raise ValueError(f"{kind} codes lie in [{codes.min()}, {codes.max()}]; allowed is [0, {size - 1}]")


VOCABULARY = Vocabulary()
