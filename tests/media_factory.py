"""Media made with ffmpeg for tests: each maker says exactly what is in the file."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from media.ffmpeg import ffmpeg_path

SHOT_SOURCES = (
    "testsrc2=size={w}x{h}:rate={fps}:duration={d}",
    "mandelbrot=size={w}x{h}:rate={fps}:start_scale=0.3,trim=duration={d}",
    "smptebars=size={w}x{h}:rate={fps}:duration={d}",
    "gradients=size={w}x{h}:rate={fps}:duration={d}:seed=3:c0=red:c1=blue",
)


def run(*args: str | Path) -> None:
    """Runs ffmpeg; its own message is the failure of the test."""
    command = [ffmpeg_path(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *map(str, args)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr


def make_video(
    path: Path,
    *,
    seconds: float = 2.0,
    fps: int | str = 24,
    size: tuple[int, int] = (64, 48),
    audio: bool = True,
    shots: int = 1,
    rotate: int = 0,
    vfr: bool = False,
    gop: int = 12,
    codec: Sequence[str] = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12"),
    audio_codec: Sequence[str] = ("-c:a", "aac"),
    audio_delay_s: float = 0.0,
    start_s: float = 0.0,
    filters: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> Path:
    """A video of moving patterns with `shots` hard cuts at equal distances, and a 440 Hz tone.

    Args:
        size: (width, height) as stored.
        rotate: degrees counter-clockwise in the display matrix; pictures are stored unturned.
        vfr: drops frames so that spacings vary; timestamps are kept.
        audio_delay_s: how much later than the picture the sound starts.
        start_s: time of the first frame; every timestamp of the file is this much later.
        filters: further video filters, after the cuts.
        extra: further output options.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    inputs: list[str] = []
    for index in range(shots):
        source = SHOT_SOURCES[index % len(SHOT_SOURCES)]
        inputs += ["-f", "lavfi", "-i", source.format(w=width, h=height, fps=fps, d=seconds / shots)]
    joined = "".join(f"[{i}:v]format=yuv420p,setsar=1[s{i}];" for i in range(shots))
    joined += "".join(f"[s{i}]" for i in range(shots)) + f"concat=n={shots}:v=1:a=0"
    if vfr:
        joined += ",select='not(mod(n,3))+lt(mod(n,20),7)'"
    joined += "".join(f",{item}" for item in (f"scale={width}:{height}", *filters))
    maps = ["-map", "[v]"]
    if audio:
        inputs += ["-itsoffset", str(audio_delay_s), "-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"]
        maps += ["-map", f"{shots}:a", *audio_codec]
    plain = path.with_name(f"{path.stem}.stored{path.suffix}") if rotate else path
    offset = ["-output_ts_offset", str(start_s)] if start_s else []
    run(
        *inputs, "-filter_complex", f"{joined}[v]", *maps, *codec, "-g", str(gop), "-fps_mode", "passthrough",
        "-threads", "1", *offset, *extra, plain,
    )  # fmt: skip
    if rotate:
        run("-display_rotation:v:0", str(rotate), "-i", plain, "-c", "copy", path)
        plain.unlink()
    return path


def make_audio_only(path: Path, seconds: float = 1.0) -> Path:
    """A tone without pictures."""
    run("-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}", "-c:a", "aac", path)
    return path


def truncate(path: Path, target: Path, keep: float) -> Path:
    """The first `keep` of the bytes of a file, as an upload that broke off leaves them."""
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * keep)])
    return target
