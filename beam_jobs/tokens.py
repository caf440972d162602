"""Clips to token samples: the tokenizers are loaded once per process, and each finished clip is a unit of work."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.utils.shared import Shared

from beam_jobs.curated_clips import ClipRef, read_clip, read_sidecar
from beam_jobs.isolation import attempt
from beam_jobs.metrics import StageMetrics
from beam_jobs.units import Units
from schemas.identity import fingerprint
from schemas.records import Verdict
from schemas.shards import TokenizedRow, TokenizerInfo, TokenSample, decode_sample, encode_sample
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.writer import split_of

TOKENIZED, FILTERED, FAILED = "tokenized", "filtered", "failed"
_FILTERS = frozenset({"too_short"})  # reasons that are a property of a sound clip
_PASSING = frozenset({"internal_error", "timed_out"})  # failures that another run may not meet

Tokenize = Callable[[str, bytes, dict[str, Any]], list[TokenSample]]


@dataclass(frozen=True)
class TokenizeJob:
    """What every worker of a tokenization run is told."""

    settings: TokenizeSettings
    units: Units
    fingerprint: str  # of everything that decides a clip's samples
    tokenizers: dict[str, TokenizerInfo]
    shown: dict[str, Any]  # the settings as given, for `dataset.json`; secrets redacted, the folders left out


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


def tokenize_clip(ref: ClipRef, job: TokenizeJob, tokenize: Callable[[], Tokenize]) -> tuple[TokenizedClip, bool]:
    """(how the clip ended, whether it was finished before).

    Args:
        tokenize: gives the tokenizers; asked only where there is work for them.

    Raises:
        ValueError: `split.column` does not say where the clip's source belongs.
    """
    raw = read_sidecar(ref)
    sidecar = json.loads(raw)
    split = split_of(sidecar, job.settings.split)
    fp = fingerprint("clip", job.fingerprint, raw)
    stored = job.units.get("tokens", fp)
    data = stored if stored is not None else _fresh(ref, job, tokenize, fp)
    outcome = data if isinstance(data, Verdict) else _refusal(data)
    if outcome is not None:
        return TokenizedClip(_row(sidecar, split, 0, outcome)), stored is not None
    samples = unpack_samples(data)  # type: ignore[arg-type]
    refs = tuple(_sample_ref(sample, fp, split) for sample in samples)
    return TokenizedClip(_row(sidecar, split, len(refs), None), refs), stored is not None


def _fresh(ref: ClipRef, job: TokenizeJob, tokenize: Callable[[], Tokenize], fp: str) -> bytes | Verdict:
    """The packed samples, made now and stored as a unit; so is a refusal, but not an error of ours."""
    run = tokenize()
    media, sidecar = read_clip(ref)
    outcome = attempt("tokenize", lambda: pack_samples(run(ref.key, media, sidecar)))
    if not isinstance(outcome, Verdict):
        job.units.put("tokens", fp, outcome)
    elif outcome.reason not in _PASSING:
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

    def process(self, ref: ClipRef) -> Iterator[TokenizedClip]:
        with self._metrics.busy():
            clip, reused = tokenize_clip(ref, self._job, self._tokenizers)
        if reused:
            self._metrics.reused()
        else:
            self._metrics.done()
        yield clip


class TokenizeClips(beam.PTransform):
    """References to clips → how each ended, with its samples."""

    def __init__(self, job: TokenizeJob):
        super().__init__()
        self._job = job

    def expand(self, clips: PCollection) -> PCollection:
        tokenize = beam.ParDo(_TokenizeFn(self._job))
        hints = self._job.settings.engine.hints()
        return clips | "Tokenize" >> (tokenize.with_resource_hints(**hints) if hints else tokenize)
