"""Clients of the older library talk with an application that runs with this one."""

from __future__ import annotations

import json

from dbos import DBOS, Queue
from tests.support.apps import App
from tests.support.older import older_python
from tests.support.processes import ROOT, Spawner

QUEUE = Queue("jobs")


@DBOS.workflow(name="talk")
def talk(n: int) -> list[str]:
    DBOS.set_event("said", n)
    DBOS.write_stream("words", n)
    DBOS.close_stream("words")
    return [DBOS.recv("topic", 30), DBOS.recv("topic", 30), str(DBOS.recv("topic", 0))]


@DBOS.workflow(name="fail")
def fail() -> None:
    raise ValueError("no")


@DBOS.workflow(name="double")
def double(n: int) -> int:
    return 2 * n


def test_a_client_of_the_older_library_is_served(database_url: str, spawn: Spawner) -> None:
    """It enqueues, sends, reads, waits, manages and debounces, also on a database that this library made."""
    python = older_python()
    app = App(database_url)
    app.launch()
    try:
        printed = spawn(ROOT / "tests/adoption/programs/client.py", database_url, python=python).succeed(60)
    finally:
        DBOS.destroy()
    assert dict(map(json.loads, printed.splitlines())) == {
        "result": ["hello", "once", "None"],
        "event": 5,
        "stream": [5],
        "status": "SUCCESS",
        "error": "ValueError",
        "steps": ["DBOS.setEvent", "DBOS.writeStream", "DBOS.closeStream", "DBOS.recv", "DBOS.recv", "DBOS.recv"],
        "listed": ["talk"],
        "second": "DBOSQueueDeduplicatedError",
        "queued": ["held"],
        "cancelled": "CANCELLED",
        "resumed": ["a", "b", "None"],
        "forked": "ValueError",
        "debounced": 4,
    }
