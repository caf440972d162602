"""What passes between the steps of the jobs, and how clips fork into those that go on and those that end."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection

from curation.removals import removed_source_row
from schemas.records import Analysis, Clip, CutClip, Source, SourceRow, Verdict, source_row
from schemas.removals import RemovedRow
from schemas.states import ClipState, SourceState

ENDED = "ended"
"""Tag of the clips that have got a verdict and go straight to the ledger."""


@dataclass(frozen=True)
class SourceResult:
    """How far one input got: its analysis, or why there is none."""

    source: Source
    analysis: Analysis | None = None
    content_sha256: str | None = None
    state: SourceState = SourceState.DONE
    stage: str = ""
    reason: str = ""
    detail: str = ""
    duplicate_of: str | None = None

    def failed(self, verdict: Verdict) -> "SourceResult":
        return replace(
            self, state=SourceState.FAILED, stage=verdict.stage, reason=verdict.reason, detail=verdict.detail
        )

    def duplicate(self, reason: str, of: str) -> "SourceResult":
        """The same without clips, so that no clip is counted for two sources."""
        analysis = replace(self.analysis, clips=()) if self.analysis else None
        return replace(
            self, analysis=analysis, state=SourceState.DUPLICATE, stage="dedup", reason=reason, duplicate_of=of
        )

    def removed(self, tombstone: RemovedRow) -> "SourceResult":
        """The same of an input that was taken down: done with, and nothing of it looked at."""
        row = removed_source_row(self.source, tombstone)
        return SourceResult(self.source, stage=row.stage, reason=row.reason, detail=row.detail)

    def row(self) -> SourceRow:
        return source_row(
            self.source,
            self.analysis,
            state=self.state,
            stage=self.stage,
            reason=self.reason,
            detail=self.detail,
            duplicate_of=self.duplicate_of,
            content_sha256=self.content_sha256,
        )

    def clips(self) -> tuple[Clip, ...]:
        """The candidate clips of an input that was analysed and is no copy."""
        return self.analysis.clips if self.analysis and self.state is SourceState.DONE else ()


@dataclass(frozen=True)
class KeptClip:
    """A clip that passed everything, with its media where it has some (not in reference mode)."""

    clip: Clip
    cut: CutClip | None = None
    cut_fp: str = ""
    keyframe_bytes: int = 0
    sidecar: bytes = field(default=b"", repr=False)


class Fork(NamedTuple):
    """Clips that go on, and clips that have ended in a verdict."""

    alive: PCollection
    ended: PCollection


def fork(clips: PCollection, do_fn: beam.DoFn, label: str) -> Fork:
    """Runs a DoFn that yields clips to go on, and clips with a verdict as `ended(clip)`."""
    outputs = clips | label >> beam.ParDo(do_fn).with_outputs(ENDED, main="alive")
    return Fork(outputs["alive"], outputs[ENDED])


class ForkFound(beam.PTransform):
    """Clips, and what was found of some of them, as (clip_id, found) at most once each → `Fork`.

    Args:
        mark: (clip, found) → the clip with its verdict; or the clip itself, which goes on.
    """

    def __init__(self, found: PCollection, mark: Callable[[Clip, Any], Clip]):
        super().__init__()
        self._found, self._mark = found, mark

    def expand(self, clips: PCollection) -> Any:  # a Fork
        by_id = clips | "ById" >> beam.Map(lambda clip: (clip.clip_id, clip)).with_output_types(tuple[str, Clip])
        outputs = (
            {"clips": by_id, "found": self._found}
            | "Join" >> beam.CoGroupByKey()
            | "Mark" >> beam.FlatMap(_marked, self._mark).with_outputs(ENDED, main="alive")
        )
        return Fork(outputs["alive"], outputs[ENDED])


def _marked(keyed: tuple[str, Mapping[str, Iterable[Any]]], mark: Callable[[Clip, Any], Clip]) -> Iterator[Any]:
    found = list(keyed[1]["found"])
    for clip in keyed[1]["clips"]:
        judged = mark(clip, found[0]) if found else clip
        yield clip if judged is clip else ended(judged)


def ended(clip: Clip) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput(ENDED, clip)


def kept(clip: Clip) -> Clip:
    return clip.with_verdict(Verdict(ClipState.KEPT))
