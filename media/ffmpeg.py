"""The ffmpeg program: which one, how it is run, and what its failure means for one video."""

import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from schemas.states import Rejection

PROTOCOLS = "file,pipe"
"""All that cutting needs. A playlist that names http:// or a device cannot make ffmpeg open it."""


def ffmpeg_path(override: str | None = None) -> str:
    """Path of the ffmpeg program: the one in the imageio-ffmpeg wheel, unless another is named.

    The wheel's build is the default because bytes then depend on the lock file, not on the machine.

    Raises:
        FileNotFoundError: the named program is not there.
    """
    if override is None:
        return imageio_ffmpeg.get_ffmpeg_exe()
    if not Path(override).is_file():
        raise FileNotFoundError(f"no ffmpeg at {override!r}; name the program itself, or leave the setting out")
    return str(override)


@lru_cache
def ffmpeg_version(path: str) -> str:
    """First line of `ffmpeg -version`; part of the fingerprint of whatever ffmpeg encodes.

    Raises:
        RuntimeError: the program does not run.
    """
    try:
        result = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise RuntimeError(f"{path!r} does not run as ffmpeg: {error}") from error
    return result.stdout.splitlines()[0].strip()


def run_ffmpeg(node_or_args: Any, ffmpeg: str | None = None, timeout_s: float = 600.0) -> None:
    """Runs ffmpeg to its end, quietly, without a terminal, and stops it when time is up.

    Args:
        node_or_args: an ffmpeg-python output node, or the arguments after the program's name.
        timeout_s: wall-clock seconds.

    Raises:
        Rejection: `ffmpeg_failed` with ffmpeg's last line, `ffmpeg_timed_out`.
    """
    args: Sequence[str] = node_or_args.get_args() if hasattr(node_or_args, "get_args") else node_or_args
    command = [ffmpeg or ffmpeg_path(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *args]
    process = subprocess.Popen(  # in the group of whoever runs it, so that it ends with that group
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Rejection("ffmpeg_timed_out", f"ffmpeg was stopped after {timeout_s:g} s") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        lines = stderr.decode(errors="replace").strip().splitlines()
        raise Rejection("ffmpeg_failed", lines[-1] if lines else f"exit status {process.returncode}")
