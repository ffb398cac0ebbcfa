"""What every request must pass before anybody looks at what it wants.

A browser on this machine can be made to send requests here by any page that it shows. So a request must name this
server as its host (a page's own name may have been pointed here), must not come from a page of another origin, and must
say that its body is JSON, which pages of others cannot. Where other machines can connect, it must also show the token.

Where a server has pages, a body must be that of a form, links of others may lead there, and the token may be given as
the password that browsers ask for. The forms themselves are checked where they are read (``console.forms``).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import json
import logging
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dbos.api.config import is_loopback

_logger = logging.getLogger("dbos")

MAX_BODY_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0
"""How long an answer may take, once the request is there."""

HEALTH_PATH = "/dbos-healthz"
"""Anybody who can connect may ask this, as a load balancer does."""

_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"

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


@dataclass(frozen=True, slots=True)
class Entrance:
    """What a server asks of those who come.

    Attributes:
        token: What requests must show; ``None`` for nothing.
        is_local: Whether requests must name this machine as their host.
        pages: Below which path there are pages for browsers; "" for everywhere, ``None`` for nowhere.
    """

    token: str | None = field(repr=False)
    is_local: bool
    pages: str | None = None

    def leads_to_page(self, path: str) -> bool:
        """Whether there are pages for browsers at the path."""
        return self.pages is not None and (path == self.pages or path.startswith(f"{self.pages}/"))


class Guards:
    """An ASGI application around another one. It reads the body, so that what is inside need not wait for it."""

    def __init__(self, app: ASGIApp, entrance: Entrance) -> None:
        self._app = app
        self._entrance = entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        has_begun = False
        is_page = self._entrance.leads_to_page(scope["path"])

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(scope, headers, is_page)
            body = await _read_body(headers, receive)
            _check_content_type(scope["method"], headers, body, _FORM if is_page else _JSON)
            await asyncio.wait_for(self._app(scope, _replayed(body, receive), send_on), ANSWER_TIMEOUT_S)
        except Exception as error:
            refusal = _refusal(error, scope)
            if not has_begun:
                answer = _text_response if is_page else _error_response
                await answer(refusal)(scope, receive, send)

    def _check(self, scope: Scope, headers: Headers, is_page: bool) -> None:
        host = headers.get("host", "")
        if self._entrance.is_local and not _names_loopback(host):
            raise Refused(421, f"This server answers to localhost and 127.0.0.1, not to the host {host[:100]!r}.")
        refuse_foreign(scope["method"], headers, may_be_linked=is_page)
        is_open = self._entrance.token is None or scope["path"] == HEALTH_PATH
        if not is_open and not self._shows_token(headers, is_page):
            # Browsers ask for a name and a password, of which the name does not matter.
            basic = ', Basic realm="dbos", charset="UTF-8"' if is_page else ""
            raise Refused(
                401,
                "Give the token as the password; the name does not matter."
                if is_page
                else "Send the admin token: 'Authorization: Bearer <token>'.",
                {"WWW-Authenticate": f'Bearer realm="dbos"{basic}'},
            )

    def _shows_token(self, headers: Headers, is_page: bool) -> bool:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        shown = shown.strip()
        if is_page and scheme.lower() == "basic":
            scheme, shown = "bearer", _password(shown)
        is_right = hmac.compare_digest(shown.encode(), (self._entrance.token or "").encode())
        return is_right and scheme.lower() == "bearer"


def refuse_foreign(method: str, headers: Headers, *, may_be_linked: bool) -> None:
    """Refuse what comes from a page of another origin.

    Args:
        method: The request's method.
        headers: Its headers.
        may_be_linked: Whether a page of others may have a link here: following it shows a page, and does nothing.

    Raises:
        Refused: It does.
    """
    is_shown = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    if may_be_linked and is_shown and method in ("GET", "HEAD"):
        return
    site = headers.get("sec-fetch-site")
    if site not in (None, "none", "same-origin"):
        raise Refused(403, "Pages of other sites may not send requests to this server.")
    # What the browser says of itself is more: a proxy may have changed the host.
    origin = headers.get("origin")
    if site != "same-origin" and origin is not None and _netloc(origin) != headers.get("host", "").lower():
        raise Refused(403, "Pages of other origins may not send requests to this server.")


def _netloc(origin: str) -> str | None:
    try:
        return urllib.parse.urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON. (Pure ASCII: also a lone surrogate, which a stored text may hold, can be sent.)"""
    its_headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return Response(json.dumps(value), status, its_headers, "application/json")


def _error_response(refusal: Refused) -> Response:
    return json_response({"error": refusal.reason}, refusal.status, refusal.headers)


def _text_response(refusal: Refused) -> Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(refusal.headers or {})}
    return PlainTextResponse(refusal.reason, refusal.status, headers)


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
            if message["type"] != "http.request":
                # The part that came may well be a body too, that of another request.
                raise Refused(400, "The connection ended before the body did; nothing was done.")
            body += message.get("body", b"")
            if len(body) > MAX_BODY_BYTES:
                raise too_large
            if not message.get("more_body"):
                return bytes(body)

    try:
        return await asyncio.wait_for(read(), BODY_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise Refused(408, f"The body did not arrive within {BODY_TIMEOUT_S:g} s.") from None


def _check_content_type(method: str, headers: Headers, body: bytes, wanted: str) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and method not in ("GET", "HEAD") and kind != wanted:
        what = "JSON" if wanted == _JSON else "that of a form"
        raise Refused(415, f"A body must be {what}, and say so: 'Content-Type: {wanted}'.")


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
    _logger.error("The server failed to answer %s %s", scope["method"], scope["path"], exc_info=error)
    return Refused(500, FAILED)
