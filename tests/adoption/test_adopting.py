"""What can go wrong while a database is adopted, and databases that other versions of the older library made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOSClient
from dbos.error import DBOSInitializationError
from tests.adoption.shop import RunningShop, Shop, open_shop
from tests.support.older import NEWEST_OLDER, older_python
from tests.support.postgres import PostgresAdmin
from tests.support.processes import Spawner
from tests.verify.rows import query

_ADOPT = """
import os, sys
from dbos.storage.opening import open_database

def gate(operation, moment):
    if (operation, moment) == ("migrate", sys.argv[2]):
        os.kill(os.getpid(), 9)

print("ready", flush=True)
sys.stdin.readline()
open_database(url=sys.argv[1], gate=gate).close()
"""


def rows(shop: Shop) -> list[tuple[Any, ...]]:
    statement = (
        "SELECT workflow_uuid, status, inputs, output, error FROM {schema}workflow_status ORDER BY workflow_uuid"
    )
    return shop.rows(statement)


def tables(shop: Shop) -> set[str]:
    if shop.admin is None:
        return {row[0] for row in shop.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return {row[0] for row in shop.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'dbos'")}


def adopt(shop: Shop, spawn: Spawner, moment: str = "") -> int:
    child = spawn(_ADOPT, shop.url, moment)
    child.wait_for_line("ready")
    child.write_line()
    return child.wait()


def test_a_kill_before_the_commit_leaves_the_database_as_it_was(shop_copy: Shop, spawn: Spawner) -> None:
    before, tables_before = rows(shop_copy), tables(shop_copy)
    assert adopt(shop_copy, spawn, "before_commit") == -9
    assert (rows(shop_copy), tables(shop_copy)) == (before, tables_before)
    assert "dbos_schema_versions" not in tables_before
    assert adopt(shop_copy, spawn) == 0
    assert {row[0] for row in rows(shop_copy)} == {row[0] for row in before}


def test_a_kill_after_the_commit_leaves_it_adopted(shop_copy: Shop, spawn: Spawner) -> None:
    assert adopt(shop_copy, spawn, "after_commit") == -9
    running = RunningShop(shop_copy, spawn)
    assert "Adopting" not in running.child.stderr
    assert running.result("between") == [10, "ours", 20]


def test_processes_that_adopt_at_once_all_succeed(shop_copy: Shop, spawn: Spawner) -> None:
    before = rows(shop_copy)
    children = [spawn(_ADOPT, shop_copy.url, "") for _ in range(4)]
    for child in children:
        child.wait_for_line("ready")
    for child in children:
        child.write_line()
    assert [child.wait() for child in children] == [0] * 4
    assert rows(shop_copy) == before


def test_a_client_does_not_adopt_and_says_who_does(shop_copy: Shop) -> None:
    before = tables(shop_copy)
    with pytest.raises(DBOSInitializationError, match="Launch the application once"):
        DBOSClient(system_database_url=shop_copy.url)
    assert tables(shop_copy) == before


def test_a_database_of_a_later_generation_is_refused_and_left_alone(shop_copy: Shop, spawn: Spawner) -> None:
    query(shop_copy.url, "INSERT INTO {schema}dbos_migrations (version) VALUES (1000)")
    before = rows(shop_copy)
    child = spawn(_ADOPT, shop_copy.url, "")
    child.write_line()
    assert child.wait() == 1
    assert "of a version after 2" in child.stderr
    assert rows(shop_copy) == before
    assert "dbos_schema_versions" not in tables(shop_copy)


_LATER = """
import sys
from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID

url, library = sys.argv[1:3]
queue = Queue("jobs")


@DBOS.step()
def step(n):
    return n


@DBOS.workflow()
def workflow(n):
    step(n)
    DBOS.set_event("key", n)
    first = DBOS.recv("topic")
    DBOS.sleep(0.01)
    print("received", first, flush=True)
    return [first, DBOS.recv("topic", 30), n]


DBOS(config={"name": "later", "system_database_url": url, "run_admin_server": False})
DBOS.launch()
if library == "older":
    with SetWorkflowID("under way"):
        DBOS.start_workflow(workflow, 1)
    DBOS.send("under way", "one", "topic")
    with SetWorkflowID("delayed"), SetEnqueueOptions(delay_seconds=3):
        queue.enqueue(workflow, 2)
    print("begun", flush=True)
    sys.stdin.read()
for message in ("two", "three"):
    DBOS.send("under way" if message == "two" else "delayed", message, "topic")
DBOS.send("delayed", "four", "topic")
print(DBOS.retrieve_workflow("under way").get_result(), DBOS.get_event("under way", "key", 1), flush=True)
print(DBOS.retrieve_workflow("delayed").get_result(), flush=True)
DBOS.destroy()
"""


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_database_of_the_last_version_2_is_adopted(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, spawn: Spawner
) -> None:
    """Its delayed workflows wait on; messages that it keeps after they were received are not received again."""
    python = older_python(NEWEST_OLDER)
    admin: PostgresAdmin | None = request.getfixturevalue("postgres_admin") if kind == "postgres" else None
    with open_shop(tmp_path, admin) as shop:
        older = spawn(_LATER, shop.url, "older", python=python)
        older.wait_for_line("received one")
        older.wait_for_line("begun")
        older.kill()
        assert os.fspath(python)
        printed = spawn(_LATER, shop.url, "ours").succeed(60)
        assert "['one', 'two', 1] 1" in printed
        assert "['three', 'four', 2]" in printed
