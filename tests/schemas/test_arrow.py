"""The columns of every Parquet file, pinned: a change here is a change of the format."""

import pyarrow as pa
import pytest

from schemas.arrow import CLIPS_SCHEMA, REMOVED_SCHEMA, SAMPLES_SCHEMA, SOURCES_SCHEMA, schema_of
from schemas.records import Analysis
from schemas.scores import SCORE_NAMES, SCORES

SOURCES = """
source_id string! | occurrence int64! | uri string! | state string! | stage string! | reason string! | detail string!
duplicate_of string | start_s double | end_s double | content_sha256 string | container string | num_bytes int64
video_codec string | width int64 | height int64 | fps_num int64 | fps_den int64 | duration_s double | rotation int64
interlaced bool | hdr string | audio_codec string | audio_sample_rate_hz int64 | audio_offset_s double
num_frames int64 | num_shots int64 | num_clips int64! | notes string! | license string | extra string!
"""
CLIPS = """
clip_id string! | source_id string! | uri string! | start_pts int64! | end_pts int64! | time_base_num int64!
time_base_den int64! | start_s double! | end_s double! | num_frames int64! | shot_index int64!
crop_top int64 | crop_left int64 | crop_height int64 | crop_width int64 | caption string
caption_source string | caption_outcome string | state string! | stage string! | reason string! | score double
threshold double | duplicate_of string | detail string! | license string | extra string! | shard string
media_sha256 string | media_done string
score_duration_s double | score_motion double | score_sharpness double | score_luma double | score_luma_std double
score_freeze double | score_letterbox double | score_height double | score_width double | score_loudness_dbfs double
score_speech double | score_watermark double | score_text_area double | score_aesthetic double | score_nsfw double
score_caption_words double | score_caption_repetition double | score_clip_score double
"""
SAMPLES = """
key string! | shard string! | split string! | clip_id string! | source_id string! | window_index int64!
start_s double! | height int64! | width int64! | num_frames int64! | num_video_tokens int64! | num_audio_tokens int64!
num_text_states int64! | num_motion_tokens int64! | num_structure_tokens int64! | caption string | license string
psnr_db double | audio_snr_db double | codes_used int64!
"""
REMOVED = """
kind string! | removed_id string! | uri string! | content_sha256 string | start_s double | end_s double | phash string
reason string!
"""


def columns(schema: pa.Schema) -> list[str]:
    return [f"{field.name} {field.type}{'' if field.nullable else '!'}" for field in schema]


def pinned(text: str) -> list[str]:
    return [column.strip() for line in text.strip().splitlines() for column in line.split("|")]


@pytest.mark.parametrize(
    ("schema", "golden", "record"),
    [
        pytest.param(SOURCES_SCHEMA, SOURCES, "SourceRow", id="sources"),
        pytest.param(CLIPS_SCHEMA, CLIPS, "ClipRow", id="clips"),
        pytest.param(REMOVED_SCHEMA, REMOVED, "RemovedRow", id="removed"),
        pytest.param(SAMPLES_SCHEMA, SAMPLES, "SampleRow", id="samples"),
    ],
)
def test_columns_are_pinned(schema: pa.Schema, golden: str, record: str) -> None:
    assert columns(schema) == pinned(golden)
    assert schema.metadata == {b"reelmill.record": record.encode(), b"reelmill.schema_version": b"1"}


def test_a_record_with_nested_records_has_no_schema() -> None:
    with pytest.raises(KeyError):
        schema_of(Analysis)


def test_scores_are_named_once_and_documented() -> None:
    assert len(set(SCORE_NAMES)) == len(SCORES)
    assert all(score.doc and score.stage for score in SCORES)
