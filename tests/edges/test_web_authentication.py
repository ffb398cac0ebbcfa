"""Requests of web frameworks: each is for whoever it authenticates, and 403 is the answer where a role is missing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dbos import DBOS, DBOSContextEnsure
from tests.support.apps import App

USERS = {"ann": ["admin"], "bob": ["clerk"]}


def authenticate(user: str | None) -> None:
    if user is not None:
        DBOS.set_authentication(user, USERS[user])


@DBOS.required_roles(["admin"])
@DBOS.workflow(name="web.administer")
def administer() -> str:
    return f"{DBOS.authenticated_user} as {DBOS.assumed_role}"


EXPECTED = [("ann", 200, "ann as admin"), ("bob", 403, None), (None, 403, None), ("ann", 200, "ann as admin")]


@pytest.mark.parametrize("where", ["dependency", "async dependency", "middleware", "later middleware", "handler"])
def test_a_request_of_fastapi_is_for_whom_it_authenticates(application: App, where: str) -> None:
    fastapi = pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    server = fastapi.FastAPI()
    depends: list[Any] = []

    def dependency(request: Any) -> None:
        authenticate(request.headers.get("user"))

    async def async_dependency(request: Any) -> None:
        await asyncio.sleep(0)
        authenticate(request.headers.get("user"))

    for one in (dependency, async_dependency):
        one.__annotations__["request"] = fastapi.Request
    if where.endswith("dependency"):
        depends = [fastapi.Depends(dependency if where == "dependency" else async_dependency)]

    def handle(request: Any) -> str:
        if where == "handler":
            authenticate(request.headers.get("user"))
        return administer()

    handle.__annotations__["request"] = fastapi.Request
    server.get("/", dependencies=depends)(handle)

    async def middleware(request: Any, call_next: Any) -> Any:
        with DBOSContextEnsure():
            authenticate(request.headers.get("user"))
            return await call_next(request)

    if where == "middleware":
        server.middleware("http")(middleware)
    DBOS(config=application.config(), fastapi=server)
    if where == "later middleware":
        server.middleware("http")(middleware)
    with testclient.TestClient(server, raise_server_exceptions=False) as client:
        for user, code, text in EXPECTED:
            answer = client.get("/", headers={} if user is None else {"user": user})
            assert answer.status_code == code
            assert text is None or answer.json() == text
        assert [workflow.authenticated_user for workflow in DBOS.list_workflows()] == ["ann", "ann"]


def test_a_request_of_flask_is_for_whom_it_authenticates(application: App) -> None:
    flask = pytest.importorskip("flask")
    server = flask.Flask("app")
    server.before_request(lambda: authenticate(flask.request.headers.get("user")))
    server.get("/")(administer)
    DBOS(config=application.config(), flask=server)
    client = server.test_client()
    for user, code, text in EXPECTED:
        answer = client.get("/", headers={} if user is None else {"user": user})
        assert answer.status_code == code
        assert text is None or answer.text == text
    assert [workflow.authenticated_user for workflow in DBOS.list_workflows()] == ["ann", "ann"]
