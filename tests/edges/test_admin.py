"""The admin HTTP server: what each endpoint answers and does, on both databases."""

from __future__ import annotations

import pickle
import time
from base64 import b64encode
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from dbos import DBOS, DBOSClient, Queue, SetWorkflowID
from tests.support.admin import AdminApp, admin_client
from tests.support.apps import Roadblock, eventually, status_of


@DBOS.step()
def add_one(number: int) -> int:
    return number + 1


@DBOS.workflow()
def count_up(number: int) -> dict[str, int]:
    return {"number": add_one(add_one(number))}


@DBOS.workflow()
def fail_loudly() -> None:
    raise ValueError("boom")


@DBOS.workflow()
def wait_for_message() -> Any:
    return DBOS.recv("topic", timeout_seconds=600)


@DBOS.workflow()
def wait_for_child() -> Any:
    with SetWorkflowID("child"):
        child = DBOS.start_workflow(count_up, 1)
    child.get_result()
    return DBOS.recv("topic", timeout_seconds=600)


def run(workflow_id: str, function: Any, *args: Any) -> None:
    with SetWorkflowID(workflow_id):
        DBOS.start_workflow(function, *args)


def run_to_end(workflow_id: str, function: Any = count_up, *args: Any) -> None:
    run(workflow_id, function, *(args or ((1,) if function is count_up else ())))
    eventually(lambda: status_of(workflow_id) in ("SUCCESS", "ERROR"), "the workflow ends")


def execute(url: str, statement: str, **parameters: Any) -> None:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    prefix = "dbos." if engine.dialect.name == "postgresql" else ""
    with engine.begin() as connection:
        connection.execute(text(statement.format(prefix=prefix)), parameters)
    engine.dispose()


def ids_of(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [workflow["WorkflowUUID"] for workflow in answer.json()]


def test_health(admin: httpx.Client) -> None:
    answer = admin.get("/dbos-healthz")
    assert (answer.status_code, answer.text) == (200, "healthy")
    assert answer.headers["content-type"].startswith("text/plain")


def test_workflow_has_all_its_keys_and_its_values_are_strings(admin: httpx.Client) -> None:
    run_to_end("one")
    workflow = admin.get("/workflows/one").json()
    keys = (
        "WorkflowUUID Status WorkflowName WorkflowClassName WorkflowConfigName AuthenticatedUser AssumedRole "
        "AuthenticatedRoles Input Output Error CreatedAt UpdatedAt QueueName ApplicationVersion ExecutorID "
        "WorkflowTimeoutMS WorkflowDeadlineEpochMS DeduplicationID Priority QueuePartitionKey ForkedFrom "
        "ParentWorkflowID DequeuedAt"
    )
    assert list(workflow) == keys.split()
    assert all(value is None or isinstance(value, str) for value in workflow.values())
    assert (workflow["Status"], workflow["WorkflowName"], workflow["ApplicationVersion"]) == (
        "SUCCESS",
        "count_up",
        "test",
    )
    assert (workflow["Input"], workflow["Output"]) == ('{"args": [1], "kwargs": {}}', '{"number": 3}')
    assert abs(int(workflow["CreatedAt"]) - time.time() * 1000) < 60_000


def test_error_is_shown_as_text(admin: httpx.Client) -> None:
    run_to_end("failed", fail_loudly)
    assert admin.get("/workflows/failed").json()["Error"] == 'ValueError("boom")'


def test_steps(admin: httpx.Client) -> None:
    run_to_end("one")
    steps = admin.get("/workflows/one/steps").json()
    assert [(step["function_id"], step["function_name"], step["output"]) for step in steps] == [
        (1, "add_one", "2"),
        (2, "add_one", "3"),
    ]
    keys = "function_id function_name output error child_workflow_id started_at_epoch_ms completed_at_epoch_ms"
    assert list(steps[0]) == keys.split()


def test_what_does_not_exist_is_404(admin: httpx.Client) -> None:
    for method, path in (
        ("GET", "/workflows/none"),
        ("GET", "/workflows/none/steps"),
        ("POST", "/workflows/none/cancel"),
        ("POST", "/workflows/none/resume"),
        ("POST", "/workflows/none/restart"),
        ("POST", "/workflows/none/fork"),
        ("GET", "/workflows/..%2f..%2fetc%2fpasswd"),
        ("GET", "/workflows/%00"),
        ("GET", "/workflows/" + "x" * 5000),
        ("GET", "/static/../secret"),
        ("GET", "/"),
    ):
        answer = admin.request(method, path)
        assert answer.status_code == 404, (method, path, answer.text)
        assert set(answer.json()) == {"error"}


def test_ids_may_hold_anything(admin: httpx.Client) -> None:
    for workflow_id in ("a/b", "ä ö%2F", "x/steps/y", "?&#", "-1"):
        run_to_end(workflow_id)
        path = "/workflows/" + "".join(f"%{byte:02x}" for byte in workflow_id.encode())
        assert admin.get(path).json()["WorkflowUUID"] == workflow_id
        assert len(admin.get(f"{path}/steps").json()) == 2


def test_listing_filters(admin: httpx.Client) -> None:
    for number in range(4):
        run_to_end(f"w-{number}")
    run_to_end("failed", fail_loudly)
    assert ids_of(admin.post("/workflows")) == ["w-0", "w-1", "w-2", "w-3", "failed"]
    for members, expected in (
        ({"workflow_uuids": ["w-1", "w-3"]}, ["w-1", "w-3"]),
        ({"workflow_name": "fail_loudly"}, ["failed"]),
        ({"status": "ERROR"}, ["failed"]),
        ({"status": ["SUCCESS"], "limit": 2, "offset": 1}, ["w-1", "w-2"]),
        ({"sort_desc": True, "limit": 1}, ["failed"]),
        ({"workflow_id_prefix": "w-", "limit": None}, ["w-0", "w-1", "w-2", "w-3"]),
        ({"authenticated_user": "nobody"}, []),
        ({"application_version": "test", "executor_id": "local", "end_time": "2001-01-01T00:00:00Z"}, []),
        ({"queue_name": "none"}, []),
    ):
        assert ids_of(admin.post("/workflows", json=members)) == expected, members


def test_values_are_given_only_when_asked_for(admin: httpx.Client) -> None:
    run_to_end("one")
    (plain,) = admin.post("/workflows", json={}).json()
    assert (plain["Input"], plain["Output"]) == (None, None)
    (full,) = admin.post("/workflows", json={"load_input": True, "load_output": True}).json()
    assert (full["Input"], full["Output"]) == ('{"args": [1], "kwargs": {}}', '{"number": 3}')


def test_queued_workflows_and_queues(admin: httpx.Client) -> None:
    queue = Queue("limited", concurrency=2, worker_concurrency=1, limiter={"limit": 5, "period": 1.5})
    Queue("plain")
    run_to_end("not queued")
    queue.enqueue(wait_for_message)
    (workflow,) = admin.post("/queues", json={}).json()
    assert (workflow["QueueName"], workflow["WorkflowName"]) == ("limited", "wait_for_message")
    queues = admin.get("/dbos-workflow-queues-metadata").json()
    assert [queue for queue in queues if queue["name"] in ("limited", "plain")] == [
        {"name": "limited", "concurrency": 2, "workerConcurrency": 1, "rateLimit": {"limit": 5, "period": 1.5}},
        {"name": "plain"},
    ]


def test_cancel_and_resume(admin: httpx.Client) -> None:
    run("one", wait_for_message)
    assert admin.post("/workflows/one/cancel").status_code == 204
    assert status_of("one") == "CANCELLED"
    assert admin.post("/workflows/one/resume").status_code == 204
    DBOS.send("one", "hello", "topic")
    assert DBOS.get_result("one") == "hello"


def test_fork_and_restart(admin: httpx.Client) -> None:
    run_to_end("one")
    forked = admin.post("/workflows/one/fork", json={"start_step": 2, "new_workflow_id": "copy"})
    assert (forked.status_code, forked.json()) == (200, {"workflow_id": "copy"})
    assert DBOS.get_result("copy") == {"number": 3}
    again = admin.post("/workflows/one/restart").json()["workflow_id"]
    assert DBOS.get_result(again) == {"number": 3}
    assert {workflow.forked_from for workflow in DBOS.list_workflows(workflow_ids=["copy", again])} == {"one"}
    other_version = admin.post("/workflows/one/fork", json={"application_version": "2"}).json()["workflow_id"]
    assert DBOS.list_workflows(workflow_ids=[other_version])[0].app_version == "2"
    run_to_end("two")
    assert admin.post("/workflows/two/fork", json={"new_workflow_id": "copy"}).status_code == 409


def test_recovery_is_by_label_and_spares_live_owners(admin_app: AdminApp) -> None:
    """Operators set rows to PENDING by SQL; what a live executor owns stays with it."""
    roadblock, calls = Roadblock(), []

    @DBOS.workflow()
    def counted(name: str) -> str:
        calls.append(name)
        if name == "busy":
            roadblock.stop()
        return name

    admin_app.relaunch(is_calm=True)
    admin = admin_client()
    for name in ("mine", "other"):
        run_to_end(name, counted, name)
    run("busy", counted, "busy")
    roadblock.wait_until_reached()
    execute(
        admin_app.url,
        "UPDATE {prefix}workflow_status SET status = 'PENDING', owner_xid = NULL, application_version = 'elsewhere' "
        "WHERE workflow_uuid IN ('mine', 'other')",
    )
    execute(admin_app.url, "UPDATE {prefix}workflow_status SET executor_id = 'gone' WHERE workflow_uuid = 'mine'")
    assert admin.post("/dbos-workflow-recovery", json=["gone"]).json() == []
    execute(
        admin_app.url, "UPDATE {prefix}workflow_status SET application_version = 'test' WHERE workflow_uuid = 'mine'"
    )
    assert admin.post("/dbos-workflow-recovery", json=["someone", "gone"]).json() == ["mine"]
    eventually(lambda: status_of("mine") == "SUCCESS", "it runs here")
    assert admin.post("/dbos-workflow-recovery", json=["local"]).json() == []
    roadblock.open()
    assert DBOS.get_result("busy") == "busy"
    assert sorted(calls) == ["busy", "mine", "mine", "other"]


def test_recovery_puts_work_of_queues_back(admin_app: AdminApp) -> None:
    admin_app.relaunch(is_calm=True)
    admin = admin_client()
    Queue("queue")
    run_to_end("queued")
    execute(
        admin_app.url,
        "UPDATE {prefix}workflow_status SET status = 'PENDING', owner_xid = NULL, executor_id = 'gone', "
        "queue_name = 'queue' WHERE workflow_uuid = 'queued'",
    )
    assert admin.post("/dbos-workflow-recovery", json=["gone"]).json() == ["queued"]
    eventually(lambda: status_of("queued") == "SUCCESS", "it runs again")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_deactivated_process_takes_nothing_from_queues(admin: httpx.Client, admin_app: AdminApp, method: str) -> None:
    queue = Queue("queue")
    first = queue.enqueue(count_up, 1)
    assert first.get_result() == {"number": 3}
    answer = admin.request(method, "/deactivate")
    assert (answer.status_code, answer.text) == (200, "deactivated")
    late = Queue("late")
    handles = [queue.enqueue(count_up, 1), late.enqueue(count_up, 2)]
    run_to_end("direct")
    # What has been enqueued before stays where it is while later work of other kinds is done.
    executor = DBOS._application.executor  # type: ignore[union-attr]
    for _ in range(3):
        executor.dispatcher.attend(True)  # type: ignore[union-attr]
    assert [handle.get_status().status for handle in handles] == ["ENQUEUED", "ENQUEUED"]
    admin_app.relaunch()
    assert [DBOS.get_result(handle.workflow_id) for handle in handles] == [{"number": 3}, {"number": 4}]


def test_garbage_collection_by_rows_spares_what_has_not_ended(admin: httpx.Client) -> None:
    run("parent", wait_for_child)
    eventually(lambda: status_of("child") == "SUCCESS", "the child ends")
    for number in range(5):
        run_to_end(f"w-{number}")
    assert admin.post("/dbos-garbage-collect", json={"rows_threshold": 2}).status_code == 204
    left = [workflow.workflow_id for workflow in DBOS.list_workflows()]
    assert left == ["parent", "child", "w-3", "w-4"], "its parent may ask for the child's result"
    assert DBOS.list_workflow_steps("w-0") == []
    DBOS.send("parent", None, "topic")
    DBOS.get_result("parent")
    assert admin.post("/dbos-garbage-collect", json={"rows_threshold": 0}).status_code == 204
    assert DBOS.list_workflows() == []


def test_garbage_collection_by_age(admin: httpx.Client, admin_app: AdminApp) -> None:
    for number in range(250):
        run(f"w-{number:03d}", count_up, 1)
    eventually(lambda: len(DBOS.list_workflows(status="SUCCESS")) == 250, "all end")
    execute(admin_app.url, "UPDATE {prefix}workflow_status SET created_at = 1000 WHERE workflow_uuid < 'w-240'")
    assert admin.post("/dbos-garbage-collect", json={"cutoff_epoch_timestamp_ms": 1000}).status_code == 204
    assert len(DBOS.list_workflows()) == 250, "created before, not at"
    assert admin.post("/dbos-garbage-collect", json={}).status_code == 204
    assert admin.post("/dbos-garbage-collect", json={"cutoff_epoch_timestamp_ms": 1001}).status_code == 204
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == [f"w-{n}" for n in range(240, 250)]


def test_global_timeout_cancels_what_began_before(admin: httpx.Client, admin_app: AdminApp) -> None:
    run("old", wait_for_message)
    run_to_end("ended")
    execute(admin_app.url, "UPDATE {prefix}workflow_status SET created_at = 1000")
    run("new", wait_for_message)
    answer = admin.post("/dbos-global-timeout", json={"cutoff_epoch_timestamp_ms": 2000})
    assert answer.status_code == 204
    assert [status_of(name) for name in ("old", "ended", "new")] == ["CANCELLED", "SUCCESS", "PENDING"]
    in_the_future = {"cutoff_epoch_timestamp_ms": int(time.time() * 1000) + 3_600_000}
    assert admin.post("/dbos-global-timeout", json=in_the_future).status_code == 204
    assert status_of("new") == "CANCELLED"


def test_nothing_is_unpickled(admin: httpx.Client, admin_app: AdminApp) -> None:
    """A pickle that would end the process is shown as what it would call."""

    class Bomb:
        def __reduce__(self) -> Any:
            import os

            return os._exit, (7,)

    run_to_end("bomb")
    bomb = b64encode(pickle.dumps(Bomb(), protocol=4)).decode()
    execute(admin_app.url, "UPDATE {prefix}workflow_status SET output = :bomb, inputs = :bomb", bomb=bomb)
    execute(admin_app.url, "UPDATE {prefix}operation_outputs SET output = :bomb", bomb=bomb)
    assert admin.get("/workflows/bomb").json()["Output"] == "posix._exit(7)"
    assert admin.get("/workflows/bomb/steps").json()[0]["output"] == "posix._exit(7)"
    listed = admin.post("/workflows", json={"load_input": True, "load_output": True}).json()
    assert listed[0]["Input"] == "posix._exit(7)"


def test_values_of_other_formats_are_shown_as_stored(admin: httpx.Client, admin_app: AdminApp) -> None:
    run_to_end("one")
    for stored, shown in (("plain text", "plain text"), ('{"a": [1, null]}', '{"a": [1, null]}'), ("\ud7ff<b>", None)):
        execute(
            admin_app.url,
            "UPDATE {prefix}workflow_status SET output = :stored, outcome_serialization = 'another'",
            stored=stored,
        )
        assert admin.get("/workflows/one").json()["Output"] == (stored if shown is None else shown)


def test_work_of_clients_is_seen(admin: httpx.Client, admin_app: AdminApp) -> None:
    with DBOSClient(system_database_url=admin_app.url) as client:
        client.enqueue({"workflow_name": "count_up", "queue_name": "nobody listens", "workflow_id": "w"}, 1)
    assert ids_of(admin.post("/queues")) == ["w"]
