"""The console's pages of queues, schedules, executors and versions."""

from __future__ import annotations

import subprocess
from datetime import datetime, timezone
from typing import Any, ClassVar

import pytest
from starlette.testclient import TestClient

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID
from dbos.api.instance import get_executor
from dbos.console import console_app
from dbos.edges.console.forms import TOKEN_FIELD
from dbos.model.queues import QueueRules
from dbos.model.serving import Serving
from dbos.model.values import Lease, ProcessIdentity
from dbos.storage.diagnosis import read_executors
from dbos.storage.leases import note_serving, register_lease
from tests.support.apps import App, eventually, status_of
from tests.support.console import Page
from tests.verify.rows import query


@DBOS.workflow()
def view_sleep() -> None:
    DBOS.sleep(3600)


@DBOS.workflow()
def view_nothing() -> None: ...


@DBOS.workflow()
def view_scheduled(at: datetime, context: Any) -> Any:
    return context


@pytest.fixture
def app(application: App, no_other_queues: None) -> App:
    application.launch()
    return application


class Reader:
    """A browser that is not asynchronous, as the calls of the application that are tested with it are not."""

    def __init__(self, **options: Any) -> None:
        self._client = TestClient(console_app(**options), "http://console.example", raise_server_exceptions=False)

    def get(self, path: str, status: int = 200, **query: Any) -> Page:
        """Read a page."""
        answer = self._client.get(path, params=query or None)
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    def send(self, path: str, page: Page, status: int = 200, **fields: Any) -> Page:
        """Send a form of the page; returns the page that is shown then."""
        answer = self._client.post(path, data={TOKEN_FIELD: page.token, **fields})
        assert answer.status_code == status, answer.text
        return Page(answer.text)


@pytest.fixture
def reading(app: App) -> Reader:
    return Reader()


@pytest.fixture
def writing(app: App) -> Reader:
    return Reader(allow_writes=True)


def row(page: Page, first: str) -> list[str]:
    """The words of the cells of the table row that begins with these."""
    rows = [its for its in page.rows if its and its[0].split(" ")[0] == first]
    assert len(rows) == 1, page.rows
    return rows[0]


def add_executor(name: str, serving: Serving | None) -> None:
    """Register an executor of another process."""
    database = get_executor("The test").database
    register_lease(database, Lease(name, name, "old", ProcessIdentity("elsewhere", 1, None, None, None)))
    if serving is not None:
        note_serving(database, name, serving)


# -- queues


def test_queues_tell_what_is_on_them(app: App, reading: Reader) -> None:
    page = reading.get("/queues")
    assert "has declared a queue" in page.text
    queue = Queue("narrow", concurrency=1, limiter={"limit": 50, "period": 30})
    for name in ("holds it", "waits", "waits too"):
        with SetWorkflowID(name):
            queue.enqueue(view_sleep)
    eventually(lambda: status_of("holds it") == "PENDING", "it has started")
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"workflow_name": "view_sleep", "queue_name": "<b>unheard</b>"})

    def told() -> bool:
        executor = get_executor("The test")
        return any(one.serving and one.serving.rules_of("narrow") for one in read_executors(executor.database))

    eventually(told, "the executor tells that it listens")
    page = reading.get("/queues")
    name, waiting, delayed, running, oldest, starts, limits, listening = row(page, "narrow")
    assert (name, waiting, delayed, running, starts, listening) == ("narrow", "2", "0", "1", "1", "1")
    assert oldest.endswith("s")
    assert limits == "1 at once, 50 in 30 s"
    assert row(page, "<b>unheard</b>")[1:4] == ["1", "0", "0"]
    assert row(page, "<b>unheard</b>")[6:] == ["nobody tells", "nobody listens"]
    assert page.all("b") == [], "names are escaped"
    assert "/workflows?queue_name=narrow&status=ENQUEUED" in page.links


def test_limits_that_contradict_each_other_are_all_told(app: App, reading: Reader) -> None:
    """Two versions of an application may declare a queue in two ways."""
    for name, limit in (("one", 1), ("two", 2), ("three", 2)):
        add_executor(name, Serving((QueueRules("q", limit),), ()))
    page = reading.get("/queues")
    assert row(page, "q")[6:] == ["1 at once or 2 at once", "3"]


def test_of_very_many_the_first_are_shown_and_the_rest_counted(app: App, reading: Reader) -> None:
    add_executor("many", Serving(tuple(QueueRules(f"q{number:03}") for number in range(130)), ()))
    for number in range(105):
        DBOS.create_schedule(schedule_name=f"s{number:03}", workflow_fn=view_scheduled, schedule="0 0 1 1 *")
    page = reading.get("/queues")
    assert "And 30 more queues" in page.text
    assert row(page, "q099")
    page = reading.get("/schedules")
    assert "And 5 more" in page.text
    assert row(page, "s099")
    assert row(reading.get("/schedules", begins_with="s1"), "s104")


# -- executors and versions


def test_executors_tell_who_is_alive_and_what_they_do(app: App, reading: Reader) -> None:
    with SetWorkflowID("sleeps"):
        DBOS.start_workflow(view_sleep)
    Queue("narrow")
    for name in ("buried", "quiet", "killed"):
        add_executor(name, None)
    query(app.url, "UPDATE {schema}executors SET state = 'DEAD' WHERE lease_id = 'buried'")
    query(app.url, "UPDATE {schema}executors SET renewed_at = renewed_at - 60000 WHERE lease_id = 'quiet'")
    ended = subprocess.Popen(["true"])
    ended.wait()
    others = "hostname, boot_id, pid_namespace, pid_started"
    query(
        app.url,
        f"UPDATE {{schema}}executors SET pid = {ended.pid}, ({others}) = "
        f"(SELECT {others} FROM {{schema}}executors WHERE executor_id = 'local') WHERE lease_id = 'killed'",
    )
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"workflow_name": "f", "queue_name": "q", "app_version": "old"})
        client.enqueue({"workflow_name": "f", "queue_name": "q"})
    page = reading.get("/executors")
    local = row(page, "local")
    assert (local[1], local[2], local[6]) == ("alive", "test", "1")
    assert "view_sleep" in local[8]
    assert "<temp>" not in local[8]
    assert row(page, "buried")[1] == "dead"
    assert row(page, "quiet")[1] == "silent"
    assert row(page, "killed")[1] in ("process has ended", "dead"), "the other executor may bury it meanwhile"
    assert row(page, "quiet")[7:] == ["it does not tell", "it does not tell"]
    assert row(page, "test") == ["test", "0", "1", "1"]
    assert row(page, "old") == ["old", "1", "0", "nobody serves it"]
    assert row(page, "any") == ["any version", "1", "0", "1"]


# -- schedules


def test_schedules_tell_when_they_fire_and_when_they_have(app: App, reading: Reader) -> None:
    DBOS.create_schedule(
        schedule_name="a/b?c d", workflow_fn=view_scheduled, schedule="0 0 1 1 *", context={"<i>key</i>": [1, 2]}
    )
    DBOS.create_schedule(schedule_name="stopped", workflow_fn=view_scheduled, schedule="* * * * *")
    DBOS.pause_schedule("stopped")
    DBOS.create_schedule(schedule_name="often", workflow_fn=view_scheduled, schedule="* * * * * *")
    eventually(lambda: bool(DBOS.list_workflows(workflow_id_prefix="sched-often-", status="SUCCESS")), "it has fired")
    page = reading.get("/schedules")
    year = datetime.now(timezone.utc).year
    assert row(page, "a/b?c")[1:] == [
        "ACTIVE", "view_scheduled", "0 0 1 1 *", f"{year + 1}-01-01 00:00:00 {year + 2}-01-01 00:00:00", "–"
    ]  # fmt: skip
    assert row(page, "stopped")[1:] == ["PAUSED", "view_scheduled", "* * * * *", "–", "–"]
    (link,) = (link for link in page.links if link.startswith("/schedule?") and "b%3Fc" in link)
    one = reading.get(link)
    assert '"<i>key</i>": [1, 2]' in one.text
    assert one.all("i") == one.all("form") == []
    assert f"{year + 10}-01-01" in one.text
    often = reading.get("/schedule", name="often")
    assert "sched-often-" in often.text, "the workflow of its last fire"
    assert [its[0] for its in (reading.get("/schedules", begins_with="st")).rows if its] == [
        "Schedule",
        "stopped",
    ]


def test_schedules_are_paused_resumed_and_triggered(app: App, writing: Reader) -> None:
    DBOS.create_schedule(
        schedule_name="yearly", workflow_fn=view_scheduled, schedule="0 0 1 1 *", context={"plain": ({1}, b"x")}
    )
    page = writing.get("/schedules")
    page = writing.send("/schedule/pause", page, name="yearly", back="list")
    assert "is paused" in page.text
    assert row(page, "yearly")[1] == "PAUSED"
    page = writing.send("/schedule/resume", page, name="yearly")
    assert "is active" in page.text
    (schedule,) = DBOS.list_schedules()
    assert schedule["status"] == "ACTIVE"
    page = writing.send("/schedule/trigger", page, name="yearly")
    (workflow,) = DBOS.list_workflows(workflow_id_prefix="sched-yearly-trigger-")
    assert workflow.workflow_id in page.text
    assert DBOS.get_result(workflow.workflow_id) == {"plain": ({1}, b"x")}


def test_schedules_are_backfilled(app: App, writing: Reader) -> None:
    DBOS.create_schedule(schedule_name="hourly", workflow_fn=view_scheduled, schedule="0 * * * *", context=7)
    page = writing.get("/schedule", name="hourly")
    fields = {"name": "hourly", "start": "2024-01-01T00:30", "end": "2024-01-01T05:30:00+02:00"}
    page = writing.send("/schedule/backfill", page, **fields)
    assert "3 fire times" in page.text
    ids = [f"sched-hourly-2024-01-01T0{hour}:00:00+00:00" for hour in (1, 2, 3)]
    assert [DBOS.get_result(workflow_id) for workflow_id in ids] == [7, 7, 7]
    page = writing.send("/schedule/backfill", page, name="hourly", start="2024-01-01T00:05", end="2024-01-01T00:06")
    assert "does not fire between" in page.text
    too_many = {"name": "hourly", "start": "1900-01-01T00:00", "end": "2020-01-01T00:00"}
    assert "more than 100000 times" in (writing.send("/schedule/backfill", page, **too_many)).text
    for start, end in (("yesterday", "2024-01-01T00:06"), ("2024-01-02T00:00", "2024-01-01T00:00"), ("", "")):
        answer = writing.send("/schedule/backfill", page, status=400, name="hourly", start=start, end=end)
        assert "Nothing was backfilled" in answer.text


class Armed:
    """Unpickling it would be seen."""

    triggered: ClassVar[list[str]] = []

    def __reduce__(self) -> Any:
        return Armed.triggered.append, ("unpickled",)


def test_a_context_that_would_have_to_be_unpickled_is_left_alone(app: App, writing: Reader) -> None:
    DBOS.create_schedule(schedule_name="armed", workflow_fn=view_scheduled, schedule="0 0 1 1 *", context=Armed())
    Armed.triggered.clear()
    page = writing.get("/schedule", name="armed")
    page = writing.send("/schedule/trigger", page, name="armed")
    assert "unpickles nothing" in page.text
    fields = {"name": "armed", "start": "2020-01-01T00:00", "end": "2024-01-01T00:00"}
    page = writing.send("/schedule/backfill", page, **fields)
    assert "unpickles nothing" in page.text
    assert (Armed.triggered, DBOS.list_workflows()) == ([], [])


def test_nothing_is_changed_without_leave(app: App, reading: Reader, writing: Reader) -> None:
    DBOS.create_schedule(schedule_name="s", workflow_fn=view_scheduled, schedule="0 0 1 1 *")
    page = writing.get("/schedules")
    for verb in ("pause", "resume", "trigger", "backfill"):
        assert "read-only" in (reading.send(f"/schedule/{verb}", page, status=403, name="s")).text
        writing.send(f"/schedule/{verb}", Page(""), status=403, name="s")
        times = {"start": "2024-01-01T00:00", "end": "2025-01-01T00:00"}
        answer = writing.send(f"/schedule/{verb}", page, status=404, name="no such", **times)
        assert "'no such'" in answer.text
        writing.send(f"/schedule/{verb}", page, status=404, name="\x00", **times)
    assert DBOS.list_workflows() == []
    assert [its["status"] for its in DBOS.list_schedules()] == ["ACTIVE"]
    reading.get("/schedule", status=404, name="no such")
    reading.get("/schedule", status=404, name="x\x00")
    reading.get("/schedule", status=404)
    reading.get("/schedules", status=400, begins_with="x\x00")


def test_a_stored_expression_that_is_none_is_told(app: App, reading: Reader) -> None:
    DBOS.create_schedule(schedule_name="broken", workflow_fn=view_scheduled, schedule="0 0 1 1 *")
    query(app.url, "UPDATE {schema}workflow_schedules SET schedule = 'whenever'")
    assert row(reading.get("/schedules"), "broken")[4] == "never"
    assert "has 1 fields" in (reading.get("/schedule", name="broken")).text


def test_functions_with_times_of_their_own_are_told(application: App) -> None:
    @DBOS.scheduled("* * * * * *")
    @DBOS.workflow(name="view_decorated")
    def view_decorated(scheduled: datetime, actual: datetime) -> None: ...

    application.launch()
    eventually(
        lambda: bool(DBOS.list_workflows(workflow_id_prefix="sched-view_decorated-", status="SUCCESS")), "it has fired"
    )
    page = Reader().get("/schedules")
    assert "By decorator" in page.text
    assert page.all("time")
    assert row(page, "view_decorated")[1]
