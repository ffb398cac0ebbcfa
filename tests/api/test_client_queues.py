"""`DBOSClient.enqueue`: work for an application, from a process that does not run it.

In most tests the client is in another process; its methods are called on the one database, their `_async` twins on the
other.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from dbos import DBOS, DBOSClient, EnqueueOptions, Queue, error
from tests.support.apps import eventually
from tests.support.background import InBackground
from tests.support.processes import ROOT, Spawner
from tests.support.queues import Jobs, QueueApp, all_ids, enqueue_job, new_jobs, recorded, unpolled
from tests.support.remote import Remote
from tests.support.twins import Twins
from tests.verify.rows import query

PEER = ROOT / "tests/runtime/programs/wake_peer.py"

elsewhere = pytest.mark.parametrize(
    ("database_url", "client_kind"),
    [("sqlite", "elsewhere-async"), pytest.param("postgres", "elsewhere", marks=pytest.mark.postgres)],
    indirect=["database_url"],
)
here = pytest.mark.parametrize(
    ("database_url", "client_kind"),
    [("sqlite", "here"), pytest.param("postgres", "here-async", marks=pytest.mark.postgres)],
    indirect=["database_url"],
)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with new_jobs() as jobs:
        yield jobs


@pytest.fixture
def app(database_url: str, jobs: Jobs) -> Iterator[QueueApp]:
    """An application, whose tables are made, and which is not launched."""
    app = QueueApp(database_url)
    app.renew_interval_s = 0.05
    app.launch()
    DBOS.destroy()
    yield app
    jobs.let_go()
    DBOS.destroy()


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Remote]]:
    """Gives a process without an application, the same each time as long as it lives."""
    spawner = Spawner(tmp_path_factory.mktemp("peers"))
    running: list[Remote] = []

    def peer() -> Remote:
        if not running or running[-1].child.returncode is not None:
            running.append(Remote(spawner(PEER)))
        return running[-1]

    yield peer
    spawner.close()


@pytest.fixture
def client(app: QueueApp, client_kind: str, peers: Callable[[], Remote]) -> Iterator[DBOSClient]:
    """A client of the application. It is there before the application is launched."""
    uses_twins = client_kind.endswith("async")
    made: Any
    if client_kind.startswith("here"):
        made = DBOSClient(system_database_url=app.url)
        made = Twins(made) if uses_twins else made
    else:
        made = peers().new("client", system_database_url=app.url, uses_twins=uses_twins)
    yield cast(DBOSClient, made)
    made.destroy()


def options(queue: str = "q", name: str = "queues.job", **others: Any) -> EnqueueOptions:
    return {"queue_name": queue, "workflow_name": name, **others}  # type: ignore[typeddict-item]


# -- results


@pytest.mark.parametrize(
    ("database_url", "client_kind"),
    [
        ("sqlite", "elsewhere"),
        ("sqlite", "here-async"),
        pytest.param("postgres", "elsewhere-async", marks=pytest.mark.postgres),
        pytest.param("postgres", "here", marks=pytest.mark.postgres),
    ],
    indirect=["database_url"],
)
def test_results_and_errors_arrive_at_the_client(app: QueueApp, client: DBOSClient) -> None:
    @DBOS.workflow()
    def divide(a: float, *, by: float) -> float:
        return a / by

    @DBOS.workflow()
    async def divide_async(a: float, *, by: float) -> float:
        return a / by

    unpolled("q")
    app.launch()
    for function in (divide, divide_async):
        name = function.__qualname__
        handle = client.enqueue(options(name=name), 6, by=2)
        assert handle.get_result() == 3.0
        status = handle.get_status()
        assert (status.workflow_id, status.name, status.queue_name) == (handle.get_workflow_id(), name, "q")
        assert (status.status, status.input) == ("SUCCESS", {"args": (6,), "kwargs": {"by": 2}})
        handle = client.enqueue(options(name=name), 6, by=0)
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            handle.get_result()
        assert handle.get_status().status == "ERROR"
    statuses = [status.status for status in client.list_queued_workflows(status=["SUCCESS", "ERROR"])]
    assert statuses == ["SUCCESS", "ERROR"] * 2


@elsewhere
def test_steps_are_enqueued_by_their_name(app: QueueApp, client: DBOSClient) -> None:
    unpolled("q")
    app.launch()
    for name in ("queues.task", "queues.task_async"):
        assert client.enqueue(options(name=f"<temp>.{name}"), "t").get_result() == "t done"


# -- options


@elsewhere
def test_options_are_recorded(app: QueueApp, client: DBOSClient) -> None:
    """What is not given is not there; `None` is as good as not given."""
    everything = options(
        "nobody's",
        "some",
        workflow_id="w",
        app_version="v7",
        workflow_timeout=12.5,
        deduplication_id="d",
        priority=2**31 - 1,
        class_name="Class",
        instance_name="instance",
        authenticated_user="user",
        authenticated_roles=["a", "b"],
        max_recovery_attempts=3,
    )
    assert client.enqueue(everything, 1, x=2).get_workflow_id() == "w"
    client.enqueue(options("parts", workflow_id="part", queue_partition_key="p", priority=1))
    nothing = dict.fromkeys(EnqueueOptions.__annotations__, None)
    client.enqueue({**nothing, **options("nobody's", workflow_id="bare")})  # type: ignore[typeddict-item]

    def shown(workflow_id: str) -> dict[str, Any]:
        status = client.retrieve_workflow(workflow_id).get_status()
        return {name: getattr(status, name) for name in type(status).__slots__ if not name.endswith("_at")}

    empty = dict.fromkeys(shown("w"), None)
    assert shown("w") == {
        **empty,
        "workflow_id": "w",
        "status": "ENQUEUED",
        "name": "some",
        "queue_name": "nobody's",
        "input": {"args": (1,), "kwargs": {"x": 2}},
        "app_version": "v7",
        "workflow_timeout_ms": 12500,
        "deduplication_id": "d",
        "priority": 2**31 - 1,
        "class_name": "Class",
        "config_name": "instance",
        "authenticated_user": "user",
        "authenticated_roles": ["a", "b"],
        "recovery_attempts": 0,
    }
    rest = {"status": "ENQUEUED", "name": "queues.job", "input": {"args": (), "kwargs": {}}, "recovery_attempts": 0}
    assert shown("part") == {
        **empty,
        **rest,
        "workflow_id": "part",
        "queue_name": "parts",
        "queue_partition_key": "p",
        "priority": 1,
    }
    assert shown("bare") == {**empty, **rest, "workflow_id": "bare", "queue_name": "nobody's", "priority": 0}
    assert json.loads(query(app.url, ROLES)[0][0]) == ["a", "b"]


ROLES = "SELECT authenticated_roles FROM {schema}workflow_status WHERE workflow_uuid = 'w'"


@elsewhere
def test_work_waits_for_its_turn_by_priority(app: QueueApp, client: DBOSClient, jobs: Jobs) -> None:
    unpolled("q", concurrency=1, priority_enabled=True)
    for job, priority in (("last", 9), ("first", None), ("third", 3), ("fourth", 3), ("second", None)):
        client.enqueue(options(priority=priority), job)
    app.launch()
    jobs.wait_ended(5)
    assert jobs.started == ["first", "second", "third", "fourth", "last"]


@elsewhere
def test_timeout_begins_with_the_start(app: QueueApp, client: DBOSClient, jobs: Jobs) -> None:
    @DBOS.workflow()
    def sleep_long() -> None:
        DBOS.sleep(600)

    queue = unpolled("q", concurrency=1)
    app.launch()
    jobs.hold()
    enqueue_job(queue, "before")
    jobs.wait_running("before")
    handle = client.enqueue(options(name=sleep_long.__qualname__, workflow_timeout=0.2))
    result = InBackground(handle.get_result)
    waiting = handle.get_status()
    assert (waiting.status, waiting.workflow_deadline_epoch_ms, waiting.dequeued_at) == ("ENQUEUED", None, None)
    jobs.let_go()
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        result.result()
    status = handle.get_status()
    assert status.status == "CANCELLED"
    assert status.dequeued_at is not None
    assert status.workflow_deadline_epoch_ms == status.dequeued_at + 200


@elsewhere
def test_partitions_have_limits_of_their_own(app: QueueApp, client: DBOSClient, jobs: Jobs) -> None:
    """Work without a partition key, which an application refuses to enqueue, is started too; so is a key on a queue
    without partitions."""
    unpolled("parts", partition_queue=True, concurrency=1)
    unpolled("plain")
    app.launch()
    jobs.hold()
    for job, key in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("none", None)):
        client.enqueue(options("parts", queue_partition_key=key), job)
    client.enqueue(options("plain", queue_partition_key="a"), "plain")
    jobs.wait_running("a1", "b1", "none", "plain")
    assert jobs.peak("a") == 1
    jobs.let_go()
    jobs.wait_ended(5)
    assert jobs.peak("a") == 1


# -- the same again


@elsewhere
def test_same_id_twice_is_one_workflow(app: QueueApp, client: DBOSClient, jobs: Jobs) -> None:
    """While it waits, while it runs, and when it has ended; what was recorded first holds, also its queue."""
    unpolled("q")
    handles = [client.enqueue(options(workflow_id="w", deduplication_id="d"), "first") for _ in range(2)]
    jobs.hold()
    app.launch()
    jobs.wait_running("first")
    handles.append(client.enqueue(options("another", workflow_id="w"), "second"))
    jobs.let_go()
    assert [handle.get_result() for handle in handles] == ["first done"] * 3
    handle = client.enqueue(options(workflow_id="w", deduplication_id="d"), "third")
    assert (handle.get_workflow_id(), handle.get_result()) == ("w", "first done")
    assert (jobs.started, recorded("w").queue_name, all_ids()) == (["first"], "q", ["w"])


@elsewhere
def test_deduplication_id_is_free_again_when_its_workflow_ends(app: QueueApp, client: DBOSClient, jobs: Jobs) -> None:
    """The refusal names workflow, queue and id. On another queue the id is another one."""
    unpolled("q")
    unpolled("other")
    jobs.hold()

    def refused(workflow_id: str) -> None:
        with pytest.raises(error.DBOSQueueDeduplicatedError) as info:
            client.enqueue(options(workflow_id=workflow_id, deduplication_id="d"), workflow_id)
        assert (info.value.workflow_id, info.value.queue_name, info.value.deduplication_id) == (workflow_id, "q", "d")
        assert client.get_workflow_status(workflow_id) is None

    client.enqueue(options(workflow_id="first", deduplication_id="d"), "first")
    refused("while it waits")
    app.launch()
    jobs.wait_running("first")
    refused("while it runs")
    client.enqueue(options("other", deduplication_id="d"), "elsewhere")
    jobs.let_go()
    assert client.retrieve_workflow("first").get_result() == "first done"
    second = client.enqueue(options(workflow_id="second", deduplication_id="d"), "second")
    assert second.get_result() == "second done"
    third = client.enqueue(options("nobody's", deduplication_id="d"), "third")
    client.cancel_workflow(third.get_workflow_id())
    client.enqueue(options("nobody's", deduplication_id="d"), "fourth")


@elsewhere
def test_id_of_another_function_is_refused(app: QueueApp, client: DBOSClient, jobs: Jobs) -> None:
    unpolled("q")
    client.enqueue(options(workflow_id="w"), "first")
    for others in ({"name": "queues.job_async"}, {"class_name": "C"}, {"instance_name": "i"}):
        with pytest.raises(error.DBOSConflictingWorkflowError, match="w"):
            client.enqueue(options(workflow_id="w", **others), "second")  # type: ignore[arg-type]
    app.launch()
    assert client.retrieve_workflow("w").get_result() == "first done"


# -- what is wrong


WRONG: list[tuple[Any, type[Exception], str]] = [
    ({"queue_name": "q"}, ValueError, "workflow_name must be given"),
    ({"workflow_name": "w"}, ValueError, "queue_name must be given"),
    ({}, ValueError, "queue_name and workflow_name must be given"),
    (None, TypeError, "must be EnqueueOptions .* not NoneType"),
    ("q", TypeError, "must be EnqueueOptions .* not str"),
    (options(timeout=1), ValueError, "no 'timeout'.* workflow_timeout"),
    ({**options(), "queue": "q", "id": "w"}, ValueError, "no 'id', 'queue'"),
    (options(queue=""), ValueError, "must not be empty"),
    (options(name=""), ValueError, "must not be empty"),
    (options(queue=1), TypeError, "queue_name"),  # type: ignore[arg-type]
    (options(name=b"w"), TypeError, "workflow_name"),  # type: ignore[arg-type]
    (options(workflow_id=""), ValueError, "id"),
    (options(workflow_id=7), TypeError, "id"),
    (options(app_version=1), TypeError, "app_version"),
    (options(app_version=""), ValueError, "app_version"),
    (options(workflow_timeout="1"), TypeError, "workflow_timeout"),
    (options(workflow_timeout=0), ValueError, "workflow_timeout is 0"),
    (options(workflow_timeout=-1), ValueError, "workflow_timeout"),
    (options(workflow_timeout=float("nan")), ValueError, "workflow_timeout"),
    (options(deduplication_id=1), TypeError, "(?i)deduplication id"),
    (options(deduplication_id=""), ValueError, "(?i)deduplication id"),
    (options(deduplication_id="d", queue_partition_key="p"), error.DBOSException, "deduplication id and a queue part"),
    (options(queue_partition_key=1), TypeError, "partition key"),
    (options(queue_partition_key=""), ValueError, "partition key"),
    (options(priority="1"), TypeError, "priority"),
    (options(priority=True), TypeError, "priority"),
    (options(priority=0), ValueError, "priority is 0"),
    (options(priority=2**31), ValueError, "priority is 2147483648"),
    (options(class_name=1), TypeError, "class_name"),
    (options(instance_name=1), TypeError, "instance_name"),
    (options(authenticated_user=1), TypeError, "authenticated_user"),
    (options(authenticated_roles="admin"), TypeError, "authenticated_roles must be a list of str"),
    (options(authenticated_roles=[1]), TypeError, "authenticated_roles must be a list of str"),
]


@here
def test_wrong_options_are_refused_and_nothing_is_enqueued(app: QueueApp, client: DBOSClient) -> None:
    """The error names what is wrong. So are arguments that cannot be stored."""
    for given, kind, text in WRONG:
        with pytest.raises(kind, match=text):
            client.enqueue(given)
    with pytest.raises(error.DBOSSerializationError, match=r"arguments of workflow queues\.job"):
        client.enqueue(options(), lambda: None)
    assert client.list_workflows() == []


# -- what nobody serves


@elsewhere
def test_what_nobody_serves_stays_and_blocks_nobody(
    app: QueueApp, client: DBOSClient, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once, and starts when it is served."""
    unpolled("q", concurrency=1)
    name = f"not registered before {app.url}"
    reports = ["queue 'unknown', which this process does not declare", f"for the function '{name}', which is not"]
    for number in range(2):
        client.enqueue(options("unknown"), f"of unknown {number}")
        client.enqueue(options(name=name, workflow_id=f"without function {number}"), number)
    with caplog.at_level(logging.WARNING, "dbos"):
        app.launch()
        assert client.enqueue(options(), "behind").get_result() == "behind done"
        for report in reports:
            eventually(lambda report=report: report in caplog.text, report)  # type: ignore[misc]
        client.enqueue(options("unknown"), "later")
        wait_for_renewals(app, 3)
    assert [caplog.text.count(report) for report in reports] == [1, 1]
    waiting = client.list_workflows(status="ENQUEUED")
    assert [status.queue_name for status in waiting] == ["unknown", "q", "unknown", "q", "unknown"]
    assert jobs.started == ["behind"]
    Queue("unknown")
    jobs.wait_ended(4)
    DBOS.workflow(name=name)(lambda number: number)
    app.relaunch()
    assert client.retrieve_workflow("without function 1").get_result() == 1


def wait_for_renewals(app: QueueApp, count: int) -> None:
    """Wait until the application has looked after itself so many times."""
    statement = "SELECT renewals FROM {schema}executors WHERE state = 'LIVE'"

    def renewals() -> int:
        return int(query(app.url, statement)[0][0])

    wanted = renewals() + count
    eventually(lambda: renewals() >= wanted, "the lease is renewed")


@elsewhere
def test_version_that_takes_it_is_recorded(app: QueueApp, client: DBOSClient) -> None:
    """Without a version any process takes it; with one only those of that version."""
    unpolled("q")
    handles = [client.enqueue(options(app_version=version), "j") for version in ("v2", None, "v1")]
    app.launch(application_version="v1")
    assert handles[1].get_result() == handles[2].get_result() == "j done"
    assert [handle.get_status().app_version for handle in handles] == ["v2", "v1", "v1"]
    assert handles[0].get_status().status == "ENQUEUED"
    app.relaunch(application_version="v2")
    assert handles[0].get_result() == "j done"
    handle = client.enqueue(options(), "j")
    assert (handle.get_result(), handle.get_status().app_version) == ("j done", "v2")


@elsewhere
def test_client_works_while_no_application_runs(app: QueueApp, client: DBOSClient, jobs: Jobs) -> None:
    unpolled("q")
    handles = [client.enqueue(options(workflow_id=f"w-{number}"), f"j-{number}") for number in range(3)]
    assert [status.workflow_id for status in client.list_queued_workflows()] == ["w-0", "w-1", "w-2"]
    client.cancel_workflow("w-1")
    result = InBackground(handles[2].get_result)
    app.launch()
    assert (handles[0].get_result(), result.result()) == ("j-0 done", "j-2 done")
    assert handles[1].get_status().status == "CANCELLED"
    assert sorted(jobs.started) == ["j-0", "j-2"]
