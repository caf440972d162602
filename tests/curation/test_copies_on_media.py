"""Copies among the development media: those there are found, the best one stays, and nothing else is merged."""

import hashlib

import pytest

from curation.analysis import analyze
from curation.duplicates import MARKED, fingerprinted, near_duplicates
from curation.settings import CurateSettings, DedupSettings
from media.fetch import LocalMedia
from schemas.records import Source
from schemas.states import Rejection

ELF, FLOWER = "clips_audio/mdn_elf.mp4", "clips_audio/mdn_flower.mp4"
EXACT = {"odd/made_exact_duplicate.mp4": ELF}
NEAR = {
    "odd/made_reencoded_duplicate.mp4": ELF,  # and half as large
    "odd/mdn_elf_vp8.webm": ELF,
    "odd/made_letterbox.mp4": ELF,
    "odd/made_no_audio.mp4": ELF,  # another container layout
    "odd/made_vfr.mp4": ELF,
    "odd/mdn_flower_fragmented.mp4": FLOWER,
}
ONE_CONTENT = (  # what else shows the same picture
    {"odd/made_odd_dims.mkv", "odd/ünï cödé näme (1) #x.mp4"},
    {f"odd/ax_{name}" for name in (
        "bt601.mov", "sample.flv", "sample_fragmented.mp4", "sample_mdat_too_long.mp4", "sample_missing_stsd.mp4",
        "sample_with_srt.mkv", "sample_without_stss.mp4", "sample_empty_track.mp4",
    )},
)  # fmt: skip
TOO_LONG = "ax_long_180p_av1.mp4"  # six minutes at 60 fps, a copy of nothing


def analysed(root):
    """Clips that go on, names by clip id, and groups of files with equal bytes, of which the first is analysed."""
    settings = CurateSettings("in", "out")
    same: dict[str, list[str]] = {}
    clips, names = [], {}
    for path in (path for folder in ("clips_audio", "odd") for path in sorted((root / folder).iterdir())):
        if path.name == TOO_LONG:
            continue
        name, data = f"{path.parent.name}/{path.name}", path.read_bytes()
        group = same.setdefault(hashlib.sha256(data).hexdigest(), [])
        group.append(name)
        if len(group) > 1:
            continue
        local = LocalMedia(path, hashlib.sha256(data).hexdigest(), len(data))
        try:
            analysis = analyze(Source(name, str(path)), local, settings)
        except Rejection:
            continue
        clips += [clip for clip in analysis.clips if not clip.verdict]
        names.update({clip.clip_id: name for clip in analysis.clips})
    return clips, names, [group for group in same.values() if len(group) > 1]


@pytest.mark.long
def test_copies_are_found_and_the_best_stays(shared_data):
    clips, names, equal = analysed(shared_data)
    assert {copy: kept for kept, copy in equal} == EXACT
    found = near_duplicates(map(fingerprinted, clips), DedupSettings().near_distance)
    copies = {names[copy]: names[kept] for copy, kept in found.items()}
    assert {copy: copies.get(copy) for copy in NEAR} == NEAR
    others = {(copy, kept) for copy, kept in copies.items() if copy not in NEAR}
    assert not [pair for pair in others if not any(set(pair) <= group for group in ONE_CONTENT)]
    best = next(clip for clip in clips if names[clip.clip_id] == ELF)
    assert best.scores["watermark"] <= MARKED and best.scores["width"] == 720 and "loudness_dbfs" in best.scores
