"""The alert handler is told of what somebody should look at, and nothing that it does harms anybody."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID, SetWorkflowTimeout
from dbos.api.alerts import ALERTS
from dbos.api.instance import get_executor
from dbos.error import DBOSException
from dbos.runtime.alerts import STOP_S
from dbos.storage.diagnosis import read_executors
from tests.support.apps import App, Roadblock, eventually
from tests.support.processes import Spawner

NEVER_S = 3600.0

DYING = """
    import sys

    from dbos import DBOS

    @DBOS.workflow()
    def wait() -> None:
        DBOS.recv(timeout_seconds=600)

    DBOS(config={
        "name": "dying", "system_database_url": sys.argv[1], "run_admin_server": False, "executor_id": "dying",
        "application_version": "dying",
    })
    DBOS.launch()
    DBOS.start_workflow(wait)
    print("launched", flush=True)
    sys.stdin.read()
"""


class Inbox:
    """What the handler was told."""

    def __init__(self) -> None:
        self.alerts: list[tuple[str, str, dict[str, str]]] = []

    def handle(self, name: str, message: str, metadata: dict[str, str]) -> None:
        self.alerts.append((name, message, metadata))

    def of(self, name: str, **metadata: str) -> list[tuple[str, dict[str, str]]]:
        return [
            (message, its)
            for its_name, message, its in self.alerts
            if its_name == name and metadata.items() <= its.items()
        ]

    def first(self, name: str, **metadata: str) -> tuple[str, dict[str, str]]:
        """Waits for an alert: its message and its metadata."""
        return eventually(lambda: self.of(name, **metadata), f"there is an alert {name}")[0]


@pytest.fixture
def no_handler() -> Iterator[None]:
    DBOS.destroy()
    ALERTS.clear()
    yield
    DBOS.destroy()
    ALERTS.clear()


@pytest.fixture
def inbox(no_handler: None) -> Inbox:
    inbox = Inbox()
    DBOS.alert_handler(inbox.handle)
    return inbox


@pytest.fixture
def app(database_url: str, no_handler: None) -> App:
    return App(database_url)


# -- the workflows

queue = Queue("alerts.narrow", concurrency=1)


@DBOS.workflow(name="alerts.fail")
def fail(reason: str) -> None:
    raise ValueError(reason)


@DBOS.workflow(name="alerts.fail_too")
async def fail_too() -> None:
    raise ConnectionError


@DBOS.workflow(name="alerts.wait")
def wait() -> Any:
    return DBOS.recv(timeout_seconds=600)


def fail_as(workflow_id: str, reason: str = "wrong") -> None:
    with SetWorkflowID(workflow_id), pytest.raises(ValueError, match=reason):
        fail(reason)


# -- what happens


def test_failures_are_told_once_at_a_time_and_counted(app: App, inbox: Inbox) -> None:
    app.launch(alert_repeat_interval_sec=NEVER_S)
    fail_as("f1", "no money")
    message, metadata = inbox.first("WorkflowFailed", workflow_name="alerts.fail")
    assert message == "Workflow 'f1' (alerts.fail) failed: ValueError: no money"
    assert metadata == {
        "workflow_id": "f1",
        "workflow_name": "alerts.fail",
        "error": "ValueError: no money",
        "count": "1",
        "executor_id": "local",
        "application_version": "test",
    }
    fail_as("f2")
    fail_as("f3")
    with pytest.raises(ConnectionError):
        asyncio.run(_failing_too())
    inbox.first("WorkflowFailed", workflow_name="alerts.fail_too")
    assert len(inbox.of("WorkflowFailed", workflow_name="alerts.fail")) == 1, "until the interval has passed"


async def _failing_too() -> None:
    await fail_too()


def test_what_was_held_back_is_told_when_the_interval_has_passed(app: App, inbox: Inbox) -> None:
    app.launch(alert_repeat_interval_sec=0.3)
    for number in range(5):
        fail_as(f"f{number}")
    eventually(
        lambda: sum(int(metadata["count"]) for _, metadata in inbox.of("WorkflowFailed")) == 5, "all are told of"
    )
    message, metadata = inbox.of("WorkflowFailed")[-1]
    assert metadata["workflow_id"] == "f4"
    assert metadata["count"] == "1" or message.endswith(
        f"({metadata['count']} times since the last alert; this is the latest.)"
    )


def test_timeouts_are_told(app: App, inbox: Inbox) -> None:
    app.launch()
    with SetWorkflowID("late"), SetWorkflowTimeout(0.01):
        DBOS.start_workflow(wait)
    message, metadata = inbox.first("WorkflowTimedOut")
    assert message == "Workflow 'late' (alerts.wait) was cancelled, as its time was up."
    assert (metadata["workflow_id"], metadata["workflow_name"]) == ("late", "alerts.wait")


def test_what_is_not_recovered_any_more_is_told(app: App, inbox: Inbox) -> None:
    roadblock = Roadblock()

    @DBOS.workflow(name="alerts.killer", max_recovery_attempts=2)
    def killer() -> None:
        DBOS.run_step({"name": "alerts.held"}, roadblock.stop)

    app.launch()
    with SetWorkflowID("killer"):
        DBOS.start_workflow(killer)
    roadblock.wait_until_reached()
    DBOS.destroy()
    engine = create_engine(app.url.replace("postgresql://", "postgresql+psycopg://"))
    schema = "dbos." if engine.dialect.name == "postgresql" else ""
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema}workflow_status SET recovery_attempts = 3"))
    engine.dispose()
    roadblock.open()
    app.launch()
    message, metadata = inbox.first("WorkflowGivenUp")
    assert message.startswith("Workflow 'killer' (alerts.killer) is not recovered any more: its processes died 2 times")
    assert metadata["workflow_id"] == "killer"


def test_executors_that_die_are_told_by_who_finds_them_dead(app: App, inbox: Inbox, spawn: Spawner) -> None:
    app.launch(lease_timeout_sec=0.8)
    child = spawn(DYING, app.url)
    child.wait_for_line("launched")
    child.kill()
    message, metadata = inbox.first("ExecutorLost")
    assert message.startswith("Executor 'dying' (process ")
    assert message.endswith("is dead, as its process has ended; it left 1 workflows to be recovered.")
    assert (metadata["lost_executor_id"], metadata["workflows"]) == ("dying", "1")
    assert metadata["executor_id"] == "local"


def test_what_ends_well_or_is_cancelled_by_somebody_is_no_alert(app: App, inbox: Inbox) -> None:
    app.launch(alert_repeat_interval_sec=0)
    with SetWorkflowID("cancelled"):
        handle = DBOS.start_workflow(wait)
    DBOS.cancel_workflow("cancelled")
    with pytest.raises(DBOSException):
        handle.get_result()
    with SetWorkflowID("well"):
        handle = DBOS.start_workflow(wait)
    DBOS.send("well", 1)
    assert handle.get_result() == 1
    fail_as("f")
    DBOS.destroy()
    assert [(name, metadata["workflow_id"]) for name, _, metadata in inbox.alerts] == [("WorkflowFailed", "f")]


# -- what lasts


def test_work_that_nobody_takes_is_told_while_it_lasts(app: App, inbox: Inbox) -> None:
    app.launch(alert_queue_wait_sec=0.2, alert_repeat_interval_sec=0.5)
    database = get_executor("the test").database
    eventually(lambda: all(one.serving for one in read_executors(database)), "the executor has told what it serves")
    with SetWorkflowID("running"):
        queue.enqueue(wait)
    with SetWorkflowID("waiting"):
        queue.enqueue(wait)
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"workflow_name": "alerts.wait", "queue_name": "alerts.unheard_of", "workflow_id": "unheard"})
        client.enqueue({"workflow_name": "alerts.unknown", "queue_name": "alerts.narrow", "workflow_id": "unknown"})
        client.enqueue(
            {
                "workflow_name": "alerts.wait",
                "queue_name": "alerts.narrow",
                "workflow_id": "older",
                "app_version": "0.9",
            }
        )
    message, metadata = inbox.first("SlowQueue", workflow_id="waiting")
    assert message.startswith("Workflow 'waiting' (alerts.wait) has been waiting for ")
    assert metadata["queue_name"] == "alerts.narrow"
    assert "count" not in metadata
    assert inbox.first("QueueWithoutListener")[1]["queue_name"] == "alerts.unheard_of"
    assert inbox.first("FunctionWithoutExecutor")[1]["workflow_name"] == "alerts.unknown"
    message, metadata = inbox.first("VersionWithoutExecutor")
    assert metadata["waiting_version"] == "0.9"
    assert message.endswith("Start one of that version, or fork the workflow for another.")
    eventually(lambda: len(inbox.of("SlowQueue", workflow_id="waiting")) >= 2, "it is told again, as it lasts")
    assert not inbox.of("SlowQueue", workflow_id="unheard")


# -- handlers


def test_handlers_may_be_coroutine_functions(app: App) -> None:
    told = threading.Event()

    @DBOS.alert_handler
    async def handle(name: str, message: str, metadata: dict[str, str]) -> None:
        await asyncio.sleep(0)
        if name == "WorkflowFailed":
            told.set()

    app.launch()
    fail_as("f")
    assert told.wait(30)


@pytest.mark.parametrize("error", [RuntimeError("the pager is broken"), SystemExit(3)], ids=["raises", "exits"])
def test_a_handler_that_fails_harms_nobody(
    sqlite_url: str, no_handler: None, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    @DBOS.alert_handler
    def handle(name: str, message: str, metadata: dict[str, str]) -> None:
        told.append(metadata["workflow_id"])
        raise error

    App(sqlite_url).launch(alert_repeat_interval_sec=0)
    with caplog.at_level(logging.ERROR, "dbos"):
        fail_as("f1")
        eventually(lambda: told == ["f1"], "the first is told")
        fail_as("f2")
        eventually(lambda: told == ["f1", "f2"], "the second too")
        DBOS.destroy()
    assert "The alert handler failed; it was told of WorkflowFailed: Workflow 'f2'" in caplog.text


def test_a_shutdown_waits_for_alerts_that_just_came_but_not_for_ever(
    app: App, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.launch()
    fail_as("f")
    DBOS.destroy()
    assert [name for name, _, _ in inbox.alerts] == ["WorkflowFailed"]
    ALERTS.clear()
    roadblock = Roadblock()
    DBOS.alert_handler(lambda name, message, metadata: roadblock.stop())
    assert STOP_S <= 5
    monkeypatch.setattr("dbos.runtime.alerts.STOP_S", 0.1)
    app.launch()
    fail_as("f2")
    roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()


def test_a_handler_is_registered_once_and_before_the_launch(sqlite_url: str, no_handler: None) -> None:
    def define() -> Callable[[str, str, dict[str, str]], None]:
        @DBOS.alert_handler
        def handle(name: str, message: str, metadata: dict[str, str]) -> None: ...

        return handle

    define()
    last = define()
    assert ALERTS.handler is last, "a module that is loaded again defines the same one"
    with pytest.raises(
        DBOSException, match=r"other cannot be an alert handler, as .*define.<locals>.handle is it already"
    ):

        @DBOS.alert_handler
        def other(name: str, message: str, metadata: dict[str, str]) -> None: ...

    App(sqlite_url).launch()
    with pytest.raises(DBOSException, match=r"define.<locals>.handle was registered .* after DBOS.launch\(\)"):
        define()


@pytest.mark.parametrize("handler", [lambda name, message: None, "a string", DBOS.alert_handler])
def test_what_cannot_take_an_alert_is_no_handler(no_handler: None, handler: Any) -> None:
    with pytest.raises(TypeError, match="alert"):
        DBOS.alert_handler(handler)
    assert ALERTS.handler is None
