"""`DBOS(config=..., flask=app)`: the first request launches, requests bring ids, errors become answers."""

from __future__ import annotations

import http.client
import threading
from contextlib import suppress
from typing import Any

import httpx
import pytest

from dbos import DBOS, SetWorkflowID, error
from dbos.api.instance import is_launched
from tests.support.apps import App, in_threads
from tests.support.processes import Spawner
from tests.support.servers import free_port
from tests.support.web import KEY, workflow_id, workflow_id_async

flask = pytest.importorskip("flask")


@pytest.fixture
def server() -> Any:
    return flask.Flask(__name__)


def client_for(server: Any, application: App) -> Any:
    DBOS(config=application.config(), flask=server)
    return server.test_client()


# -------------------------------------------------------------------------------------------------------------- launch


def test_first_requests_launch_if_nobody_has(server: Any, application: App, caplog: pytest.LogCaptureFixture) -> None:
    server.get("/")(workflow_id)
    client_for(server, application)
    assert not is_launched()
    ids = in_threads([lambda: server.test_client().get("/").text] * 4)
    assert is_launched()
    assert sorted(one.workflow_id for one in DBOS.list_workflows()) == sorted(ids)
    assert "called again" not in caplog.text
    DBOS.destroy()
    assert server.test_client().get("/").status_code == 200, "it is launched anew"
    assert len(DBOS.list_workflows()) == 5


def test_explicit_launch_goes_first(server: Any, application: App) -> None:
    server.get("/")(workflow_id)
    client = client_for(server, application)
    DBOS.launch()
    with client:
        assert client.get("/").status_code == 200
        assert flask.request.path == "/"


def test_what_is_no_app_or_comes_too_late_is_refused(server: Any, application: App) -> None:
    with pytest.raises(TypeError, match="is none"):
        DBOS(config=application.config(), flask="app")  # type: ignore[arg-type]
    server.test_client().get("/")
    with pytest.raises(error.DBOSInitializationError, match="already"):
        DBOS(config=application.config(), flask=server)
    with pytest.raises(TypeError, match="config"):
        DBOS(flask=server)  # type: ignore[call-arg]


# ----------------------------------------------------------------------------------------------------------------- ids


def test_header_sets_the_id_of_the_first_workflow_of_its_request(
    server: Any, application: App, caplog: pytest.LogCaptureFixture
) -> None:
    server.get("/workflow")(workflow_id)

    @server.get("/calls")
    def calls() -> list[str | None]:
        return [workflow_id(), workflow_id(), DBOS.start_workflow(workflow_id).get_workflow_id()]

    @server.get("/starts")
    def starts() -> list[str | None]:
        return [DBOS.start_workflow(workflow_id_async).get_result(), workflow_id()]

    @server.get("/awaits")
    async def awaits() -> list[str | None]:
        return [await workflow_id_async(), await workflow_id_async()]

    @server.get("/block")
    def block() -> str | None:
        with SetWorkflowID("of the block"):
            return workflow_id()

    client = client_for(server, application)
    assert [client.get("/workflow", headers={KEY: "w"}).text for _ in range(2)] == ["w", "w"]
    assert len({client.get("/workflow").text, client.get("/workflow", headers={KEY: ""}).text, "w"}) == 3
    for path in ("/calls", "/starts", "/awaits"):
        first, *rest = client.get(path, headers={KEY: path}).json
        assert first == path
        assert path not in rest
        assert path not in client.get(path).json, "the thread has forgotten it"
    assert client.get("/block", headers={KEY: "of the header"}).text == "of the block"
    assert DBOS.get_workflow_status("of the header") is None
    assert workflow_id() != "of the header", "not even when no workflow had it"
    assert "SetWorkflowID" not in caplog.text


def test_hooks_of_the_app_are_in_the_request_too(server: Any, application: App) -> None:
    @server.before_request
    def before() -> None:
        flask.g.id = workflow_id()

    @server.get("/")
    def endpoint() -> list[str | None]:
        return [flask.g.id, workflow_id()]

    assert client_for(server, application).get("/", headers={KEY: "w"}).json[0] == "w"


def test_header_that_can_be_no_id_is_a_bad_request(server: Any, application: App) -> None:
    server.get("/")(workflow_id)
    answer = client_for(server, application).get("/", headers={KEY: "k" * 1025})
    assert answer.status_code == 400
    assert "1024" in answer.json["message"]


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_are_answered_with_their_status(server: Any, application: App, caplog: pytest.LogCaptureFixture) -> None:
    @DBOS.workflow()
    def other() -> None: ...

    @server.get("/missing")
    def missing() -> None:
        DBOS.retrieve_workflow("nobody")

    @server.get("/conflict")
    def conflict() -> None:
        for function in (workflow_id, other):
            with SetWorkflowID("one"):
                function()

    @server.get("/forbidden")
    def forbidden() -> None:
        raise error.DBOSNotAuthorizedError("This needs the role admin.")

    @server.get("/details")
    def details() -> None:
        raise error.DBOSException("details")

    @server.get("/own")
    @DBOS.workflow()
    def own() -> None:
        raise ValueError("a secret")

    client = client_for(server, application)
    for path, status, kind in (
        ("/missing", 404, error.DBOSNonExistentWorkflowError),
        ("/conflict", 409, error.DBOSConflictingWorkflowError),
        ("/forbidden", 403, error.DBOSNotAuthorizedError),
        ("/details", 500, error.DBOSException),
    ):
        answer = client.get(path)
        assert answer.status_code == status
        code = None if kind.code is None else str(kind.code)
        assert (answer.json["dbos_error_code"], answer.json["dbos_error"]) == (code, kind.__name__)
    assert answer.json["message"] == "Internal Server Error"
    assert "details" in caplog.text
    failed = client.get("/own")
    assert failed.status_code == 500
    assert "a secret" not in failed.text


def test_own_handler_of_the_app_goes_first(server: Any, application: App) -> None:
    @server.errorhandler(error.DBOSException)
    def mine(raised: Exception) -> tuple[str, int]:
        return "mine", 418

    @server.get("/")
    def missing() -> None:
        DBOS.retrieve_workflow("nobody")

    assert client_for(server, application).get("/").status_code == 418


# --------------------------------------------------------------------------------------------------------- real server

SERVER = """
    import sys, time
    from dbos import DBOS
    from flask import Flask
    from werkzeug.serving import make_server

    url, port, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    app = Flask(__name__)
    DBOS(config={"name": "app", "system_database_url": url, "application_version": "1"}, flask=app)

    @DBOS.step()
    def first() -> None:
        print("first", flush=True)

    @DBOS.step()
    def second() -> None:
        print("second", flush=True)
        if mode == "wait":
            time.sleep(60)

    @DBOS.workflow()
    def workflow(item: str) -> str:
        first()
        second()
        return f"{item} of {DBOS.workflow_id}"

    @app.get("/<item>")
    def endpoint(item: str) -> str:
        return workflow(item)

    if mode == "launch":
        DBOS.launch()
    server = make_server("127.0.0.1", port, app, threaded=True)
    print("listening", flush=True)
    server.serve_forever()
"""


@pytest.mark.parametrize("mode", ["launch", "request"])
def test_server_that_is_killed_in_a_request_goes_on_with_it(
    database_url: str, spawn: Spawner, application: App, mode: str
) -> None:
    """With `DBOS.launch()` when it starts; without it with the first request, whichever that is."""
    port = free_port()
    server = spawn(SERVER, database_url, str(port), "wait")
    server.wait_for_line("listening")

    def ask() -> None:
        with suppress(httpx.HTTPError, http.client.HTTPException):
            httpx.get(f"http://127.0.0.1:{port}/tea", headers={KEY: "key"}, timeout=30)

    request = threading.Thread(target=ask, daemon=True)
    request.start()
    server.wait_for_line("second")
    server.kill()
    request.join(30)

    port = free_port()
    again = spawn(SERVER, database_url, str(port), mode)
    again.wait_for_line("listening")
    if mode == "launch":
        again.wait_for_line("second")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        for _ in range(2):
            assert client.get("/tea", headers={KEY: "key"}).text == "tea of key"
        assert client.get("/tea").text != "tea of key"
    again.kill()
    assert again.stdout.count("first") == 1, "the first step is not executed again"
    assert again.stdout.count("second") == 2
    application.launch()
    assert [one.status for one in DBOS.list_workflows()] == ["SUCCESS"] * 2


def test_process_that_is_forked_after_the_launch_launches_for_itself(spawn: Spawner, sqlite_url: str) -> None:
    """As a server does that loads the program once and forks its workers."""
    program = """
        import os, sys
        from dbos import DBOS
        from flask import Flask

        app = Flask(__name__)
        DBOS(config={"name": "app", "system_database_url": sys.argv[1]}, flask=app)

        @app.get("/")
        @DBOS.workflow()
        def workflow() -> str:
            return "done"

        DBOS.launch()
        assert app.test_client().get("/").text == "done"
        child = os.fork()
        if child == 0:
            print("child", app.test_client().get("/").text, flush=True)
            DBOS.destroy()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print("parent", app.test_client().get("/").text)
    """
    assert spawn(program, sqlite_url).succeed().splitlines() == ["child done", "parent done"]
