"""Captions by an endpoint, against a real server on this machine that answers as OpenAI-compatible ones do."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from curation.caption_endpoint import EndpointCaptioner
from curation.settings import CaptionSettings
from curation.settings_models import QUESTION
from schemas.states import Rejection, RunStopped
from tests.curation.synthetic_run import picture

Answer = tuple[int, Any]
KEY = "key-for-this-test"


def said(text: str, finish: str = "stop") -> Answer:
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": finish}]}


class Server(ThreadingHTTPServer):
    """Answers with what `reply` makes of each request; keeps them."""

    daemon_threads = True

    def __init__(self, reply: Callable[[int, dict[str, Any]], Answer]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.requests, self.keys, self.most, self.now = reply, list[dict[str, Any]](), set[str](), 0, 0
        self.lock, self.model_status = threading.Lock(), 200

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._send(self.server.model_status, {"data": []})

    def do_POST(self) -> None:
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.now += 1
            server.most = max(server.most, server.now)
            server.keys.add(self.headers.get("Authorization", ""))
            server.requests.append({"path": self.path, **body})
            number = len(server.requests)
        status, answer = server.reply(number, body)
        with server.lock:
            server.now -= 1
        self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0.2")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    started = []

    def start(reply: Callable[[int, dict[str, Any]], Answer]) -> Server:
        server = Server(reply)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def captioner(server: Server, **changes: Any) -> EndpointCaptioner:
    defaults = {"model": "tiny-vlm", "endpoint": server.address, "retries": 2, "timeout_s": 5.0}
    return EndpointCaptioner(CaptionSettings(**{**defaults, **changes}))


def test_a_request_has_the_pictures_the_question_and_the_key(serve, monkeypatch):
    monkeypatch.setenv("CAPTION_KEY", KEY)
    server = serve(lambda number, body: said("  A dog\nruns. "))
    found = captioner(server, key_variable="CAPTION_KEY", max_new_tokens=33).caption([[picture(1), picture(2)]])
    assert [(caption.text, caption.source, caption.outcome) for caption in found] == [("A dog runs.", "tiny-vlm", "ok")]
    request = server.requests[0]
    assert (request["path"], request["model"], request["max_tokens"]) == ("/v1/chat/completions", "tiny-vlm", 33)
    *pictures, question = request["messages"][0]["content"]
    assert question == {"type": "text", "text": QUESTION}
    sent = [base64.b64decode(each["image_url"]["url"].removeprefix("data:image/jpeg;base64,")) for each in pictures]
    assert sent == [picture(1), picture(2)]
    assert server.keys == {f"Bearer {KEY}"}


def test_without_a_key_none_is_sent_and_large_pictures_are_made_smaller(serve, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = serve(lambda number, body: said("a sky"))
    captioner(server, max_side=64, prompt="What is it?").caption([[picture(1)]])
    content = server.requests[0]["messages"][0]["content"]
    data = base64.b64decode(content[0]["image_url"]["url"].partition(",")[2])
    assert max(Image.open(io.BytesIO(data)).size) == 64
    assert content[1]["text"] == "What is it?" and server.keys == {""}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(said("a dog"), "ok", id="ok"),
        pytest.param(said("a dog that", "length"), "truncated", id="truncated"),
        pytest.param(said("  "), "empty", id="empty"),
        pytest.param((200, {"choices": [{"message": {"content": None}}]}), "empty", id="null"),
    ],
)
def test_outcomes(serve, answer, outcome):
    assert captioner(serve(lambda number, body: answer)).caption([[picture(1)]])[0].outcome == outcome


def test_what_is_no_picture_is_not_sent(serve):
    server = serve(lambda number, body: said("a dog"))
    assert captioner(server).caption([[b"no picture"], []])[0].outcome == "failed"
    assert not server.requests


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(serve, status):
    server = serve(lambda number, body: (status, {"error": "busy"}) if number < 3 else said("at last"))
    assert captioner(server).caption([[picture(1)]])[0].text == "at last"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "reason", "attempts"),
    [
        pytest.param((503, {"error": "busy"}), "endpoint_failed", 2, id="busy-for-ever"),
        pytest.param((400, {"error": "picture refused"}), "endpoint_refused", 1, id="refused"),
        pytest.param((200, b"<html>"), "endpoint_failed", 1, id="no-json"),
        pytest.param((200, {"choices": []}), "endpoint_failed", 1, id="no-choice"),
        pytest.param((200, ["dog"]), "endpoint_failed", 1, id="no-completion"),
        pytest.param((200, b" " * (2**20 + 1)), "endpoint_failed", 1, id="endless"),
    ],
)
def test_no_caption_is_a_rejection(serve, answer, reason, attempts):
    server = serve(lambda number, body: answer)
    with pytest.raises(Rejection, match=reason):
        captioner(server, retries=1).caption([[picture(1)]])
    assert len(server.requests) == attempts


def test_a_server_that_hangs_is_left(serve):
    server = serve(lambda number, body: (time.sleep(1.5), said("late"))[1])
    began = time.monotonic()
    with pytest.raises(Rejection, match="endpoint_failed"):
        captioner(server, retries=0, timeout_s=0.3).caption([[picture(1)]])
    assert time.monotonic() - began < 1.4


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_every_request_would_meet_stops_the_run(serve, status):
    server = serve(lambda number, body: (status, {"error": "no"}))
    with pytest.raises(RunStopped, match=f"answers {status} for model tiny-vlm; check the address"):
        captioner(server).caption([[picture(1)]])


def test_a_wrong_key_or_no_server_is_found_at_the_start(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = serve(lambda number, body: said("never"))
    server.model_status = 401
    with pytest.raises(RunStopped, match="answers 401") as stopped:
        captioner(server)
    assert KEY not in str(stopped.value)
    gone = server.address
    server.shutdown()
    server.server_close()
    with pytest.raises(RunStopped, match="cannot be reached"):
        EndpointCaptioner(CaptionSettings(model="m", endpoint=gone, timeout_s=2.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"endpoint": "localhost:8000", "model": "m"}, "is no http"),
        ({"endpoint": "http://user:word@host/v1", "model": "m"}, "holds a user, a password or a query"),
        ({"endpoint": "http://host/v1?key=1", "model": "m"}, "holds a user, a password or a query"),
        ({"endpoint": "http://host/v1"}, "without caption.model"),
    ],
    ids=["no-scheme", "password", "query", "no-model"],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        CaptionSettings(**changes)
