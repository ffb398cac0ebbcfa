"""Forms that change something: whether one comes from a page of this console, and what is said when it is done.

Three things keep pages of others from sending one: the browser tells where a request comes from (``guards``); the form
holds a token that fits a cookie of its browser; and no other origin may frame the console. The token is made with the
console's secret, so that it needs no memory here. What is said afterwards travels in a cookie, signed likewise, as the
answer to a form is a redirection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from dbos.edges.console.rendering import root
from dbos.edges.guards import Refused

TOKEN_FIELD = "csrf_token"
MAX_FIELDS = 2_000

_SESSION_COOKIE = "dbos_console"
_FLASH_COOKIE = "dbos_console_flash"
_SESSION = re.compile(r"[A-Za-z0-9_-]{20,64}")
_MAX_FLASH_CHARS = 500
"""A browser keeps cookies of 4 kB; a message of this length is smaller in any alphabet, and in Base64."""


class Form:
    """The fields of a form."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def text(self, name: str) -> str | None:
        """The first value of a field, without space around it; ``None`` if there is none, or an empty one."""
        return next((value.strip() for value in self.all(name) if value.strip()), None)

    def all(self, name: str) -> list[str]:
        """All values of a field, as they are."""
        return self._fields.get(name, [])


@dataclass(frozen=True, slots=True)
class Flash:
    """What is said about a form that was sent.

    Attributes:
        text: The message.
        is_error: Whether something was not done.
    """

    text: str
    is_error: bool = False


class Seals:
    """The tokens and signatures of a console.

    Args:
        secret: What they are made with.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def session_of(self, request: Request) -> str:
        """What the browser's cookie says; a new one, if it says nothing that could be ours."""
        session = request.cookies.get(_SESSION_COOKIE, "")
        return session if _SESSION.fullmatch(session) else secrets.token_urlsafe()

    def remember(self, request: Request, response: Response, session: str) -> None:
        """Have the browser keep the session."""
        if request.cookies.get(_SESSION_COOKIE) != session:
            _set_cookie(request, response, _SESSION_COOKIE, session)

    def token(self, session: str) -> str:
        """What the forms of this browser hold."""
        return self._sign("form", session)

    async def read(self, request: Request) -> Form:
        """The fields of a form that was sent from a page of this console.

        Raises:
            Refused: It was not, or is no form.
        """
        body = await request.body()
        try:
            fields = urllib.parse.parse_qs(
                body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
            )
        except ValueError:
            raise Refused(400, f"This is no form, or one of more than {MAX_FIELDS} fields.") from None
        form = Form(fields)
        session = request.cookies.get(_SESSION_COOKIE, "")
        if not (session and hmac.compare_digest(self.token(session).encode(), (form.text(TOKEN_FIELD) or "").encode())):
            raise Refused(
                403,
                "The form was not sent from a page of this console, or from one that is too old: the console was "
                "started again meanwhile, or the browser keeps no cookies. Nothing was done. Go back, reload the page, "
                "and try again.",
            )
        return form

    def say(self, request: Request, response: Response, flash: Flash) -> None:
        """Have the page that is shown next say something."""
        text = flash.text if len(flash.text) <= _MAX_FLASH_CHARS else f"{flash.text[:_MAX_FLASH_CHARS]}…"
        said = json.dumps([text, flash.is_error], ensure_ascii=False)
        data = base64.urlsafe_b64encode(said.encode(errors="replace")).decode()
        _set_cookie(request, response, _FLASH_COOKIE, f"{data}.{self._sign('flash', data)}")

    def said(self, request: Request, response: Response) -> None:
        """Forget what was said."""
        if _FLASH_COOKIE in request.cookies:
            response.delete_cookie(_FLASH_COOKIE, path=_path(request))

    def flash_of(self, request: Request) -> Flash | None:
        """What is to be said."""
        data, _, signature = request.cookies.get(_FLASH_COOKIE, "").partition(".")
        if not (data and hmac.compare_digest(signature.encode(), self._sign("flash", data).encode())):
            return None
        try:
            return Flash(*json.loads(base64.urlsafe_b64decode(data)))
        except (binascii.Error, ValueError, TypeError):
            return None

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


def _path(request: Request) -> str:
    return root(request) or "/"


def _set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    # Lax: who follows a link from somewhere else keeps the session, while forms of others do not have it.
    is_secure = request.url.scheme == "https"
    response.set_cookie(name, value, path=_path(request), httponly=True, samesite="lax", secure=is_secure)
