"""What every request must pass before anybody looks at what it wants.

A browser on this machine can be made to send requests here by any page that it shows. So a request must name this
server as its host (a page's own name may have been pointed here), must not come from a page of another origin, and must
say that its body is JSON, which pages of others cannot. Where other machines can connect, it must also show the token.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import urllib.parse
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dbos.api.config import AdminSettings, is_loopback

_logger = logging.getLogger("dbos")

MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
"""How long an answer may take, once the request is there."""

HEALTH_PATH = "/dbos-healthz"
"""Anybody who can connect may ask this, as a load balancer does."""


FAILED = "The server failed to answer; its log says why."


class Refused(Exception):
    """The request is answered with an error.

    Args:
        status: The HTTP status.
        reason: What is wrong, for people.
        headers: Headers that belong to the status.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class Guards:
    """An ASGI application around another one. It reads the body, so that what is inside need not wait for it."""

    def __init__(self, app: ASGIApp, settings: AdminSettings) -> None:
        self._app = app
        self._token = settings.token
        self._is_local = is_loopback(settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            body = await _read_body(headers, receive)
            _check_content_type(scope["method"], headers, body)
            await asyncio.wait_for(self._app(scope, _replayed(body, receive), send_on), ANSWER_TIMEOUT_S)
        except Exception as error:
            refusal = _refusal(error, scope)
            if not has_begun:
                await json_response({"error": refusal.reason}, refusal.status, refusal.headers)(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if self._is_local and not _names_loopback(host):
            raise Refused(421, f"This server answers to localhost and 127.0.0.1, not to the host {host[:100]!r}.")
        origin = headers.get("origin")
        if origin is not None and urllib.parse.urlsplit(origin).netloc.lower() != host.lower():
            raise Refused(403, "Pages of other origins may not send requests to this server.")
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Refused(403, "Pages of other sites may not send requests to this server.")
        if self._token is not None and scope["path"] != HEALTH_PATH and not self._shows_token(headers):
            raise Refused(
                401,
                "Send the admin token: 'Authorization: Bearer <token>'.",
                {"WWW-Authenticate": 'Bearer realm="dbos"'},
            )

    def _shows_token(self, headers: Headers) -> bool:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(shown.strip().encode(), (self._token or "").encode())
        return is_right and scheme.lower() == "bearer"


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON. (Pure ASCII: also a lone surrogate, which a stored text may hold, can be sent.)"""
    its_headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(json.dumps(value), status, its_headers, "application/json")


def _names_loopback(host: str) -> bool:
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


async def _read_body(headers: Headers, receive: Receive) -> bytes:
    too_large = Refused(413, f"A body may have at most {MAX_BODY_BYTES} bytes.")
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
        raise too_large

    async def read() -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise too_large
            if message["type"] != "http.request" or not message.get("more_body"):
                return bytes(body)

    try:
        return await asyncio.wait_for(read(), BODY_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise Refused(408, f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None


def _check_content_type(method: str, headers: Headers, body: bytes) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and method not in ("GET", "HEAD") and kind != "application/json":
        raise Refused(415, "A body must be JSON, and say so: 'Content-Type: application/json'.")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, and then goes on receiving."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _refusal(error: Exception, scope: Scope) -> Refused:
    if isinstance(error, Refused):
        return error
    if isinstance(error, asyncio.TimeoutError):
        return Refused(503, f"There was no answer within {ANSWER_TIMEOUT_S:g} s. The database may be busy or away.")
    _logger.error("The admin server failed to answer %s %s", scope["method"], scope["path"], exc_info=error)
    return Refused(500, FAILED)
