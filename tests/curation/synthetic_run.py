"""A finished curation run made from records, without decoding any video."""

import io
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from media.parquet import write_parquet
from media.tar import write_tar
from schemas.arrow import CLIPS_SCHEMA, SOURCES_SCHEMA
from schemas.identity import clip_id, source_id
from schemas.records import Caption, Clip, Source, Span, Verdict, clip_row, failed, source_row
from schemas.run import ClipShard, RunInfo
from schemas.states import ClipState, SourceState

HOSTILE = '<script>alert("caption")</script> & <img src=x onerror=alert(1)>'


def picture(seed: int) -> bytes:
    """A small JPEG that differs for every seed."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 255, (3, 4, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(corners).resize((256, 144), Image.Resampling.BICUBIC).save(sink, "JPEG", quality=80)
    return sink.getvalue()


def _verdict(motion: float, watermark: float, index: int) -> Verdict:
    if index % 37 == 0:
        return failed("cut", "frame_count_differs", "wrote 47 frames, the span has 48")
    if motion < 0.4:
        return Verdict(ClipState.FILTERED, "shots", "min_motion", motion, 0.4)
    if watermark > 0.7:
        return Verdict(ClipState.FILTERED, "watermark", "max_watermark", watermark, 0.7)
    if index % 23 == 0:
        return Verdict(ClipState.DUPLICATE, "near_dedup", "near_duplicate", duplicate_of="0123456789abcdef0123")
    return Verdict(ClipState.KEPT)


def make_clips(count: int, caption: str = HOSTILE) -> list[Clip]:
    """Candidate clips with every kind of ending."""
    generator = np.random.default_rng(0)
    clips = []
    for index in range(count):
        motion, watermark = float(generator.gamma(2.0, 1.2)), float(generator.beta(0.4, 1.6))
        frames = int(generator.integers(24, 200))
        content = f"{index // 6:064x}"
        span = Span(index * 500, index * 500 + frames, 1, 24, frames)
        clips.append(
            Clip(
                clip_id=clip_id(content, span.start_pts, span.end_pts, Fraction(1, 24)),
                source_id=source_id(f"videos/{index // 6:03d}.mp4"), uri=f"videos/{index // 6:03d}.mp4",
                content_sha256=content, span=span, shot_index=index % 6,
                scores={
                    "duration_s": span.duration_s, "motion": motion, "watermark": watermark,
                    "luma": float(generator.beta(5, 5)), "sharpness": float(generator.lognormal(5, 1)),
                    "height": 720.0, "width": 1280.0,
                },
                caption=Caption(caption if index % 3 == 0 else "a dog runs across a field", "manifest", "ok"),
                verdict=_verdict(motion, watermark, index),
            )
        )  # fmt: skip
    return clips


def write_run(folder: Path, count: int = 180, caption: str = HOSTILE) -> Path:
    """Ledger, previews, timings and `run.json` of a run over `count` candidate clips; returns its folder."""
    clips = make_clips(count, caption)
    sources = [Source(source_id(uri), uri) for uri in sorted({clip.uri for clip in clips})]
    rows = [
        source_row(source, None, state=SourceState.DONE).__dict__ | {"num_clips": 6, "duration_s": 41.5}
        for source in sources
    ]
    for name, reason, detail in (("broken.mp4", "undecodable", "no frame decodes"), (HOSTILE, "empty_file", "0 bytes")):
        source = Source(source_id(name), name)
        rows.append(
            source_row(source, None, state=SourceState.FAILED, stage="probe", reason=reason, detail=detail).__dict__
        )
    write_parquet(folder / "ledger" / "sources-00000.parquet", rows, SOURCES_SCHEMA)
    write_parquet(folder / "ledger" / "clips-00000.parquet", [clip_row(clip) for clip in clips], CLIPS_SCHEMA)
    members = [(f"{clip.clip_id}.jpg", picture(index)) for index, clip in enumerate(clips)]
    write_tar(folder / "previews" / "previews-00000.tar", members)
    timings = {"stages": {"analyze": {"seconds": 12.5, "items": len(rows), "unit": "inputs"}}}
    (folder / "timings.json").write_text(json.dumps(timings))
    kept = sum(clip.verdict.state is ClipState.KEPT for clip in clips if clip.verdict)
    info = RunInfo(
        command="curate",
        settings={
            "input": "videos", "output": "curated", "limit": None, "filters": {"min_motion": 0.4, "max_watermark": 0.7},
            "shots": {"detector": "adaptive", "threshold": None}, "clips": {"mode": "encode", "cut": {"crf": 18}},
        },
        versions={"reelmill": "0.1.0", "ffmpeg": "7.0.2"},
        fingerprints={"analyze": "ab" * 32},
        stages={"analyze": "run", "caption": "not run: no caption.model", "cut": "run"},
        counts={"clips.kept": kept},
        shards=[ClipShard("clips-00000.tar", kept, 12_345_678, "cd" * 32)],
    )  # fmt: skip
    (folder / "run.json").write_text(info.to_json())
    return folder
