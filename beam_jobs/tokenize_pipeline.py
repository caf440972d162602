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
from beam_jobs.curated_clips import CuratedClips, no_run, read_run, shards_to_read
from beam_jobs.curated_spans import curated_spans
from beam_jobs.image_pairs import images
from beam_jobs.job import placed
from beam_jobs.ledger import CLIPS_LEDGER, WriteLedger
from beam_jobs.outcome import WriteList, WriteSums
from beam_jobs.standing import NOTHING_STANDS, Standing
from beam_jobs.token_inputs import Inputs
from beam_jobs.token_shards import WriteTokenShards, products
from beam_jobs.tokens import TOKENIZED, TokenizeClips, TokenizedClip, TokenizeJob
from beam_jobs.units import Units
from media import storage
from media.commandline import settings_dict
from schemas.arrow import SAMPLES_SCHEMA, TOKENIZED_SCHEMA
from schemas.identity import fingerprint
from tokenize_shards.base import default_device
from tokenize_shards.encode_clip import ClipTokenizer
from tokenize_shards.settings import TokenizeSettings
from tokenize_shards.writer import TOKEN_COUNTS

SAMPLES = "samples"
LISTED = "clips.listed"
"""How many clips or images the inputs turned out to hold."""
_ELSEWHERE = frozenset({"input", "output", "engine"})  # settings that say where, not what
_LIBRARIES = ("torch", "av", "decord2", "opencv-python-headless", "numpy")


@dataclass(frozen=True)
class Prepared:
    """A tokenization run before it starts: what is to be read, and by which tokenizers."""

    job: TokenizeJob
    inputs: Inputs
    empty_caption: np.ndarray | None


def prepare(settings: TokenizeSettings) -> Prepared:
    """Loads the tokenizers once, to know who they are and that they fit; the workers load theirs when there is work.

    Raises:
        FileNotFoundError: the input is no finished run, and has no images.
        ValueError: a tokenizer or a setting does not fit.
    """
    shown = {name: value for name, value in settings_dict(settings).items() if name not in _ELSEWHERE}
    settings = replace(settings, device=_settled(settings))
    tokenizer = ClipTokenizer(settings, elsewhere=True)  # by the names as given, which `dataset.json` keeps
    given, here = settings.input, str(Path.cwd())
    settings = _placed(settings, here)
    units = Units.of(settings.output)
    inputs = find_inputs(given, settings, units, here)
    code = code_version("tokenize_shards.encode_clip", *_LIBRARIES)
    job = TokenizeJob(settings, units, fingerprint(tokenizer.fingerprint, code), tokenizer.tokenizers, shown, here)
    return Prepared(job, inputs, tokenizer.empty_caption)


def _settled(settings: TokenizeSettings) -> str:
    """The device, the same for all workers, whatever each of them has: the GPU that the engine is asked for, too."""
    if settings.device is None and settings.engine.accelerator:
        return "cuda"
    return str(default_device(settings.device))


def find_inputs(given: str, settings: TokenizeSettings, units: Units, folder: str) -> Inputs:
    """What the input is: a curated run with clips, one with spans only, or images.

    Args:
        given: the input as the user names it: ids of images are hashes of their addresses.
        folder: in which the command was started.

    Raises:
        FileNotFoundError: none of these.
        ValueError: a run that is of no use for tokenizing.
    """
    manifest = storage.join(settings.input, "run.json")
    if not storage.exists(manifest):
        pairs = images(given, settings.limit, units, folder)
        if pairs is None:
            raise no_run(given)
        return pairs
    run = read_run(settings.input)
    identity = hashlib.sha256(storage.read_bytes(manifest)).hexdigest()
    if not run.shards:
        return curated_spans(run, settings.input, settings.limit, identity)
    return CuratedClips(tuple(shards_to_read(run, settings.input, settings.limit)), identity)


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
    elements = pipeline | "Clips" >> prepared.inputs.read()
    clips = elements | "Tokenize" >> TokenizeClips(job)
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
        elements | "CountInputs" >> beam.Map(lambda element: (LISTED, element.count)),
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
