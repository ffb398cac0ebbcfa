"""What calls of the library are recorded as in a workflow: the names and the numbers that version 2 gave them.

Recorded workflows are replayed by both, so these are promises. The list was read from the rows that the older library
wrote (2.13.0 on both databases), not from its documentation. ``mark`` is the step after the call: where it is not the
next one, the call keeps a number that it may not need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import pytest

from dbos import DBOS, Queue, SetWorkflowID
from dbos.error import DBOSException
from tests.support.apps import App

Steps = list[tuple[int, str]]


@DBOS.workflow(name="child")
def child(n: int = 1) -> int:
    return n


@DBOS.workflow(name="child_async")
async def child_async(n: int = 1) -> int:
    return n


@DBOS.workflow(name="setter")
def setter() -> None:
    DBOS.set_event("key", 5)


@DBOS.workflow(name="streamer")
def streamer() -> None:
    DBOS.write_stream("key", 1)
    DBOS.close_stream("key")


@DBOS.workflow(name="fires")
def fires(scheduled_at: datetime, context: Any) -> None:
    pass


@DBOS.step(name="mark")
def mark() -> None:
    pass


@DBOS.step(name="mark")
async def mark_async() -> None:
    pass


@DBOS.step(name="alone")
def step() -> int:
    return 1


QUEUE = Queue("names of steps")


def received() -> Any:
    DBOS.send(str(DBOS.workflow_id), "m", "t")
    return DBOS.recv("t", 1)


def enqueue() -> Any:
    return QUEUE.enqueue(child).get_result()


def patches() -> None:
    DBOS.patch("new")
    DBOS.patch("new")
    DBOS.deprecate_patch("old")


def schedule(name: str) -> None:
    DBOS.create_schedule(schedule_name=name, workflow_fn=fires, schedule="0 0 1 1 *", context=None)


def ignored(call: Callable[[], Any]) -> Callable[[], None]:
    """The call, whose error is of no interest."""

    def run() -> None:
        with pytest.raises(DBOSException):
            call()

    return run


CALLS: dict[str, tuple[Callable[[], Any], Steps]] = {
    "sleep": (lambda: DBOS.sleep(0.001), [(1, "DBOS.sleep")]),
    "recv, nothing there": (lambda: DBOS.recv("t", 0.01), [(1, "DBOS.recv"), (2, "DBOS.sleep")]),
    "recv, something there": (received, [(1, "DBOS.send"), (2, "DBOS.recv"), (4, "mark")]),
    "send": (lambda: DBOS.send("done", "m", "t"), [(1, "DBOS.send")]),
    "set_event": (lambda: DBOS.set_event("key", 1), [(1, "DBOS.setEvent")]),
    "get_event": (lambda: DBOS.get_event("setter", "key", 1), [(1, "DBOS.getEvent"), (3, "mark")]),
    "get_event, nothing there": (
        lambda: DBOS.get_event("setter", "none", 0.01),
        [(1, "DBOS.getEvent"), (2, "DBOS.sleep")],
    ),
    "get_all_events": (lambda: DBOS.get_all_events("setter"), [(1, "DBOS.get_events")]),
    "write_stream": (lambda: DBOS.write_stream("key", 1), [(1, "DBOS.writeStream")]),
    "close_stream": (lambda: DBOS.close_stream("key"), [(1, "DBOS.closeStream")]),
    "read_stream": (lambda: list(DBOS.read_stream("streamer", "key")), []),
    "call of a workflow": (lambda: child(), [(1, "child"), (2, "DBOS.getResult")]),
    "start_workflow": (lambda: DBOS.start_workflow(child), [(1, "child")]),
    "start_workflow and its result": (
        lambda: DBOS.start_workflow(child).get_result(),
        [(1, "child"), (2, "DBOS.getResult")],
    ),
    "start_workflow and its status": (
        lambda: DBOS.start_workflow(child).get_status(),
        [(1, "child"), (2, "DBOS.getStatus")],
    ),
    "enqueue": (enqueue, [(1, "child"), (2, "DBOS.getResult")]),
    "start_workflow of a step": (lambda: DBOS.start_workflow(step), [(1, "<temp>.alone")]),
    "step": (step, [(1, "alone")]),
    "run_step": (lambda: DBOS.run_step({"name": "named"}, lambda: 1), [(1, "named")]),
    "run_step without a name": (lambda: DBOS.run_step(None, step), [(1, "step")]),
    "retrieve_workflow": (lambda: DBOS.retrieve_workflow("done"), [(1, "DBOS.getStatus")]),
    "retrieve_workflow that may not exist": (lambda: DBOS.retrieve_workflow("no", existing_workflow=False), []),
    "retrieve_workflow of none": (ignored(lambda: DBOS.retrieve_workflow("no")), [(1, "DBOS.getStatus")]),
    "get_workflow_status": (lambda: DBOS.get_workflow_status("done"), [(1, "DBOS.getStatus")]),
    "get_result": (lambda: DBOS.get_result("done"), [(1, "DBOS.getResult")]),
    "list_workflows": (lambda: DBOS.list_workflows(limit=1), [(1, "DBOS.listWorkflows")]),
    "list_queued_workflows": (lambda: DBOS.list_queued_workflows(), [(1, "DBOS.listQueuedWorkflows")]),
    "list_workflow_steps": (lambda: DBOS.list_workflow_steps("done"), [(1, "DBOS.listWorkflowSteps")]),
    "cancel_workflow": (lambda: DBOS.cancel_workflow("done"), [(1, "DBOS.cancelWorkflow")]),
    "resume_workflow": (lambda: DBOS.resume_workflow("done"), [(1, "DBOS.resumeWorkflow"), (2, "DBOS.getStatus")]),
    "fork_workflow": (lambda: DBOS.fork_workflow("done", 1), [(1, "DBOS.forkWorkflow"), (2, "DBOS.getStatus")]),
    "delete_workflow": (lambda: DBOS.delete_workflow("gone"), [(1, "DBOS.deleteWorkflow")]),
    "delete_workflows": (lambda: DBOS.delete_workflows(["gone", "away"]), [(1, "DBOS.deleteWorkflow")]),
    "patch": (patches, [(1, "DBOS.patch-new"), (2, "DBOS.patch-new")]),
}

SCHEDULE_CALLS: dict[str, tuple[Callable[[], Any], Steps]] = {
    "create_schedule": (lambda: schedule("one"), [(1, "DBOS.createSchedule")]),
    "list_schedules": (lambda: DBOS.list_schedules(), [(1, "DBOS.listSchedules")]),
    "get_schedule": (lambda: DBOS.get_schedule("every"), [(1, "DBOS.getSchedule")]),
    "pause_schedule": (lambda: DBOS.pause_schedule("every"), [(1, "DBOS.pauseSchedule")]),
    "resume_schedule": (lambda: DBOS.resume_schedule("every"), [(1, "DBOS.resumeSchedule")]),
    "delete_schedule": (lambda: DBOS.delete_schedule("every"), [(1, "DBOS.deleteSchedule")]),
}

Call = Callable[[], Coroutine[Any, Any, Any]]


async def received_async() -> Any:
    await DBOS.send_async(str(DBOS.workflow_id), "m", "t")
    return await DBOS.recv_async("t", 1)


async def child_result() -> Any:
    return await (await DBOS.start_workflow_async(child_async)).get_result()


async def child_status() -> Any:
    return await (await DBOS.start_workflow_async(child_async)).get_status()


async def enqueued_result() -> Any:
    return await (await QUEUE.enqueue_async(child_async)).get_result()


async def stream_values() -> list[Any]:
    return [value async for value in DBOS.read_stream_async("streamer", "key")]


async def gathered() -> None:
    await asyncio.gather(
        DBOS.run_step_async({"name": "one"}, mark_async), DBOS.sleep_async(0.001), child_async(), DBOS.sleep_async(0)
    )


ASYNC_CALLS: dict[str, tuple[Call, Steps]] = {
    "sleep": (lambda: DBOS.sleep_async(0.001), [(1, "DBOS.sleep")]),
    "recv, nothing there": (lambda: DBOS.recv_async("t", 0.01), [(1, "DBOS.recv"), (2, "DBOS.sleep")]),
    "recv, something there": (received_async, [(1, "DBOS.send"), (2, "DBOS.recv"), (4, "mark")]),
    "set_event": (lambda: DBOS.set_event_async("key", 1), [(1, "DBOS.setEvent")]),
    "get_event": (lambda: DBOS.get_event_async("setter", "key", 1), [(1, "DBOS.getEvent"), (3, "mark")]),
    "get_all_events": (lambda: DBOS.get_all_events_async("setter"), [(1, "DBOS.get_events")]),
    "write_stream": (lambda: DBOS.write_stream_async("key", 1), [(1, "DBOS.writeStream")]),
    "close_stream": (lambda: DBOS.close_stream_async("key"), [(1, "DBOS.closeStream")]),
    "read_stream": (stream_values, []),
    "call of a workflow": (lambda: child_async(), [(1, "child_async"), (2, "DBOS.getResult")]),
    "start_workflow and its result": (child_result, [(1, "child_async"), (2, "DBOS.getResult")]),
    "start_workflow and its status": (child_status, [(1, "child_async"), (2, "DBOS.getStatus")]),
    "enqueue": (enqueued_result, [(1, "child_async"), (2, "DBOS.getResult")]),
    "retrieve_workflow": (lambda: DBOS.retrieve_workflow_async("done"), [(1, "DBOS.getStatus")]),
    "get_workflow_status": (lambda: DBOS.get_workflow_status_async("done"), [(1, "DBOS.getStatus")]),
    "get_result": (lambda: DBOS.get_result_async("done"), [(1, "DBOS.getResult")]),
    "list_workflows": (lambda: DBOS.list_workflows_async(limit=1), [(1, "DBOS.listWorkflows")]),
    "list_queued_workflows": (lambda: DBOS.list_queued_workflows_async(), [(1, "DBOS.listQueuedWorkflows")]),
    "list_workflow_steps": (lambda: DBOS.list_workflow_steps_async("done"), [(1, "DBOS.listWorkflowSteps")]),
    "cancel_workflow": (lambda: DBOS.cancel_workflow_async("done"), [(1, "DBOS.cancelWorkflow")]),
    "resume_workflow": (
        lambda: DBOS.resume_workflow_async("done"),
        [(1, "DBOS.resumeWorkflow"), (2, "DBOS.getStatus")],
    ),
    "fork_workflow": (
        lambda: DBOS.fork_workflow_async("done", 1),
        [(1, "DBOS.forkWorkflow"), (2, "DBOS.getStatus")],
    ),
    "delete_workflow": (lambda: DBOS.delete_workflow_async("gone"), [(1, "DBOS.deleteWorkflow")]),
    "delete_workflows": (lambda: DBOS.delete_workflows_async(["gone", "away"]), [(1, "DBOS.deleteWorkflow")]),
    "patch": (lambda: DBOS.patch_async("new"), [(1, "DBOS.patch-new")]),
    "deprecate_patch": (lambda: DBOS.deprecate_patch_async("new"), []),
    "gather": (
        gathered,
        [(1, "one"), (2, "DBOS.sleep"), (3, "child_async"), (4, "DBOS.getResult"), (5, "DBOS.sleep")],
    ),
}


@pytest.fixture
def known(app: App) -> None:
    """Workflows that the calls are about."""
    app.relaunch(enable_patching=True)
    for workflow_id, function in (("done", child), ("gone", child), ("setter", setter), ("streamer", streamer)):
        with SetWorkflowID(workflow_id):
            function()


def recorded(workflow_id: str) -> Steps:
    return [(one["function_id"], one["function_name"]) for one in DBOS.list_workflow_steps(workflow_id)]


def with_mark(expected: Steps) -> Steps:
    """Where it does not say otherwise, the next step has the next number."""
    return expected if (expected and expected[-1][1] == "mark") else [*expected, (len(expected) + 1, "mark")]


def check(calls: dict[str, tuple[Callable[[], Any], Steps]]) -> None:
    """Each call, in a workflow of its own, is recorded as it says."""
    for name, (call, expected) in calls.items():

        def calling(call: Callable[[], Any] = call) -> None:
            call()
            mark()

        with SetWorkflowID(name):
            DBOS.workflow(name=f"calls {name}")(calling)()
        assert recorded(name) == with_mark(expected), name


@pytest.mark.usefixtures("known")
def test_calls_are_recorded_as_version_2_did() -> None:
    check(CALLS)


@pytest.mark.usefixtures("known")
async def test_calls_that_are_awaited_are_recorded_as_version_2_did() -> None:
    for name, (call, expected) in ASYNC_CALLS.items():

        async def calling(call: Call = call) -> None:
            await call()
            await mark_async()

        with SetWorkflowID(name):
            await DBOS.workflow(name=f"awaits {name}")(calling)()
        steps = await DBOS.list_workflow_steps_async(name)
        assert [(one["function_id"], one["function_name"]) for one in steps] == with_mark(expected), name


@pytest.mark.usefixtures("known")
def test_calls_about_schedules_are_recorded_as_version_2_did() -> None:
    schedule("every")
    check(SCHEDULE_CALLS)
