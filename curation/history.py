"""The whole history of one source or clip, from the files of a run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from curation.exclusion import EXCLUDE_STAGE
from curation.find import find
from curation.ledger_rows import CLIPS, SOURCES, Row, read_run_info, rows_of
from curation.quantiles import run_limits
from curation.removals import read_removals
from media import storage
from media.parquet import read_parquet
from schemas.removals import RemovedRow
from schemas.run import RunInfo
from schemas.scores import SCORES

Facts = list[tuple[str, str]]
"""(what, value) lines of one section."""


@dataclass(frozen=True)
class History:
    """What happened to one source or clip, section by section, in the order in which it happened."""

    kind: str  # "source" or "clip"
    id: str
    sections: list[tuple[str, Facts]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        sections = {name: [[what, value] for what, value in facts] for name, facts in self.sections}
        return {"kind": self.kind, "id": self.id, "sections": sections}


def history(run_dir: str, wanted: str, tokens: str | None = None) -> History:
    """The history of the source or clip that an id, the beginning of one, a path or a URL names.

    Args:
        tokens: token data set made from the run.

    Raises:
        FileNotFoundError: no finished run is there.
        ValueError: nothing has that name, or several have; names the nearest.
    """
    run = read_run_info(run_dir)
    try:
        kind, rows = find(run_dir, wanted)
    except ValueError:
        removed = _removed_with(run_dir, wanted)  # of a removed input no clip is left in the ledger
        if removed is None:
            raise
        return removed
    return _of_source(run_dir, rows) if kind == SOURCES else _of_clip(run_dir, run, rows, tokens)


# --- a source ---------------------------------------------------------------------------------------------------------


def _of_source(run_dir: str, rows: Sequence[Row]) -> History:
    row = rows[0]
    clips = rows_of(run_dir, CLIPS, "source_id", [row["source_id"]])
    sections = [*_source_sections(row, len(rows)), ("verdict", _verdict(row))]
    if row["duplicate_of"] and row["duplicate_of"] != row["source_id"]:
        sections.append(("duplicate of", _chain(run_dir, SOURCES, row)))
    copies = rows_of(run_dir, SOURCES, "duplicate_of", [row["source_id"]], ["source_id", "uri", "reason"])
    others = [each for each in copies if each["source_id"] != row["source_id"]]
    sections.append(("copies of it", [(each["source_id"], f"{each['uri']} ({each['reason']})") for each in others]))
    sections.append(("clips", [(each["clip_id"], _clip_line(each)) for each in _in_order(clips)]))
    sections.append(("removals", removals(run_dir, [row["source_id"]])))
    return History("source", row["source_id"], [section for section in sections if section[1]])


def _source_sections(row: Mapping[str, Any], occurrences: int = 1) -> list[tuple[str, Facts]]:
    """Input, fetch, probe and shots."""
    bounds = "" if row["start_s"] is None and row["end_s"] is None else f"{row['start_s'] or 0:g}–{_end(row)} s"
    given = _facts(
        source=row["source_id"], uri=row["uri"], bounds=bounds, license=row["license"], columns=_extra(row["extra"]),
        rows=f"{occurrences} with this id" if occurrences > 1 else "",
    )  # fmt: skip
    fetched = _facts(sha256=row["content_sha256"], bytes=f"{row['num_bytes']:,}" if row["num_bytes"] else "")
    rate = f"{row['fps_num']}/{row['fps_den']}" if row["fps_num"] else ""
    probed = _facts(
        container=row["container"], video=row["video_codec"],
        size=f"{row['width']}×{row['height']}" if row["width"] else "", fps=rate,
        duration=f"{row['duration_s']:.3f} s" if row["duration_s"] is not None else "",
        rotation=f"{row['rotation']}°" if row["rotation"] else "", interlaced="yes" if row["interlaced"] else "",
        hdr=row["hdr"], audio=_audio(row), notes=row["notes"],
    )  # fmt: skip
    shots = _facts(frames=row["num_frames"], shots=row["num_shots"], candidates=row["num_clips"])
    return [("input", given), ("fetch", fetched), ("probe", probed), ("shots", shots if row["num_frames"] else [])]


def _end(row: Mapping[str, Any]) -> str:
    return "end" if row["end_s"] is None else f"{row['end_s']:g}"


def _extra(text: str) -> str:
    return ", ".join(f"{key}={value}" for key, value in json.loads(text or "{}").items())


def _audio(row: Mapping[str, Any]) -> str:
    if not row["audio_codec"]:
        return "none" if row["video_codec"] else ""
    offset = f", starts {row['audio_offset_s']:+.3f} s" if row["audio_offset_s"] else ""
    return f"{row['audio_codec']}, {row['audio_sample_rate_hz']} Hz{offset}"


def _in_order(clips: Iterable[Row]) -> list[Row]:
    return sorted(clips, key=lambda row: (row["start_s"], row["clip_id"]))


def _clip_line(row: Mapping[str, Any]) -> str:
    return f"{row['start_s']:.3f}–{row['end_s']:.3f} s  {row['state']}{_why(row)}"


def _why(row: Mapping[str, Any]) -> str:
    return f": {row['stage']}/{row['reason']}" if row["reason"] else ""


# --- a clip -----------------------------------------------------------------------------------------------------------


def _of_clip(run_dir: str, run: RunInfo, rows: Sequence[Row], tokens: str | None) -> History:
    row = min(rows, key=lambda each: (each["state"] != "kept", each["source_id"]))
    sources = rows_of(run_dir, SOURCES, "source_id", [row["source_id"]])
    sections = _source_sections(sources[0], len(sources)) if sources else []
    sections.append(("clip", _span(row, rows)))
    sections.append(("scores", _scores(row, run)))
    caption = _facts(text=row["caption"], source=row["caption_source"], outcome=row["caption_outcome"])
    sections.append(("caption", caption or [("text", _no_caption(row, run))]))
    sections.append(("verdict", _verdict(row)))
    if row["duplicate_of"] and row["stage"] != EXCLUDE_STAGE:  # what that names lies in no ledger of ours
        sections.append(("duplicate of", _chain(run_dir, CLIPS, row)))
    copies = rows_of(run_dir, CLIPS, "duplicate_of", [row["clip_id"]])
    sections.append(("copies of it", [(each["clip_id"], f"{each['uri']} {_clip_line(each)}") for each in copies]))
    where = _facts(shard=row["shard"] and f"clips/{row['shard']}", key=row["shard"] and row["clip_id"])
    sections.append(("media", where + _facts(sha256=row["media_sha256"], made_normal=row["media_done"])))
    if tokens:
        sections.append(("tokens", _samples(tokens, row["clip_id"])))
    sections.append(("removals", removals(run_dir, [row["clip_id"], row["source_id"]])))
    return History("clip", row["clip_id"], [section for section in sections if section[1]])


def _span(row: Row, rows: Sequence[Row]) -> Facts:
    base = f"{row['time_base_num']}/{row['time_base_den']} s"
    others = [each["source_id"] for each in rows if each["source_id"] != row["source_id"]]
    return _facts(
        clip=row["clip_id"], shot=row["shot_index"], seconds=f"{row['start_s']:.6f}–{row['end_s']:.6f}",
        ticks=f"[{row['start_pts']}, {row['end_pts']}) of {base}", frames=row["num_frames"],
        also_in=", ".join(others),
    )  # fmt: skip


def _scores(row: Row, run: RunInfo) -> Facts:
    """Every score with the limit it met, or why there is none."""
    limits = run_limits(run)
    facts = []
    for score in SCORES:
        value = row.get(f"score_{score.name}")
        low, high = limits.get(f"min_{score.name}"), limits.get(f"max_{score.name}")
        if value is None:
            if low is None and high is None:
                continue
            facts.append((score.name, f"not taken, limit {_limit(low, high)}: {_untaken(score.stage, row, run)}"))
            continue
        fails = [f"misses min {low:g}"] if low is not None and not value >= low else []
        fails += [f"misses max {high:g}"] if high is not None and not value <= high else []
        met = "no limit" if low is None and high is None else ", ".join(fails) or f"within {_limit(low, high)}"
        facts.append((score.name, f"{value:.6g}  ({met})"))
    return facts


def _limit(low: float | None, high: float | None) -> str:
    return " and ".join(f"{name} {value:g}" for name, value in (("min", low), ("max", high)) if value is not None)


def _untaken(stage: str, row: Row, run: RunInfo) -> str:
    status = run.stages.get(stage)
    if status and status != "run":
        return status
    return (
        f"the clip ended before, {row['state']}{_why(row)}" if row["state"] != "kept" else "there was nothing to take"
    )


def _no_caption(row: Row, run: RunInfo) -> str:
    status = run.stages.get("caption", "")
    if status == "run" and row["state"] != "kept":
        return f"none: the clip ended before, {row['state']}{_why(row)}"
    return f"none: {status}" if status and status != "run" else "none"


def _verdict(row: Mapping[str, Any]) -> Facts:
    facts = _facts(state=row["state"], stage=row["stage"], reason=row["reason"], detail=row["detail"])
    if row.get("score") is not None and row.get("threshold") is not None:
        facts.append(("score", f"{row['score']:.6g} against {row['threshold']:.6g}"))
    return facts


def _chain(run_dir: str, kind: str, row: Row) -> Facts:
    """What a copy is a copy of, and so on to what is no copy."""
    column = f"{kind.removesuffix('s')}_id"
    facts: Facts = []
    seen = {row[column]}
    target = row["duplicate_of"]
    while target and len(facts) < 100:
        found = rows_of(run_dir, kind, column, [target])
        found = sorted(found, key=lambda each: (each["state"] == "duplicate", each["uri"]))
        if not found:
            facts.append((target, "no longer in the ledger"))
            break
        best = found[0]
        facts.append((target, f"{best['uri']} {_clip_line(best) if kind == CLIPS else best['state'] + _why(best)}"))
        seen.add(target)
        target = best["duplicate_of"] if best["duplicate_of"] not in seen else None
    return facts


def _samples(tokens: str, clip_id: str) -> Facts:
    table = read_parquet(storage.join(tokens, "samples-*.parquet"), columns=["key", "shard", "clip_id", "start_s"])
    rows = table.filter(pc.equal(table["clip_id"], clip_id)).to_pylist()
    facts = [(row["key"], f"{row['shard']}, from {row['start_s']:.3f} s of the clip") for row in rows]
    return facts or [("none", f"{tokens} has no sample of this clip; its ledger/clips-*.parquet says why")]


def _removed_with(run_dir: str, wanted: str) -> History | None:
    """What is left to say of a clip that went with its whole input."""
    rows = [row for row in read_removals(run_dir).rows if row.removed_id.startswith(wanted)]
    if len(rows) != 1:
        return None
    row = rows[0]
    return History(row.kind, row.removed_id, [("input", _facts(uri=row.uri)), ("removals", _tombstones(rows))])


def removals(run_dir: str, ids: Sequence[str]) -> Facts:
    """The tombstones of these sources and clips."""
    return _tombstones(row for row in read_removals(run_dir).rows if row.removed_id in ids)


def _tombstones(rows: Iterable[RemovedRow]) -> Facts:
    return [(row.removed_id, f"{row.kind} removed: {row.reason}") for row in rows]


def _facts(**facts: Any) -> Facts:
    return [(name.replace("_", " "), str(value)) for name, value in facts.items() if value not in (None, "")]
