"""The console as an ASGI application: what all its pages share."""

from __future__ import annotations

import secrets
import urllib.parse
from collections.abc import Awaitable, Callable
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dbos.edges.console import executors, graph, overview, queues, schedules, workflow, workflows
from dbos.edges.console.forms import TOKEN_FIELD, Flash, Form, Seals
from dbos.edges.console.rendering import root, templates, url
from dbos.edges.guards import FAILED, Refused
from dbos.error import DBOSInitializationError, DBOSNonExistentWorkflowError, DBOSWorkflowConflictIDError
from dbos.runtime.drivers import Offload
from dbos.runtime.gateway import Gateway
from dbos.runtime.threads import ElasticThreads
from dbos.storage.opening import explained

T = TypeVar("T")

_PAGES = (overview, workflows, workflow, graph, queues, schedules, executors)

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": with that, browsers do not tell where a form comes from.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Console:
    """What all pages share.

    Args:
        find_gateway: The way to the database; called for each request, in a thread that may block.
        allow_writes: Whether forms may change something.
        secret: What the tokens of forms are made with; the same in all processes that serve this console. Default: one
            that this process makes up.
    """

    def __init__(
        self, find_gateway: Callable[[], Gateway], *, allow_writes: bool = False, secret: str | None = None
    ) -> None:
        self.allow_writes = allow_writes
        self._find_gateway = find_gateway
        self._threads = ElasticThreads("dbos-console")
        self._seals = Seals(secrets.token_bytes() if secret is None else secret.encode())

    def app(self) -> ASGIApp:
        """All pages, under any root path. What every request must pass is not checked here."""
        routes = [
            *(route for page in _PAGES for route in page.routes(self)),
            Mount("/static", StaticFiles(packages=[("dbos.edges.console", "static")]), name="static"),
        ]
        handlers = {HTTPException: self._answer_error, Refused: self._answer_error, Exception: self._answer_failure}
        return _with_headers(Starlette(routes=routes, exception_handlers=handlers))

    # -- for pages

    async def work(self, function: Callable[[Gateway], T]) -> T:
        """Call what blocks, in another thread.

        Raises:
            Refused: The database cannot be used, there is no such workflow, or its id is taken.
        """

        def do() -> T:
            gateway = self._find_gateway()
            with explained(gateway.database.engine):
                # Nobody who reads shall miss what this process is still holding back.
                gateway.flush()
                return function(gateway)

        offload: Awaitable[T] = Offload(self._threads.submit, do).wait()
        try:
            return await offload
        except DBOSNonExistentWorkflowError as error:
            raise Refused(404, str(error.message)) from None
        except DBOSWorkflowConflictIDError as error:
            raise Refused(409, str(error.message)) from None
        except DBOSInitializationError as error:
            raise Refused(503, str(error.message)) from None

    async def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
        """Render a template, which extends ``layout.html``, in another thread: a page of large values takes a while.

        Args:
            request: What is answered.
            template: The template's file.
            status: The HTTP status.
            **values: What the template shows.
        """
        session = self._seals.session_of(request)
        is_update = "hx-request" in request.headers
        flash = None if is_update else self._seals.flash_of(request)

        def render() -> bytes:
            html = (
                templates()
                .get_template(template)
                .render(
                    allow_writes=self.allow_writes,
                    csrf_field=TOKEN_FIELD,
                    csrf_token=self._seals.token(session),
                    flash=flash,
                    here=_here(request),
                    url=partial(url, request),
                    static=partial(_static, request),
                    version=_version(),
                    **values,
                )
            )
            # What no encoding has, such as half of a pair of surrogates in somebody's JSON, is shown in ASCII.
            return html.encode("utf-8", "backslashreplace")

        offload: Awaitable[bytes] = Offload(self._threads.submit, render).wait()
        content = await offload
        response = Response(content, status, {"Cache-Control": "no-store"}, "text/html")
        if self.allow_writes:
            self._seals.remember(request, response, session)
        if not is_update:
            self._seals.said(request, response)
        return response

    async def form(self, request: Request) -> Form:
        """The fields of a form that changes something.

        Raises:
            Refused: Nothing may be changed here, or the form does not come from a page of this console.
        """
        if not self.allow_writes:
            raise Refused(403, "This console is read-only; nothing was done. Whoever runs it can allow changes.")
        return await self._seals.read(request)

    def redirect(self, request: Request, to: str, text: str, *, is_error: bool = False) -> Response:
        """Answer a form: go to a page, which says what was done.

        Args:
            request: What is answered.
            to: A path in this console, as ``url`` makes it.
            text: What was done, or was not.
            is_error: Whether something was not done.
        """
        response = RedirectResponse(to, 303)
        self._seals.say(request, response, Flash(text, is_error))
        return response

    # -- errors

    async def _answer_error(self, request: Request, error: Exception) -> Response:
        if isinstance(error, Refused):
            return await self._error_page(request, error.status, error.reason, error.headers)
        assert isinstance(error, HTTPException)
        reason = "There is no such page." if error.status_code == 404 else error.detail
        return await self._error_page(request, error.status_code, reason, error.headers)

    async def _answer_failure(self, request: Request, error: Exception) -> Response:
        # It is raised on, into the log.
        return await self._error_page(request, 500, FAILED)

    async def _error_page(self, request: Request, status: int, reason: str, headers: Any = None) -> Response:
        is_reading = request.method in ("GET", "HEAD")
        response = await self.page(request, "error.html", status=status, reason=reason, is_reading=is_reading)
        response.headers.update(headers or {})
        return response


def _here(request: Request) -> str:
    """The path and query of the page that is shown, as a link."""
    # Two slashes at the beginning would be another host.
    path = "/" + urllib.parse.quote(request.scope["path"]).lstrip("/")
    return f"{path}?{request.url.query}" if request.url.query else path


def _static(request: Request, path: str) -> str:
    """A file of ours; under another name in another version, so that no browser shows an older one."""
    return f"{root(request)}{request.app.url_path_for('static', path=path)}?v={_version()}"


@cache
def _version() -> str:
    try:
        return version("dbos")
    except PackageNotFoundError:
        return ""


def _with_headers(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await app(scope, receive, send_on)

    return answer
