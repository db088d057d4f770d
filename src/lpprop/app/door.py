"""Which requests reach Gradio: those that the page makes, of a bounded size, for nothing outside.

Gradio serves more than a page needs: it fetches addresses for whoever asks (`/file=https://...`,
and files whose path is an address), runs ffmpeg on what is sent, and keeps statistics.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from lpprop._core.errors import InputError
from lpprop.app.answers import UNEXPECTED, log_problem
from lpprop.app.files import SessionFiles
from lpprop.app.limits import Limits

__all__ = ["Door"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A form around the file that is uploaded.
_FORM_BYTES = 2**14
# Values of all fields of the page, and a drawing's strokes.
_JSON_BYTES = 2**20

_API = "(?:/gradio_api)?"
_GET = re.compile(
    rf"/|/config/?|/robots\.txt|/favicon\.ico|/manifest\.json|/pwa_icon.*|/(?:static|assets|svelte)/.*"
    rf"|{_API}/(?:theme\.css|info/?|openapi\.json|startup-events|app_id/?|login_check/?|user/?)"
    rf"|{_API}/(?:heartbeat/[\w-]+|queue/data|upload_progress|call/\w+/\w+|custom_component/.+)"
    rf"|{_API}/file=(?!\w+:).+"
)
_POST = re.compile(
    rf"{_API}/(?:queue/join|call/\w+/?|cancel|reset/?|component_server/?|login_check/?)"
)
_UPLOAD = re.compile(rf"{_API}/upload")


class Door:
    """ASGI middleware that hands on what may pass and answers everything else.

    Args:
        app: what it stands before.
        limits: of the size of uploads.
        files: where uploads are kept, which may be full.
    """

    def __init__(self, app: App, limits: Limits, files: SessionFiles) -> None:
        self.app = app
        self.limits = limits
        self.files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal: tuple[int, str] | None = (404, "There is nothing here.")
        if scope["type"] == "http":
            path, method = scope["path"], scope["method"]
            if method in ("GET", "HEAD") and _GET.fullmatch(path):
                refusal = None
            elif method == "POST" and _UPLOAD.fullmatch(path):
                refusal = self._refuse_upload(scope)
            elif method == "POST" and _POST.fullmatch(path):
                refusal = _refuse_length(scope, _JSON_BYTES)
                if refusal is None:
                    body = await _read(receive)
                    refusal = _refuse_json(body)
                    receive = _again(body, receive)
        if refusal is not None:
            await _answer(scope, send, *refusal)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:  # such as an event that the page does not have
            if started:
                raise
            await _answer(scope, send, 500, UNEXPECTED.format(log_problem(error)))

    def _refuse_upload(self, scope: Scope) -> tuple[int, str] | None:
        try:
            self.files.check_room()
        except InputError as error:
            return 507, str(error)
        return _refuse_length(scope, self.limits.file_bytes + _FORM_BYTES)


def _refuse_length(scope: Scope, most: int) -> tuple[int, str] | None:
    """Say why a request is too long; one that does not tell its length is refused as well."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    if not length.isdigit():
        return 411, "The length of what is sent is not told."
    if int(length) > most:
        return 413, f"At most {most / 2**20:.3g} MiB can be sent at once."
    return None


def _refuse_json(body: bytes) -> tuple[int, str] | None:
    """Say why the values of an event are not taken."""
    try:
        values = json.loads(body, parse_constant=_refuse_number, parse_float=_read_number)
        if _names_address(values):
            return 400, "Files are taken by upload alone, not by address."
    except (ValueError, RecursionError):
        return 400, "This is no JSON, or holds a number that is not finite."
    return None


def _refuse_number(text: str) -> float:
    raise ValueError(text)


def _read_number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def _names_address(value: Any) -> bool:
    """Tell whether a file is given by an address, which the server would fetch."""
    if isinstance(value, dict):
        path, url = value.get("path"), value.get("url")
        if isinstance(path, str) and re.match(r"\s*\w[\w+.-]*:", path) and path[1:2] != ":":
            return True
        if isinstance(url, str) and url.lstrip().lower().startswith("data:"):
            return True
        value = list(value.values())
    return isinstance(value, list) and any(_names_address(part) for part in value)


async def _read(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which has been read."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(scope: Scope, send: Send, status: int, text: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    # What has not been read yet would be taken for the next request.
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
