"""Captions by a model behind an OpenAI-compatible endpoint (`POST …/chat/completions` with pictures as data URLs)."""

import base64
import io
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import httpx
from PIL import Image, UnidentifiedImageError

from curation.settings_models import QUESTION, CaptionSettings
from schemas.records import Caption
from schemas.states import Rejection, RunStopped

_BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REFUSED = frozenset({401, 403, 404, 405})  # what every request would meet
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_MAX_ANSWER = 2**20
_QUALITY = 90


class EndpointCaptioner:
    """A client of the endpoint; several threads may use it at a time.

    Raises:
        RunStopped: the endpoint cannot be reached, or refuses the key or the model.
    """

    def __init__(self, settings: CaptionSettings):
        if not settings.endpoint or not settings.model:
            raise ValueError("caption.endpoint and caption.model must be set for captions by an endpoint")
        self._settings = settings
        key = os.environ.get(settings.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=settings.concurrency)
        self._client = httpx.Client(
            base_url=settings.endpoint.rstrip("/") + "/", headers=headers, timeout=settings.timeout_s, limits=limits
        )
        self._check()

    def caption(self, clips: Sequence[Sequence[bytes]]) -> list[Caption]:
        """The caption of each clip, in order, from its pictures (JPEG).

        Raises:
            Rejection: `endpoint_failed` where it gave no answer after all attempts, `endpoint_refused` where it does
                not want this request. Neither is an answer: a later run asks again.
            RunStopped: it refuses all requests.
        """
        return [self._caption(pictures) for pictures in clips]

    def _caption(self, pictures: Sequence[bytes]) -> Caption:
        urls = [url for jpeg in pictures if (url := _data_url(jpeg, self._settings.max_side)) is not None]
        model = self._settings.model or ""
        if not urls:
            return Caption("", model, "failed")
        answer = self._ask(
            {
                "model": model, "max_tokens": self._settings.max_new_tokens, "temperature": 0, "seed": 0,
                "messages": [{"role": "user", "content": [
                    *({"type": "image_url", "image_url": {"url": url}} for url in urls),
                    {"type": "text", "text": self._settings.prompt or QUESTION},
                ]}],
            }
        )  # fmt: skip
        try:
            choice = answer["choices"][0]
            text = " ".join(str(choice["message"]["content"] or "").split())
            truncated = choice.get("finish_reason") == "length"
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise Rejection("endpoint_failed", f"the answer is no chat completion: {str(answer)[:200]}") from error
        return Caption(text, model, "empty" if not text else "truncated" if truncated else "ok")

    def _ask(self, body: dict[str, Any]) -> Any:
        """The answer's JSON, after as many attempts as allowed."""
        why = ""
        for attempt in range(self._settings.retries + 1):
            try:
                response = self._client.post("chat/completions", json=body)
            except httpx.TransportError as error:
                why, asked_s = f"{type(error).__name__}: {error}", 0.0
            else:
                if response.status_code == 200:
                    return _json_of(response)
                why = f"status {response.status_code}: {response.text[:200]}"
                if response.status_code in _REFUSED:
                    raise RunStopped(self._refusal(response))
                if response.status_code not in _BUSY:
                    raise Rejection("endpoint_refused", why)
                asked_s = _retry_after_s(response)
            if attempt < self._settings.retries:
                # Jitter keeps workers that met a busy server from coming back all at once; no result depends on it.
                wait_s = _FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0)
                time.sleep(min(max(wait_s, asked_s), _LONGEST_WAIT_S))
        raise Rejection("endpoint_failed", f"no answer in {self._settings.retries + 1} attempts; the last: {why}")

    def _check(self) -> None:
        """Finds out before the first picture whether the endpoint is there and takes the key."""
        try:
            response = self._client.get("models")
        except httpx.TransportError as error:
            raise RunStopped(
                f"caption.endpoint {self._settings.endpoint} cannot be reached ({error}); is the server running?"
            ) from error
        if response.status_code in (401, 403):
            raise RunStopped(self._refusal(response))

    def _refusal(self, response: httpx.Response) -> str:
        return (
            f"caption.endpoint {self._settings.endpoint} answers {response.status_code} for model "
            f"{self._settings.model}; check the address, the model's name and the key in {self._settings.key_variable}"
        )


def _json_of(response: httpx.Response) -> Any:
    if len(response.content) > _MAX_ANSWER:
        raise Rejection("endpoint_failed", f"the answer has {len(response.content)} bytes")
    try:
        return response.json()
    except ValueError as error:
        raise Rejection("endpoint_failed", f"the answer is no JSON: {response.text[:200]}") from error


def _retry_after_s(response: httpx.Response) -> float:
    """Seconds that the server asks to wait; 0 where it does not say."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0


def _data_url(jpeg: bytes, max_side: int) -> str | None:
    """A picture as a data URL, made smaller where it is larger than `max_side`; None where it cannot be decoded."""
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            picture.load()
            if max(picture.size) > max_side:
                picture.thumbnail((max_side, max_side))
                sink = io.BytesIO()
                picture.save(sink, "JPEG", quality=_QUALITY)
                jpeg = sink.getvalue()
    except (UnidentifiedImageError, OSError, ValueError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
