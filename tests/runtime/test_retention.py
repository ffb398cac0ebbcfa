"""Deleting what has ended: what is kept, and that nobody waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID
from dbos.runtime import retention
from dbos.storage.claims import read_owners
from dbos.storage.database import Database
from dbos.storage.management import resume
from dbos.storage.retention import Place, delete_ended
from tests.support.apps import App, eventually, status_of
from tests.verify.rows import query


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    application = App(database_url)
    application.launch()
    yield application
    DBOS.destroy()


@DBOS.step()
def step() -> None:
    pass


@DBOS.workflow(name="retention.work")
def work() -> None:
    step()


@DBOS.workflow(name="retention.sleeper")
def sleeper() -> None:
    DBOS.sleep(600)


def executor() -> Any:
    return DBOS._application.executor  # type: ignore[union-attr]


def test_a_workflow_resumed_meanwhile_is_kept(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was found ended, and is enqueued when its turn comes."""

    @DBOS.workflow()
    def wait() -> None:
        DBOS.recv(timeout_seconds=600)

    for name in ("one", "two"):
        with SetWorkflowID(name):
            DBOS.start_workflow(wait)
        DBOS.cancel_workflow(name)
    database: Database = executor().database
    executor().deactivate()
    # What somebody holds locked is passed over.
    eventually(lambda: set(read_owners(database, ["one", "two"]).values()) == {None}, "their runs let go")
    find = Database.run

    def run(self: Database, operation: str, *arguments: Any, **options: Any) -> Any:
        found = find(self, operation, *arguments, **options)
        if operation == "find_ended":
            assert resume(database, "one")
        return found

    monkeypatch.setattr(Database, "run", run)
    assert delete_ended(database, Place(2**53), Place(), 10)[0] == ["two"]
    monkeypatch.undo()
    assert (status_of("one"), status_of("two")) == ("ENQUEUED", None)


def test_all_are_looked_at_bite_by_bite(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BITE", 3)
    for number in range(10):
        with SetWorkflowID(f"w-{number}"):
            work()
    with SetWorkflowID("live"):
        DBOS.start_workflow(sleeper)
    assert retention.collect_garbage(executor(), before_ms=2**53) == 10
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["live"]


def test_nothing_of_a_deleted_workflow_is_left(app: App) -> None:
    @DBOS.workflow()
    def busy() -> None:
        step()
        DBOS.set_event("key", 1)
        DBOS.write_stream("key", 1)

    with SetWorkflowID("one"):
        busy()
    DBOS.send("one", "never received")
    assert retention.collect_garbage(executor(), rows_kept=0) == 1
    database: Database = executor().database
    tables = ("operation_outputs", "workflow_events", "workflow_events_history", "streams", "notifications")
    left = {
        table: database.run("count", lambda t, table=table: t.rows(f"SELECT count(*) FROM {{schema}}{table}"), "read")
        for table in tables
    }
    assert {int(rows[0][0]) for rows in left.values()} == {0}, left


def test_bounds(app: App) -> None:
    for number in range(5):
        with SetWorkflowID(f"w-{number}"):
            work()
    assert retention.collect_garbage(executor()) == 0
    assert retention.collect_garbage(executor(), rows_kept=5) == 0
    assert retention.collect_garbage(executor(), before_ms=0) == 0
    assert retention.collect_garbage(executor(), rows_kept=3, before_ms=1) == 2, "beyond either bound"
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["w-2", "w-3", "w-4"]


def test_the_newest_are_kept_also_of_those_created_in_one_millisecond(app: App) -> None:
    for number in range(5):
        with SetWorkflowID(f"w-{number}"):
            work()
    query(app.url, "UPDATE {schema}workflow_status SET created_at = 1700000000000")
    assert retention.collect_garbage(executor(), rows_kept=3) == 2
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["w-2", "w-3", "w-4"]


def test_the_policy_of_the_configuration_is_kept(app: App) -> None:
    """By an executor in the background, with its own ages for some functions."""

    @DBOS.workflow(name="retention.short")
    def short() -> None:
        pass

    @DBOS.workflow(name="retention.long")
    def long() -> None:
        pass

    for function in (short, long, work):
        with SetWorkflowID(function.__name__):
            function()
    with SetWorkflowID("live"):
        DBOS.start_workflow(sleeper)
    names = {"retention.short": 0.0, "retention.long": 3600.0}
    app.relaunch(retention={"max_age_sec": 0, "max_age_sec_by_name": names})
    executor().retention.run_soon()
    eventually(lambda: len(DBOS.list_workflows()) == 2, "what is not kept goes")
    assert {workflow.workflow_id for workflow in DBOS.list_workflows()} == {"long", "live"}
    app.relaunch(retention={"max_workflows": 1})
    executor().retention.run_soon()
    eventually(lambda: len(DBOS.list_workflows()) == 1, "only the newest is kept")
    assert DBOS.list_workflows()[0].workflow_id == "live"


def test_a_policy_looks_at_what_is_new_and_now_and_then_at_all(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    # The executor makes passes of its own, too: only what is there after one can be told, not which one deleted it.
    monkeypatch.setattr(retention, "_PASSES_PER_ROUND", 2**31)
    app.relaunch(retention={"max_age_sec": 0})

    def is_gone(workflow_id: str) -> bool:
        executor().retention.make_pass()
        return not DBOS.list_workflows(workflow_ids=[workflow_id])

    with SetWorkflowID("early"):
        late = DBOS.start_workflow(DBOS.workflow(name="retention.receiver")(lambda: DBOS.recv(timeout_seconds=600)))
    with SetWorkflowID("done"):
        work()
    # What began in this very millisecond is not old yet.
    eventually(lambda: is_gone("done"), "what has ended goes")
    DBOS.send("early", "end")
    late.get_result()
    with SetWorkflowID("new"):
        work()
    eventually(lambda: is_gone("new"), "the new one goes")
    assert not is_gone("early"), "passes go on behind it"
    monkeypatch.setattr(retention, "_PASSES_PER_ROUND", 1)
    eventually(lambda: is_gone("early"), "all are looked at again")


def test_without_a_policy_nothing_is_deleted(app: App) -> None:
    work()
    executor().retention.run_soon()
    assert not executor().retention._errand.is_running
    assert len(DBOS.list_workflows()) == 1


def test_cancelling_all_before_tells_their_runs(app: App) -> None:
    @DBOS.workflow()
    def wait() -> None:
        DBOS.recv(timeout_seconds=600)

    handles = [DBOS.start_workflow(wait) for _ in range(5)]
    assert retention.cancel_all_before(executor(), 2**53) == 5
    assert {handle.get_status().status for handle in handles} == {"CANCELLED"}
    eventually(lambda: executor().run_count == 0, "their runs stop")
