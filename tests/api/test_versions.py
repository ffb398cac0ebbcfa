"""Versions of the application: what is of another one waits for it, and somebody is told; newer schemas are refused."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, Queue, SetEnqueueOptions, SetWorkflowID, error
from dbos.storage.schema import NEWEST, VERSION_TABLE
from tests.support.apps import App, Roadblock, eventually, interrupt_at, status_of
from tests.support.gates import CountingGate
from tests.support.processes import Spawner
from tests.support.queues import QueueApp
from tests.verify.rows import query


@pytest.fixture
def app(app: App) -> QueueApp:
    """It looks for what others left as often as it renews its lease: often."""
    DBOS.destroy()
    its_app = QueueApp(app.url)
    its_app.renew_interval_s = 0.02
    return its_app


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "dbos")
    return caplog


def reports(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """The level of each line about other versions, and what it counts."""
    found = [(r.levelname, re.search(r"runs?: (.*?)\. This one", r.getMessage())) for r in log.records]
    return [(level, match[1]) for level, match in found if match is not None]


def leave_behind(app: QueueApp, version: str, pending: int, enqueued: int) -> None:
    """An application of this version ends with so many workflows undone."""
    roadblock = Roadblock()
    queue = Queue(f"queue of {version}")

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow(name="versions.waiting")
    def waiting() -> None:
        wait()

    app.launch(application_version=version, listening=[])
    for _ in range(enqueued):
        queue.enqueue(waiting)
    for _ in range(pending):
        DBOS.start_workflow(waiting)
    if pending:
        roadblock.wait_until_reached()
    DBOS.destroy()
    roadblock.open()


def test_launch_tells_of_workflows_of_other_versions_with_their_numbers(
    app: QueueApp, log: pytest.LogCaptureFixture
) -> None:
    """Once, with what to do; they are left alone."""
    leave_behind(app, "v1", pending=2, enqueued=3)
    leave_behind(app, "v2", pending=1, enqueued=0)
    leave_behind(app, "v0", pending=0, enqueued=1)
    log.clear()
    app.gate = gate = CountingGate()
    app.launch(application_version="v3")
    gate.wait_for("find_other_versions", "after_commit", 3)
    text = "1 ENQUEUED of version 'v0'; 2 PENDING and 3 ENQUEUED of version 'v1'; 1 PENDING of version 'v2'"
    assert reports(log) == [("WARNING", text)]
    line = next(record.getMessage() for record in log.records if text in record.getMessage())
    assert "of version 'v3', leaves them alone" in line
    assert "DBOS.fork_workflow(workflow_id, start_step, application_version='v3')" in line
    statuses = sorted((status.app_version, status.status) for status in DBOS.list_workflows())
    v1 = [("v1", "ENQUEUED")] * 3 + [("v1", "PENDING")] * 2
    assert statuses == [("v0", "ENQUEUED"), *v1, ("v2", "PENDING")]


def test_nothing_is_told_where_nothing_of_another_version_waits(app: QueueApp, log: pytest.LogCaptureFixture) -> None:
    """Nor of what has ended, waits for any version, or is of this one."""
    leave_behind(app, "v1", pending=1, enqueued=1)
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"queue_name": "nobody's", "workflow_name": "versions.waiting"})
        for status in client.list_workflows(app_version="v1"):
            client.cancel_workflow(status.workflow_id)
    leave_behind(app, "v2", pending=1, enqueued=1)
    log.clear()
    app.gate = gate = CountingGate()
    app.launch(application_version="v2")
    gate.wait_for("find_other_versions", "after_commit", 3)
    assert reports(log) == []


PEER = """
import sys
from dbos import DBOS, Queue

Queue("queue of v1")
DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "v1"})
DBOS.listen_queues([])
DBOS.launch()
print("launched", flush=True)
sys.stdin.read()
"""


def test_version_that_runs_elsewhere_is_no_reason_to_warn_until_its_last_executor_goes(
    app: QueueApp, log: pytest.LogCaptureFixture, spawn: Spawner
) -> None:
    leave_behind(app, "v1", pending=0, enqueued=1)
    peer = spawn(PEER, app.url)
    peer.wait_for_line("launched")
    app.launch(application_version="v2")
    eventually(lambda: reports(log), "it is told")
    assert reports(log) == [("INFO", "1 ENQUEUED of version 'v1'")]
    peer.kill()
    eventually(lambda: len(reports(log)) > 1, "it is told again")
    assert reports(log)[1:] == [("WARNING", "1 ENQUEUED of version 'v1'")]


def test_workflow_is_recovered_by_its_own_version_only(app: QueueApp) -> None:
    roadblock = Roadblock()

    @DBOS.step()
    def wait() -> str:
        roadblock.stop()
        return DBOS.application_version

    @DBOS.workflow()
    def waiting() -> str:
        return wait()

    app.launch(application_version="v1")
    with SetWorkflowID("w"):
        DBOS.start_workflow(waiting)
    interrupt_at(roadblock, app)  # which launches another version
    assert DBOS.application_version == "test"
    with SetWorkflowID("other"):
        assert waiting() == "test"
    assert status_of("w") == "PENDING"
    app.relaunch(application_version="v1")
    assert DBOS.get_result("w") == "v1"


def test_enqueued_work_runs_on_the_version_that_enqueued_it_or_that_it_names(app: QueueApp) -> None:
    """A client's without a version runs on any, and is of that one from then on."""
    queue = Queue("versions")
    roadblock = Roadblock()

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow(name="versions.version_of")
    def version_of(waits: bool = False) -> str:
        if waits:
            wait()
        return DBOS.application_version

    app.launch(application_version="v1", listening=[])
    with SetWorkflowID("own"):
        queue.enqueue(version_of)
    with SetWorkflowID("named"), SetEnqueueOptions(app_version="v2"):
        queue.enqueue(version_of)
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"queue_name": "versions", "workflow_name": "versions.version_of", "workflow_id": "any"}, True)
    DBOS.destroy()

    app.launch(application_version="v2")
    assert DBOS.get_result("named") == "v2"
    roadblock.wait_until_reached()
    app.relaunch(application_version="v3")
    roadblock.open()
    versions = {status.workflow_id: (status.status, status.app_version) for status in DBOS.list_workflows()}
    assert versions["own"] == ("ENQUEUED", "v1")
    assert versions["any"] == ("PENDING", "v2"), "tagged when it was dequeued, so that v3 does not recover it"
    app.relaunch(application_version="v2")
    assert DBOS.get_result("any") == "v2"
    app.relaunch(application_version="v1")
    assert DBOS.get_result("own") == "v1"


def test_running_work_of_another_version_keeps_its_slot(app: QueueApp) -> None:
    """Nobody of this version can tell whether it still runs; cancelling it frees the slot."""
    queue, free = Queue("versions of one", concurrency=1), Queue("versions of all")

    @DBOS.workflow(name="versions.waits")
    def waits() -> None:
        DBOS.set_event("waits", True)
        DBOS.recv(timeout_seconds=600)

    @DBOS.workflow(name="versions.ends")
    def ends() -> str:
        return DBOS.application_version

    app.launch(application_version="v1")
    with SetWorkflowID("old"):
        queue.enqueue(waits)
    assert DBOS.get_event("old", "waits") is True
    app.relaunch(application_version="v2")
    new = queue.enqueue(ends)
    assert [free.enqueue(ends).get_result() for _ in range(3)] == ["v2"] * 3, "other queues have been served meanwhile"
    assert (status_of("old"), new.get_status().status) == ("PENDING", "ENQUEUED")
    DBOS.cancel_workflow("old")
    assert new.get_result() == "v2"


def test_failed_workflow_is_mended_by_a_fork_to_the_new_version(app: QueueApp) -> None:
    """The remedy that the guide names: the steps before the bug are kept."""
    bugs, ran = [True], list[str]()

    @DBOS.step()
    def first() -> str:
        ran.append("first")
        return "first"

    @DBOS.step()
    def buggy() -> str:
        if bugs[0]:
            raise ValueError("bug")
        return DBOS.application_version

    @DBOS.workflow()
    def workflow() -> list[str]:
        return [first(), buggy()]

    app.launch(application_version="v1")
    with SetWorkflowID("w"), pytest.raises(ValueError, match="bug"):
        workflow()
    forked: Any = DBOS.fork_workflow("w", 2, application_version="v2")
    assert forked.get_status().app_version == "v2"
    bugs[0] = False
    app.relaunch(application_version="v2")
    assert DBOS.get_result(forked.workflow_id) == ["first", "v2"]
    assert ran == ["first"]


def test_source_hash_covers_all_workflows_and_the_environment_overrides_it(
    app: QueueApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.launch(application_version=None)
    before = DBOS.application_version
    assert re.fullmatch("[0-9a-f]+", before)

    @DBOS.workflow(name=f"one_more on {app.url}")
    def one_more() -> int:
        return 1

    with SetWorkflowID("w"):
        one_more()
    (status,) = DBOS.list_workflows(workflow_ids=["w"])
    assert status.app_version == before == DBOS.application_version, "it is fixed at the launch"
    app.relaunch(application_version=None)
    assert DBOS.application_version != before
    monkeypatch.setenv("DBOS__APPVERSION", "from the environment")
    app.relaunch(application_version="v1", enable_patching=True)
    assert DBOS.application_version == "from the environment"


@pytest.mark.parametrize("opener", ["application", "client"])
def test_database_of_a_newer_schema_is_refused_and_left_alone(app: QueueApp, opener: str) -> None:
    @DBOS.workflow()
    def workflow() -> None: ...

    app.launch()
    with SetWorkflowID("w"):
        workflow()
    DBOS.destroy()
    newer = NEWEST + 1
    insert = f"INSERT INTO {{schema}}{VERSION_TABLE} (number, name, applied_at) VALUES ({newer}, 'to come', 0)"
    query(app.url, insert)
    text = rf"schema version {newer}, and this version of DBOS knows schemas up to {NEWEST}\..*install that one"
    with pytest.raises(error.DBOSInitializationError, match=text):
        app.launch() if opener == "application" else DBOSClient(system_database_url=app.url)
    with pytest.raises(error.DBOSException, match="needs a launched DBOS"):
        DBOS.list_workflows()
    query(app.url, f"DELETE FROM {{schema}}{VERSION_TABLE} WHERE number = {newer}")
    app.relaunch()
    assert status_of("w") == "SUCCESS"
