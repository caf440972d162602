"""Small media that the tests of this package share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media_factory import make_audio_only, make_video, run, truncate

MAKERS: dict[str, Callable[[Path], Path]] = {
    "plain.mp4": lambda path: make_video(path, seconds=2, shots=2),
    "b_frames.mp4": lambda path: make_video(path, codec=("-c:v", "libx264", "-bf", "3"), audio=False),
    "late.mp4": lambda path: make_video(path, start_s=10),
    "vfr.mp4": lambda path: make_video(path, vfr=True),
    "rot90.mp4": lambda path: make_video(path, rotate=-90),
    "rot180.mp4": lambda path: make_video(path, rotate=180),
    "late_sound.mkv": lambda path: make_video(path, audio_delay_s=0.5, audio_codec=("-c:a", "flac")),
    "odd.mkv": lambda path: make_video(path, size=(63, 47), audio=False, codec=("-c:v", "ffv1")),
    "wide_pixels.mp4": lambda path: make_video(path, audio=False, extra=("-aspect", "2:1")),
    "ten_bit.mp4": lambda path: make_video(path, audio=False, extra=("-pix_fmt", "yuv420p10le")),
    "vp9.webm": lambda path: make_video(
        path, audio_codec=("-c:a", "libopus"), codec=("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")
    ),
    "mpeg4.avi": lambda path: make_video(
        path, codec=("-c:v", "mpeg4", "-bf", "2"), audio_codec=("-c:a", "libmp3lame")
    ),
    "ts.ts": lambda path: make_video(path, codec=("-c:v", "mpeg2video", "-q:v", "3"), audio_codec=("-c:a", "mp2")),
    "interlaced.mpg": lambda path: make_video(
        path, size=(64, 64), fps=25, audio_codec=("-c:a", "mp2"),
        codec=("-c:v", "mpeg2video", "-q:v", "3", "-flags", "+ilme+ildct"), filters=("setfield=tff",),
    ),
    "hdr.mp4": lambda path: make_video(
        path, seconds=0.5, audio=False, codec=("-c:v", "libx265", "-x265-params", "log-level=none:transfer=16:"
        "colorprim=9:colormatrix=9"), extra=("-pix_fmt", "yuv420p10le"),
    ),
    "sound.m4a": make_audio_only,
}  # fmt: skip


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of that name in MAKERS, made at its first use."""
    folder = tmp_path_factory.mktemp("media")

    def get(name: str) -> Path:
        path = folder / name
        return path if path.exists() else MAKERS[name](path)

    return get


@pytest.fixture(scope="session")
def broken(media: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Files in which something is wrong."""
    folder = tmp_path_factory.mktemp("broken")

    def get(name: str) -> Path:
        path = folder / name
        if name == "empty.mp4":
            path.write_bytes(b"")
        elif name == "page.mp4":
            path.write_text("<html><body>404 Not Found</body></html>")
        elif name == "list.mp4":
            path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
        elif name == "no_header.mp4":
            truncate(media("plain.mp4"), path, 0.5)
        elif name == "cut_short.mkv":
            run("-i", media("plain.mp4"), "-c", "copy", folder / "whole.mkv")
            truncate(folder / "whole.mkv", path, 0.4)
        return path

    return get
