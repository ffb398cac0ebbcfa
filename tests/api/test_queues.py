"""Queues: enqueueing from everywhere, handles, options, timeouts, steering, and recovery through the queue."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from dbos import (
    DBOS,
    DBOSClient,
    Queue,
    SetEnqueueOptions,
    SetWorkflowID,
    SetWorkflowTimeout,
    WorkflowHandle,
    WorkflowHandleAsync,
    error,
)
from tests.support.apps import PATIENCE_S, Roadblock, eventually, in_threads, interrupt_at, status_of, steps_of
from tests.support.looks import LooksGate
from tests.support.processes import Spawner
from tests.support.queues import (
    Jobs,
    QueueApp,
    all_ids,
    enqueue_job,
    job,
    job_async,
    new_jobs,
    recorded,
    task,
    task_async,
    unpolled,
)
from tests.support.waking import wait_until_idle
from tests.verify.rows import query

HOUR_S = 3600.0
FUNCTIONS: dict[str, tuple[Callable[..., Any], str]] = {
    "workflow": (job, "queues.job"),
    "coroutine": (job_async, "queues.job_async"),
    "step": (task, "<temp>.queues.task"),
    "async step": (task_async, "<temp>.queues.task_async"),
}
"""What can be enqueued, and the name that is recorded for it."""


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with new_jobs() as jobs:
        yield jobs


@pytest.fixture
def app(database_url: str) -> Iterator[QueueApp]:
    """An application that is woken only by what it does itself: no polls, no timers, no hints of others."""
    application = QueueApp(database_url)
    application.has_time = False
    application.launch()
    yield application
    DBOS.destroy()


@pytest.fixture
def timed_app(database_url: str) -> Iterator[QueueApp]:
    """An application that does not poll, but has timers."""
    application = QueueApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()


@pytest.fixture(params=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    """Whether the workflow that enqueues is a coroutine."""
    return bool(request.param == "async")


def blocked_queue(jobs: Jobs, name: str = "q", **rules: Any) -> Queue:
    """A queue that runs one workflow at a time, and is held by a job named "blocker"."""
    queue = unpolled(name, concurrency=1, **rules)
    jobs.hold()
    enqueue_job(queue, "blocker")
    jobs.wait_running("blocker")
    return queue


def await_reports(gate: LooksGate) -> None:
    """Wait until it was looked twice for work that is not done here, and what was found has been reported."""
    operation = "find_unknown_functions"
    gate.wait_for(operation, "begin", gate.count(operation, "begin") + 3)


def warnings_of(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    """The warnings that name all of these."""
    messages = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in messages if all(word in message for word in words)]


# -- enqueueing and handles


def test_whatever_is_enqueued_runs_and_its_handle_tells(app: QueueApp, jobs: Jobs) -> None:
    """Workflows and steps, sync and async, from plain code; a step runs as a workflow of its own."""
    queue = unpolled("q")
    jobs.hold()
    handles: dict[str, WorkflowHandle[str]] = {}
    for kind, (function, _) in FUNCTIONS.items():
        with SetWorkflowID(kind):
            handles[kind] = queue.enqueue(function, name=kind)
    jobs.wait_running(*FUNCTIONS)
    for kind, (_, name) in FUNCTIONS.items():
        status = handles[kind].get_status()
        assert handles[kind].workflow_id == status.workflow_id == kind
        assert (status.status, status.name, status.queue_name) == ("PENDING", name, "q")
        assert status.input == {"args": (), "kwargs": {"name": kind}}
        assert (status.recovery_attempts, status.parent_workflow_id) == (1, None)
    jobs.let_go()
    for kind, handle in handles.items():
        found: WorkflowHandle[str] = DBOS.retrieve_workflow(kind)
        assert handle.get_result() == found.get_result() == f"{kind} done"
        status = handle.get_status()
        assert (status.status, status.output, status.queue_name) == ("SUCCESS", f"{kind} done", "q")
    assert [steps_of(kind) for kind in FUNCTIONS] == [[], [], [(1, "queues.task")], [(1, "queues.task_async")]]
    assert sorted(jobs.started) == sorted(FUNCTIONS)


async def test_whatever_is_enqueued_from_a_loop_runs_elsewhere(app: QueueApp, jobs: Jobs) -> None:
    """Awaited or not; the loop stays free, and coroutines run on one of the library's own."""
    queue = unpolled("q")
    loops = dict[str, asyncio.AbstractEventLoop]()

    @DBOS.workflow()
    async def looped(name: str) -> str:
        loops[name] = asyncio.get_running_loop()
        return f"{name} done"

    jobs.hold()
    handles: dict[str, WorkflowHandleAsync[str]] = {}
    for kind, (function, _) in FUNCTIONS.items():
        with SetWorkflowID(kind):
            handles[kind] = await queue.enqueue_async(function, kind)
        plain = queue.enqueue(function, f"plain {kind}")
        handles[f"plain {kind}"] = await DBOS.retrieve_workflow_async(plain.workflow_id)
    waiting = [asyncio.create_task(handle.get_result()) for handle in handles.values()]
    await asyncio.to_thread(jobs.wait_running, *handles)
    for kind, (_, name) in FUNCTIONS.items():
        status = await handles[kind].get_status()
        assert (status.workflow_id, status.status, status.name) == (kind, "PENDING", name)
        assert (status.queue_name, status.input) == ("q", {"args": (kind,), "kwargs": {}})
    assert not any(task.done() for task in waiting)
    jobs.let_go()
    assert await asyncio.gather(*waiting) == [f"{kind} done" for kind in handles]
    assert await (await queue.enqueue_async(looped, "awaited")).get_result() == "awaited done"
    assert await asyncio.to_thread(queue.enqueue(looped, "plain").get_result) == "plain done"
    assert set(loops) == {"awaited", "plain"}
    assert asyncio.get_running_loop() not in loops.values()


def test_exception_of_an_enqueued_function_reaches_whoever_waits(app: QueueApp) -> None:
    queue = unpolled("q")

    @DBOS.workflow()
    def failing(text: str) -> None:
        raise LookupError(text, 7)

    @DBOS.workflow()
    async def failing_async(text: str) -> None:
        raise LookupError(text, 7)

    @DBOS.step()
    def failing_step(text: str) -> None:
        raise LookupError(text, 7)

    def raised_by(wait: Callable[[], object]) -> tuple[Any, ...]:
        with pytest.raises(LookupError) as info:
            wait()
        return info.value.args

    async def wait_async(function: Callable[..., Any]) -> None:
        await (await queue.enqueue_async(function, "x")).get_result()

    for function in (failing, failing_async, failing_step):
        handle = queue.enqueue(cast("Callable[..., Any]", function), "x")
        assert raised_by(handle.get_result) == ("x", 7)
        assert raised_by(DBOS.retrieve_workflow(handle.workflow_id).get_result) == ("x", 7)
        assert raised_by(lambda function=function: asyncio.run(wait_async(function))) == ("x", 7)  # type: ignore[misc]
        status = handle.get_status()
        assert (status.status, status.output, repr(status.error)) == ("ERROR", None, "LookupError('x', 7)")


def test_handle_of_a_waiting_workflow_tells_and_waits(app: QueueApp, jobs: Jobs) -> None:
    """It is ENQUEUED, nobody has started it, and `get_result` stays until it has run."""
    queue = blocked_queue(jobs)
    handle = enqueue_job(queue, "second")
    found: WorkflowHandle[str] = DBOS.retrieve_workflow("second")
    status = handle.get_status()
    assert (status.status, status.recovery_attempts, status.dequeued_at) == ("ENQUEUED", 0, None)
    assert (status.executor_id, status.app_version, status.output) == (None, "test", None)

    async def wait_async() -> str:
        with SetWorkflowID("third"):
            third = await queue.enqueue_async(job_async, "third")
        assert (await third.get_status()).status == "ENQUEUED"
        await asyncio.to_thread(jobs.let_go)
        return await third.get_result()

    results = in_threads([handle.get_result, found.get_result, lambda: asyncio.run(wait_async())])
    assert results == ["second done", "second done", "third done"]
    status = handle.get_status()
    assert (status.status, status.recovery_attempts, status.executor_id) == ("SUCCESS", 1, "local")
    assert status.created_at is not None
    assert status.dequeued_at is not None
    assert status.updated_at is not None
    assert status.created_at <= status.dequeued_at <= status.updated_at


def test_enqueued_work_starts_by_a_wake_up_however_it_came(app: QueueApp, jobs: Jobs) -> None:
    """Here no time passes: whatever starts has been told of."""
    queue, internal_ways = unpolled("q"), ["resumed", "forked"]
    with DBOSClient(system_database_url=app.url) as client:
        client.enqueue({"workflow_name": "queues.job", "queue_name": "late", "workflow_id": "before"}, "before")
    late = unpolled("late")
    jobs.wait_ended(1)

    @DBOS.workflow()
    def parent() -> None:
        queue.enqueue(job, "child")

    @DBOS.workflow()
    async def parent_async() -> None:
        await late.enqueue_async(job_async, "child of a coroutine")

    enqueue_job(queue, "plain")
    asyncio.run(cast("Any", queue.enqueue_async(job, "awaited")))
    parent()
    asyncio.run(parent_async())
    jobs.wait_ended(5)
    blocked = blocked_queue(jobs, "blocked")
    enqueue_job(blocked, "resumed")
    DBOS.resume_workflow("resumed")
    DBOS.fork_workflow("plain", 1)
    jobs.wait_started(len(["before", "plain", "awaited", "child", "child of a coroutine", "blocker", *internal_ways]))


def test_queue_is_polled_at_its_own_interval(app: QueueApp, jobs: Jobs) -> None:
    """For what nobody has told of."""
    unpolled("seldom")
    Queue("often", polling_interval_sec=0.02)
    DBOS.destroy()
    app.has_time, app.drops_hints, app.gate = True, True, LooksGate()
    app.launch()
    with DBOSClient(system_database_url=app.url) as client:
        for number in range(3):
            for name in ("seldom", "often"):
                workflow_id = f"{name} {number}"
                client.enqueue(
                    {"workflow_name": "queues.job", "queue_name": name, "workflow_id": workflow_id}, workflow_id
                )
            jobs.wait_ended(number + 1)
    assert jobs.started == ["often 0", "often 1", "often 2"]


# -- from workflows


def test_children_are_enqueued_once_and_recorded_among_the_steps(app: QueueApp, jobs: Jobs, is_async: bool) -> None:
    """A replayed parent gets the same children: those that ended, that run, and that still wait."""
    queue, narrow, roadblock = unpolled("q"), unpolled("narrow", concurrency=1), Roadblock()

    @DBOS.step()
    def pause() -> None:
        roadblock.stop()

    @DBOS.step()
    async def pause_async() -> None:
        await roadblock.stop_async()

    @DBOS.workflow()
    def parent() -> list[str]:
        handles = [queue.enqueue(function, kind) for kind, (function, _) in FUNCTIONS.items()]
        handles += [narrow.enqueue(job, "running"), narrow.enqueue(job_async, "waiting")]
        with SetWorkflowID("named"):
            handles.append(narrow.enqueue(job, "named"))
        pause()
        return [handle.get_result() for handle in handles]

    @DBOS.workflow()
    async def parent_async() -> list[str]:
        handles = [await queue.enqueue_async(function, kind) for kind, (function, _) in FUNCTIONS.items()]
        handles += [await narrow.enqueue_async(job, "running"), await narrow.enqueue_async(job_async, "waiting")]
        with SetWorkflowID("named"):
            handles.append(await narrow.enqueue_async(job, "named"))
        await pause_async()
        return list(await asyncio.gather(*(handle.get_result() for handle in handles)))

    jobs.hold()
    with SetWorkflowID("p"):
        DBOS.start_workflow(cast("Any", parent_async if is_async else parent))
    jobs.wait_running(*FUNCTIONS, "running")
    jobs.let_go(*FUNCTIONS)
    children = [*(f"p-{number}" for number in range(1, 7)), "named"]
    for child in children[:4]:
        DBOS.get_result(child)
    assert [status_of(child) for child in children[4:]] == ["PENDING", "ENQUEUED", "ENQUEUED"]
    roadblock.wait_until_reached()
    jobs.let_go("running")
    interrupt_at(roadblock, app)
    jobs.let_go()
    assert DBOS.get_result("p") == [f"{name} done" for name in (*FUNCTIONS, "running", "waiting", "named")]
    names = [name for _, name in FUNCTIONS.values()] + ["queues.job", "queues.job_async", "queues.job"]
    steps = DBOS.list_workflow_steps("p")
    assert [(step["function_name"], step["child_workflow_id"]) for step in steps[:7]] == list(
        zip(names, children, strict=True)
    )
    pause_name = (pause_async if is_async else pause).__qualname__
    assert steps_of("p") == list(enumerate([*names, pause_name, *["DBOS.getResult"] * 7], 1))
    assert all_ids() == sorted(["p", *children])
    for child in children:
        status = recorded(child)
        assert (status.parent_workflow_id, status.recovery_attempts) == ("p", 1)
    assert [jobs.started.count(kind) for kind in FUNCTIONS] == [1] * 4


async def test_coroutines_made_in_a_workflow_are_enqueued_in_that_order(app: QueueApp, jobs: Jobs) -> None:
    """Whenever they are awaited; each takes what was set when it was made."""
    queue = unpolled("q", priority_enabled=True)

    @DBOS.workflow()
    async def parent() -> list[str]:
        coroutines: list[Any] = []
        for number in range(5):
            with SetEnqueueOptions(priority=number + 1):
                coroutines.append(queue.enqueue_async(job, f"{number}"))
        handles = list(reversed(await asyncio.gather(*reversed(coroutines))))
        return [await handle.get_result() for handle in handles]

    with SetWorkflowID("p"):
        assert await parent() == [f"{number} done" for number in range(5)]
    for number in range(5):
        status = await DBOS.get_workflow_status_async(f"p-{number + 1}")
        assert status is not None
        assert (status.input, status.priority) == ({"args": (f"{number}",), "kwargs": {}}, number + 1)


def test_enqueued_child_is_there_for_the_next_call_of_its_parent(app: QueueApp, jobs: Jobs) -> None:
    """Though enqueueing waits for nothing: it can be sent to, asked for, cancelled, resumed."""
    queue = blocked_queue(jobs)

    @DBOS.workflow()
    def receiving() -> str:
        return cast("str", DBOS.recv("topic"))

    @DBOS.workflow()
    def parent() -> list[str]:
        first, second = queue.enqueue(receiving), queue.enqueue(receiving)
        DBOS.send(first.workflow_id, "hello", "topic")
        third = queue.enqueue(job, "third")
        seen = [third.get_status().status]
        DBOS.cancel_workflow(queue.enqueue(job, "fourth").workflow_id)
        DBOS.send(second.workflow_id, "again", "topic")
        DBOS.resume_workflow(second.workflow_id)
        seen.append(second.get_result())
        jobs.let_go()
        return [*seen, first.get_result(), third.get_result()]

    with SetWorkflowID("p"):
        assert parent() == ["ENQUEUED", "again", "hello", "third done"]
    assert [status_of(f"p-{number}") for number in (1, 2, 4, 6)] == ["SUCCESS", "SUCCESS", "SUCCESS", "CANCELLED"]
    assert jobs.started == ["blocker", "third"]


def test_parents_and_the_children_that_they_wait_for_may_share_a_queue(timed_app: QueueApp, jobs: Jobs) -> None:
    """A queue without limits runs them all, however many wait."""
    queue = unpolled("q")

    @DBOS.workflow()
    def parent(name: str) -> str:
        return queue.enqueue(job, name).get_result()

    @DBOS.workflow()
    def grandparent() -> list[str]:
        handles = [queue.enqueue(parent, f"{number}") for number in range(120)]
        return [handle.get_result() for handle in handles]

    assert queue.enqueue(grandparent).get_result() == [f"{number} done" for number in range(120)]


def test_same_id_is_enqueued_once(app: QueueApp, jobs: Jobs, is_async: bool) -> None:
    """Waiting, running, ended, by code and by a workflow, on another queue and with other arguments."""
    queue, other = blocked_queue(jobs), unpolled("other")

    @DBOS.workflow()
    def parent() -> str:
        with SetWorkflowID("w"):
            return other.enqueue(job, "from the parent").get_result()

    @DBOS.workflow()
    async def parent_async() -> str:
        with SetWorkflowID("w"):
            return await (await other.enqueue_async(job, "from the parent")).get_result()

    handles = [enqueue_job(queue, "w")]
    for its_queue in (queue, other):
        with SetWorkflowID("w"):
            handles.append(its_queue.enqueue(job, "again"))
    with SetWorkflowID("w"):
        handles.append(DBOS.start_workflow(job, "started"))
    assert status_of("w") == "ENQUEUED"
    with SetWorkflowID("p"):
        handles.append(DBOS.start_workflow(cast("Any", parent_async if is_async else parent)))
    jobs.let_go("blocker")
    jobs.wait_running("w")
    handles.append(enqueue_job(other, "w"))
    with SetWorkflowID("w"):
        handles.append(DBOS.start_workflow(job, "started"))
    jobs.let_go()
    assert [handle.get_result() for handle in handles] == ["w done"] * 7
    assert enqueue_job(other, "w").get_result() == "w done"
    assert (recorded("w").queue_name, recorded("w").recovery_attempts) == ("q", 1)
    assert jobs.started == ["blocker", "w"]


def test_same_id_enqueued_again_while_it_runs_can_be_awaited(app: QueueApp, jobs: Jobs) -> None:
    """Though nobody has kept the first handle."""
    queue = unpolled("q")
    jobs.hold()
    enqueue_job(queue, "w")
    jobs.wait_running("w")
    again = enqueue_job(queue, "w")
    jobs.let_go()
    assert again.get_result() == "w done"


def test_id_of_another_function_is_refused(app: QueueApp, jobs: Jobs) -> None:
    """By code at once, in a workflow at its next step at the latest."""
    queue = unpolled("q")
    enqueue_job(queue, "taken").get_result()

    @DBOS.step()
    def step() -> None: ...

    @DBOS.workflow()
    def parent() -> None:
        with SetWorkflowID("taken"):
            queue.enqueue(job_async, "taken")
        step()

    with SetWorkflowID("taken"), pytest.raises(error.DBOSConflictingWorkflowError, match="'taken'"):
        queue.enqueue(job_async, "taken")
    with pytest.raises(error.DBOSConflictingWorkflowError, match="'taken'"):
        parent()
    assert jobs.started == ["taken"]


# -- options


def test_every_column_of_a_queue_shows(app: QueueApp, jobs: Jobs) -> None:
    """In the status and in both listings; the queued ones are those that have not ended."""
    plain, ordered = blocked_queue(jobs, "plain"), unpolled("ordered", priority_enabled=True, worker_concurrency=1)
    parted = unpolled("parted", partition_queue=True, worker_concurrency=1)
    with SetWorkflowID("w1"), SetEnqueueOptions(deduplication_id="d", app_version="v2"):
        plain.enqueue(job, "w1")
    for number in (2, 3):
        with SetWorkflowID(f"w{number}"), SetEnqueueOptions(priority=number, deduplication_id=f"d{number}"):
            ordered.enqueue(job, f"w{number}")
        with SetWorkflowID(f"w{number + 2}"), SetEnqueueOptions(queue_partition_key="k"):
            parted.enqueue(job, f"w{number + 2}")
    jobs.wait_running("w2", "w4")

    def row(workflow_id: str) -> tuple[Any, ...]:
        shown = recorded(workflow_id)
        listed = DBOS.list_workflows(workflow_ids=[workflow_id]) + DBOS.list_queued_workflows(
            workflow_ids=[workflow_id]
        )
        assert listed == [shown] * 2
        place = (shown.queue_name, shown.deduplication_id, shown.priority, shown.queue_partition_key)
        return (shown.status, *place, shown.dequeued_at is not None, shown.app_version)

    assert {f"w{number}": row(f"w{number}") for number in range(1, 6)} == {
        "w1": ("ENQUEUED", "plain", "d", 0, None, False, "v2"),
        "w2": ("PENDING", "ordered", "d2", 2, None, True, "test"),
        "w3": ("ENQUEUED", "ordered", "d3", 3, None, False, "test"),
        "w4": ("PENDING", "parted", None, 0, "k", True, "test"),
        "w5": ("ENQUEUED", "parted", None, 0, "k", False, "test"),
    }
    DBOS.start_workflow(job, "unqueued")
    jobs.wait_running("unqueued")
    DBOS.cancel_workflow("w1")

    def queued(**conditions: Any) -> list[str]:
        return [status.workflow_id for status in DBOS.list_queued_workflows(**conditions)]

    assert queued() == ["blocker", "w2", "w4", "w3", "w5"]
    assert queued(sort_desc=True, limit=2) == ["w5", "w3"]
    assert queued(status="ENQUEUED") == ["w3", "w5"]
    assert queued(queue_name=["parted", "plain"]) == ["blocker", "w4", "w5"]
    assert queued(name="queues.job", status=["PENDING"], queue_name="ordered") == ["w2"]
    jobs.let_go()
    for number in range(2, 6):
        DBOS.get_result(f"w{number}")
    assert queued(queue_name=["ordered", "parted"]) == []
    assert queued(status="SUCCESS", queue_name=["ordered", "parted"]) == ["w2", "w4", "w3", "w5"]
    assert all_ids(queues_only=True, status=["CANCELLED"]) == ["w1"]


def test_options_hold_inside_their_block_and_for_nobody_else(app: QueueApp, jobs: Jobs) -> None:
    """Not behind it, not for the children of what is enqueued, nor for what is started without a queue."""
    queue = unpolled("q", priority_enabled=True)
    parted = unpolled("parted", partition_queue=True)

    @DBOS.workflow()
    def parent() -> list[str]:
        child = queue.enqueue(job, "child")
        return [child.workflow_id, DBOS.start_workflow(job, "started").workflow_id]

    def options_of(workflow_id: str) -> tuple[Any, ...]:
        status = recorded(workflow_id)
        return status.priority, status.deduplication_id, status.queue_partition_key, status.app_version

    jobs.hold()
    order: list[WorkflowHandle[str]] = []
    outer = SetEnqueueOptions(priority=7)
    with outer:
        order.append(queue.enqueue(job, "0"))
        with SetEnqueueOptions(priority=3, deduplication_id="inner"):
            order.append(queue.enqueue(job, "1"))
            with outer:
                order.append(queue.enqueue(job, "2"))
        order.append(queue.enqueue(job, "3"))
        with pytest.raises(ZeroDivisionError), SetEnqueueOptions(priority=9):
            raise ZeroDivisionError
        order.append(queue.enqueue(job, "4"))
        order.append(DBOS.start_workflow(job, "5"))
    order.append(queue.enqueue(job, "6"))
    priorities = [options_of(handle.workflow_id)[0] for handle in order]
    assert priorities == [7, 3, 7, 7, 7, 0, 0]
    deduplications = [options_of(handle.workflow_id)[1] for handle in order]
    assert deduplications == [None, "inner", *[None] * 5]
    with SetEnqueueOptions(priority=7, deduplication_id="d"):
        family = [queue.enqueue(parent)]
    with SetEnqueueOptions(queue_partition_key="k"):
        family.append(parted.enqueue(parent))
    for handle in family:
        for child in handle.get_result():
            assert options_of(child) == (0, None, None, "test")


def test_work_for_another_version_waits_for_it(app: QueueApp, jobs: Jobs) -> None:
    """It holds up nobody behind it, and its children are of the version that runs it."""
    queue = unpolled("q", concurrency=1)

    @DBOS.workflow()
    def parent() -> str:
        return queue.enqueue(job, "child").workflow_id

    with SetEnqueueOptions(app_version="next"):
        other = queue.enqueue(job, "other")
        with SetWorkflowID("p"):
            queue.enqueue(parent)
    assert enqueue_job(queue, "own").get_result() == "own done"
    assert (other.get_status().status, other.get_status().app_version) == ("ENQUEUED", "next")
    app.relaunch(application_version="next")
    assert DBOS.get_result(other.workflow_id) == "other done"
    assert DBOS.get_result(DBOS.get_result("p")) == "child done"
    assert recorded("p-1").app_version == "next"


# -- deduplication


def test_deduplication_id_is_taken_while_its_workflow_waits_or_runs(app: QueueApp, jobs: Jobs) -> None:
    """On that queue only. What is refused leaves nothing behind; the same workflow again is no conflict."""
    queue, other = blocked_queue(jobs), unpolled("other")

    def enqueue(workflow_id: str, deduplication_id: str | None = "d", on: Queue = queue) -> WorkflowHandle[str]:
        with SetEnqueueOptions(deduplication_id=deduplication_id):
            return enqueue_job(on, workflow_id)

    def assert_taken() -> None:
        assert recorded("w").deduplication_id == "d"
        with pytest.raises(error.DBOSQueueDeduplicatedError) as info:
            enqueue("refused")
        assert (info.value.workflow_id, info.value.queue_name, info.value.deduplication_id) == ("refused", "q", "d")
        assert all(name in str(info.value) for name in ("'refused'", "'q'", "'d'"))
        with pytest.raises(error.DBOSQueueDeduplicatedError), SetEnqueueOptions(deduplication_id="d"):
            asyncio.run(cast("Any", queue.enqueue_async(job_async, "refused")))
        assert enqueue("w").workflow_id == "w"

    enqueue("w")
    assert_taken()
    jobs.let_go("blocker")
    jobs.wait_running("w")
    assert_taken()
    free = [enqueue("other queue", on=other), enqueue("other id", "e"), enqueue("without", None)]
    assert all_ids() == sorted(["blocker", "w", "other queue", "other id", "without"])
    jobs.let_go()
    assert [handle.get_result() for handle in (enqueue("w"), *free)] == [
        f"{name} done" for name in ("w", "other queue", "other id", "without")
    ]
    assert recorded("w").deduplication_id is None
    assert enqueue("w").get_result() == "w done", "the same workflow, which has ended"
    jobs.hold()
    enqueue("refused")
    jobs.wait_running("refused")
    assert enqueue("w").get_result() == "w done", "though another one holds the id by now"


def test_deduplication_id_is_free_after_every_end(app: QueueApp, jobs: Jobs) -> None:
    """Success, error, cancelled while waiting and while running, deleted."""
    queue = unpolled("q")
    waiting = blocked_queue(jobs, "blocked")

    @DBOS.workflow()
    def failing() -> None:
        raise ZeroDivisionError

    def enqueue(workflow_id: str, on: Queue = queue) -> WorkflowHandle[str]:
        with SetEnqueueOptions(deduplication_id="d"):
            return enqueue_job(on, workflow_id)

    enqueue("success")
    jobs.let_go("success")
    DBOS.get_result("success")
    with SetEnqueueOptions(deduplication_id="d"):
        failed = queue.enqueue(failing)
    with pytest.raises(ZeroDivisionError):
        failed.get_result()
    enqueue("cancelled running")
    jobs.wait_running("cancelled running")
    DBOS.cancel_workflow("cancelled running")
    enqueue("deleted running")
    jobs.wait_running("deleted running")
    DBOS.delete_workflow("deleted running")
    enqueue("last")
    enqueue("cancelled", waiting)
    DBOS.cancel_workflow("cancelled")
    enqueue("deleted", waiting)
    DBOS.delete_workflow("deleted")
    enqueue("last waiting", waiting)
    assert [recorded(name).deduplication_id for name in ("cancelled", "last", "last waiting")] == [None, "d", "d"]


def test_one_of_many_at_the_same_moment_gets_the_deduplication_id(app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q")
    jobs.hold()

    def attempt() -> str | None:
        with SetEnqueueOptions(deduplication_id="d"):
            try:
                return queue.enqueue(job, "w").workflow_id
            except error.DBOSQueueDeduplicatedError:
                return None

    won = [workflow_id for workflow_id in in_threads([attempt] * 8) if workflow_id is not None]
    assert all_ids() == won
    assert len(won) == 1


def test_refusal_of_a_deduplication_id_is_recorded_in_the_workflow(app: QueueApp, jobs: Jobs, is_async: bool) -> None:
    """It is raised again on replay, though the id is free by then; the child that was enqueued is found again."""
    queue, roadblock = unpolled("q"), Roadblock()

    @DBOS.step()
    def pause() -> None:
        roadblock.stop()

    @DBOS.step()
    async def pause_async() -> None:
        await roadblock.stop_async()

    @DBOS.workflow()
    def parent() -> tuple[str, str, str, str]:
        with SetEnqueueOptions(deduplication_id="free"):
            child = queue.enqueue(job, "child")
        with pytest.raises(error.DBOSQueueDeduplicatedError) as info, SetEnqueueOptions(deduplication_id="taken"):
            queue.enqueue(job, "refused")
        pause()
        refusal = info.value
        return child.workflow_id, refusal.workflow_id, refusal.queue_name, refusal.deduplication_id

    @DBOS.workflow()
    async def parent_async() -> tuple[str, str, str, str]:
        with SetEnqueueOptions(deduplication_id="free"):
            child = await queue.enqueue_async(job, "child")
        with pytest.raises(error.DBOSQueueDeduplicatedError) as info, SetEnqueueOptions(deduplication_id="taken"):
            await queue.enqueue_async(job, "refused")
        await pause_async()
        refusal = info.value
        return child.workflow_id, refusal.workflow_id, refusal.queue_name, refusal.deduplication_id

    jobs.hold()
    with SetEnqueueOptions(deduplication_id="taken"):
        enqueue_job(queue, "holder")
    jobs.wait_running("holder")
    with SetWorkflowID("p"):
        DBOS.start_workflow(cast("Any", parent_async if is_async else parent))
    jobs.wait_running("child")
    roadblock.wait_until_reached()
    jobs.let_go()
    for workflow_id in ("holder", "p-1"):
        DBOS.get_result(workflow_id)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("p") == ("p-1", "p-2", "q", "taken")
    steps = DBOS.list_workflow_steps("p")
    assert [(step["function_name"], step["child_workflow_id"]) for step in steps[:2]] == [
        ("queues.job", "p-1"),
        ("queues.job", None),
    ]
    assert isinstance(steps[1]["error"], error.DBOSQueueDeduplicatedError)
    assert all_ids() == ["holder", "p", "p-1"]
    assert sorted(jobs.started) == ["child", "holder"]


def test_workflow_that_does_not_catch_the_refusal_ends_with_it(app: QueueApp, jobs: Jobs) -> None:
    queue = blocked_queue(jobs)

    @DBOS.workflow()
    def parent() -> None:
        with SetEnqueueOptions(deduplication_id="d"):
            queue.enqueue(job, "first")
            with SetWorkflowID("p-1"):
                queue.enqueue(job, "the same again")
            queue.enqueue(job, "second")

    with SetWorkflowID("p"), pytest.raises(error.DBOSQueueDeduplicatedError, match="'p-3'"):
        parent()
    assert steps_of("p") == [(number, "queues.job") for number in (1, 2, 3)]
    assert all_ids(parent_workflow_id="p") == ["p-1"]


# -- timeouts


def test_timeout_begins_when_the_workflow_leaves_the_queue(timed_app: QueueApp, jobs: Jobs) -> None:
    """However long it waits there; when it is over, the workflow and its children are cancelled, and the slot free."""
    queue = blocked_queue(jobs)

    @DBOS.workflow()
    def child() -> None:
        DBOS.sleep(HOUR_S)

    @DBOS.workflow()
    def sleeping() -> None:
        child()

    with SetWorkflowID("w"), SetWorkflowTimeout(0.4):
        handle = queue.enqueue(sleeping)
    last = enqueue_job(queue, "last")
    status = handle.get_status()
    assert (status.status, status.workflow_timeout_ms, status.workflow_deadline_epoch_ms) == ("ENQUEUED", 400, None)
    created_at = status.created_at or 0
    # Time passes while it waits: the subject of this test.
    eventually(lambda: time.time() * 1000 > created_at + 500, "it has waited longer than its timeout")
    assert status_of("w") == "ENQUEUED"
    jobs.let_go()
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError, match="'w'"):
        handle.get_result()
    status = recorded("w")
    assert status.dequeued_at is not None
    assert status.updated_at is not None
    assert status.workflow_deadline_epoch_ms is not None
    assert status.dequeued_at + 400 <= status.workflow_deadline_epoch_ms <= status.updated_at
    assert (status.status, status.workflow_timeout_ms, status_of("w-1")) == ("CANCELLED", 400, "CANCELLED")
    assert last.get_result() == "last done"


def test_enqueued_child_has_the_deadline_of_its_parent_unless_it_sets_its_own(timed_app: QueueApp, jobs: Jobs) -> None:
    """Also if it has not started by then; a timeout of its own begins at its start."""
    queue, free = blocked_queue(jobs), unpolled("free")

    @DBOS.workflow()
    def sleeping() -> None:
        DBOS.sleep(HOUR_S)

    @DBOS.workflow()
    def parent() -> None:
        queue.enqueue(job, "heir")
        with SetWorkflowTimeout(HOUR_S):
            queue.enqueue(job, "longer")
        with SetWorkflowTimeout(None):
            queue.enqueue(job, "detached")
        free.enqueue(sleeping).get_result()

    with SetWorkflowID("p"), SetWorkflowTimeout(0.5), pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        parent()
    deadline_ms = recorded("p").workflow_deadline_epoch_ms
    assert deadline_ms is not None
    for heir in ("p-1", "p-4"):
        eventually(lambda heir=heir: status_of(heir) == "CANCELLED", "it is cancelled")  # type: ignore[misc]
        status = recorded(heir)
        assert (status.workflow_timeout_ms, status.workflow_deadline_epoch_ms) == (None, deadline_ms)
    limits = [(recorded(its).workflow_timeout_ms, recorded(its).workflow_deadline_epoch_ms) for its in ("p-2", "p-3")]
    assert limits == [(round(HOUR_S * 1000), None), (None, None)]
    jobs.let_go()
    assert [DBOS.get_result(child) for child in ("p-2", "p-3")] == ["longer done", "detached done"]
    assert jobs.started == ["blocker", "longer", "detached"]
    longer = recorded("p-2")
    assert (longer.workflow_deadline_epoch_ms or 0) >= (longer.dequeued_at or 0) + HOUR_S * 1000


def test_deadline_of_started_work_outlives_its_way_back_to_the_queue(timed_app: QueueApp, jobs: Jobs) -> None:
    """It does not begin anew, and it passes on the queue as well."""
    queue = blocked_queue(jobs)

    @DBOS.workflow()
    def sleeping() -> None:
        DBOS.sleep(HOUR_S)

    jobs.let_go("blocker")
    with SetWorkflowID("w"), SetWorkflowTimeout(1.5):
        queue.enqueue(sleeping)
    eventually(lambda: steps_of("w"), "it sleeps")
    deadline_ms = recorded("w").workflow_deadline_epoch_ms
    assert deadline_ms is not None
    timed_app.relaunch(listening=[])
    eventually(lambda: status_of("w") == "ENQUEUED", "it is back on its queue")
    assert recorded("w").workflow_deadline_epoch_ms == deadline_ms
    timed_app.relaunch()
    eventually(lambda: status_of("w") == "PENDING", "it runs again")
    assert recorded("w").workflow_deadline_epoch_ms == deadline_ms
    timed_app.relaunch(listening=[])
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        DBOS.get_result("w")
    assert (recorded("w").updated_at or 0) >= deadline_ms


# -- listening


def test_process_starts_only_what_it_listens_to(app: QueueApp, jobs: Jobs) -> None:
    """It may enqueue on any queue; a launch after that listens to all again."""
    heard, unheard = unpolled("heard"), unpolled("unheard")
    app.relaunch(listening=[heard])
    unheard_handles = [enqueue_job(unheard, "early"), enqueue_job(unheard, "u")]
    late = unpolled("late")
    unheard_handles.append(enqueue_job(late, "l"))
    assert enqueue_job(heard, "h").get_result() == "h done"
    assert [handle.get_status().status for handle in unheard_handles] == ["ENQUEUED"] * 3
    app.relaunch()
    assert [DBOS.get_result(name) for name in ("early", "u", "l")] == ["early done", "u done", "l done"]
    assert jobs.started[0] == "h"


def test_process_that_listens_to_no_queue_resumes_and_forks(app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q")
    app.relaunch(listening=[])
    enqueue_job(queue, "resumed")
    enqueue_job(queue, "stays")
    resumed: WorkflowHandle[str] = DBOS.resume_workflow("resumed")
    assert resumed.get_result() == "resumed done"
    assert DBOS.fork_workflow("resumed", 1).get_result() == "resumed done"
    assert status_of("stays") == "ENQUEUED"
    assert DBOS.start_workflow(job, "plain").get_result() == "plain done"


def test_queue_declared_after_the_launch_starts_what_waits_for_it(
    app: QueueApp, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """Until then it stays, and that is said once."""
    DBOS.destroy()
    app.renew_interval_s = 0.01
    gate = LooksGate()
    app.gate = gate
    app.launch()
    with DBOSClient(system_database_url=app.url) as client:
        for name in ("w1", "w2"):
            client.enqueue({"workflow_name": "queues.job", "queue_name": "later", "workflow_id": name}, name)
    await_reports(gate)
    assert len(warnings_of(caplog, "'later'")) == 1
    assert [status_of(name) for name in ("w1", "w2")] == ["ENQUEUED"] * 2
    unpolled("later", concurrency=1)
    assert [DBOS.get_result(name) for name in ("w1", "w2")] == ["w1 done", "w2 done"]
    assert jobs.started == ["w1", "w2"]


# -- steering


def test_cancelled_before_its_start_it_never_starts_until_it_is_resumed(app: QueueApp, jobs: Jobs) -> None:
    """Resumed, it does not go back to the queue."""
    queue = blocked_queue(jobs)
    handle = enqueue_job(queue, "cancelled")
    last = enqueue_job(queue, "last")
    DBOS.cancel_workflow("cancelled")
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError, match="'cancelled'"):
        handle.get_result()
    jobs.let_go("blocker")
    jobs.wait_running("last")
    assert jobs.started == ["blocker", "last"]
    resumed: WorkflowHandle[str] = DBOS.resume_workflow("cancelled")
    jobs.wait_running("last", "cancelled")
    jobs.let_go()
    assert resumed.get_result() == handle.get_result() == "cancelled done"
    assert last.get_result() == "last done"


def test_cancelled_or_deleted_while_it_runs_it_counts_no_more(app: QueueApp, jobs: Jobs) -> None:
    """For the limit of all processes at once: that counts claims. Its function may still be running."""
    queue = unpolled("q", concurrency=1)
    jobs.hold()
    handles = [enqueue_job(queue, name) for name in ("cancelled", "deleted", "third")]
    for name, act in (("cancelled", DBOS.cancel_workflow), ("deleted", DBOS.delete_workflow)):
        jobs.wait_running(name)
        act(name)
    jobs.wait_running("cancelled", "deleted", "third")
    jobs.let_go()
    assert handles[2].get_result() == "third done"
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        handles[0].get_result()
    wait_until_idle()
    assert (status_of("cancelled"), status_of("deleted")) == ("CANCELLED", None)


def test_cancelled_or_deleted_it_keeps_its_place_in_the_process_until_it_returns(app: QueueApp, jobs: Jobs) -> None:
    """The limit of a process is there to protect it: it counts the functions that run."""
    queue, other = unpolled("q", worker_concurrency=1), unpolled("other")
    jobs.hold()
    handles = [enqueue_job(queue, name) for name in ("q cancelled", "q deleted", "q third")]
    for name, act in (("q cancelled", DBOS.cancel_workflow), ("q deleted", DBOS.delete_workflow)):
        jobs.wait_running(name)
        act(name)
        enqueue_job(other, f"while {name}")
        jobs.wait_running(name, f"while {name}")
        jobs.let_go(name)
    jobs.let_go()
    assert handles[2].get_result() == "q third done"
    assert jobs.peak("q ") == 1


def test_deleted_before_its_start_it_never_starts(app: QueueApp, jobs: Jobs) -> None:
    queue = blocked_queue(jobs)
    enqueue_job(queue, "deleted")
    last = enqueue_job(queue, "last")
    DBOS.delete_workflow("deleted")
    jobs.let_go()
    assert last.get_result() == "last done"
    assert jobs.started == ["blocker", "last"]


def test_resumed_workflow_passes_its_queue(app: QueueApp, jobs: Jobs) -> None:
    """It starts at once, whatever the limits; what stays on the queue keeps its order and its limits."""
    queue = blocked_queue(jobs, limiter={"limit": 4, "period": HOUR_S})
    handles = {name: enqueue_job(queue, name) for name in ("second", "third", "fourth")}
    resumed: WorkflowHandle[str] = DBOS.resume_workflow("third")
    jobs.wait_running("blocker", "third")
    assert [status_of(name) for name in ("second", "third", "fourth")] == ["ENQUEUED", "PENDING", "ENQUEUED"]
    jobs.let_go("third")
    assert resumed.get_result() == handles["third"].get_result() == "third done"
    assert jobs.started == ["blocker", "third"]
    jobs.let_go()
    assert [handles[name].get_result() for name in ("second", "fourth")] == ["second done", "fourth done"]
    assert jobs.started == ["blocker", "third", "second", "fourth"]
    again: WorkflowHandle[str] = DBOS.resume_workflow("second")
    assert again.get_result() == "second done"
    assert len(jobs.started) == 4


# -- recovery


def test_interrupted_work_goes_back_through_its_queue(app: QueueApp, jobs: Jobs, is_async: bool) -> None:
    """Steps that are recorded do not run again, limits and order hold, and a hand-back counts as no attempt."""
    queue, roadblock, ran = unpolled("q", concurrency=1), Roadblock(), list[str]()

    @DBOS.step()
    def step(name: str) -> str:
        ran.append(name)
        return name

    @DBOS.step()
    def pause() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def workflow() -> str:
        first = step("first")
        pause()
        return f"{first} {step('second')}"

    @DBOS.step()
    async def step_async(name: str) -> str:
        return step(name)

    @DBOS.step()
    async def pause_async() -> None:
        await roadblock.stop_async()

    @DBOS.workflow()
    async def workflow_async() -> str:
        first = await step_async("first")
        await pause_async()
        return f"{first} {await step_async('second')}"

    with SetWorkflowID("w"):
        queue.enqueue(cast("Any", workflow_async if is_async else workflow))
    for name in ("a", "b"):
        enqueue_job(queue, name)
    roadblock.wait_until_reached()
    DBOS.destroy()
    assert jobs.started == []
    app.launch(listening=[])
    wait_until_idle()
    eventually(lambda: status_of("w") == "ENQUEUED", "it is back on its queue")
    assert (recorded("w").recovery_attempts, recorded("w").queue_name) == (0, "q")
    roadblock.open()
    app.relaunch()
    assert DBOS.get_result("w") == "first second"
    assert [DBOS.get_result(name) for name in ("a", "b")] == ["a done", "b done"]
    assert ran == ["first", "second"]
    assert jobs.started == ["a", "b"]
    assert [recorded(name).recovery_attempts for name in ("w", "a", "b")] == [1, 1, 1]


def test_shutting_down_starts_nothing_more(app: QueueApp, jobs: Jobs) -> None:
    """Also while it waits for what runs; whoever waits for what did not start is told."""
    queue = unpolled("q", worker_concurrency=2)
    jobs.hold()
    handles = [enqueue_job(queue, name) for name in ("a", "b", "waiting")]
    jobs.wait_running("a", "b")

    def wait() -> None:
        with pytest.raises(error.DBOSException, match="shut down"):
            handles[2].get_result()

    def end(name: str) -> None:
        jobs.let_go(name)
        succeeded = f"SELECT 1 FROM {{schema}}workflow_status WHERE workflow_uuid = '{name}' AND status = 'SUCCESS'"
        eventually(lambda: query(app.url, succeeded), f"{name} has ended")

    def let_go() -> None:
        eventually(lambda: DBOS._application is None, "it shuts down")  # pyright: ignore[reportPrivateUsage]
        end("a")
        end("b")

    in_threads([lambda: DBOS.destroy(workflow_completion_timeout_sec=PATIENCE_S), let_go, wait])
    assert sorted(jobs.started) == ["a", "b"]
    app.launch()
    jobs.let_go()
    assert DBOS.get_result("waiting") == "waiting done"
    assert recorded("waiting").recovery_attempts == 1


def test_coroutine_that_is_interrupted_here_goes_back_to_its_queue(app: QueueApp, jobs: Jobs) -> None:
    """Its task was cancelled by somebody: it is recovered at once, in the order of the queue."""
    queue, tasks = unpolled("q", concurrency=1), list[asyncio.Task[Any] | None]()

    @DBOS.workflow()
    async def cancelled_once() -> int:
        tasks.append(asyncio.current_task())
        if len(tasks) == 1 and tasks[0] is not None:
            tasks[0].cancel()
            await asyncio.sleep(HOUR_S)
        return len(tasks)

    handle = queue.enqueue(cancelled_once)
    last = enqueue_job(queue, "last")
    assert handle.get_result() == 2
    assert last.get_result() == "last done"
    assert handle.get_status().recovery_attempts == 2


KILLED = """
    import os, signal, sys
    from dbos import DBOS, Queue, SetWorkflowID

    queue = Queue("q", concurrency=1)

    @DBOS.step(name="queues.killed.step")
    def step(word):
        return word

    @DBOS.step(name="queues.killed.kill")
    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    @DBOS.workflow(name="queues.killed", max_recovery_attempts=1)
    def killed():
        step("recorded")
        kill()

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "test",
                 "run_admin_server": False})
    DBOS.launch()
    with SetWorkflowID(sys.argv[2]):
        queue.enqueue(killed)
    sys.stdin.readline()
"""


def test_work_that_kills_its_process_is_recovered_then_given_up(app: QueueApp, jobs: Jobs, spawn: Spawner) -> None:
    """Its steps are kept, each kill counts as an attempt, and in the end its slot is free for others."""
    ran = list[str]()

    @DBOS.step(name="queues.killed.step")
    def step(word: str) -> str:
        ran.append(word)
        return word

    @DBOS.workflow(name="queues.killed", max_recovery_attempts=1)
    def killed() -> str:
        return step("here")

    DBOS.destroy()
    queue = unpolled("q", concurrency=1)
    assert spawn(KILLED, app.url, "w").wait() == -9
    app.launch()
    assert DBOS.get_result("w") == "recorded"
    assert (recorded("w").status, recorded("w").recovery_attempts) == ("SUCCESS", 2)
    DBOS.destroy()
    for _ in range(2):
        assert spawn(KILLED, app.url, "poisoned").wait() == -9
    app.launch()
    last = enqueue_job(queue, "last")
    with pytest.raises(error.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded, match="'poisoned'"):
        DBOS.get_result("poisoned")
    assert status_of("poisoned") == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    assert last.get_result() == "last done"
    assert DBOS.resume_workflow("poisoned").get_result() == "recorded"
    assert ran == []


# -- work that cannot run


def test_row_that_cannot_be_read_ends_in_error_and_its_batch_runs(app: QueueApp, jobs: Jobs) -> None:
    queue = unpolled("q", concurrency=20)
    app.relaunch(listening=[])
    bad = {
        "garbage": "inputs = 'garbage'",
        "format": "serialization = 'no such format'",
        "shape": "inputs = '[1]', serialization = 'portable_json'",
        "nothing": "inputs = NULL",
    }
    for name in bad:
        enqueue_job(queue, name)
        enqueue_job(queue, f"behind {name}")
    for name, change in bad.items():
        query(app.url, f"UPDATE {{schema}}workflow_status SET {change} WHERE workflow_uuid = '{name}'")
    app.relaunch()
    for name in bad:
        assert DBOS.get_result(f"behind {name}") == f"behind {name} done"
        with pytest.raises(error.DBOSException):
            DBOS.get_result(name)
        assert status_of(name) == "ERROR"
    assert sorted(jobs.started) == sorted(f"behind {name}" for name in bad)
    assert enqueue_job(queue, "after").get_result() == "after done"


def test_unknown_function_stays_is_reported_once_and_blocks_nobody(
    app: QueueApp, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts in a process that knows it."""
    # This process may have run the test before, and knows what it defined then.
    queue, unknown = unpolled("q", concurrency=1), f"queues.unknown.{uuid.uuid4()}"
    DBOS.destroy()
    app.renew_interval_s = 0.01
    gate = LooksGate()
    app.gate = gate
    app.launch()
    with DBOSClient(system_database_url=app.url) as client:
        for number in range(3):
            client.enqueue({"workflow_name": unknown, "queue_name": "q", "workflow_id": f"unknown{number}"}, number)
    assert enqueue_job(queue, "behind").get_result() == "behind done"
    await_reports(gate)
    assert len(warnings_of(caplog, "'q'", repr(unknown))) == 1
    assert warnings_of(caplog, "'queues.job'") == []
    assert [status_of(f"unknown{number}") for number in range(3)] == ["ENQUEUED"] * 3

    @DBOS.workflow(name=unknown)
    def known(number: int) -> int:
        return number

    app.relaunch()
    assert [DBOS.get_result(f"unknown{number}") for number in range(3)] == [0, 1, 2]


def test_enqueueing_many_at_once_loses_nothing(app: QueueApp, jobs: Jobs) -> None:
    """From threads and from a loop at the same time, with claims going on meanwhile."""
    queue, count = unpolled("q", worker_concurrency=5), 25

    def enqueue(kind: str) -> None:
        for number in range(count):
            enqueue_job(queue, f"{kind}{number}")

    async def enqueue_async() -> None:
        handles = [await queue.enqueue_async(job_async, f"d{number}") for number in range(count)]
        assert await asyncio.gather(*(handle.get_result() for handle in handles)) == [
            f"d{number} done" for number in range(count)
        ]

    in_threads([lambda kind=kind: enqueue(kind) for kind in "abc"] + [lambda: asyncio.run(enqueue_async())])
    jobs.wait_ended(4 * count)
    assert sorted(jobs.started) == sorted(f"{kind}{number}" for kind in "abcd" for number in range(count))
    assert jobs.peak() <= 5
