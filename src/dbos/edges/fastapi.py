"""FastAPI: ``DBOS(config=..., fastapi=app)`` launches and is destroyed with the app, and knows its requests.

The app's own lifespan runs inside of DBOS's: when it starts, workflows can be started, and when it has ended, DBOS is
destroyed. A request begins with a context of its own, in which the header ``dbos-idempotency-key`` has set the id of
the first workflow; coroutines and threads of the request copy that context, and other requests never see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast
from weakref import WeakKeyDictionary

from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dbos.api.config import DBOSConfig
from dbos.api.dbos import DBOS, launch_if_needed
from dbos.edges.web import HEADER, Answer, answer_to, answer_to_bad_key, context_of_request
from dbos.error import DBOSException, DBOSInitializationError
from dbos.runtime.context import CONTEXT

_HEADER = HEADER.encode()

_configurations: WeakKeyDictionary[FastAPI, DBOSConfig] = WeakKeyDictionary()
"""The apps that have their hooks, with what each launches."""


def attach(app: FastAPI, config: DBOSConfig) -> None:
    """Hook DBOS into the app; again for another configuration.

    Args:
        app: An app that has not started yet.
        config: What to launch with when the app starts and nothing else is configured.

    Raises:
        TypeError: It is no app of FastAPI.
        DBOSInitializationError: The app has started already.
    """
    if not isinstance(cast(object, app), FastAPI):
        raise TypeError(f"DBOS(fastapi=...) takes the FastAPI app, and {app!r} is none.")
    if app not in _configurations:
        if app.middleware_stack is not None:
            raise DBOSInitializationError(
                "DBOS(fastapi=...) was called when the app had started already. Call it where the app is made."
            )
        app.exception_handlers.setdefault(DBOSException, _handle)
        _wrap_lifespan(app)
        _wrap_requests(app)
    _configurations[app] = config


def _wrap_lifespan(app: FastAPI) -> None:
    own = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[Any, None]:
        await asyncio.to_thread(launch_if_needed, _configurations[app])
        try:
            async with own(app) as state:
                yield state
        finally:
            await asyncio.to_thread(DBOS.destroy)

    app.router.lifespan_context = lifespan


def _wrap_requests(app: FastAPI) -> None:
    own = app.build_middleware_stack

    def build() -> ASGIApp:
        # Around all middleware, whenever it is added: it may say whom the request is for.
        return _Requests(own())

    app.build_middleware_stack = build  # type: ignore[method-assign]


class _Requests:
    """Gives each request its context."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        key: bytes | None = next((value for name, value in scope["headers"] if name == _HEADER), None)
        try:
            context = context_of_request(None if key is None else key.decode("latin-1"))
        except ValueError as error:
            await _response(answer_to_bad_key(error))(scope, receive, send)
            return
        token = CONTEXT.set(context)
        try:
            await self._app(scope, receive, send)
        finally:
            CONTEXT.reset(token)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DBOSException)
    return _response(answer_to(error))


def _response(answer: Answer) -> JSONResponse:
    status, body = answer
    return JSONResponse(body, status)
