"""Settings of fetching, decoding and cutting. Nothing heavy is imported here, so that a command line is instant."""

from dataclasses import dataclass
from importlib.util import find_spec

CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9")
AUDIO_CODECS = ("aac", "libopus", "flac")
PAGES = ("never", "known", "always")
# x264's macroblock tree now and then decides otherwise on the same small pictures (2 runs in 100 at 64x64).
X264_EXACT = {"mbtree": "0"}


@dataclass(frozen=True)
class FetchSettings:
    """What a download may cost, and where it may go.

    Args:
        max_bytes: largest file that is fetched, in bytes; a larger one is `failed(fetch, too_large)`.
        timeout_s: seconds for one whole download.
        max_redirects: redirects that are followed.
        allow_private_addresses: whether private, loopback and link-local addresses may be fetched from.
        retries: attempts after the first, with back-off, on time-outs, 429 and 5xx answers; what the server says in
            `Retry-After` is kept to, as long as `timeout_s` allows.
        max_per_host: downloads from one host at a time, over all processes of a machine.
        min_interval_s: seconds between the starts of two downloads from one host, over all processes of a machine; a
            `Crawl-delay` of its robots.txt counts where it is longer.
        robots: whether robots.txt is honoured.
        noai: whether answers marked `X-Robots-Tag: noai` or `noimageai` are left alone.
        pages: which addresses of web pages yt-dlp (extra `youtube`) fetches the video of: never, known (those of sites
            it knows), or always (every http address).
        cache_bytes: what fetched files may take on the disk of a local run until they are cut; what does not fit is
            fetched twice.
    """

    max_bytes: int = 20 * 2**30
    timeout_s: float = 600.0
    max_redirects: int = 5
    allow_private_addresses: bool = False
    retries: int = 3
    max_per_host: int = 4
    min_interval_s: float = 0.0
    robots: bool = True
    noai: bool = True
    pages: str = "never"
    cache_bytes: int = 20 * 2**30

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.timeout_s, self.max_per_host) <= 0:
            raise ValueError(
                f"{self}: max_bytes, timeout_s and max_per_host must be positive; left out, a key has its default"
            )
        if min(self.max_redirects, self.retries, self.min_interval_s, self.cache_bytes) < 0:
            raise ValueError(f"{self}: max_redirects, retries, min_interval_s and cache_bytes must be 0 or more")
        if self.pages not in PAGES:
            raise ValueError(f"pages {self.pages!r} is not one of {', '.join(PAGES)}")
        if self.pages != "never" and find_spec("yt_dlp") is None:
            raise ValueError(
                f"pages {self.pages!r} wants yt-dlp: pip install 'reelmill[youtube]', or leave the key out"
            )


@dataclass(frozen=True)
class DecodeLimits:
    """What a hostile or broken file may cost. Each limit met is a rejection.

    Args:
        max_frames: decoded frames; 2,000,000 are 18 hours at 30 fps.
        max_pixels: width × height of one stored picture.
        max_seconds: seconds of presentation time, first frame to last.
        max_wall_s: seconds of work on one source.
    """

    max_frames: int = 2_000_000
    max_pixels: int = 8192 * 8192
    max_seconds: float = 12 * 3600.0
    max_wall_s: float = 4 * 3600.0

    def __post_init__(self) -> None:
        if min(self.max_frames, self.max_pixels) < 1 or min(self.max_seconds, self.max_wall_s) <= 0:
            raise ValueError(f"{self}: every limit must be positive; leave a key out to get its default")


@dataclass(frozen=True)
class CutSettings:
    """How a kept clip is encoded.

    Args:
        codec: ffmpeg's video encoder: libx264, libx265, libsvtav1 or libvpx-vp9.
        crf: constant rate factor; smaller is better and larger on disk. 0–51 for x264 and x265, 0–63 for the others.
        preset: the encoder's speed preset.
        audio_codec: ffmpeg's audio encoder: aac, libopus or flac.
        audio_bitrate_kbps: bit rate of the sound in kbit/s.
        max_side: longer side of the written picture in pixels, never enlarged; null keeps the size.
        fps: frame rate of the written clip; null keeps every frame at its own time.
        threads: encoder threads; part of what fixes the bytes.
    """

    codec: str = "libx264"
    crf: int = 18
    preset: str = "veryfast"
    audio_codec: str = "aac"
    audio_bitrate_kbps: int = 128
    max_side: int | None = None
    fps: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ValueError(f"codec {self.codec!r} is not one of {', '.join(CODECS)}")
        if self.audio_codec not in AUDIO_CODECS:
            raise ValueError(f"audio_codec {self.audio_codec!r} is not one of {', '.join(AUDIO_CODECS)}")
        if not 0 <= self.crf <= (51 if self.codec in ("libx264", "libx265") else 63):
            raise ValueError(f"crf {self.crf} is out of range; use 0–51 for x264 and x265, 0–63 for AV1 and VP9")
        if self.max_side is not None and self.max_side < 16:
            raise ValueError(f"max_side {self.max_side} is too small; use 16 or more, or null to keep the size")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps {self.fps} must be positive, or null to keep every frame")
        if self.threads < 1 or self.audio_bitrate_kbps < 8:
            raise ValueError(
                f"threads {self.threads} must be 1 or more, audio_bitrate_kbps {self.audio_bitrate_kbps} 8 or more"
            )
