"""What observers see never goes back, and no deadline comes early."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dbos import DBOS, DBOSClient, SetWorkflowID, SetWorkflowTimeout
from tests.support.apps import App, eventually, status_of
from tests.verify.rows import read_rows

VALUES = 150


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    application = App(database_url)
    application.launch(notification_listener_polling_interval_sec=0.01)
    yield application
    DBOS.destroy()


def test_events_never_go_back_for_anybody_who_reads_them(app: App) -> None:
    """From here and through a client, which looks at the database alone, while the workflow sets one by one."""
    together = threading.Barrier(4)

    @DBOS.workflow(name="observers.counting")
    def counting() -> None:
        for number in range(VALUES):
            DBOS.set_event("number", number)

    def watch(reader: type[DBOS] | DBOSClient) -> list[int]:
        together.wait(30)
        seen = [-1]
        while seen[-1] < VALUES - 1:
            seen.append(reader.get_event("w", "number", 30))
        return seen

    with DBOSClient(system_database_url=app.url) as client, ThreadPoolExecutor(3) as threads:
        watching = [threads.submit(watch, reader) for reader in (DBOS, DBOS, client)]
        together.wait(30)
        with SetWorkflowID("w"):
            DBOS.start_workflow(counting)
        for seen in (each.result(60) for each in watching):
            assert seen == sorted(seen)
            assert seen[1] >= 0, "the first value that comes is one that was set"


def test_no_workflow_is_cancelled_before_its_deadline(app: App) -> None:
    """By the clock of the database, which set the deadline."""

    @DBOS.workflow(name="observers.slow")
    def slow() -> None:
        DBOS.sleep(600)

    ids = [f"w{number}" for number in range(20)]
    for number, workflow_id in enumerate(ids):
        with SetWorkflowID(workflow_id), SetWorkflowTimeout(0.05 + number * 0.013):
            DBOS.start_workflow(slow)
    eventually(lambda: all(status_of(workflow_id) == "CANCELLED" for workflow_id in ids), "all are cancelled")
    for row in read_rows(app.url).workflows.values():
        assert row["completed_at"] >= row["workflow_deadline_epoch_ms"]
        assert row["workflow_timeout_ms"] >= 50
