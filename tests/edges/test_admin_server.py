"""The admin server as a server: who is let in, how much is read, what the launch and the end of it cost."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from dbos import DBOS
from dbos.edges import guards, serving
from dbos.edges.admin.app import admin_app
from dbos.error import DBOSInitializationError
from tests.support.admin import AdminApp, admin_client, admin_port
from tests.support.apps import PATIENCE_S, eventually
from tests.support.processes import Spawner

TOKEN = "a-token-of-the-tests-0123456789"


@pytest.fixture
def app(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminApp]:
    """An application to be launched; none of this depends on the database."""
    monkeypatch.delenv("DBOS__ADMIN_PORT")
    yield AdminApp(sqlite_url)
    DBOS.destroy()


def talk(port: int, request: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


# -- who is let in


def test_only_its_own_names_are_answered_to(app: AdminApp) -> None:
    """A name of somebody else's that was made to point here (DNS rebinding) is refused."""
    app.launch()
    with admin_client() as client:
        for host in ("localhost", "127.0.0.1:80", "[::1]:3001", "LOCALHOST:1", "127.0.0.2"):
            assert client.get("/dbos-healthz", headers={"Host": host}).status_code == 200, host
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[",
            "10.0.0.1",
            "0.0.0.0",
        ):
            assert client.get("/dbos-healthz", headers={"Host": host}).status_code == 421, host


def test_pages_of_others_are_refused(app: AdminApp) -> None:
    app.launch()
    own = f"http://127.0.0.1:{admin_port()}"
    with admin_client() as client:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "http://127.0.0.1:1"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            for method, path in (("GET", "/deactivate"), ("POST", "/workflows/x/cancel"), ("GET", "/workflows/x")):
                assert client.request(method, path, headers=headers).status_code == 403, (headers, method)
        assert client.post("/workflows", json={}, headers={"Origin": own, "Sec-Fetch-Site": "same-origin"}).json() == []
        answer = client.post("/workflows", json={}, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        executor = DBOS._application.executor  # type: ignore[union-attr]
        assert not executor.dispatcher._is_stopped, "nothing was deactivated"  # type: ignore[union-attr]


def test_bodies_must_be_json_and_say_so(app: AdminApp) -> None:
    app.launch()
    with admin_client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = client.post("/workflows", content="{}", headers={"Content-Type": kind})
            assert answer.status_code == 415, kind
        for kind in ("application/json", "Application/JSON; charset=utf-8"):
            assert client.post("/workflows", content="{}", headers={"Content-Type": kind}).status_code == 200, kind
        assert client.post("/workflows").status_code == 200, "no body needs no content type"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"[" * 100_000,
        b'{"limit": -1}',
        b'{"limit": "1"}',
        b'{"limit": 1e999}',
        b'{"offset": true}',
        b'{"sort_desc": 1}',
        b'{"status": "DONE"}',
        b'{"status": {}}',
        b'{"start_time": "yesterday"}',
        b'{"start_time": 12}',
        b'{"workflow_uuids": "one"}',
        b'{"workflow_uuids": [1]}',
        b'{"workflow_name": "a\\u0000b"}',
        b'{"workflow_name": "\\ud800"}',
        b'{"no_such_filter": 1}',
        b'{"workflow_id_prefix": [' + b'"a",' * 20_000 + b'"a"]}',
    ],
)
def test_bodies_that_make_no_sense_are_400_and_say_why(app: AdminApp, body: bytes) -> None:
    app.launch()
    with admin_client() as client:
        answer = client.post("/workflows", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, answer.text
        assert len(answer.json()["error"]) > 10
        assert client.get("/dbos-healthz").status_code == 200


def test_other_endpoints_check_their_bodies_too(app: AdminApp) -> None:
    app.launch()
    with admin_client() as client:
        for path, body in (
            ("/dbos-workflow-recovery", {}),
            ("/dbos-workflow-recovery", [1]),
            ("/dbos-workflow-recovery", None),
            ("/dbos-garbage-collect", {"rows_threshold": -1}),
            ("/dbos-garbage-collect", {"rows_threshold": "all"}),
            ("/dbos-garbage-collect", {"cutoff": 1}),
            ("/dbos-global-timeout", {}),
            ("/dbos-global-timeout", {"cutoff_epoch_timestamp_ms": True}),
            ("/dbos-global-timeout", {"cutoff_epoch_timestamp_ms": 10**30}),
            ("/workflows/x/fork", {"start_step": "first"}),
            ("/workflows/x/fork", {"new_workflow_id": ""}),
            ("/workflows/x/fork", {"application_version": 2}),
            ("/workflows/x/cancel", {"force": True}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 400, (path, body, answer.text)


def test_what_is_not_offered_is_405_and_404(app: AdminApp) -> None:
    app.launch()
    with admin_client() as client:
        for method, path in (
            ("DELETE", "/workflows/x"),
            ("PUT", "/workflows"),
            ("GET", "/workflows/x/cancel/y/cancel"),
        ):
            assert client.request(method, path).status_code in (404, 405)
        assert client.options("/workflows").status_code == 405


# -- tokens


async def test_other_machines_deactivate_by_post_alone(app: AdminApp) -> None:
    """A GET is what a link or an image makes; a HEAD is one without the answer's body."""
    app.launch()
    application: Any = DBOS._application
    server = admin_app(application.executor, application._admin.settings)
    elsewhere = httpx.ASGITransport(server, client=("192.0.2.1", 5000))
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://localhost") as client:
        for method in ("GET", "HEAD"):
            assert (await client.request(method, "/deactivate")).status_code == 405, method
        assert (await client.post("/deactivate")).status_code == 200


def test_a_token_is_asked_for(app: AdminApp) -> None:
    app.launch(admin_token=TOKEN)
    with admin_client() as client:
        assert client.get("/dbos-healthz").status_code == 200, "a load balancer has no token"
        for shown in (
            None,
            TOKEN,
            f"Basic {TOKEN}",
            "Bearer",
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            "Bearer ä",
        ):
            headers = {} if shown is None else {"Authorization": shown.encode()}
            for path in ("/workflows/x", "/openapi.json", "/deactivate", "/nothing"):
                answer = client.get(path, headers=headers)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="dbos"'), shown
        assert client.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_environment_sets_token_and_port(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("DBOS__ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("DBOS__ADMIN_PORT", str(port))
    app.launch(admin_port=1, admin_token="another-token-of-the-tests")
    assert admin_port() == port
    with admin_client(headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        assert client.get("/workflows/x").status_code == 404
    monkeypatch.setenv("DBOS__ADMIN_PORT", "http")
    DBOS.destroy()
    with pytest.raises(DBOSInitializationError, match="DBOS__ADMIN_PORT"):
        app.launch()


def test_another_address_needs_a_token(app: AdminApp) -> None:
    with pytest.raises(DBOSInitializationError, match="admin_token"):
        app.launch(admin_host="0.0.0.0")
    app.launch(admin_host="0.0.0.0", admin_token=TOKEN)
    with admin_client(headers={"Host": "dbos.example", "Authorization": f"Bearer {TOKEN}"}) as client:
        assert client.post("/workflows").json() == []
        assert client.post("/workflows", headers={"Authorization": ""}).status_code == 401


def test_a_token_is_never_logged(app: AdminApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app.launch(admin_token=TOKEN, log_level="DEBUG")
    with admin_client() as client:
        client.get("/workflows/x", headers={"Authorization": f"Bearer {TOKEN}"})
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(DBOS._application.settings.admin)  # type: ignore[union-attr]


def test_ipv6(app: AdminApp) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("NOT TESTED: this machine has no IPv6")
    app.launch(admin_host="::1")
    with admin_client("::1") as client:
        assert client.get("/dbos-healthz").text == "healthy"


# -- how much is read, and for how long


def test_large_bodies_are_refused_before_they_are_read(app: AdminApp) -> None:
    app.launch()
    request = b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    announced = talk(admin_port(), request + b"Content-Length: 1073741824\r\n\r\n")
    assert announced.startswith(b"HTTP/1.1 413 ")

    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 65536

    with admin_client() as client:
        answer = client.post("/workflows", content=chunks(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert client.get("/dbos-healthz").status_code == 200


def test_a_body_that_does_not_come_is_given_up(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "BODY_TIMEOUT_S", 0.05)
    app.launch()
    head = b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nConnection: close\r\n\r\n{"
    assert talk(admin_port(), head).startswith(b"HTTP/1.1 408 ")


def test_a_request_that_does_not_come_is_given_up(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_TIMEOUT_S", 0.05)
    app.launch()
    assert talk(admin_port(), b"GET /dbos-healthz HTTP/1.1\r\nHost: loc") == b""


def test_a_further_request_that_does_not_come_is_given_up(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever asks once, without any token, could keep all connections for ever."""
    monkeypatch.setattr(serving, "STALL_S", 0.1)
    monkeypatch.setattr(serving, "REQUEST_TIMEOUT_S", 2.0)
    app.launch(admin_token=TOKEN)
    with socket.create_connection(("127.0.0.1", admin_port()), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET /dbos-healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"healthy"):
            answer += connection.recv(65536)
        connection.sendall(b"GET /dbos-healthz HTTP/1.1\r\nHost: loc")
        assert connection.recv(65536) == b"", "the server hangs up"


def test_an_answer_that_nobody_takes_is_given_up(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "STALL_S", 0.1)
    monkeypatch.setattr(serving, "REQUEST_TIMEOUT_S", 2.0)
    monkeypatch.setattr("dbos.edges.admin.app.description", lambda: "x" * 50_000_000)
    is_lost = threading.Event()
    protocol = serving._Protocol
    own = protocol.connection_lost

    def lose(connection: Any, error: Exception | None) -> None:
        own(connection, error)
        is_lost.set()

    monkeypatch.setattr(protocol, "connection_lost", lose)
    app.launch()
    with socket.create_connection(("127.0.0.1", admin_port()), timeout=PATIENCE_S) as connection:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert is_lost.wait(PATIENCE_S), "the server hangs up"


@pytest.mark.parametrize("part", [b"", b'{"start_step": 5}'])
async def test_half_a_body_is_no_body(part: bytes) -> None:
    """A fork from step 5 whose body is lost on the way would be one from step 1, which pays once more."""
    reached: list[Scope] = []
    sent: list[Message] = []

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)

    messages: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": part, "more_body": True},
    ]

    async def receive() -> Message:
        return messages.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    kind = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/workflows/one/fork", "headers": kind}
    await guards.Guards(inside, guards.Entrance(None, is_local=False))(scope, receive, send)
    assert not reached
    assert sent[0]["status"] == 400


def test_an_answer_that_does_not_come_is_503(app: AdminApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the database does, nobody waits for ever."""
    monkeypatch.setattr(guards, "ANSWER_TIMEOUT_S", 0.05)
    app.launch()
    executor: Any = DBOS._application.executor  # type: ignore[union-attr]
    is_over = threading.Event()
    monkeypatch.setattr(executor, "flush", lambda: is_over.wait(PATIENCE_S))
    with admin_client() as client:
        answer = client.post("/workflows")
        is_over.set()
        assert answer.status_code == 503
        assert "0.05 s" in answer.json()["error"]


def test_no_traceback_leaves_the_process(
    app: AdminApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app.launch()
    executor: Any = DBOS._application.executor  # type: ignore[union-attr]

    def fail() -> None:
        raise RuntimeError("a secret of the server")

    monkeypatch.setattr(executor, "flush", fail)
    with admin_client() as client:
        answer = client.post("/workflows")
        assert (answer.status_code, answer.json()) == (500, {"error": "The server failed to answer; its log says why."})
    monkeypatch.undo()
    eventually(lambda: "a secret of the server" in caplog.text, "the log tells")


def test_nonsense_is_not_http(app: AdminApp, caplog: pytest.LogCaptureFixture) -> None:
    app.launch()
    assert talk(admin_port(), b"\x16\x03\x01\x02\x00\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    too_long = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 70_000
    assert talk(admin_port(), too_long).startswith(b"HTTP/1.1 400 ")
    with admin_client() as client:
        assert client.get("/dbos-healthz").status_code == 200


# -- the launch, and the end


def test_a_busy_port_is_one_warning(app: AdminApp, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        app.launch(admin_port=port)
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert len(warnings) == 1
        assert f"port {port}" in warnings[0]
        assert "run_admin_server" in warnings[0]

        @DBOS.workflow()
        def work() -> str:
            return "done"

        assert work() == "done"
        DBOS.destroy()


def test_the_port_is_free_again_at_once(app: AdminApp) -> None:
    port = free_port()
    for _ in range(3):
        app.launch(admin_port=port)
        with admin_client() as client:
            assert client.get("/dbos-healthz").status_code == 200
            DBOS.destroy()
    app.launch(admin_port=port)
    DBOS.destroy()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_destroy_does_not_wait_for_the_admin_server(app: AdminApp) -> None:
    """Neither for idle connections, nor for requests that are being read or answered."""
    app.launch()
    with admin_client() as client, socket.create_connection(("127.0.0.1", admin_port())) as half:
        client.get("/dbos-healthz")
        half.sendall(b"POST /workflows HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        admin: Any = DBOS._application._admin  # type: ignore[union-attr]
        began = time.perf_counter()
        admin.stop()
        assert time.perf_counter() - began < 0.1
        assert not admin._thread.is_alive()
        DBOS.destroy()


def test_no_thread_is_left(app: AdminApp) -> None:
    for is_asked in (False, True):
        app.launch()
        if is_asked:
            with admin_client() as client:
                client.get("/dbos-healthz")
        DBOS.destroy()
        eventually(lambda: "dbos-admin" not in [thread.name for thread in threading.enumerate()], "its thread ends")


def test_switched_off_it_does_not_exist(app: AdminApp) -> None:
    app.launch(run_admin_server=False)
    assert DBOS._application._admin is None  # type: ignore[union-attr]
    assert "dbos-admin" not in [thread.name for thread in threading.enumerate()]


PROGRAM = """
    import sys
    from dbos import DBOS
    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "run_admin_server": sys.argv[2] == "on"})
    DBOS.launch()
    heavy = {"starlette", "uvicorn", "anyio", "h11", "click", "rich", "yaml", "jinja2", "dbos.edges.serving"}
    print(sorted(heavy & set(sys.modules)), "dbos.edges.admin.listener" in sys.modules)
    DBOS.destroy()
"""


def test_the_http_stack_is_imported_only_when_it_is_asked(sqlite_url: str, spawn: Spawner) -> None:
    assert spawn(PROGRAM, sqlite_url, "on").succeed() == "[] True\n"
    assert spawn(PROGRAM, sqlite_url, "off").succeed() == "[] False\n"


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork on Windows")
def test_a_forked_process_lets_go_of_the_port(sqlite_url: str, spawn: Spawner) -> None:
    """Else the port would stay taken, and its connections unanswered, when the parent has ended."""
    program = """
        import os, sys
        from dbos import DBOS
        DBOS(config={"name": "app", "system_database_url": sys.argv[1]})
        DBOS.launch()
        port = DBOS._application._admin.port
        if os.fork() == 0:
            sys.stdin.readline()
            os._exit(0)
        print(port, flush=True)
        DBOS.destroy()
        print("destroyed", flush=True)
        sys.stdin.readline()
    """
    parent = spawn(program, sqlite_url)
    port = int(parent.wait_for_line(r"^\d+$").group())
    parent.wait_for_line("destroyed")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_the_application_logs_of_uvicorn_are_left_alone(app: AdminApp, caplog: pytest.LogCaptureFixture) -> None:
    """An application may be served by a uvicorn of its own."""
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    caplog.set_level(logging.DEBUG)
    app.launch()
    with admin_client() as client:
        client.get("/dbos-healthz")
    assert [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers] == before
    DBOS.destroy()
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


def test_settings_are_refused_by_name(tmp_path: Path) -> None:
    for fields, name in (({"admin_host": "example.org"}, "admin_host"), ({"admin_token": "short"}, "admin_token")):
        with pytest.raises(DBOSInitializationError, match=name):
            DBOS(config={"name": "app", **fields})  # type: ignore[typeddict-item]
        DBOS.destroy()


def test_health_by_the_standard_library(app: AdminApp) -> None:
    """The first connection makes the server import what it needs, and is answered all the same."""
    app.launch()
    request = b"GET /dbos-healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"
    assert talk(admin_port(), request).endswith(b"\r\n\r\nhealthy")
    assert httpx.get(f"http://localhost:{admin_port()}/dbos-healthz").text == "healthy"
