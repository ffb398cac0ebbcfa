"""Flask: ``DBOS(config=..., flask=app)`` knows the app's requests, and is launched by the first at the latest.

Flask has no moment of its own at which a server starts. A program calls ``DBOS.launch()``, so that interrupted
workflows go on when it starts; where it does not, and in a process that a server forked after the launch, the first
request launches. DBOS is destroyed when the process ends.

Each request is handled in a context of its own, in which the header ``dbos-idempotency-key`` has set the id of the
first workflow. It is set around the whole WSGI application, so that it holds before all hooks of the app, and is gone
when the thread turns to the next request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

from flask import Flask, Response, json

from dbos.api.config import DBOSConfig
from dbos.api.dbos import launch_if_needed
from dbos.edges.web import HEADER, Answer, answer_to, answer_to_bad_key, context_of_request
from dbos.error import DBOSException, DBOSInitializationError
from dbos.runtime.context import CONTEXT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_KEY = "HTTP_" + HEADER.upper().replace("-", "_")

_configurations: WeakKeyDictionary[Flask, DBOSConfig] = WeakKeyDictionary()
"""The apps that have their hooks, with what each launches."""


def attach(app: Flask, config: DBOSConfig) -> None:
    """Hook DBOS into the app; again for another configuration.

    Args:
        app: An app that has handled no request yet.
        config: What to launch with when a request comes and nothing else is configured.

    Raises:
        TypeError: It is no app of Flask.
        DBOSInitializationError: The app has handled requests already.
    """
    if not isinstance(cast(object, app), Flask):
        raise TypeError(f"DBOS(flask=...) takes the Flask app, and {app!r} is none.")
    if app not in _configurations:
        handlers = app.error_handler_spec[None][None]
        if DBOSException not in handlers:
            try:
                app.register_error_handler(DBOSException, _handle)
            except AssertionError as error:
                raise DBOSInitializationError(
                    "DBOS(flask=...) was called when the app had handled requests already. Call it where the app is "
                    "made."
                ) from error
        app.wsgi_app = _around(app, app.wsgi_app)  # type: ignore[assignment, method-assign]  # as Flask documents it
    _configurations[app] = config


def _around(app: Flask, own: WSGIApplication) -> WSGIApplication:
    def handle(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            context = context_of_request(environ.get(_KEY))
        except ValueError as error:
            return _response(answer_to_bad_key(error))(environ, start_response)
        launch_if_needed(_configurations[app])
        token = CONTEXT.set(context)
        try:
            return own(environ, start_response)
        finally:
            CONTEXT.reset(token)

    return handle


def _handle(error: DBOSException) -> Response:
    return _response(answer_to(error))


def _response(answer: Answer) -> Response:
    status, body = answer
    return Response(json.dumps(body), status, mimetype="application/json")
