"""Clips to token samples: the tokenizers are loaded once per process, and each finished clip is a unit of work."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.utils.shared import Shared

from beam_jobs.isolation import PASSING, attempt
from beam_jobs.metrics import StageMetrics
from beam_jobs.token_inputs import Item
from beam_jobs.units import Units
from media import storage
from schemas.identity import fingerprint
from schemas.records import Verdict
from schemas.shards import TokenizedRow, TokenizerInfo, TokenSample, decode_sample, encode_sample
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.writer import split_of

TOKENIZED, FILTERED, FAILED = "tokenized", "filtered", "failed"
_FILTERS = frozenset({"too_short"})  # reasons that are a property of a sound clip

Tokenize = Callable[[str, str | bytes, dict[str, Any], Fraction | None], list[TokenSample]]


@dataclass(frozen=True)
class TokenizeJob:
    """What every worker of a tokenization run is told."""

    settings: TokenizeSettings
    units: Units
    fingerprint: str  # of everything that decides a clip's samples
    tokenizers: dict[str, TokenizerInfo]
    shown: dict[str, Any]  # the settings as given, for `dataset.json`; secrets redacted, the folders left out
    folder: str  # in which the command was started; workers may stand elsewhere

    def address(self, uri: str) -> str:
        """An input's address as any worker can open it; a relative path starts where the command was started."""
        return storage.absolute(uri, self.folder)


@dataclass(frozen=True)
class SampleRef:
    """One sample of a finished clip: where it is, and what planning its shard needs."""

    key: str
    unit: str
    split: str
    resolution: tuple[int, int]
    num_frames: int
    num_bytes: int


@dataclass(frozen=True)
class TokenizedClip:
    """How one clip ended."""

    row: TokenizedRow
    samples: tuple[SampleRef, ...] = ()


def tokenize_item(item: Item, job: TokenizeJob, tokenize: Callable[[], Tokenize]) -> tuple[TokenizedClip, bool]:
    """(how the clip or image ended, whether it was finished before).

    Args:
        tokenize: gives the tokenizers; asked only where there is work for them.

    Raises:
        ValueError: `split.column` does not say where the clip's source belongs.
    """
    sidecar = item.sidecar
    split = split_of(sidecar, job.settings.split)
    if item.failure is not None:
        return TokenizedClip(_row(sidecar, split, 0, item.failure)), False
    fp = fingerprint("clip", job.fingerprint, item.raw)
    stored = job.units.get("tokens", fp)
    data = stored if stored is not None else _fresh(item, job, tokenize, fp)
    outcome = data if isinstance(data, Verdict) else _refusal(data)
    if outcome is not None:
        return TokenizedClip(_row(sidecar, split, 0, outcome)), stored is not None
    samples = unpack_samples(data)  # type: ignore[arg-type]
    refs = tuple(_sample_ref(sample, fp, split) for sample in samples)
    return TokenizedClip(_row(sidecar, split, len(refs), None), refs), stored is not None


def _fresh(item: Item, job: TokenizeJob, tokenize: Callable[[], Tokenize], fp: str) -> bytes | Verdict:
    """The packed samples, made now and stored as a unit; so is a refusal, but not an error of ours or of the way."""
    run = tokenize()
    opened = attempt("fetch", item.open)
    if isinstance(opened, Verdict):
        return opened
    media, start_s = opened
    outcome = attempt("tokenize", lambda: pack_samples(run(item.key, media, item.sidecar, start_s)))
    if not isinstance(outcome, Verdict):
        job.units.put("tokens", fp, outcome)
    elif outcome.reason not in PASSING:
        refusal = {"reason": outcome.reason, "detail": outcome.detail}
        job.units.put("tokens", fp, json.dumps({"rejected": refusal}, sort_keys=True).encode() + b"\n")
    return outcome


def _refusal(data: bytes) -> Verdict | None:
    from schemas.records import failed

    head = json.loads(data.partition(b"\n")[0])
    refusal = head.get("rejected") if isinstance(head, dict) else None
    return failed("tokenize", refusal["reason"], refusal["detail"]) if refusal else None


def _row(sidecar: dict[str, Any], split: str, num_samples: int, refused: Verdict | None) -> TokenizedRow:
    state = TOKENIZED if refused is None else FILTERED if refused.reason in _FILTERS else FAILED
    return TokenizedRow(
        clip_id=sidecar["clip_id"],
        source_id=sidecar["source_id"],
        state=state,
        stage=refused.stage if refused else "",
        reason=refused.reason if refused else "",
        detail=refused.detail if refused else "",
        split=split if refused is None else None,
        num_samples=num_samples,
        caption=sidecar.get("caption"),
    )


def _sample_ref(sample: TokenSample, fp: str, split: str) -> SampleRef:
    from tokenize_shards.writer import sample_bytes

    height, width = sample.meta["resolution"]
    return SampleRef(sample.key, fp, split, (int(height), int(width)), sample.meta["num_frames"], sample_bytes(sample))


def pack_samples(samples: list[TokenSample]) -> bytes:
    """The samples of one clip as bytes: a line of JSON that lists their members, then the members."""
    encoded = [(sample.key, encode_sample(sample)) for sample in samples]
    head = [[key, [[name.removeprefix(f"{key}."), len(body)] for name, body in members]] for key, members in encoded]
    return json.dumps(head).encode() + b"\n" + b"".join(body for _, members in encoded for _, body in members)


def unpack_samples(data: bytes) -> list[TokenSample]:
    """Inverse of `pack_samples`."""
    line, _, rest = data.partition(b"\n")
    samples, position = [], 0
    for key, sizes in json.loads(line):
        members = {}
        for name, size in sizes:
            members[name] = rest[position : position + size]
            position += size
        sample = decode_sample(key, members)
        meta = {name: value for name, value in sample.meta.items() if name not in ("key", "schema_version")}
        samples.append(TokenSample(key, sample.arrays, meta))
    return samples


class _TokenizeFn(beam.DoFn):
    def __init__(self, job: TokenizeJob):
        self._job, self._metrics, self._shared = job, StageMetrics("tokenize"), Shared()

    def _tokenizers(self) -> Tokenize:
        """The tokenizers of this process: loaded when the first clip needs them."""
        from tokenize_shards.encode_clip import ClipTokenizer

        tokenizer = self._shared.acquire(lambda: ClipTokenizer(self._job.settings, self._job.units))
        return tokenizer.tokenize  # type: ignore[no-any-return]

    def process(self, element: Any) -> Iterator[TokenizedClip]:  # an Element; Beam reads types
        for item in element.items(self._job):
            with self._metrics.busy():
                clip, reused = tokenize_item(item, self._job, self._tokenizers)
            if reused:
                self._metrics.reused()
            else:
                self._metrics.done()
            yield clip


class TokenizeClips(beam.PTransform):
    """Clips, spans or images → how each ended, with its samples."""

    def __init__(self, job: TokenizeJob):
        super().__init__()
        self._job = job

    def expand(self, clips: PCollection) -> PCollection:
        tokenize = beam.ParDo(_TokenizeFn(self._job))
        hints = self._job.settings.engine.hints()
        return clips | "Tokenize" >> (tokenize.with_resource_hints(**hints) if hints else tokenize)
