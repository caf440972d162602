"""`run.json`: the manifest of a finished curation run. It is written last; it is the commit."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas import SCHEMA_VERSION


@dataclass(frozen=True)
class ClipShard:
    """One finished clip shard."""

    name: str
    num_clips: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class RunInfo:
    """What was run, with what, and what came of it."""

    command: str
    settings: dict[str, Any]  # resolved; secrets and signed URLs redacted
    versions: dict[str, str]  # reelmill, ffmpeg, libraries that shape the bytes
    fingerprints: dict[str, str]  # by stage: settings, weights and code version
    stages: dict[str, str]  # by stage: "run", or "not run: …" with the reason
    counts: dict[str, int]  # "sources.done", "clips.kept", "clips.filtered:motion/min_motion", …
    shards: list[ClipShard]
    hours: dict[str, float] = field(default_factory=dict)  # "sources", "candidates", "kept"
    thresholds: dict[str, float] = field(default_factory=dict)  # numbers that quantiles among the limits came to
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunInfo":
        data = json.loads(text)
        if data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"run.json has schema version {data.get('schema_version')!r}, this Reelmill reads {SCHEMA_VERSION}; "
                "curate again, or use the Reelmill that wrote it"
            )
        return RunInfo(**{**data, "shards": [ClipShard(**shard) for shard in data["shards"]]})
