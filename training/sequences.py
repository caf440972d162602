"""Token samples as sequences of the language model, one layout for each task.

VideoPoet (arXiv 2312.14125), figure 2 and table 4. The prefix is read in both directions, the output is predicted:

    prefix  bos task [bot_i text… eot_i] [res] duration source [bov_i visual… eov_i]… [boa_i audio… eoa_i]
    output  [bov_o visual… eov_o] [boa_o audio… eoa_o] eos

What a task or a sample lacks is dropped together with its delimiters. Visual codes are flattened in the order
t h w, audio codes level by level (section 3.1): the whole clip at level 0, then at level 1, and so on.

Video-LaVIT (arXiv 2402.03161) has a layout of its own, in which keyframes and what moves after each alternate. Where
the steps of a sample's video are images of their own, each is a keyframe; else the first step is the only one. The task
`image_motion` has the first keyframe in its prefix:

    output  [bok visual… eok bom motion… eom]… eos
"""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field

import numpy as np

from schemas.shards import TokenSample
from schemas.vocabulary import NUM_SPECIAL, SPECIAL_TOKENS, VOCABULARY, Vocabulary


@dataclass(frozen=True)
class Task:
    """What stands in the prefix of a task and what it puts out.

    Attributes:
        token: the task token; one for each kind of output, so several tasks share one.
        text: the caption stands in the prefix.
        video_in: visual inputs in their order: "first" latent frame, "given" latent frames, "all", "commit" (codes of
            the masked video, never codes of the whole one) or "structure" (codes of flow and depth). A layout that pads
            has "padded" in place of "given".
        audio_in: "" for none, "given" (what lies beneath the given latent frames) or "all".
        video_out: "" for none, "first", "rest" (what the first or given latent frames leave) or "all".
        audio_out: "" for none, "rest" or "all".
        motion: keyframes and their motion codes take turns; the first keyframe is given where `video_in` has "first".
        open_ended: no eov_o and no eos, so that generation may go on: an image that becomes a video.
    """

    token: str
    text: bool = True
    video_in: tuple[str, ...] = ()
    audio_in: str = ""
    video_out: str = ""
    audio_out: str = ""
    motion: bool = False
    open_ended: bool = False


TASKS: dict[str, Task] = {
    "unconditional": Task("task_video", text=False, video_out="all"),
    "t2v": Task("task_video", video_out="all"),
    "t2i": Task("task_image", video_out="first", open_ended=True),
    "t2av": Task("task_audio_video", video_out="all", audio_out="all"),
    "i2v": Task("task_video", video_in=("first",), video_out="rest"),
    "continue": Task("task_continue", video_in=("given",), video_out="rest"),
    "inpaint": Task("task_inpaint", video_in=("commit",), video_out="all"),
    "outpaint": Task("task_outpaint", video_in=("commit",), video_out="all"),
    "stylize": Task("task_stylize", video_in=("structure",), video_out="all"),
    "stylize_first": Task("task_stylize", video_in=("structure", "first"), video_out="rest"),
    "v2a": Task("task_audio", text=False, video_in=("all",), audio_out="all"),
    "a2v": Task("task_video", text=False, audio_in="all", video_out="all"),
    "av_continue": Task(
        "task_audio_video", video_in=("given",), audio_in="given", video_out="rest", audio_out="rest"
    ),
    "keyframe_motion": Task("task_motion", motion=True),
    "image_motion": Task("task_motion", video_in=("first",), motion=True),
}  # fmt: skip

_RESOLUTION_TOKENS = {(16, 16): None, (28, 16): "res_128x224"}  # token grids (h, w); VideoPoet writes none for 128×128
_DURATION_TOKENS = {1: "duration_1", 5: "duration_17", 11: "duration_41"}  # by latent frames

SPECIAL, VISUAL, AUDIO, MOTION = range(4)  # kinds of tokens; a text slot is a special token


@dataclass(frozen=True, eq=False)
class Sequence:
    """One sample as one task sees it.

    Attributes:
        ids: (S,) int64, global ids; a text slot holds the id of `text`.
        places: (S, 3) int64: (t, h, w) of a visual token, (level, column, 0) of an audio token, (number, 0, 0) of a
            motion token, else zeros.
        prefix_length: how many leading ids are read in both directions; the loss lies on the others.
        text: (L, D) float16, the states that fill the text slots in order.
    """

    task: str
    ids: np.ndarray
    places: np.ndarray
    prefix_length: int
    text: np.ndarray


def token_kinds(ids: np.ndarray, vocabulary: Vocabulary = VOCABULARY) -> np.ndarray:
    """SPECIAL, VISUAL, AUDIO or MOTION for each id, same shape, int64."""
    bounds = np.array([NUM_SPECIAL, vocabulary.audio_offset, vocabulary.motion_offset])
    return (ids[..., None] >= bounds).sum(axis=-1)


@dataclass(frozen=True)
class Layout:
    """Writes sequences.

    Attributes:
        temporal_stride: the video tokenizer's; n latent frames stand for 1 + stride·(n − 1).
        pad_given: where latent frames are given, the prefix holds the codes of a whole video in which the last given
            picture stands (`training.commit.PaddedCodes`).
    """

    vocabulary: Vocabulary = field(default_factory=lambda: VOCABULARY)
    temporal_stride: int = 4
    pad_given: bool = False

    def audio_columns(self, given: int, latent_frames: int, columns: int) -> int:
        """How many of the audio columns of a clip lie beneath its first `given` latent frames, rounded down."""
        frames = 1 + self.temporal_stride * (latent_frames - 1)
        return columns * (1 + self.temporal_stride * (given - 1)) // frames

    def build(self, task_name: str, sample: TokenSample, *, given: int = 1, text: np.ndarray | None = None) -> Sequence:
        """The sequence of a sample for a task.

        Args:
            given: latent frames that "given" means, at least one and fewer than the clip has.
            text: states (L, D) in place of the sample's caption, e.g. those of the empty caption.

        Raises:
            ValueError: the task is unknown, or the sample lacks what it needs.
        """
        task = find_task(task_name)
        given = given if "given" in task.video_in else 1
        lack = missing(task_name, sample, given)
        if lack:
            raise ValueError(f"sample {sample.key} cannot serve task {task_name}: {lack}")
        states = _text_of(task, sample, text)
        prefix = self._prefix(task, sample, states, given)
        output = self._output(task, sample, given)
        ids, places = (np.concatenate(parts) for parts in zip(prefix, output, strict=True))
        return Sequence(task_name, ids, places, len(prefix[0]), states)

    def _prefix(self, task: Task, sample: TokenSample, states: np.ndarray, given: int) -> tuple[np.ndarray, np.ndarray]:
        parts = [_special("bos", task.token)]
        if len(states):
            parts.append(_special("bot_i", *["text"] * len(states), "eot_i"))
        parts.append(_special(*_format_tokens(task, sample)))
        begin, end = ("bok", "eok") if task.motion else ("bov_i", "eov_i")
        for kind in task.video_in:
            shown = "padded" if kind == "given" and self.pad_given else kind
            parts.append(_wrap(begin, self._visual(_visual_input(shown, sample, given)), end))
        if task.audio_in:
            columns = self._given_columns(task.audio_in, sample, given)
            parts.append(_wrap("boa_i", self._audio(sample, 0, columns), "eoa_i"))
        return _join(parts)

    def _output(self, task: Task, sample: TokenSample, given: int) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        if task.video_out:
            start, stop = _output_span(task, sample, given)
            visual = self._visual(sample.arrays["video"][start:stop], start)
            parts.append(_wrap("bov_o", visual, None if task.open_ended else "eov_o"))
        if task.motion:
            parts += self._keyframes_and_motion(sample, first_given="first" in task.video_in)
        if task.audio_out:
            start = (self._given_columns("given", sample, given) or 0) if task.audio_out == "rest" else 0
            parts.append(_wrap("boa_o", self._audio(sample, start, None), "eoa_o"))
        if not task.open_ended:
            parts.append(_special("eos"))
        return _join(parts)

    def _given_columns(self, kind: str, sample: TokenSample, given: int) -> int | None:
        if kind == "all":
            return None
        return self.audio_columns(given, len(sample.arrays["video"]), sample.arrays["audio"].shape[1])

    def _visual(self, codes_thw: np.ndarray, first_frame: int = 0) -> tuple[np.ndarray, np.ndarray]:
        places = np.indices(codes_thw.shape).reshape(3, -1).T + np.array([first_frame, 0, 0])
        return self.vocabulary.visual_ids(codes_thw).reshape(-1), places

    def _keyframes_and_motion(self, sample: TokenSample, first_given: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        video, motion = sample.arrays["video"], sample.arrays["motion"]
        ids, numbers = self.vocabulary.motion_ids(motion), np.arange(motion.size)
        places = np.stack([numbers, 0 * numbers, 0 * numbers], axis=1)
        parts, count = [], num_keyframes(sample)
        for index in range(count):
            if index or not first_given:
                parts.append(_wrap("bok", self._visual(video[index : index + 1], index), "eok"))
            piece = slice(index * motion.size // count, (index + 1) * motion.size // count)
            parts.append(_wrap("bom", (ids[piece], places[piece]), "eom"))
        return parts

    def _audio(self, sample: TokenSample, start: int, stop: int | None) -> tuple[np.ndarray, np.ndarray]:
        codes_QT = sample.arrays["audio"][:, start:stop]
        levels, columns = np.indices(codes_QT.shape).reshape(2, -1)
        places = np.stack([levels, columns + start, np.zeros_like(levels)], axis=1)
        return self.vocabulary.audio_ids(codes_QT).reshape(-1), places


def find_task(name: str) -> Task:
    """The task of that name; ValueError for an unknown one."""
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]


def num_keyframes(sample: TokenSample) -> int:
    """Steps of a sample's video that are images: all of them, or the first alone."""
    return len(sample.arrays["video"]) if sample.meta.get("independent") else 1


def missing(task_name: str, sample: TokenSample, given: int = 1) -> str:
    """What a sample lacks to serve a task; "" where it lacks nothing."""
    task = find_task(task_name)
    video = sample.arrays.get("video")
    if video is None or not video.size:
        return "it has no video tokens"
    if (task.audio_in or task.audio_out) and not sample.arrays.get("audio", np.empty(0)).size:
        return "it has no audio tokens"
    motion = sample.arrays.get("motion", np.empty(0)).size
    if task.motion and not motion:
        return "it has no motion tokens"
    if task.motion and motion % num_keyframes(sample):
        return f"its {motion} motion codes do not share out evenly over {num_keyframes(sample)} keyframes"
    for kind in ("commit", "structure"):
        if kind in task.video_in and not sample.arrays.get(kind, np.empty(0)).size:
            return f"it has no {kind} tokens"
    if "rest" in (task.video_out, task.audio_out) and not 1 <= given < len(video):
        return f"{given} of its {len(video)} latent frames cannot be given; allowed is 1 to {len(video) - 1}"
    return ""


def _text_of(task: Task, sample: TokenSample, text: np.ndarray | None) -> np.ndarray:
    if not task.text:
        return np.zeros((0, 0), np.float16)
    return sample.arrays.get("text", np.zeros((0, 0), np.float16)) if text is None else text


def _format_tokens(task: Task, sample: TokenSample) -> list[str]:
    """Resolution (none for 128×128), duration of the whole output, and what the visual input is."""
    latent_frames, *grid = sample.arrays["video"].shape
    resolution = _RESOLUTION_TOKENS.get((grid[0], grid[1]), "res_other")
    shown = 1 if task.video_out == "first" else latent_frames
    duration = _DURATION_TOKENS.get(shown, "duration_other")
    source = "source_none" if not task.video_in else "source_video"
    if task.video_in == ("first",) or (task.video_in == ("all",) and latent_frames == 1):
        source = "source_image"
    return [*([resolution] if resolution else []), duration, source]


def _visual_input(kind: str, sample: TokenSample, given: int) -> np.ndarray:
    if kind in ("commit", "structure", "padded"):
        return sample.arrays[kind]
    return sample.arrays["video"][: {"first": 1, "given": given, "all": None}[kind]]


def _output_span(task: Task, sample: TokenSample, given: int) -> tuple[int, int]:
    latent_frames = len(sample.arrays["video"])
    return {"first": (0, 1), "rest": (given, latent_frames), "all": (0, latent_frames)}[task.video_out]


def _special(*names: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array([SPECIAL_TOKENS[name] for name in names], np.int64), np.zeros((len(names), 3), np.int64)


def _wrap(begin: str, body: tuple[np.ndarray, np.ndarray], end: str | None) -> tuple[np.ndarray, np.ndarray]:
    return _join([_special(begin), body, *([_special(end)] if end else [])])


def _join(parts: Many[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([places for _, places in parts])


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """Sequences of one task side by side, padded in front so that their outputs stand under each other.

    Attributes:
        ids: (B, S) int64.
        places: (B, S, 3) int64.
        padding: (B,) int64, leading pads of each row.
        prefix_length: of all rows, pads included.
        text: (sum of L, D) float16, the states of all text slots, row after row.
    """

    ids: np.ndarray
    places: np.ndarray
    padding: np.ndarray
    prefix_length: int
    text: np.ndarray

    @property
    def num_targets(self) -> int:
        """Output tokens in the batch."""
        return self.ids.shape[0] * (self.ids.shape[1] - self.prefix_length)


def collate(sequences: Many[Sequence]) -> SequenceBatch:
    """Stacks sequences whose outputs have equal lengths; ValueError where they differ."""
    outputs = {len(sequence.ids) - sequence.prefix_length for sequence in sequences}
    if len(outputs) != 1:
        raise ValueError(f"outputs of {sorted(outputs)} tokens cannot share a batch; group the samples by shape")
    prefix_length = max(sequence.prefix_length for sequence in sequences)
    pads = [prefix_length - sequence.prefix_length for sequence in sequences]
    ids = [
        np.pad(s.ids, (pad, 0), constant_values=SPECIAL_TOKENS["pad"]) for s, pad in zip(sequences, pads, strict=True)
    ]
    places = [np.pad(s.places, ((pad, 0), (0, 0))) for s, pad in zip(sequences, pads, strict=True)]
    texts = [sequence.text for sequence in sequences if len(sequence.text)]
    text = np.concatenate(texts) if texts else np.zeros((0, 0), np.float16)
    return SequenceBatch(np.stack(ids), np.stack(places), np.array(pads, np.int64), prefix_length, text)
