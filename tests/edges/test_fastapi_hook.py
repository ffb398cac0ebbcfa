"""`DBOS(config=..., fastapi=app)`: the life of the app is that of DBOS, requests bring ids, errors become answers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import pytest

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID, error
from dbos.api.instance import is_launched
from tests.support.apps import App, Roadblock, in_threads
from tests.support.processes import Spawner
from tests.support.servers import client_of, free_port
from tests.support.web import KEY, workflow_id, workflow_id_async

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")
pytest.importorskip("uvicorn")


@pytest.fixture
def server() -> Any:
    return fastapi.FastAPI()


def client_for(server: Any, application: App) -> Any:
    """A client; inside `with` the app is started."""
    DBOS(config=application.config(), fastapi=server)
    return testclient.TestClient(server, raise_server_exceptions=False)


# ------------------------------------------------------------------------------------------------------ life and death


def test_it_is_launched_while_the_app_runs_and_each_time_it_runs(server: Any, application: App) -> None:
    server.get("/")(workflow_id)
    client = client_for(server, application)
    assert not is_launched()
    ids = set()
    for _ in range(2):
        with client:
            assert is_launched()
            ids.add(client.get("/").json())
            assert len(DBOS.list_workflows()) == len(ids)
        assert not is_launched()
        with pytest.raises(error.DBOSException, match="Call DBOS"):
            DBOS.start_workflow(workflow_id)
    assert len(ids) == 2


def test_own_lifespan_runs_while_it_is_launched(application: App) -> None:
    did: list[Any] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        did.append(await workflow_id_async() is not None)
        yield {"name": "of the state"}
        did.append(await workflow_id_async() is not None)

    server = fastapi.FastAPI(lifespan=lifespan)

    @server.get("/")
    def state(request: fastapi.Request) -> str:
        name: str = request.state.name
        return name

    with client_for(server, application) as client:
        assert client.get("/").json() == "of the state"
    assert did == [True, True]


def test_own_lifespan_may_let_workflows_complete_and_destroy_it(application: App) -> None:
    roadblock = Roadblock()

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield
        roadblock.open()
        await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=30)

    @DBOS.workflow()
    async def background() -> str:
        await roadblock.stop_async()
        return "done"

    server = fastapi.FastAPI(lifespan=lifespan)

    @server.get("/")
    async def start() -> str:
        return (await DBOS.start_workflow_async(background)).get_workflow_id()

    with client_for(server, application) as client:
        id = client.get("/").json()
    application.launch()
    status = DBOS.get_workflow_status(id)
    assert status is not None
    assert (status.status, status.recovery_attempts) == ("SUCCESS", 1)


@pytest.mark.filterwarnings("ignore:(?s).*on_event is deprecated")
def test_handlers_of_the_app_run_while_it_is_launched(server: Any, application: App) -> None:
    """Those that were declared before, after, and by routers."""
    did: list[str] = []
    router = fastapi.APIRouter()

    def declare(target: Any, what: str) -> None:
        for moment in ("startup", "shutdown"):
            target.on_event(moment)(lambda moment=moment: did.append(f"{what} {moment} {workflow_id() is not None}"))

    declare(server, "early")
    client = client_for(server, application)
    declare(server, "late")
    declare(router, "router's")
    server.include_router(router)
    with client:
        assert set(did) == {"early startup True", "late startup True", "router's startup True"}
        did.clear()
    assert set(did) == {"early shutdown True", "late shutdown True", "router's shutdown True"}


def test_app_that_fails_to_start_leaves_nothing_launched(application: App) -> None:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        assert is_launched()
        raise OSError("no cache")
        yield

    with pytest.raises(OSError, match="no cache"), client_for(fastapi.FastAPI(lifespan=lifespan), application):
        pass
    assert not is_launched()


def test_app_does_not_start_when_the_database_cannot_be_used(server: Any, application: App) -> None:
    application.url = "sqlite:////nowhere/at/all.sqlite"
    with pytest.raises(error.DBOSInitializationError), client_for(server, application):
        pytest.fail("it started")


def test_explicit_launch_before_is_fine(server: Any, application: App, caplog: pytest.LogCaptureFixture) -> None:
    server.get("/")(workflow_id)
    client = client_for(server, application)
    DBOS.launch()
    with client:
        assert client.get("/").status_code == 200
    assert not is_launched()
    assert "called again" not in caplog.text


def test_configuration_of_a_test_goes_before_that_of_the_module(server: Any, application: App) -> None:
    """A module configures for production; its test configures anew, with the app or without it."""
    server.get("/")(workflow_id)
    DBOS(config={"name": "production", "system_database_url": "sqlite:////nowhere.sqlite"}, fastapi=server)
    DBOS.destroy()
    DBOS(config=application.config())
    with testclient.TestClient(server) as client:
        assert client.get("/").status_code == 200
    with client_for(server, application) as client:
        assert len(DBOS.list_workflows()) == 1


def test_what_is_no_app_or_comes_too_late_is_refused(server: Any, application: App) -> None:
    with pytest.raises(TypeError, match="is none"):
        DBOS(config=application.config(), fastapi="app")  # type: ignore[arg-type]
    with testclient.TestClient(server), pytest.raises(error.DBOSInitializationError, match="started already"):
        DBOS(config=application.config(), fastapi=server)
    with pytest.raises(TypeError, match="config"):
        DBOS(fastapi=server)  # type: ignore[call-arg]
    with pytest.raises(error.DBOSException, match="needs a configuration"):
        DBOS.launch()


def test_missing_package_is_named(spawn: Spawner) -> None:
    program = """
        import sys
        from dbos import DBOS, error

        assert not {"fastapi", "flask", "dbos.edges"} & set(sys.modules)
        for name in ("fastapi", "flask"):
            sys.modules[name] = None
            try:
                DBOS(config={"name": "app"}, **{name: object()})
            except error.DBOSInitializationError as refusal:
                print(refusal)
    """
    first, second = spawn(program).succeed().splitlines()
    assert "pip install fastapi" in first
    assert "pip install flask" in second


# ----------------------------------------------------------------------------------------------------------------- ids


def test_header_sets_the_id_of_the_first_workflow_of_its_request(
    server: Any, application: App, caplog: pytest.LogCaptureFixture
) -> None:
    """Of endpoints that are workflows, call or start them or await them; in the loop, in threads and in tasks."""

    @DBOS.step()
    def step() -> str | None:
        return DBOS.workflow_id

    server.get("/workflow")(workflow_id)
    server.get("/workflow_async")(workflow_id_async)
    server.get("/step")(step)

    @server.get("/calls")
    def calls() -> list[str | None]:
        return [workflow_id(), workflow_id(), DBOS.start_workflow(workflow_id).get_workflow_id()]

    @server.get("/starts")
    def starts() -> list[str | None]:
        return [DBOS.start_workflow(workflow_id_async).get_result(), workflow_id()]

    @server.get("/awaits")
    async def awaits() -> list[str | None]:
        first = await asyncio.create_task(workflow_id_async())
        handle = await DBOS.start_workflow_async(workflow_id_async)
        return [first, await handle.get_result()]

    @server.get("/thread")
    async def thread() -> list[str | None]:
        return [await asyncio.to_thread(workflow_id), await workflow_id_async()]

    @server.middleware("http")
    async def middleware(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    with client_for(server, application) as client:
        for path in ("/workflow", "/workflow_async"):
            assert [client.get(path, headers={KEY: path}).json() for _ in range(2)] == [path, path]
            fresh = {client.get(path).json(), client.get(path, headers={KEY: ""}).json()}
            assert len(fresh) == 2
            assert path not in fresh
        for path in ("/calls", "/starts", "/awaits", "/thread"):
            first, *rest = client.get(path, headers={KEY: path}).json()
            assert first == path
            assert path not in rest
            assert path not in client.get(path).json()
        assert client.get("/step", headers={KEY: "key"}).json() is None
        assert client.get("/workflow").json() != "key"
    assert "SetWorkflowID" not in caplog.text


def test_middleware_is_in_the_request_too(server: Any, application: App) -> None:
    """Also what is added later, and so is around everything that was there before."""
    DBOS(config=application.config(), fastapi=server)

    @server.middleware("http")
    async def middleware(request: Any, call_next: Any) -> Any:
        first = await workflow_id_async()
        answer = await call_next(request)
        answer.headers["first"] = first
        return answer

    server.get("/")(workflow_id)
    with testclient.TestClient(server) as client:
        answer = client.get("/", headers={KEY: "w"})
    assert answer.headers["first"] == "w"
    assert answer.json() != "w"


def test_requests_at_once_have_each_their_own_id(server: Any, application: App) -> None:
    together = threading.Barrier(8)

    @server.get("/")
    def endpoint() -> list[str | None]:
        together.wait(30)
        return [workflow_id(), workflow_id()]

    with client_for(server, application) as client:
        answers = in_threads(
            [
                lambda key=key: client.get("/", headers={KEY: key} if key else {}).json()
                for key in [*(f"key-{number}" for number in range(4)), *[""] * 4]
            ]
        )
    assert [first for first, _ in answers[:4]] == [f"key-{number}" for number in range(4)]
    assert len({id for answer in answers for id in answer}) == 16


def test_id_that_is_set_in_the_endpoint_goes_first(server: Any, application: App) -> None:
    @server.get("/")
    def endpoint() -> list[str | None]:
        with SetWorkflowID("of the block"):
            return [workflow_id()]

    with client_for(server, application) as client:
        assert client.get("/", headers={KEY: "of the header"}).json() == ["of the block"]


def test_header_that_can_be_no_id_is_a_bad_request(server: Any, application: App) -> None:
    server.get("/")(workflow_id)
    with client_for(server, application) as client:
        answer = client.get("/", headers={KEY: "k" * 1025})
        assert answer.status_code == 400
        assert "1024" in answer.json()["message"]
        assert DBOS.list_workflows() == []
        assert client.get("/", headers={KEY: "k" * 1024}).json() == "k" * 1024


# -------------------------------------------------------------------------------------------------------------- errors


def raising_server(server: Any) -> None:
    """An app whose endpoints raise what the library raises."""
    queue = Queue("queue")

    @DBOS.workflow()
    def other() -> None: ...

    @DBOS.step(retries_allowed=True, max_attempts=2, interval_seconds=0.001)
    def failing() -> None:
        raise ValueError("a secret")

    @DBOS.workflow()
    def over() -> None:
        failing()

    @server.get("/missing")
    def missing() -> None:
        DBOS.retrieve_workflow("nobody")

    @server.get("/message")
    async def message() -> None:
        await DBOS.send_async("nobody", "hello")

    @server.get("/conflict")
    def conflict() -> None:
        for function in (workflow_id, other):
            with SetWorkflowID("one"):
                function()

    @server.get("/twice")
    def twice() -> None:
        with SetEnqueueOptions(deduplication_id="one"):
            for _ in range(2):
                queue.enqueue(waiting)

    @server.get("/forbidden")
    async def forbidden() -> None:
        raise error.DBOSNotAuthorizedError("This needs the role admin.")

    @server.get("/over")
    def endpoint() -> None:
        over()

    @server.get("/own")
    @DBOS.workflow()
    def own() -> None:
        raise ValueError("a secret")

    @server.get("/count")
    def count(number: int) -> int:
        return number


GATE = Roadblock()


@DBOS.workflow()
def waiting() -> None:
    GATE.stop()


def test_errors_are_answered_with_their_status(server: Any, application: App, caplog: pytest.LogCaptureFixture) -> None:
    raising_server(server)
    expected = {
        "/missing": (404, error.DBOSNonExistentWorkflowError),
        "/message": (404, error.DBOSNonExistentWorkflowError),
        "/conflict": (409, error.DBOSConflictingWorkflowError),
        "/twice": (409, error.DBOSQueueDeduplicatedError),
        "/forbidden": (403, error.DBOSNotAuthorizedError),
        "/over": (500, error.DBOSMaxStepRetriesExceeded),
    }
    with client_for(server, application) as client:
        answers = {path: client.get(path) for path in expected}
        for path, (status, kind) in expected.items():
            answer = answers[path]
            assert answer.status_code == status
            assert (answer.json()["dbos_error_code"], answer.json()["dbos_error"]) == (str(kind.code), kind.__name__)
        assert "nobody" in answers["/missing"].json()["message"]
        assert answers["/over"].json()["message"] == "Internal Server Error"
        assert "a secret" in caplog.text, "what went wrong is logged"
        assert (client.get("/own").status_code, client.get("/own").text) == (500, "Internal Server Error")
        assert client.get("/count?number=many").status_code == 422
        GATE.open()


def test_own_handler_of_the_app_goes_first(server: Any, application: App) -> None:
    raising_server(server)

    @server.exception_handler(error.DBOSException)
    async def before(request: Any, raised: Exception) -> Any:
        return fastapi.responses.PlainTextResponse("mine", 418)

    with client_for(server, application) as client:
        assert client.get("/missing").status_code == 418


# --------------------------------------------------------------------------------------------------------- real server


def test_server_that_is_killed_in_a_request_goes_on_with_it_when_it_starts(
    database_url: str, spawn: Spawner, application: App
) -> None:
    """Nobody calls `DBOS.launch`. The client repeats its request with its key, and gets the one outcome."""
    program = """
        import sys, time
        import uvicorn
        from dbos import DBOS
        from fastapi import FastAPI

        url, port, waits = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "wait"
        app = FastAPI()
        DBOS(config={"name": "app", "system_database_url": url, "application_version": "1"}, fastapi=app)

        @DBOS.step()
        def first() -> None:
            print("first", flush=True)

        @DBOS.step()
        def second() -> None:
            print("second", flush=True)
            if waits:
                time.sleep(60)

        @DBOS.workflow()
        def workflow(item: str) -> str:
            first()
            second()
            return f"{item} of {DBOS.workflow_id}"

        @app.get("/{item}")
        def endpoint(item: str) -> str:
            return workflow(item)

        uvicorn.run(app, host="127.0.0.1", port=port, access_log=False)
    """
    port = free_port()
    server = spawn(program, database_url, str(port), "wait")
    with client_of(server, port) as client:

        def ask() -> None:
            with suppress(httpx.HTTPError):
                client.get("/tea", headers={KEY: "key"})

        request = threading.Thread(target=ask, daemon=True)
        request.start()
        server.wait_for_line("second")
        server.kill()
        request.join(30)

    port = free_port()
    again = spawn(program, database_url, str(port), "go")
    again.wait_for_line("second")
    with client_of(again, port) as client:
        for _ in range(2):
            assert client.get("/tea", headers={KEY: "key"}).json() == "tea of key"
        assert client.get("/tea").json() != "tea of key"
    again.send_signal(15)
    again.wait()
    assert again.stdout.splitlines() == ["second", "first", "second"], "the first step is not executed again"
    application.launch()
    assert [one.status for one in DBOS.list_workflows()] == ["SUCCESS"] * 2


def test_hooked_requests_are_logged_where_they_fail(caplog: pytest.LogCaptureFixture) -> None:
    """Errors of clients are no news for the server's log."""
    from dbos.edges.web import answer_to

    with caplog.at_level(logging.ERROR, "dbos"):
        status, _ = answer_to(error.DBOSNonExistentWorkflowError("w"))
        assert (status, caplog.text) == (404, "")
        status, body = answer_to(error.DBOSException("details"))
    assert (status, body["message"]) == (500, "Internal Server Error")
    assert "details" in caplog.text
