"""``dbos console``, as a process of its own."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import httpx
import pytest

from dbos.storage.opening import open_database
from tests.support.apps import eventually
from tests.support.commands import dbos
from tests.support.console import Page
from tests.support.processes import Child, Spawner

PROGRAM = """
    import sys
    from dbos.edges.cli.main import main
    main(sys.argv[1:])
"""
TOKEN = "a-token-of-the-tests-0123456789"


@pytest.fixture
def url(sqlite_url: str) -> str:
    """A database with tables."""
    open_database(url=sqlite_url).close()
    return sqlite_url


def address_of(child: Child) -> str:
    """Where it listens; it says so when it does."""
    return child.wait_for_line(r"^http://\S+/$").group().strip()


def test_it_serves_a_database_until_it_is_told_to_end(database_url: str, spawn: Spawner) -> None:
    open_database(url=database_url).close()
    child = spawn(PROGRAM, "console", "-s", database_url, "--port", "0")
    address = address_of(child)
    assert address.startswith("http://127.0.0.1:")
    with httpx.Client(base_url=address, timeout=30) as client:
        assert "read-only" in Page(client.get("/").text).text
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1"):
            assert client.get("/", headers={"Host": host}).status_code == 421, host
        raw = socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=15)
        with raw:
            raw.sendall(
                b"POST /workflows/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n"
                b"Content-Type: application/x-www-form-urlencoded\r\n\r\n"
            )
            assert raw.recv(4096).startswith(b"HTTP/1.1 413 ")
        raw = socket.create_connection(("127.0.0.1", client.base_url.port or 0), timeout=15)
        with raw:
            raw.sendall(b"GET /static/../app.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 404 ")
        child.send_signal(signal.SIGINT)
        assert child.wait() == 0, "also while a connection is open"
    assert "Traceback" not in child.stderr


def test_writes_are_allowed_by_an_option(url: str, spawn: Spawner) -> None:
    child = spawn(PROGRAM, "console", "-s", url, "-p", "0", "--allow-writes", "--token", TOKEN, "--host", "0.0.0.0")
    address = address_of(child).replace("0.0.0.0", "127.0.0.1")
    assert httpx.get(address).status_code == 401
    page = httpx.get(address, auth=("me", TOKEN), headers={"Host": "console.example"})
    assert "read and write" in Page(page.text).text
    child.send_signal(signal.SIGTERM)
    assert child.wait() == 0


def test_what_is_wrong_is_said_at_once(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBOS__CONSOLE_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        for arguments, code, told in (
            (["-s", url, "--host", "0.0.0.0"], 2, "other machines can connect"),
            (["-s", url, "--token", "short"], 2, "16 printable ASCII"),
            (["-s", url, "-p", port], 1, f"port {port}"),
            (["-s", url, "-p", "70000"], 2, "70000"),
            (["-s", f"sqlite:///{tmp_path}/none.sqlite"], 4, "There is no SQLite file"),
            (["-s", f"sqlite:///{tmp_path}/empty.sqlite"], 4, "tables"),
            (["-s", "nonsense"], 4, "cannot be parsed"),
        ):
            (tmp_path / "empty.sqlite").touch()
            ended = dbos("console", "--no-browser", *arguments)
            assert ended.code == code, (arguments, ended)
            assert told in ended.stderr
            assert TOKEN not in ended.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals on Windows")
def test_a_browser_is_opened_on_a_terminal_only(url: str, tmp_path: Path, spawn: Spawner) -> None:
    """Python opens the browser that the environment names."""
    seen = tmp_path / "seen"
    program = f"""
        import os, pty, sys, threading
        browser = {str(tmp_path / "browser")!r}
        with open(browser, "w") as script:
            script.write('#!/bin/sh\\necho "$1" > {seen}.part && mv {seen}.part {seen}\\n')
        os.chmod(browser, 0o755)
        os.environ["BROWSER"] = browser
        if "--terminal" in sys.argv:
            sys.argv.remove("--terminal")
            ours, theirs = pty.openpty()
            os.dup2(theirs, 1)
        from dbos.edges.cli.main import main
        main(sys.argv[1:])
    """
    for options, is_opened in ((["--terminal"], True), (["--terminal", "--no-browser"], False), ([], False)):
        child = spawn(program, "console", "-s", url, "-p", "0", *options)
        child.wait_for_line("Ctrl-C", stream="stderr")
        if is_opened:
            eventually(seen.exists, "a browser is opened")
            assert seen.read_text().startswith("http://127.0.0.1:")
            seen.unlink()
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 0
        assert not seen.exists()
