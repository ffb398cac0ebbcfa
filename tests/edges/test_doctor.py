"""`dbos doctor` names the cause of everything that stands still."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID
from dbos.api.instance import get_executor
from dbos.model.durations import in_words
from tests.support.apps import App, Roadblock, eventually, status_of
from tests.support.commands import Ended, dbos, run_dbos
from tests.support.processes import Spawner
from tests.verify.rows import query


@DBOS.step()
def ill_step() -> None:
    pass


@DBOS.workflow()
def ill_receive() -> Any:
    ill_step()
    return DBOS.recv("answer", timeout_seconds=3600)


@DBOS.workflow()
def ill_sleep() -> None:
    DBOS.sleep(4 * 3600)


@DBOS.workflow()
def ill_parent() -> None:
    with SetWorkflowID("child"):
        handle = DBOS.start_workflow(ill_receive)
    handle.get_result()


@DBOS.workflow()
def ill_event() -> Any:
    return DBOS.get_event("nobody", "key", timeout_seconds=3600)


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    application = App(database_url)
    application.launch()
    yield application
    DBOS.destroy()


def start(workflow_id: str, function: Any, *args: Any) -> None:
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(function, *args)


def doctor(url: str, *arguments: str) -> tuple[Ended, dict[str, Any]]:
    ended = dbos("doctor", "-s", url, "--quiet-for", "0", *arguments)
    assert ended.code in (0, 1), ended
    return ended, json.loads(ended.stdout)


def causes(report: dict[str, Any]) -> dict[str, str]:
    return {finding["workflow_id"]: finding["cause"] for finding in report["workflows"]}


def explanation(report: dict[str, Any], workflow_id: str) -> str:
    (text,) = (one["explanation"] for one in report["workflows"] if one["workflow_id"] == workflow_id)
    return str(text)


DYING = """
    import sys
    from dbos import DBOS, SetWorkflowID
    from tests.support.apps import Roadblock

    @DBOS.step()
    def hang():
        print("hanging", flush=True)
        sys.stdin.readline()

    @DBOS.workflow()
    def ill_hang():
        hang()

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": sys.argv[2],
        "executor_id": "victim"})
    DBOS.launch()
    with SetWorkflowID(sys.argv[3]):
        DBOS.start_workflow(ill_hang)
    sys.stdin.readline()
"""


def kill_one(spawn: Spawner, url: str, version: str, workflow_id: str) -> None:
    """Leave a workflow behind whose process was killed in its step."""
    child = spawn(DYING, url, version, workflow_id)
    child.wait_for_line("hanging")
    child.kill()


def test_five_kinds_of_stuck_workflows_and_why_each_does_not_move(app: App, spawn: Spawner) -> None:
    """A new user finds out with the command line alone why a workflow hangs."""
    queue = Queue("narrow", concurrency=1)
    start("message", ill_receive)
    start("sleeps", ill_sleep)
    with SetWorkflowID("has the slot"):
        queue.enqueue(ill_sleep)
    eventually(lambda: status_of("has the slot") == "PENDING", "it has started")
    with SetWorkflowID("limited"):
        queue.enqueue(ill_sleep)
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"workflow_name": "ill_sleep", "queue_name": "unheard", "workflow_id": "not taken"})
        client.enqueue(
            {"workflow_name": "ill_sleep", "queue_name": "narrow", "workflow_id": "stranded", "app_version": "old"}
        )
    kill_one(spawn, app.url, "ancient", "orphan")
    eventually(lambda: len(DBOS.list_workflow_steps("message")) == 2, "its wait is recorded")
    eventually(lambda: len(DBOS.list_workflow_steps("sleeps")) == 1, "its sleep is recorded")
    ended, report = doctor(app.url)
    assert causes(report) == {
        "message": "waiting for a message or an event",
        "sleeps": "sleeping",
        "has the slot": "sleeping",
        "limited": "its queue is at a limit",
        "not taken": "no executor listens to its queue",
        "stranded": "no executor of its version",
        "orphan": "no executor of its version",
    }
    assert ended.code == 1
    wrong = {finding["workflow_id"] for finding in report["workflows"] if finding["is_wrong"]}
    assert wrong == {"not taken", "stranded", "orphan"}
    assert "DBOS.recv" in explanation(report, "message")
    assert "4 h" in explanation(report, "sleeps")
    assert "narrow" in explanation(report, "limited")
    assert "1 at once" in explanation(report, "limited")
    assert {queue["name"]: queue["limits"] for queue in report["queues"]} == {"narrow": "1 at once", "unheard": None}
    assert "unheard" in explanation(report, "not taken")
    assert "'old'" in explanation(report, "stranded")
    assert "test" in explanation(report, "stranded"), "the versions that are alive"
    assert "victim" in explanation(report, "orphan")


def test_one_workflow_is_explained_by_its_id(app: App) -> None:
    start("message", ill_receive)
    eventually(lambda: len(DBOS.list_workflow_steps("message")) == 2, "its wait is recorded")
    DBOS.send("message", "hello", "another topic")
    start("other", ill_sleep)
    _, report = doctor(app.url, "message")
    assert causes(report) == {"message": "waiting for a message or an event"}
    assert "1 message is there that it does not take, on: 'another topic'" in explanation(report, "message")
    DBOS.cancel_workflow("message")
    assert causes(doctor(app.url, "message")[1]) == {"message": "ended"}
    missing = dbos("doctor", "-s", app.url, "message", "none")
    assert missing.code == 3
    assert "'none'" in missing.stderr


def test_waits_of_all_kinds(app: App) -> None:
    start("parent", ill_parent)
    start("event", ill_event)
    eventually(lambda: status_of("child") == "PENDING", "the child runs")
    eventually(lambda: len(DBOS.list_workflow_steps("event")) == 1, "its wait is recorded")
    _, report = doctor(app.url, "parent", "event")
    assert causes(report) == {"parent": "waiting for a child", "event": "waiting for a message or an event"}
    assert "'child' is PENDING" in explanation(report, "parent")


def test_running_code_is_not_stuck_and_shown_when_it_takes_long(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow(name="ill_busy")
    def busy() -> None:
        ill_step()
        DBOS.run_step({"name": "long"}, roadblock.stop)

    start("busy", busy)
    roadblock.wait_until_reached()
    ended, report = doctor(app.url)
    assert (ended.code, causes(report)) == (0, {"busy": "running code"})
    assert "step 1 (ill_step)" in explanation(report, "busy")
    assert dbos("doctor", "-s", app.url, "--quiet-for", "60").value["workflows"] == []
    roadblock.open()


def test_a_killed_process_is_told_from_a_live_one(database_url: str, spawn: Spawner) -> None:
    """Nobody is there who would take its workflow over."""
    kill_one(spawn, database_url, "test", "orphan")
    ended, report = doctor(database_url)
    assert (ended.code, causes(report)) == (1, {"orphan": "no executor of its version"})
    assert "the process has ended" in explanation(report, "orphan")
    assert "no executor is alive at all" in explanation(report, "orphan")


def test_what_is_up_for_recovery_is_told(app: App, spawn: Spawner) -> None:
    """An executor of its version is alive, but does not know its function."""
    kill_one(spawn, app.url, "test", "orphan")
    ended, report = doctor(app.url, "orphan")
    assert (ended.code, causes(report)) == (1, {"orphan": "no executor knows its function"})
    assert "'ill_hang'" in explanation(report, "orphan")
    assert "victim" in explanation(report, "orphan"), "whose it was"


def enqueue_elsewhere(url: str, **where: str) -> None:
    with DBOSClient(system_database_url=url) as client:
        client.enqueue(where)  # type: ignore[arg-type]


def test_what_nobody_listens_to_and_what_nobody_knows_is_told(app: App) -> None:
    """The queue is declared after the launch, which the executor tells too."""
    enqueue_elsewhere(app.url, workflow_name="no_such_function", queue_name="open", workflow_id="unknown")
    assert causes(doctor(app.url)[1]) == {"unknown": "no executor listens to its queue"}
    Queue("open")

    def is_told() -> bool:
        return causes(doctor(app.url)[1]) == {"unknown": "no executor knows its function"}

    eventually(is_told, "the executor listens to the queue")
    ended, report = doctor(app.url)
    assert ended.code == 1
    assert "'no_such_function'" in explanation(report, "unknown")
    assert "DBOS.launch()" in explanation(report, "unknown")
    (executor,) = report["executors"]
    assert "open" in executor["queues"]
    assert "ill_sleep" in executor["functions"]


def test_a_queue_that_is_at_work_is_told_from_one_that_is_not(app: App) -> None:
    """Both are served, without limits. What waits here is a method of a class that nobody has."""
    Queue("idle")
    busy = Queue("busy")
    with SetWorkflowID("runs"):
        busy.enqueue(ill_sleep)
    eventually(lambda: status_of("runs") == "PENDING", "it has started")
    for name in ("busy", "idle"):
        enqueue_elsewhere(app.url, workflow_name="ill_sleep", queue_name="not yet", workflow_id=name)
        query(
            app.url,
            f"UPDATE {{schema}}workflow_status SET class_name = 'Nobody', queue_name = '{name}' "
            f"WHERE workflow_uuid = '{name}'",
        )

    def found() -> dict[str, str]:
        return causes(doctor(app.url, "busy", "idle")[1])

    expected = {"busy": "others are before it", "idle": "nobody takes it from its queue"}
    eventually(lambda: found() == expected, "the executor tells that it listens to both")
    assert "instance" in explanation(doctor(app.url, "idle")[1], "idle")


def test_a_deactivated_executor_listens_to_nothing(app: App) -> None:
    queue = Queue("left")
    get_executor("The test").deactivate()
    with SetWorkflowID("stays"):
        queue.enqueue(ill_sleep)
    eventually(
        lambda: causes(doctor(app.url)[1]) == {"stays": "no executor listens to its queue"}, "it tells that it does not"
    )
    assert "deactivated" in explanation(doctor(app.url)[1], "stays")


def test_executors_that_do_not_tell_leave_it_open(app: App) -> None:
    """One of an earlier version of the library has not written what it serves."""
    enqueue_elsewhere(app.url, workflow_name="ill_sleep", queue_name="unheard", workflow_id="not taken")
    query(app.url, "UPDATE {schema}executors SET serves = 'something else'")
    _, report = doctor(app.url)
    assert causes(report) == {"not taken": "nobody takes it from its queue"}
    assert "unheard" in explanation(report, "not taken")
    assert report["executors"][0]["queues"] is None


def test_slots_that_are_held_by_the_stranded_are_told(app: App, spawn: Spawner) -> None:
    queue = Queue("narrow", concurrency=1)
    program = DYING.replace("DBOS.start_workflow(ill_hang)", "queue.enqueue(ill_hang)")
    program = program.replace(
        "DBOS.launch()", "from dbos import Queue; queue = Queue('narrow', concurrency=1); DBOS.launch()"
    )
    child = spawn(program, app.url, "ancient", "holder")
    child.wait_for_line("hanging")
    child.kill()
    with SetWorkflowID("waits"):
        queue.enqueue(ill_sleep)
    ended, report = doctor(app.url)
    assert ended.code == 1
    assert causes(report) == {"holder": "no executor of its version", "waits": "its queue is at a limit"}
    assert "keep their slots" in explanation(report, "waits")
    assert "ancient" in explanation(report, "waits")


def test_rate_limits_and_delays_are_told(app: App) -> None:
    from dbos import Debouncer

    queue = Queue("slow", limiter={"limit": 1, "period": 3600})
    with SetWorkflowID("first"):
        queue.enqueue(ill_step)
    DBOS.get_result("first")
    with SetWorkflowID("second"):
        queue.enqueue(ill_step)
    with SetWorkflowID("debounced"):
        Debouncer.create(ill_sleep).debounce("key", 3600)
    ended, report = doctor(app.url)
    assert ended.code == 0
    assert causes(report) == {"second": "its queue is at a limit", "debounced": "delayed"}
    assert "rate limit" in explanation(report, "second")


def test_a_healthy_database(app: App) -> None:
    with SetWorkflowID("one"):
        ill_parent_of_nothing()
    ended, report = doctor(app.url)
    assert ended.code == 0
    assert report["workflows"] == []
    (executor,) = report["executors"]
    assert (executor["executor_id"], executor["application_version"], executor["is_alive"]) == ("local", "test", True)
    assert report["schema_version"] > 0
    assert "secret" not in report["database"]


@DBOS.workflow()
def ill_parent_of_nothing() -> None:
    ill_step()


def test_an_empty_database(database_url: str) -> None:
    dbos("migrate", "-s", database_url)
    ended, report = doctor(database_url)
    assert ended.code == 0
    assert (report["executors"], report["queues"], report["versions"], report["workflows"]) == ([], [], [], [])


def test_many_that_are_alike_are_told_by_a_few(app: App) -> None:
    with DBOSClient(system_database_url=app.url) as client:
        for number in range(20):
            client.enqueue(
                {"workflow_name": "f", "queue_name": "q", "workflow_id": f"w-{number:02}", "app_version": "old"}
            )
    _, report = doctor(app.url)
    assert list(causes(report)) == ["w-00", "w-01", "w-02"]
    assert {finding["alike"] for finding in report["workflows"]} == {20}
    (queue,) = report["queues"]
    assert (queue["name"], queue["application_version"], queue["waiting"], queue["running"]) == ("q", "old", 20, 0)
    assert report["versions"] == [{"application_version": "old", "enqueued": 20, "pending": 0}]
    _, report = doctor(app.url, "-l", "1")
    assert list(causes(report)) == ["w-00"]


def test_an_executor_that_renews_seldom_is_not_called_silent(database_url: str) -> None:
    """How long it may be silent is its own setting, of which only its renewals tell."""
    dbos("migrate", "-s", database_url)
    now = int(time.time() * 1000)
    for name, silent_ms, renewals in (("seldom", 30_000, 5), ("silent", 30_000, 100)):
        query(
            database_url,
            "INSERT INTO {schema}executors (lease_id, executor_id, application_version, state, renewals, started_at, "
            f"renewed_at, hostname, pid) VALUES ('{name}', '{name}', 'v', 'LIVE', {renewals}, {now - 130_000}, "
            f"{now - silent_ms}, 'elsewhere', 1)",
        )
    _, report = doctor(database_url)
    assert {one["executor_id"]: one["is_alive"] for one in report["executors"]} == {"seldom": True, "silent": False}


def test_as_a_process(app: App, tmp_path: Path) -> None:
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"workflow_name": "ill_sleep", "queue_name": "unheard", "workflow_id": "not taken"})
    ended = run_dbos("doctor", "-s", app.url, "--quiet-for", "0", cwd=tmp_path)
    assert ended.code == 1
    assert causes(json.loads(ended.stdout)) == {"not taken": "no executor listens to its queue"}
    assert ended.stderr.strip()


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(milliseconds=-5), "0.0 s"),
        (timedelta(seconds=1.44), "1.4 s"),
        (timedelta(seconds=25), "25 s"),
        (timedelta(minutes=3), "3 min"),
        (timedelta(hours=40), "40 h"),
        (timedelta(days=12), "12 days"),
    ],
)
def test_lengths_of_time_in_words(length: timedelta, words: str) -> None:
    assert in_words(length / timedelta(milliseconds=1)) == words
