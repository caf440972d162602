"""A folder of small inputs of every fate, made with ffmpeg."""

import shutil
from pathlib import Path

from media.ffmpeg import run_ffmpeg

SHOTS = (
    "testsrc2=size=160x120:rate=10:duration=2.4",
    "testsrc2=size=160x120:rate=10:duration=2.4,negate,hflip",
    "mandelbrot=size=160x120:rate=10:start_scale=2,trim=duration=2.4",
)
STATES = {
    "edited.mp4": "done",
    "copy_of_edited.mp4": "duplicate",
    "smaller.mp4": "done",
    "silent.mp4": "done",
    "empty.mp4": "failed",
    "page.mp4": "failed",
    "sound.mp4": "failed",
}


def make_inputs(folder: Path) -> Path:
    """Seven files: an edited video with sound, its copy, a smaller re-encoding, a silent one, and three that fail."""
    folder.mkdir(parents=True, exist_ok=True)
    make_video(folder / "edited.mp4", SHOTS, tone=True)
    shutil.copy(folder / "edited.mp4", folder / "copy_of_edited.mp4")
    smaller = ["-i", str(folder / "edited.mp4"), "-vf", "scale=112:84", "-c:v", "libx264", "-crf", "30", "-c:a", "copy"]
    run_ffmpeg([*smaller, "-threads", "1", str(folder / "smaller.mp4")])
    make_video(folder / "silent.mp4", (SHOTS[2].replace("start_scale=2", "start_scale=1"),), tone=False)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "page.mp4").write_text("<html>not a video</html>" * 20)
    run_ffmpeg(["-f", "lavfi", "-i", "sine=duration=2", "-c:a", "aac", str(folder / "sound.mp4")])
    return folder


def make_video(path: Path, shots: tuple[str, ...], tone: bool) -> None:
    """One shot after another with hard cuts, 10 frames per second, and a tone beneath them."""
    inputs = [part for shot in shots for part in ("-f", "lavfi", "-i", shot)]
    joined = "".join(f"[{index}:v]format=yuv420p,setsar=1[v{index}];" for index in range(len(shots)))
    joined += "".join(f"[v{index}]" for index in range(len(shots))) + f"concat=n={len(shots)}:v=1:a=0[v]"
    sound = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=16000:duration={2.4 * len(shots)}"] if tone else []
    maps = ["-map", "[v]", *(["-map", f"{len(shots)}:a", "-c:a", "aac"] if tone else [])]
    encoder = ["-c:v", "libx264", "-preset", "veryfast", "-g", "10", "-pix_fmt", "yuv420p", "-threads", "1"]
    run_ffmpeg([*inputs, *sound, "-filter_complex", joined, *maps, *encoder, str(path)])
