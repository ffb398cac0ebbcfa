"""Workflows as JSON: out of one database, into another of either kind, with nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.storage import transfer
from tests.support.apps import App, eventually
from tests.support.commands import dbos, run_dbos
from tests.verify.rows import query, read_rows


@DBOS.step()
def transfer_step(number: int) -> dict[str, Any]:
    return {"number": number, "text": "ä\ud7ff", "bytes": b"\x00\xff"}


@DBOS.workflow()
def transfer_all() -> int:
    transfer_step(1)
    DBOS.set_event("key", [1])
    DBOS.set_event("key", [2])
    DBOS.write_stream("stream", "one")
    DBOS.write_stream("stream", "two")
    return 7


@DBOS.workflow()
def transfer_fail() -> None:
    raise ValueError("boom")


@DBOS.workflow()
def transfer_wait() -> Any:
    transfer_step(1)
    return DBOS.recv(timeout_seconds=600)


@pytest.fixture
def exported(database_url: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A database, and a file to which its three workflows were exported."""
    app = App(database_url)
    app.launch()
    with SetWorkflowID("all"):
        transfer_all()
    with SetWorkflowID("failed"), pytest.raises(ValueError, match="boom"):
        transfer_fail()
    DBOS.send("failed", "never received", "topic")
    with SetWorkflowID("live"):
        DBOS.start_workflow(transfer_wait)
    eventually(lambda: len(DBOS.list_workflow_steps("live")) == 2, "its wait is recorded")
    DBOS.destroy()
    file = tmp_path / "workflows.jsonl"
    file.write_text(run_dbos("workflow", "export", "-s", database_url, cwd=tmp_path).stdout)
    yield database_url, file
    DBOS.destroy()


def test_nothing_is_lost(exported: tuple[str, Path], sqlite_url: str, tmp_path: Path) -> None:
    source, file = exported
    target = f"sqlite:///{tmp_path / 'target.sqlite'}"
    dbos("migrate", "-s", target)
    done = run_dbos("workflow", "import", str(file), "-s", target, "--live", cwd=tmp_path)
    assert done.value == {"imported": 3, "there_already": 0, "not_ended": 0}
    before, after = read_rows(source), read_rows(target)
    for row in before.workflows.values():
        # It is owned by nobody.
        row["owner_xid"] = row["lease_id"] = None
    for row in before.steps.values():
        row["owner_xid"] = None
    assert after.workflows == before.workflows
    assert after.steps == before.steps
    assert (after.events, after.history, after.streams) == (before.events, before.history, before.streams)
    assert len(after.messages) == len(before.messages) == 1
    app = App(target)
    app.launch()
    assert DBOS.get_result("all") == 7
    with pytest.raises(ValueError, match="boom"):
        DBOS.get_result("failed")
    DBOS.send("live", "on it goes")
    assert DBOS.get_result("live") == "on it goes"


OWN = {"owner_xid", "lease_id", "seq", "parked_until", "parked_on"}
"""Columns that mean something in their database only, or nothing yet."""


def test_no_column_is_forgotten(sqlite_url: str) -> None:
    """Whoever adds a column to these tables decides whether it goes along."""
    dbos("migrate", "-s", sqlite_url)
    tables = {"workflow_status": transfer._WORKFLOW, **{name: part[1] for name, part in transfer._PARTS.items()}}
    for table, columns in tables.items():
        there = {row[0] for row in query(sqlite_url, f"SELECT name FROM pragma_table_info('{table}')")}
        assert there - OWN == set(columns.split()), table


def test_what_is_there_and_what_lives_is_left_alone(exported: tuple[str, Path], tmp_path: Path) -> None:
    source, file = exported
    assert dbos("workflow", "import", str(file), "-s", source).value == {
        "imported": 0,
        "there_already": 2,
        "not_ended": 1,
    }
    assert dbos("prune", "-s", source, "--keep", "0").value == {"deleted": 2}
    again = run_dbos("workflow", "import", "-", "-s", source, cwd=tmp_path, stdin=file.read_text())
    assert again.value == {"imported": 2, "there_already": 0, "not_ended": 1}
    assert "--live" in again.stderr


def test_single_ones(exported: tuple[str, Path]) -> None:
    source, _ = exported
    lines = dbos("workflow", "export", "failed", "-s", source).stdout.splitlines()
    assert [json.loads(line).get("workflow_status", {}).get("workflow_uuid") for line in lines] == [None, "failed"]
    assert dbos("workflow", "export", "none", "-s", source).code == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no JSON"),
        ("[]", "no workflow"),
        ("7", "no workflow"),
        ('{"workflow_status": {"status": "SUCCESS"}}', "not of the workflow"),
        ('{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS", "owner_xid": "y"}}', "no column 'owner_xid'"),
        (
            '{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS", "name": {}}}',
            "name in workflow_status is no text",
        ),
        ('{"workflow_status": {"workflow_uuid": "x", "status": "DONE"}}', "no status 'DONE'"),
        (
            '{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS"}, "operation_outputs": ['
            '{"workflow_uuid": "x", "function_id": 1}, {"workflow_uuid": "x", "function_id": 1}]}',
            "do not fit into the tables",
        ),
        ('{"workflow_status": {"workflow_uuid": "a\\u0000b", "status": "SUCCESS"}}', "NUL"),
        ('{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS", "created_at": "soon"}}', "no whole number"),
        (
            '{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS", "priority": 9223372036854775808}}',
            "no whole number of 64 bits",
        ),
        (
            '{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS"}, '
            '"operation_outputs": [{"workflow_uuid": "x", "function_id": "one"}]}',
            "function_id in operation_outputs is no whole number",
        ),
        ('{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS"}, "executors": []}', "no table 'executors'"),
        ('{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS"}, "streams": {}}', "no list"),
        (
            '{"workflow_status": {"workflow_uuid": "x", "status": "SUCCESS"}, "streams": [{"workflow_uuid": "y"}]}',
            "not of the workflow 'x'",
        ),
    ],
)
def test_what_is_no_workflow_is_refused(sqlite_url: str, tmp_path: Path, line: str, message: str) -> None:
    dbos("migrate", "-s", sqlite_url)
    file = tmp_path / "file"
    file.write_text('{"dbos": "workflows", "version": 1}\n' + line + "\n")
    ended = dbos("workflow", "import", str(file), "-s", sqlite_url)
    assert (ended.code, ended.stdout) == (1, "")
    assert message in ended.stderr
    assert dbos("workflow", "list", "-s", sqlite_url).value == []


def test_what_a_file_says_is_no_command_to_the_terminal(database_url: str, tmp_path: Path) -> None:
    dbos("migrate", "-s", database_url)
    rows = [{"workflow_uuid": "\x1b]0;x\x07", "function_id": 1}] * 2
    workflow = {"workflow_status": {"workflow_uuid": "\x1b]0;x\x07", "status": "SUCCESS"}, "operation_outputs": rows}
    file = tmp_path / "file"
    file.write_text('{"dbos": "workflows", "version": 1}\n' + json.dumps(workflow) + "\n")
    ended = dbos("workflow", "import", str(file), "-s", database_url)
    assert ended.code == 1
    assert "do not fit into the tables" in ended.stderr
    assert "\x1b" not in ended.stderr


def test_other_files_are_refused(sqlite_url: str, tmp_path: Path) -> None:
    dbos("migrate", "-s", sqlite_url)
    for text in ('{"dbos": "workflows", "version": 2}\n', '{"workflow_status": {}}\n', "[]\n"):
        file = tmp_path / "file"
        file.write_text(text)
        ended = dbos("workflow", "import", str(file), "-s", sqlite_url)
        assert (ended.code, ended.stdout) == (1, ""), text
    assert dbos("workflow", "import", str(tmp_path / "none"), "-s", sqlite_url).code == 2
