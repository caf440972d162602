"""The tokenization job as a list one can say aloud: read, tokenize, write shards, ledger and sums."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection

from beam_jobs.code_version import code_version
from beam_jobs.curated_clips import ReadClips, read_run, shards_to_read
from beam_jobs.job import placed
from beam_jobs.ledger import CLIPS_LEDGER, WriteLedger
from beam_jobs.outcome import WriteList, WriteSums
from beam_jobs.standing import NOTHING_STANDS, Standing
from beam_jobs.token_shards import WriteTokenShards, products
from beam_jobs.tokens import TOKENIZED, TokenizeClips, TokenizedClip, TokenizeJob
from beam_jobs.units import Units
from media import storage
from media.commandline import settings_dict
from schemas.arrow import SAMPLES_SCHEMA, TOKENIZED_SCHEMA
from schemas.identity import fingerprint
from tokenize_shards.encode_clip import ClipTokenizer
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.writer import TOKEN_COUNTS

SAMPLES = "samples"
_ELSEWHERE = frozenset({"input", "output", "engine"})  # settings that say where, not what
_LIBRARIES = ("torch", "av", "decord2", "opencv-python-headless", "numpy")


@dataclass(frozen=True)
class Prepared:
    """A tokenization run before it starts: what is to be read, and by which tokenizers."""

    job: TokenizeJob
    shards: list[tuple[str, int]]
    curated: str  # fingerprint of the curated run
    empty_caption: np.ndarray | None

    @property
    def num_clips(self) -> int:
        return sum(take for _, take in self.shards)


def prepare(settings: TokenizeSettings) -> Prepared:
    """Loads the tokenizers once, to know who they are and that they fit; the workers load theirs when there is work.

    Raises:
        FileNotFoundError: the input is no finished run.
        ValueError: a tokenizer or a setting does not fit.
    """
    tokenizer = ClipTokenizer(settings)  # by the names as given, which `dataset.json` keeps
    shown = {name: value for name, value in settings_dict(settings).items() if name not in _ELSEWHERE}
    settings = _placed(settings, str(Path.cwd()))
    shards = shards_to_read(read_run(settings.input), settings.input, settings.limit)
    manifest = storage.read_bytes(storage.join(settings.input, "run.json"))
    code = code_version("tokenize_shards.encode_clip", *_LIBRARIES)
    job = TokenizeJob(
        settings, Units.of(settings.output), fingerprint(tokenizer.fingerprint, code), tokenizer.tokenizers, shown
    )
    return Prepared(job, shards, hashlib.sha256(manifest).hexdigest(), tokenizer.empty_caption)


def _placed(settings: TokenizeSettings, folder: str) -> TokenizeSettings:
    """The settings with paths that mean the same wherever a worker stands."""
    return replace(
        settings,
        input=storage.absolute(settings.input, folder),
        output=storage.absolute(settings.output, folder),
        video=replace(settings.video, tokenizer=placed(settings.video.tokenizer, folder) or ""),
        audio=replace(settings.audio, tokenizer=placed(settings.audio.tokenizer, folder)),
        text=replace(settings.text, encoder=placed(settings.text.encoder, folder)),
        motion=replace(settings.motion, tokenizer=placed(settings.motion.tokenizer, folder)),
        structure=replace(
            settings.structure,
            flow=placed(settings.structure.flow, folder),
            depth=placed(settings.structure.depth, folder),
        ),
    )


def build(pipeline: beam.Pipeline, prepared: Prepared, standing: Standing = NOTHING_STANDS) -> None:
    """Adds the whole job to a pipeline: read, tokenize, write shards, ledger and sums.

    Args:
        standing: samples that an earlier run has placed.
    """
    job, files = prepared.job, products(prepared.job)
    clips = pipeline | "Clips" >> ReadClips(prepared.shards) | "Tokenize" >> TokenizeClips(job)
    written = clips | "Samples" >> beam.FlatMap(lambda clip: clip.samples) | "Shards" >> WriteTokenShards(job, standing)
    names = (
        clips
        | "ClipRows" >> beam.Map(lambda clip: asdict(clip.row))
        | "Ledger" >> WriteLedger(files, CLIPS_LEDGER, TOKENIZED_SCHEMA, ("clip_id", "source_id")),
        written.rows | "SampleTable" >> WriteLedger(files, SAMPLES, SAMPLES_SCHEMA, ("key",)),
    )
    names | "Files" >> beam.Flatten() | "FileList" >> WriteList(job.units, "files")
    written.shards | "ShardList" >> WriteList(job.units, "shards")
    written.quality | "QualityList" >> WriteList(job.units, "quality")
    sums = (
        clips | "CountClips" >> beam.FlatMap(count_clip),
        written.rows | "CountSamples" >> beam.FlatMap(count_sample),
        clips | "CountSources" >> _DistinctSources(),
    )
    sums | "Sums" >> beam.Flatten() | "WriteSums" >> WriteSums(job.units, "counts")


class _DistinctSources(beam.PTransform):
    """Tokenized clips → ("sources", how many videos they come from)."""

    def expand(self, clips: PCollection) -> PCollection:
        return (
            clips
            | "Tokenized" >> beam.Filter(lambda clip: clip.row.state == TOKENIZED)
            | "Source" >> beam.Map(lambda clip: clip.row.source_id)
            | "Distinct" >> beam.Distinct()
            | "One" >> beam.Map(lambda _: ("sources", 1))
        )


def count_clip(clip: TokenizedClip) -> list[tuple[str, int]]:
    """What one clip adds to the sums."""
    row = clip.row
    counts = [("clips.read", 1), (f"clips.{row.state}", 1), ("samples.planned", row.num_samples)]
    return counts if row.state == TOKENIZED else [*counts, (f"clips.{row.state}:{row.stage}/{row.reason}", 1)]


def count_sample(row: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What one sample in a shard adds to the sums."""
    return [
        ("samples", 1),
        (f"samples.{row['split']}", 1),
        *((name, row[f"num_{name}"]) for name in TOKEN_COUNTS),
    ]
