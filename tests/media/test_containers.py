"""What may be opened: containers that hold their own media, and nothing that names another file or host."""

import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from media.containers import DEMUXERS, open_container, video_stream
from media.ffmpeg import PROTOCOLS, ffmpeg_path, run_ffmpeg
from media.probe import probe
from schemas.states import Rejection
from tests.media_factory import make_video, run

HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n"
PLAYLISTS = {
    "hls.m3u8": HLS,
    "hls_named.mp4": HLS,
    "master.mp4": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n",
    "concat.mp4": "ffconcat version 1.0\nfile '{target}'\n",
    "concat.txt": "file '{target}'\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1" bandwidth="1" width="64" height="48"><BaseURL>{target}</BaseURL>'
    "<SegmentBase/></Representation></AdaptationSet></Period></MPD>",
    "list.asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "image.mp4": "<svg xmlns='http://www.w3.org/2000/svg'><image href='{target}'/></svg>",
}


@pytest.fixture
def listener() -> Iterator[socketserver.TCPServer]:
    """A server that counts who connects."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.server.met.append(self.client_address)  # type: ignore[attr-defined]

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        server.met = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "secret.ts", seconds=0.4, audio=False)


@pytest.mark.parametrize("name", PLAYLISTS)
@pytest.mark.parametrize("target", ["file", "url", "relative"])
def test_a_playlist_reaches_nothing(
    tmp_path: Path, video: Path, listener: socketserver.TCPServer, name: str, target: str
) -> None:
    port = listener.server_address[1]
    named = {"file": str(video), "url": f"http://127.0.0.1:{port}/a.ts", "relative": video.name}[target]
    path = (video.parent if target == "relative" else tmp_path) / name
    path.write_text(PLAYLISTS[name].format(target=named, port=port))
    with pytest.raises(Rejection) as caught:
        probe(path)
    assert caught.value.reason == "not_media"
    limits = ["-protocol_whitelist", PROTOCOLS, "-format_whitelist", DEMUXERS]
    with pytest.raises(Rejection, match="ffmpeg_failed"):  # as the cutter calls it
        run_ffmpeg([*limits, "-i", f"file:{path}", str(tmp_path / "out.mp4")])
    assert listener.met == [] and not (tmp_path / "out.mp4").exists()  # type: ignore[attr-defined]


def test_without_our_limits_a_playlist_does_reach_its_files(video: Path) -> None:
    """So that the test above tests something."""
    playlist = video.parent / "open.m3u8"
    playlist.write_text(HLS.format(target=video.name))
    command = [ffmpeg_path(), "-v", "error", "-i", str(playlist), "-f", "null", "-"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "name", ["http://127.0.0.1:9/a.mp4", "concat:a.mp4|b.mp4", "data:video/mp4;base64,AAAA", "pipe:0"]
)
def test_a_path_is_a_file_and_never_a_protocol(name: str) -> None:
    with pytest.raises(Rejection, match="not_found"):
        probe(name)


def test_a_header_that_claims_too_many_pixels(tmp_path: Path) -> None:
    path = tmp_path / "huge.avi"
    run("-f", "lavfi", "-i", "color=size=64x48:duration=0.2:rate=5", "-c:v", "rawvideo", path)
    data = path.read_bytes()
    small, large = (64).to_bytes(4, "little") + (48).to_bytes(4, "little"), (13000).to_bytes(4, "little") * 2
    assert small in data
    path.write_bytes(data.replace(small, large))
    with pytest.raises(Rejection, match="13000x13000") as caught:
        probe(path)
    assert caught.value.reason == "picture_too_large"


def test_a_picture_that_grows_past_the_limit_is_not_decoded(video: Path) -> None:
    with open_container(video) as container:
        stream = video_stream(container)
        stream.codec_context.options = {**stream.codec_context.options, "max_pixels": "1000"}
        with pytest.raises(av.FFmpegError):
            next(container.decode(stream))
