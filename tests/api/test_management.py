"""Cancelling, resuming and deleting workflows: from outside, from workflows and from steps."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dbos import DBOS, DBOSClient, SetWorkflowID, SetWorkflowTimeout, WorkflowHandle, WorkflowHandleAsync, error
from tests.support.apps import PATIENCE_S, App, Roadblock, eventually, in_threads, interrupt_at, status_of, steps_of
from tests.support.gates import PausingGate
from tests.support.messaging import relaunch_with
from tests.support.processes import Spawner
from tests.support.stage import Stage, act, act_async, begin, new_stage, perform, play, play_async
from tests.verify.rows import query

CANCELLED = error.DBOSAwaitedWorkflowCancelledError
UNKNOWN = error.DBOSNonExistentWorkflowError


@pytest.fixture
def stage() -> Iterator[Stage]:
    with new_stage() as stage:
        yield stage


@pytest.fixture(params=["sync", "async"])
def is_async(request: pytest.FixtureRequest) -> bool:
    """Whether the workflow that is managed is a coroutine."""
    return bool(request.param == "async")


def cancel_in_step(stage: Stage, step: int, workflow_id: str = "w", **options: Any) -> WorkflowHandle[list[str]]:
    """Begin a workflow and cancel it while it is in this step, which then ends and is recorded."""
    roadblock = stage.stop_at(step)
    handle = begin(workflow_id, **options)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow(workflow_id)
    roadblock.open()
    eventually(lambda: len(steps_of(workflow_id)) == step, "the step in flight is recorded")
    return handle


def settle(app: App) -> None:
    """Let everything that runs come to its end, and launch again."""
    DBOS.destroy(workflow_completion_timeout_sec=PATIENCE_S)
    app.launch()


def rows(app: App, table: str = "workflow_status") -> list[tuple[Any, ...]]:
    """Everything in the table."""
    return sorted(query(app.url, f"SELECT * FROM {{schema}}{table}"), key=repr)


# -- cancelling


def test_cancelled_workflow_stops_before_its_next_step_and_keeps_the_one_in_flight(
    app: App, stage: Stage, is_async: bool
) -> None:
    """The step in flight is recorded, so that the resumed workflow does not run it again."""
    handle = cancel_in_step(stage, 2, is_async=is_async)
    with pytest.raises(CANCELLED, match="'w'"):
        handle.get_result()
    assert steps_of("w") == [(1, "act"), (2, "act")]
    assert stage.steps_run_by("w") == [1, 2]
    settle(app)
    status = handle.get_status()
    assert (status.status, status.output, status.error) == ("CANCELLED", None, None)
    assert DBOS.resume_workflow("w").get_result() == ["hamlet", "1.1", "2.1", "3.1"]
    assert stage.steps_run_by("w") == [1, 2, 3]


def test_everybody_who_waits_learns_of_the_cancellation_while_the_body_still_runs(
    app: App, stage: Stage, is_async: bool
) -> None:
    roadblock = stage.stop_at(1)
    handle = begin("w", is_async=is_async)
    roadblock.wait_until_reached()
    found: WorkflowHandle[list[str]] = DBOS.retrieve_workflow("w")

    async def wait_async() -> None:
        await (await DBOS.retrieve_workflow_async("w")).get_result()

    def is_told(wait: Callable[[], Any]) -> Callable[[], None]:
        def check() -> None:
            with pytest.raises(CANCELLED) as info:
                wait()
            assert info.value.workflow_id == "w"

        return check

    waiters = [
        is_told(handle.get_result),
        is_told(found.get_result),
        is_told(lambda: found.get_result(polling_interval_sec=3600)),
        is_told(lambda: DBOS.get_result("w")),
        is_told(lambda: asyncio.run(wait_async())),
    ]
    in_threads([*waiters, lambda: DBOS.cancel_workflow("w")])
    in_threads(waiters)
    assert status_of("w") == "CANCELLED"
    assert steps_of("w") == []


def test_direct_caller_of_a_cancelled_workflow_gets_the_waiters_error(app: App, stage: Stage) -> None:
    """As soon as the body, which runs in its thread, comes to its next step."""
    roadblock = stage.stop_at(1)

    def call() -> None:
        with SetWorkflowID("w"), pytest.raises(CANCELLED, match="'w'"):
            play(3)

    def cancel() -> None:
        roadblock.wait_until_reached()
        DBOS.cancel_workflow("w")
        roadblock.open()

    in_threads([call, cancel])
    assert stage.steps_run_by("w") == [1]


def test_direct_caller_of_a_cancelled_coroutine_is_told_while_its_body_still_runs(app: App, stage: Stage) -> None:
    roadblock = stage.stop_at(1)

    async def call_async() -> None:
        with SetWorkflowID("w"):
            coroutine = play_async(3)
        with pytest.raises(CANCELLED, match="'w'"):
            await coroutine
        assert stage.steps_run_by("w") == [1]

    def cancel() -> None:
        roadblock.wait_until_reached()
        DBOS.cancel_workflow("w")

    in_threads([lambda: asyncio.run(call_async()), cancel])


def test_every_durable_call_of_a_cancelled_workflow_raises(app: App, stage: Stage) -> None:
    """It is a BaseException, which `except Exception` lets pass; who swallows it meets it again."""
    perform("other")
    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: act(2),
        "run_step": lambda: DBOS.run_step(None, act, 2),
        "child": lambda: play(2),
        "get_result": lambda: DBOS.get_result("other"),
        "status": lambda: DBOS.get_workflow_status("other"),
        "list": DBOS.list_workflows,
        "list_steps": lambda: DBOS.list_workflow_steps("other"),
        "sleep": lambda: DBOS.sleep(0.001),
        "send": lambda: DBOS.send("other", "message"),
        "recv": lambda: DBOS.recv(timeout_seconds=0),
        "set_event": lambda: DBOS.set_event("key", "value"),
        "get_event": lambda: DBOS.get_event("other", "key", timeout_seconds=0),
        "write_stream": lambda: DBOS.write_stream("key", "value"),
        "close_stream": lambda: DBOS.close_stream("key"),
        "cancel": lambda: DBOS.cancel_workflow("other"),
        "resume": lambda: DBOS.resume_workflow("other"),
        "fork": lambda: DBOS.fork_workflow("other", 1),
        "delete": lambda: DBOS.delete_workflow("other"),
        "step again": lambda: act(2),
    }
    raised: dict[str, BaseException] = {}

    @DBOS.workflow()
    def workflow() -> str:
        act(1)
        for name, call in calls.items():
            try:
                call()
            except BaseException as stop:
                raised[name] = stop
        return "late"

    roadblock = stage.stop_at(1)
    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    roadblock.open()
    settle(app)
    assert {name: type(stop) for name, stop in raised.items()} == dict.fromkeys(calls, error.DBOSWorkflowCancelledError)
    assert not any(isinstance(stop, Exception) for stop in raised.values())
    assert "'w'" in str(raised["step"])
    assert steps_of("w") == [(1, "act")]
    assert [status.workflow_id for status in DBOS.list_workflows()] == ["other", "w"]
    assert stage.steps_run_by("w") == [1]
    status = DBOS.get_workflow_status("w")
    assert status is not None
    assert (status.status, status.output) == ("CANCELLED", None), "not even by who swallows it"


def test_except_exception_does_not_swallow_the_cancellation_of_a_coroutine(app: App, stage: Stage) -> None:
    stopped = list[BaseException]()

    @DBOS.workflow()
    async def workflow() -> str:
        await act_async(1)
        try:
            try:
                await asyncio.gather(act_async(2), act_async(3))
            except Exception:
                return "swallowed"
        except BaseException as stop:
            stopped.append(stop)
            raise
        return "not cancelled"

    roadblock = stage.stop_at(1)
    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    roadblock.open()
    settle(app)
    assert [type(stop) for stop in stopped] == [error.DBOSWorkflowCancelledError]
    assert stage.steps_run_by("w") == [1]
    assert status_of("w") == "CANCELLED"


def test_cancelled_workflow_that_only_starts_children_stops_too(app: App, stage: Stage) -> None:
    stopped = threading.Event()

    @DBOS.workflow()
    def child() -> None: ...

    @DBOS.workflow()
    def workflow() -> None:
        act(1)
        try:
            while True:
                DBOS.start_workflow(child)
        except BaseException:
            stopped.set()
            raise

    roadblock = stage.stop_at(1)
    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    roadblock.open()
    assert stopped.wait(PATIENCE_S)


@pytest.mark.parametrize("late", ["result", "error"])
def test_cancelled_is_never_overwritten_by_a_late(app: App, stage: Stage, is_async: bool, late: str) -> None:
    """Cancelled in its last step, it stays cancelled; the step is recorded."""
    if late == "error":
        stage.fail_at(2, ValueError("late"))
    cancel_in_step(stage, 2, steps=2, is_async=is_async)
    settle(app)
    (status,) = DBOS.list_workflows()
    assert (status.status, status.output, status.error) == ("CANCELLED", None, None)
    with pytest.raises(CANCELLED):
        DBOS.get_result("w")
    step = DBOS.list_workflow_steps("w")[1]
    assert (step["output"], repr(step["error"])) == (
        ("2.1", "None") if late == "result" else (None, "ValueError('late')")
    )


def test_cancelling_what_has_ended_or_never_was_changes_nothing(app: App, stage: Stage) -> None:
    perform("good")
    stage.fail_at(2, ValueError("bad"))
    with pytest.raises(ValueError, match="bad"):
        perform("bad")
    cancel_in_step(stage, 1, "cancelled")
    perform("given up")
    query(
        app.url,
        "UPDATE {schema}workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', output = NULL "
        "WHERE workflow_uuid = 'given up'",
    )
    settle(app)
    before = rows(app)
    for id in ("good", "bad", "cancelled", "given up", "nobody"):
        DBOS.cancel_workflow(id)
        asyncio.run(DBOS.cancel_workflow_async(id))
    assert rows(app) == before
    assert DBOS.get_result("good") == ["hamlet", "1.1", "2.1", "3.1"]
    with pytest.raises(ValueError, match="bad"):
        DBOS.get_result("bad")


@pytest.mark.parametrize("is_called", [False, True], ids=["started", "called"])
def test_children_of_a_cancelled_workflow_go_on(app: App, stage: Stage, is_called: bool) -> None:
    """Their parent stops waiting for them at once; one that called its child, which runs in its thread, after it."""
    stopped = list[type[BaseException]]()
    left = threading.Event()

    @DBOS.workflow()
    def parent() -> list[str]:
        try:
            result = play(2) if is_called else DBOS.start_workflow(play, 2).get_result()
            return [*result, act(9)]
        except BaseException as stop:
            stopped.append(type(stop))
            raise
        finally:
            left.set()

    roadblock = stage.stop_at(1)
    with SetWorkflowID("p"):
        handle = DBOS.start_workflow(parent)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("p")
    with pytest.raises(CANCELLED, match="'p'"):
        handle.get_result()
    if not is_called:
        assert left.wait(PATIENCE_S)
    assert status_of("p-1") == "PENDING"
    roadblock.open()
    assert DBOS.get_result("p-1") == ["untitled", "1.1", "2.1"]
    assert left.wait(PATIENCE_S)
    assert stopped == [error.DBOSWorkflowCancelledError]
    assert status_of("p") == "CANCELLED"
    assert stage.steps_run_by("p") == []


def test_parent_of_a_cancelled_child_gets_the_waiters_error_live_and_replayed(app: App, stage: Stage) -> None:
    """Also when the child was resumed meanwhile: what the parent saw is recorded."""
    caught = list[str]()

    @DBOS.workflow()
    def parent() -> list[str]:
        child = DBOS.start_workflow(play, 2)
        try:
            child.get_result()
        except CANCELLED as cancelled:
            caught.append(cancelled.workflow_id)
        return [act(9), *child.get_result()]

    in_child, in_parent = stage.stop_at(1), stage.stop_at(9)
    with SetWorkflowID("p"):
        DBOS.start_workflow(parent)
    in_child.wait_until_reached()
    DBOS.cancel_workflow("p-1")
    in_parent.wait_until_reached()
    in_child.open()
    eventually(lambda: steps_of("p-1"), "the child's step is recorded")
    assert DBOS.resume_workflow("p-1").get_result() == ["untitled", "1.1", "2.1"]
    interrupt_at(in_parent, app)
    assert DBOS.get_result("p") == ["9.2", "untitled", "1.1", "2.1"]
    assert caught == ["p-1", "p-1"]
    assert steps_of("p") == [(1, "play"), (2, "DBOS.getResult"), (3, "act"), (4, "DBOS.getResult")]


def test_parent_that_called_a_child_that_is_cancelled_gets_the_waiters_error(app: App, stage: Stage) -> None:
    @DBOS.workflow()
    def parent() -> str:
        try:
            play(2)
        except CANCELLED as cancelled:
            return f"{cancelled.workflow_id} was cancelled"
        return "it was not cancelled"

    roadblock = stage.stop_at(1)
    with SetWorkflowID("p"):
        handle = DBOS.start_workflow(parent)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("p-1")
    roadblock.open()
    assert handle.get_result() == "p-1 was cancelled"


def test_cancelled_enqueued_workflow_leaves_its_queue_and_never_runs(app: App, stage: Stage) -> None:
    perform("w")
    for id in ("f", "g"):
        with SetWorkflowID(id):
            DBOS.fork_workflow("w", 3, application_version="next")
    query(app.url, "UPDATE {schema}workflow_status SET deduplication_id = workflow_uuid WHERE status = 'ENQUEUED'")
    assert [status.workflow_id for status in DBOS.list_queued_workflows()] == ["f", "g"]
    DBOS.cancel_workflow("f")
    assert query(
        app.url,
        "SELECT deduplication_id FROM {schema}workflow_status WHERE queue_name IS NOT NULL ORDER BY workflow_uuid",
    ) == [(None,), ("g",)], "who is cancelled blocks nobody"
    assert [status.workflow_id for status in DBOS.list_queued_workflows()] == ["g"]
    with pytest.raises(CANCELLED, match="'f'"):
        DBOS.get_result("f")
    app.relaunch(application_version="next")
    assert DBOS.get_result("g") == ["hamlet", "1.1", "2.1", "3.2"]
    assert status_of("f") == "CANCELLED"
    assert stage.steps_run_by("f") == []


@DBOS.workflow(name="management.elsewhere")
def elsewhere() -> list[str]:
    return [act(1), act(2)]


ELSEWHERE = """
    import sys
    from dbos import DBOS, SetWorkflowID, error

    @DBOS.step(name="act")
    def act(n):
        print(f"in step {n}", flush=True)
        sys.stdin.readline()
        return f"{n} elsewhere"

    @DBOS.workflow(name="management.elsewhere")
    def elsewhere():
        try:
            return [act(1), act(2)]
        except BaseException as stop:
            print("stopped by", type(stop).__name__, flush=True)
            raise

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": "test"})
    DBOS.launch()
    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(elsewhere)
    try:
        handle.get_result()
    except error.DBOSAwaitedWorkflowCancelledError:
        print("told", flush=True)
    DBOS.destroy(workflow_completion_timeout_sec=30)
"""


def test_workflow_is_cancelled_by_another_process_and_resumed_there(app: App, stage: Stage, spawn: Spawner) -> None:
    """Its waiters are told while it is in its step; it stops before the next, and goes on here after the first."""
    child = spawn(ELSEWHERE, app.url)
    child.wait_for_line("in step 1")
    DBOS.cancel_workflow("w")
    child.wait_for_line("told")
    child.write_line()
    child.wait_for_line("stopped by DBOSWorkflowCancelledError")
    assert "in step 2" not in child.succeed()
    assert status_of("w") == "CANCELLED"
    assert DBOS.resume_workflow("w").get_result() == ["1 elsewhere", "2.1"]
    assert stage.steps_run_by("w") == [2]


def test_cancelled_workflow_that_waits_stops_at_once(app: App, stage: Stage, is_async: bool) -> None:
    """In a sleep, for a message, for an event, for a result: nobody waits for the time-out."""
    hour = 3600.0
    waits: dict[str, Callable[[], Any]] = {
        "sleep": lambda: DBOS.sleep(hour),
        "recv": lambda: DBOS.recv(timeout_seconds=hour),
        "get_event": lambda: DBOS.get_event("get_event", "key", timeout_seconds=hour),
        "get_result": lambda: DBOS.get_result("child"),
    }
    async_waits: dict[str, Callable[[], Any]] = {
        "sleep": lambda: DBOS.sleep_async(hour),
        "recv": lambda: DBOS.recv_async(timeout_seconds=hour),
        "get_event": lambda: DBOS.get_event_async("get_event", "key", timeout_seconds=hour),
        "get_result": lambda: DBOS.get_result_async("child"),
    }
    stopped = {kind: threading.Event() for kind in waits}

    @DBOS.workflow()
    def waiting(kind: str) -> None:
        try:
            waits[kind]()
        except error.DBOSWorkflowCancelledError:
            stopped[kind].set()
            raise

    @DBOS.workflow()
    async def waiting_async(kind: str) -> None:
        try:
            await async_waits[kind]()
        except error.DBOSWorkflowCancelledError:
            stopped[kind].set()
            raise

    roadblock = stage.stop_at(1)
    begin("child")
    roadblock.wait_until_reached()
    for kind in waits:
        with SetWorkflowID(kind):
            DBOS.start_workflow(waiting_async if is_async else waiting, kind)
        if kind != "get_result":
            eventually(lambda kind=kind: "DBOS.sleep" in dict(steps_of(kind)).values(), "it waits")  # type: ignore[misc]
    for kind in waits:
        DBOS.cancel_workflow(kind)
    for kind, event in stopped.items():
        assert event.wait(PATIENCE_S), kind
        assert status_of(kind) == "CANCELLED"
        assert {name for _, name in steps_of(kind)} <= {"DBOS.sleep"}


def test_cancelled_workflow_does_not_try_its_failing_step_again(app: App, is_async: bool) -> None:
    """It stops in the pause between two attempts; the step is not recorded, a resumed workflow begins it anew."""
    failed, stopped = threading.Event(), threading.Event()
    attempts = list[int | None]()

    def attempt() -> str:
        attempts.append(DBOS.step_status.current_attempt if DBOS.step_status else None)
        if len(attempts) == 1:
            failed.set()
            raise ValueError("not yet")
        return "done"

    @DBOS.step(retries_allowed=True, interval_seconds=3600)
    def flaky() -> str:
        return attempt()

    @DBOS.step(retries_allowed=True, interval_seconds=3600)
    async def flaky_async() -> str:
        return attempt()

    @DBOS.workflow()
    def workflow() -> str:
        try:
            return flaky()
        finally:
            stopped.set()

    @DBOS.workflow()
    async def workflow_async() -> str:
        try:
            return await flaky_async()
        finally:
            stopped.set()

    with SetWorkflowID("w"):
        DBOS.start_workflow(workflow_async if is_async else workflow)
    assert failed.wait(PATIENCE_S)
    DBOS.cancel_workflow("w")
    assert stopped.wait(PATIENCE_S)
    settle(app)
    assert steps_of("w") == []
    assert DBOS.resume_workflow("w").get_result() == "done"
    assert attempts == [0, 0]


def test_workflow_that_cancels_itself_stops_before_its_next_step(app: App, stage: Stage) -> None:
    @DBOS.step()
    def cancel(workflow_id: str) -> str:
        DBOS.cancel_workflow(workflow_id)
        return "cancelled"

    @DBOS.workflow()
    def workflow(in_step: bool) -> None:
        assert DBOS.workflow_id is not None
        (cancel if in_step else DBOS.cancel_workflow)(DBOS.workflow_id)
        act(2)

    for id, in_step in (("plain", False), ("in step", True)):
        with SetWorkflowID(id), pytest.raises(CANCELLED, match=f"'{id}'"):
            workflow(in_step)
        assert status_of(id) == "CANCELLED"
        assert stage.steps_run_by(id) == []
    (step,) = DBOS.list_workflow_steps("in step")
    assert step["output"] == "cancelled"


def test_cancel_against_completion_ends_one_way_for_all_observers(app: App, stage: Stage) -> None:
    """Whoever is first: the handle says what is recorded, and what is recorded stays."""
    ids = [f"w{number}" for number in range(40)]
    handles = [begin(id, 1, is_async=bool(number % 2)) for number, id in enumerate(ids)]
    in_threads([lambda part=part: [DBOS.cancel_workflow(id) for id in ids[part::4]] for part in range(4)])  # type: ignore[misc]
    seen = dict[str, str]()
    for handle in handles:
        try:
            assert len(handle.get_result()) == 2
            seen[handle.workflow_id] = "SUCCESS"
        except CANCELLED:
            seen[handle.workflow_id] = "CANCELLED"
    settle(app)
    assert {status.workflow_id: status.status for status in DBOS.list_workflows()} == seen
    for status in DBOS.list_workflows():
        assert (status.output is None) == (status.status == "CANCELLED")


# -- resuming


def test_resumed_workflow_goes_on_after_its_last_recorded_step_with_its_input(app: App, stage: Stage) -> None:
    cancel_in_step(stage, 2)
    before = DBOS.get_workflow_status("w")
    assert before is not None
    handle: WorkflowHandle[list[str]] = DBOS.resume_workflow("w")
    assert isinstance(handle, WorkflowHandle)
    assert handle.workflow_id == "w"
    assert handle.get_result() == ["hamlet", "1.1", "2.1", "3.1"]
    assert stage.steps_run_by("w") == [1, 2, 3]
    status = handle.get_status()
    assert (status.status, status.recovery_attempts) == ("SUCCESS", 1)
    assert (status.name, status.input) == (before.name, {"args": (3,), "kwargs": {"title": "hamlet"}})
    assert (status.created_at, status.app_version) == (before.created_at, "test")
    assert DBOS.list_queued_workflows() == []


def test_workflow_is_cancelled_and_resumed_again_and_again(app: App, stage: Stage) -> None:
    handle = cancel_in_step(stage, 1, steps=4)
    for step in (2, 3):
        roadblock = stage.stop_at(step)
        resumed = DBOS.resume_workflow("w")
        roadblock.wait_until_reached()
        DBOS.cancel_workflow("w")
        with pytest.raises(CANCELLED):
            resumed.get_result()
        roadblock.open()
        eventually(lambda step=step: len(steps_of("w")) == step, "the step in flight is recorded")  # type: ignore[misc]
    assert DBOS.resume_workflow("w").get_result() == ["hamlet", "1.1", "2.1", "3.1", "4.1"]
    assert handle.get_result() == DBOS.get_result("w")


def test_handles_from_before_see_the_outcome_of_the_resumed_workflow(app: App, stage: Stage) -> None:
    """They raised for the cancelled one; they wait for the resumed one."""
    found: list[WorkflowHandle[list[str]]] = []
    handle = cancel_in_step(stage, 1)
    found += [handle, DBOS.retrieve_workflow("w")]
    for one in found:
        with pytest.raises(CANCELLED):
            one.get_result()
    roadblock = stage.stop_at(3)
    found.append(DBOS.resume_workflow("w"))
    roadblock.wait_until_reached()
    assert {one.get_status().status for one in found} == {"PENDING"}
    expected = ["hamlet", "1.1", "2.1", "3.1"]

    def let_go() -> list[str]:
        roadblock.open()
        return expected

    assert in_threads([*(one.get_result for one in found), let_go]) == [expected] * 4


def test_workflow_resumed_while_its_old_body_is_still_in_a_step(app: App, stage: Stage, is_async: bool) -> None:
    """The new run does not wait for the old one, whose late checkpoint and outcome change nothing."""
    roadblock = stage.stop_at(2)
    handle = begin("w", is_async=is_async)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    resumed = DBOS.resume_workflow("w")
    assert resumed.get_result() == ["hamlet", "1.1", "2.2", "3.1"]
    before = rows(app), rows(app, "operation_outputs")
    roadblock.open()
    settle(app)
    assert (rows(app), rows(app, "operation_outputs")) == before
    assert DBOS.get_result("w") == resumed.get_result() == ["hamlet", "1.1", "2.2", "3.1"]
    assert handle.get_status().status == "SUCCESS"
    assert stage.steps_run_by("w") == [1, 2, 2, 3]


def test_old_body_stops_also_while_the_resumed_workflow_waits_for_an_executor(
    app: App, stage: Stage, is_async: bool
) -> None:
    """It is not taken for a run of the workflow that it no longer owns."""
    roadblock = stage.stop_at(2)
    begin("w", is_async=is_async)
    roadblock.wait_until_reached()
    DBOS.cancel_workflow("w")
    query(app.url, "UPDATE {schema}workflow_status SET application_version = 'next'")
    DBOS.resume_workflow("w")
    roadblock.open()
    settle(app)
    assert status_of("w") == "ENQUEUED"
    assert steps_of("w") == [(1, "act")]
    assert stage.steps_run_by("w") == [1, 2]
    app.relaunch(application_version="next")
    assert DBOS.get_result("w") == ["hamlet", "1.1", "2.2", "3.1"]


def test_resuming_what_has_ended_changes_nothing_and_gives_its_outcome(app: App, stage: Stage) -> None:
    perform("good")
    stage.fail_at(2, ValueError("bad"))
    with pytest.raises(ValueError, match="bad"):
        perform("bad")
    before = rows(app)
    assert DBOS.resume_workflow("good").get_result() == ["hamlet", "1.1", "2.1", "3.1"]
    with pytest.raises(ValueError, match="bad"):
        DBOS.resume_workflow("bad").get_result()
    settle(app)
    assert rows(app) == before
    assert stage.steps_run_by("good") == [1, 2, 3]
    assert stage.steps_run_by("bad") == [1, 2]


def test_resuming_a_running_workflow_changes_nothing(app: App, stage: Stage) -> None:
    roadblock = stage.stop_at(2)
    begin("w")
    roadblock.wait_until_reached()
    before = rows(app)
    handle = DBOS.resume_workflow("w")
    assert rows(app) == before
    roadblock.open()
    assert handle.get_result() == ["hamlet", "1.1", "2.1", "3.1"]
    assert stage.steps_run_by("w") == [1, 2, 3]


def test_resuming_an_unknown_workflow_says_so(app: App) -> None:
    for call in (lambda: DBOS.resume_workflow("nobody"), lambda: asyncio.run(DBOS.resume_workflow_async("nobody"))):
        with pytest.raises(UNKNOWN, match="'nobody'") as info:
            call()
        assert (info.value.workflow_id, info.value.dbos_error_code) == ("nobody", 5)
    assert DBOS.list_workflows() == []


def test_workflow_over_its_recovery_attempts_is_resumed_with_a_fresh_count(app: App, stage: Stage) -> None:
    roadblock = stage.stop_at(2)
    begin("w")
    roadblock.wait_until_reached()
    DBOS.destroy()
    query(app.url, "UPDATE {schema}workflow_status SET recovery_attempts = 1000")
    roadblock.open()
    app.launch()
    with pytest.raises(error.DBOSAwaitedWorkflowMaxRecoveryAttemptsExceeded, match="'w'"):
        DBOS.get_result("w")
    assert status_of("w") == "MAX_RECOVERY_ATTEMPTS_EXCEEDED"
    handle = DBOS.resume_workflow("w")
    assert handle.get_result() == ["hamlet", "1.1", "2.2", "3.1"]
    assert handle.get_status().recovery_attempts == 1


def test_enqueued_workflow_is_started_by_resume_past_its_queue(app: App, stage: Stage) -> None:
    perform("w")
    with SetWorkflowID("f"):
        DBOS.fork_workflow("w", 3, application_version="next")
    query(
        app.url,
        "UPDATE {schema}workflow_status SET queue_name = 'served by nobody', application_version = 'test' "
        "WHERE workflow_uuid = 'f'",
    )
    assert status_of("f") == "ENQUEUED"
    handle = DBOS.resume_workflow("f")
    assert handle.get_result() == ["hamlet", "1.1", "2.1", "3.2"]
    assert handle.get_status().queue_name == "_dbos_internal_queue"


def test_workflow_resumed_by_many_at_the_same_time_runs_once(app: App, stage: Stage) -> None:
    cancel_in_step(stage, 1)
    settle(app)
    handles = in_threads([lambda: DBOS.resume_workflow("w")] * 16)
    assert [handle.get_result() for handle in handles] == [["hamlet", "1.1", "2.1", "3.1"]] * 16
    settle(app)
    assert stage.steps_run_by("w") == [1, 2, 3]
    status = DBOS.get_workflow_status("w")
    assert status is not None
    assert status.recovery_attempts == 1


@pytest.mark.parametrize("operation", ["cancel", "delete"])
def test_call_that_is_slow_to_tell_of_it_does_not_stop_the_next_run(app: App, stage: Stage, operation: str) -> None:
    """A workflow is cancelled or deleted, and resumed or started anew, before the first call tells its runs."""
    gate = PausingGate(operation, "after_commit")
    relaunch_with(app, gate=gate)
    is_cancel = operation == "cancel"
    old = stage.stop_at(1)
    begin("w")
    old.wait_until_reached()
    stopping = threading.Thread(target=DBOS.cancel_workflow if is_cancel else DBOS.delete_workflow, args=("w",))
    stopping.start()
    gate.wait_until_reached()
    new = stage.stop_at(1)
    handle: WorkflowHandle[list[str]] = DBOS.resume_workflow("w") if is_cancel else begin("w")
    new.wait_until_reached()
    gate.go()
    stopping.join(PATIENCE_S)
    new.open()
    assert handle.get_result() == ["hamlet", "1.2", "2.1", "3.1"]
    old.open()
    settle(app)
    status = DBOS.get_workflow_status("w")
    assert status is not None
    assert (status.status, status.recovery_attempts) == ("SUCCESS", 1), "it had not to be recovered"
    assert stage.steps_run_by("w") == [1, 1, 2, 3]


def test_timed_out_workflow_is_resumed_without_a_deadline(app: App, stage: Stage) -> None:
    roadblock = stage.stop_at(1)
    with SetWorkflowTimeout(0.05):
        handle = begin("w")
    with pytest.raises(CANCELLED):
        handle.get_result()
    assert handle.get_status().workflow_deadline_epoch_ms is not None
    roadblock.open()
    resumed = DBOS.resume_workflow("w")
    assert len(resumed.get_result()) == 4
    assert resumed.get_status().workflow_deadline_epoch_ms is None


def test_storm_of_cancels_and_resumes_leaves_one_consistent_history(app: App, stage: Stage) -> None:
    """What the workflow returns is what its steps recorded, whichever of its runs recorded them."""
    handles = [begin(f"w{number}", 20, is_async=bool(number % 2)) for number in range(4)]

    def shake(handle: WorkflowHandle[list[str]]) -> list[str]:
        for _ in range(10):
            DBOS.cancel_workflow(handle.workflow_id)
            DBOS.resume_workflow(handle.workflow_id)
        return handle.get_result()

    results = in_threads([lambda handle=handle: shake(handle) for handle in handles])  # type: ignore[misc]
    for handle, result in zip(handles, results, strict=True):
        steps = DBOS.list_workflow_steps(handle.workflow_id)
        assert [step["function_id"] for step in steps] == list(range(1, 21))
        assert result == ["hamlet", *(step["output"] for step in steps)]
        assert handle.get_status().status == "SUCCESS"


# -- deleting


BELONGINGS = ("operation_outputs", "workflow_events", "workflow_events_history", "streams")


@DBOS.workflow(name="management.rich")
def rich(children: int = 0) -> int:
    act(1)
    DBOS.set_event("key", "value")
    DBOS.write_stream("stream", "value")
    for _ in range(children):
        rich(children - 1)
    act(2)
    return children


def belongings(app: App, workflow_id: str) -> dict[str, int]:
    """How many rows of each table belong to the workflow; tables without any are left out."""
    owners = {"workflow_status": "workflow_uuid", "notifications": "destination_uuid"}
    owners.update(dict.fromkeys(BELONGINGS, "workflow_uuid"))
    counts = {
        table: query(app.url, f"SELECT count(*) FROM {{schema}}{table} WHERE {column} = '{workflow_id}'")[0][0]
        for table, column in owners.items()
    }
    return {table: count for table, count in counts.items() if count}


def test_deleted_workflow_is_gone_with_all_that_belongs_to_it(app: App, stage: Stage) -> None:
    for id in ("w", "other"):
        with SetWorkflowID(id):
            rich()
        DBOS.send(id, "message")
    kept = belongings(app, "other")
    assert set(kept) == {"workflow_status", "notifications", *BELONGINGS}
    handle: WorkflowHandle[int] = DBOS.retrieve_workflow("w")
    DBOS.delete_workflow("w")
    assert belongings(app, "w") == {}
    assert belongings(app, "other") == kept
    assert DBOS.get_workflow_status("w") is None
    assert DBOS.list_workflow_steps("w") == []
    with pytest.raises(UNKNOWN, match="'w'"):
        handle.get_status()
    with pytest.raises(UNKNOWN, match="'w'"):
        DBOS.retrieve_workflow("w")
    before = rows(app)
    for id in ("w", "nobody"):
        DBOS.delete_workflow(id)
        DBOS.delete_workflow(id, delete_children=True)
    assert rows(app) == before


def test_deleted_id_can_be_used_again(app: App, stage: Stage) -> None:
    assert perform("w") == ["hamlet", "1.1", "2.1", "3.1"]
    DBOS.delete_workflow("w")
    assert perform("w") == ["hamlet", "1.2", "2.2", "3.2"]


def test_idempotency_keys_of_a_deleted_workflow_are_free_again(app: App) -> None:
    @DBOS.workflow()
    def receiver() -> Any:
        return DBOS.recv(timeout_seconds=10)

    for _ in range(2):
        with SetWorkflowID("w"):
            handle = DBOS.start_workflow(receiver)
        with SetWorkflowID("key"):
            DBOS.send("w", "message")
        assert handle.get_result() == "message"
        DBOS.delete_workflow("w")


def test_children_are_deleted_only_when_asked_for(app: App, stage: Stage) -> None:
    """And then with all their descendants."""
    for id in ("with", "without"):
        with SetWorkflowID(id):
            rich(2)
    descendants = [status.workflow_id for status in DBOS.list_workflows(workflow_id_prefix="with-")]
    assert len(descendants) == 4
    DBOS.delete_workflow("without")
    assert belongings(app, "without") == {}
    assert len(DBOS.list_workflows(workflow_id_prefix="without-")) == 4
    DBOS.delete_workflow("with", delete_children=True)
    assert [belongings(app, id) for id in ("with", *descendants)] == [{}] * 5
    assert len(DBOS.list_workflows(workflow_id_prefix="without-")) == 4


async def test_several_are_deleted_at_once(app: App, stage: Stage) -> None:
    for id in ("a", "b", "c", "d", "kept"):
        with SetWorkflowID(id):
            await asyncio.to_thread(rich, 1)
    with DBOSClient(system_database_url=app.url) as client:
        await asyncio.to_thread(DBOS.delete_workflows, ["a", "missing", "a"])
        await DBOS.delete_workflows_async(["b"])
        await asyncio.to_thread(client.delete_workflows, ["c"], delete_children=True)
        await client.delete_workflows_async(["d"])
    listed = await DBOS.list_workflows_async()
    assert [status.workflow_id for status in listed] == ["a-4", "b-4", "d-4", "kept", "kept-4"]
    with pytest.raises(TypeError, match="must be a list of str"):
        await DBOS.delete_workflows_async("kept")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        await DBOS.delete_workflows_async(["kept", ""])
    await DBOS.delete_workflows_async([])
    assert await DBOS.list_workflows_async() == listed


def test_waiters_of_a_deleted_workflow_are_told_and_its_body_leaves_nothing(
    app: App, stage: Stage, is_async: bool
) -> None:
    roadblock = stage.stop_at(2)
    handle = begin("w", is_async=is_async)
    roadblock.wait_until_reached()
    found: WorkflowHandle[list[str]] = DBOS.retrieve_workflow("w")

    def is_told(wait: Callable[[], Any]) -> Callable[[], None]:
        def check() -> None:
            with pytest.raises(UNKNOWN, match="'w'"):
                wait()

        return check

    in_threads([is_told(handle.get_result), is_told(found.get_result), lambda: DBOS.delete_workflow("w")])
    roadblock.open()
    settle(app)
    assert belongings(app, "w") == {}
    assert stage.steps_run_by("w") == [1, 2]


def test_deleted_workflow_that_waits_stops_at_once(app: App) -> None:
    stopped = threading.Event()

    @DBOS.workflow()
    def sleeper() -> None:
        try:
            DBOS.sleep(3600)
        finally:
            stopped.set()

    with SetWorkflowID("w"):
        DBOS.start_workflow(sleeper)
    eventually(lambda: steps_of("w"), "it sleeps")
    DBOS.delete_workflow("w")
    assert stopped.wait(PATIENCE_S)
    settle(app)
    assert belongings(app, "w") == {}


def test_workflow_that_deletes_itself_is_gone(app: App, stage: Stage) -> None:
    @DBOS.workflow()
    def workflow() -> None:
        act(1)
        assert DBOS.workflow_id is not None
        DBOS.delete_workflow(DBOS.workflow_id)
        act(2)

    with SetWorkflowID("w"), pytest.raises(UNKNOWN, match="'w'"):
        workflow()
    assert belongings(app, "w") == {}
    assert stage.steps_run_by("w") == [1]


def test_workflow_deleted_while_it_writes_leaves_nothing(app: App) -> None:
    @DBOS.step()
    def write(number: int) -> None:
        DBOS.write_stream("in step", number)
        DBOS.set_event("in step", number)

    @DBOS.workflow()
    def writer() -> None:
        for number in itertools.count():
            DBOS.write_stream("numbers", number)
            DBOS.set_event("number", number)
            write(number)

    ids = [f"w{number}" for number in range(5)]
    for id in ids:
        with SetWorkflowID(id):
            handle = DBOS.start_workflow(writer)
        DBOS.get_event(id, "in step")
        DBOS.delete_workflow(id)
        with pytest.raises(UNKNOWN):
            handle.get_result()
    settle(app)
    assert [belongings(app, id) for id in ids] == [{}] * 5


# -- from workflows, steps and event loops


def prepare(stage: Stage) -> Roadblock:
    """A workflow of each kind to be managed: one that runs, at the roadblock returned, and one to be resumed, forked,
    deleted."""
    cancel_in_step(stage, 1, "cancelled")
    perform("done")
    perform("unwanted")
    roadblock = stage.stop_at(1)
    begin("running")
    roadblock.wait_until_reached()
    return roadblock


def test_management_in_a_workflow_is_recorded_and_not_done_again_by_its_replay(app: App, stage: Stage) -> None:
    results = list[Any]()

    @DBOS.workflow()
    def manager() -> None:
        DBOS.cancel_workflow("running")
        resumed: WorkflowHandle[list[str]] = DBOS.resume_workflow("cancelled")
        forked: WorkflowHandle[list[str]] = DBOS.fork_workflow("done", 3)
        DBOS.delete_workflow("unwanted")
        seen = [
            resumed.get_result(),
            forked.get_result(),
            resumed.get_status().status,
            DBOS.get_workflow_status("unwanted"),
            [status.workflow_id for status in DBOS.list_workflows(status="CANCELLED")],
            [status.workflow_id for status in DBOS.list_queued_workflows()],
            [step["output"] for step in DBOS.list_workflow_steps("done")],
        ]
        results.append([resumed.workflow_id, forked.workflow_id, *seen])
        act(9)

    in_running, in_manager = prepare(stage), stage.stop_at(9)
    with SetWorkflowID("m"):
        DBOS.start_workflow(manager)
    in_manager.wait_until_reached()
    in_running.open()
    # Everything changes before the replay.
    running = DBOS.resume_workflow("running").get_result()
    perform("unwanted", 1)
    DBOS.delete_workflow("done")
    interrupt_at(in_manager, app)
    DBOS.get_result("m")
    first, replayed = results
    assert first == replayed
    assert first[:2] == ["cancelled", "m-4"]
    assert first[3:] == [first[3], "SUCCESS", None, ["running"], [], first[8]]
    assert DBOS.get_result("running") == running
    assert status_of("unwanted") == "SUCCESS"
    assert [status.workflow_id for status in DBOS.list_workflows(forked_from="done")] == ["m-4"]
    assert [name for _, name in steps_of("m")] == [
        "DBOS.cancelWorkflow",
        "DBOS.resumeWorkflow",
        "DBOS.getStatus",
        "DBOS.forkWorkflow",
        "DBOS.getStatus",
        "DBOS.deleteWorkflow",
        "DBOS.getResult",
        "DBOS.getResult",
        "DBOS.getStatus",
        "DBOS.getStatus",
        "DBOS.listWorkflows",
        "DBOS.listQueuedWorkflows",
        "DBOS.listWorkflowSteps",
        "act",
    ]
    outputs = [step["output"] for step in DBOS.list_workflow_steps("m")]
    assert (outputs[0], outputs[1], outputs[3], outputs[5]) == (None, None, "m-4", None)


class TwoPartError(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")


def test_statuses_and_steps_with_any_error_are_replayed(app: App, stage: Stage) -> None:
    """Also with an exception that does not unpickle: what a workflow read must not break its recovery."""
    seen = list[list[str]]()

    @DBOS.workflow()
    def reader() -> str:
        status, (listed,) = DBOS.get_workflow_status("bad"), DBOS.list_workflows(workflow_ids=["bad"])
        (step,) = DBOS.list_workflow_steps("bad")
        assert status is not None
        seen.append([str(error) for error in (status.error, listed.error, step["error"])])
        return act(9)

    stage.fail_at(1, TwoPartError(404, "not found"))
    with pytest.raises(Exception, match="404: not found"):
        perform("bad")
    roadblock = stage.stop_at(9)
    with SetWorkflowID("w"):
        DBOS.start_workflow(reader)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == "9.2"
    assert seen[0] == seen[1]
    assert all("404: not found" in text for text in seen[0])
    outputs = [step["output"] for step in DBOS.list_workflow_steps("w")[:3]]
    assert [type(output).__name__ for output in outputs] == ["WorkflowStatus", "list", "list"]


def test_management_of_an_unknown_workflow_in_a_workflow_fails_live_and_replayed(app: App, stage: Stage) -> None:
    caught = list[str]()
    calls: list[Callable[[], Any]] = [lambda: DBOS.resume_workflow("later"), lambda: DBOS.fork_workflow("later", 1)]

    @DBOS.workflow()
    def manager() -> str:
        for call in calls:
            try:
                call()
            except UNKNOWN as unknown:
                caught.append(unknown.workflow_id)
        return act(9)

    roadblock = stage.stop_at(9)
    with SetWorkflowID("m"):
        DBOS.start_workflow(manager)
    roadblock.wait_until_reached()
    perform("later")
    interrupt_at(roadblock, app)
    assert DBOS.get_result("m") == "9.2"
    assert caught == ["later"] * 4


def test_management_in_a_step_is_part_of_the_step(app: App, stage: Stage) -> None:
    @DBOS.step()
    def manage() -> list[str]:
        DBOS.cancel_workflow("running")
        resumed: WorkflowHandle[list[str]] = DBOS.resume_workflow("cancelled")
        assert resumed.get_result() == ["hamlet", "1.1", "2.3", "3.3"]
        DBOS.delete_workflow("unwanted")
        forked: WorkflowHandle[list[str]] = DBOS.fork_workflow("done", 3)
        assert DBOS.get_result(forked.workflow_id) == ["hamlet", "1.2", "2.1", "3.4"]
        assert DBOS.get_workflow_status("unwanted") is None
        listed = DBOS.list_workflows(status="CANCELLED") + DBOS.list_queued_workflows()
        assert [status.workflow_id for status in listed] == ["running"]
        return [forked.workflow_id, str(len(DBOS.list_workflow_steps("done")))]

    @DBOS.workflow()
    def manager() -> list[str]:
        return manage()

    roadblock = prepare(stage)
    with SetWorkflowID("m"):
        fork_id, steps = manager()
    roadblock.open()
    assert steps == "3"
    assert not fork_id.startswith("m")
    assert [name for _, name in steps_of("m")] == [manage.__qualname__]


async def test_management_from_an_event_loop(app: App, stage: Stage) -> None:
    roadblock = await asyncio.to_thread(prepare, stage)
    await DBOS.cancel_workflow_async("running")
    resumed: WorkflowHandleAsync[list[str]] = await DBOS.resume_workflow_async("cancelled")
    forked: WorkflowHandleAsync[list[str]] = await DBOS.fork_workflow_async("done", 4)
    await DBOS.delete_workflow_async("unwanted")
    await DBOS.delete_workflow_async("nobody", delete_children=True)
    assert isinstance(resumed, WorkflowHandleAsync)
    assert isinstance(forked, WorkflowHandleAsync)
    with pytest.raises(CANCELLED):
        await DBOS.get_result_async("running")
    assert (await resumed.get_result())[:2] == ["hamlet", "1.1"]
    assert await forked.get_result() == await DBOS.get_result_async("done")
    assert (await forked.get_status()).forked_from == "done"
    assert await DBOS.get_workflow_status_async("unwanted") is None
    assert await DBOS.list_queued_workflows_async() == []
    assert len(await DBOS.list_workflows_async(status=["SUCCESS", "CANCELLED"])) == 4
    assert len(await DBOS.list_workflow_steps_async(forked.workflow_id)) == 3
    roadblock.open()


def test_management_in_a_coroutine_workflow_is_recorded(app: App, stage: Stage) -> None:
    @DBOS.workflow()
    async def manager() -> list[Any]:
        await DBOS.cancel_workflow_async("running")
        resumed: WorkflowHandleAsync[list[str]] = await DBOS.resume_workflow_async("cancelled")
        forked: WorkflowHandleAsync[list[str]] = await DBOS.fork_workflow_async("done", 4)
        await DBOS.delete_workflow_async("unwanted")
        queued = await DBOS.list_queued_workflows_async(status="CANCELLED")
        return [forked.workflow_id, await resumed.get_result(), await forked.get_result(), queued]

    roadblock = prepare(stage)
    with SetWorkflowID("m"):
        fork_id, resumed, forked, queued = DBOS.start_workflow(manager).get_result()
    roadblock.open()
    assert (fork_id, queued) == ("m-4", [])
    assert resumed == DBOS.get_result("cancelled")
    assert forked == DBOS.get_result("done")
    assert [name for _, name in steps_of("m")] == [
        "DBOS.cancelWorkflow",
        "DBOS.resumeWorkflow",
        "DBOS.getStatus",
        "DBOS.forkWorkflow",
        "DBOS.getStatus",
        "DBOS.deleteWorkflow",
        "DBOS.listQueuedWorkflows",
        "DBOS.getResult",
        "DBOS.getResult",
    ]


async def test_blocking_management_in_a_running_loop_names_its_async_twin(sqlite_app: App) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "cancel_workflow": lambda: DBOS.cancel_workflow("w"),
        "resume_workflow": lambda: DBOS.resume_workflow("w"),
        "fork_workflow": lambda: DBOS.fork_workflow("w", 1),
        "delete_workflow": lambda: DBOS.delete_workflow("w"),
        "list_queued_workflows": DBOS.list_queued_workflows,
    }
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=rf"DBOS\.{name} would block.*DBOS\.{name}_async"):
            call()


@pytest.mark.parametrize(
    ("workflow_id", "kind"),
    [(5, TypeError), (None, TypeError), (b"w", TypeError), (["w"], TypeError), ("a\x00b", ValueError)],
)
def test_ids_that_are_none_are_refused_by_name(sqlite_app: App, workflow_id: Any, kind: type[Exception]) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: DBOS.cancel_workflow(workflow_id),
        lambda: DBOS.resume_workflow(workflow_id),
        lambda: DBOS.fork_workflow(workflow_id, 1),
        lambda: DBOS.delete_workflow(workflow_id),
        lambda: DBOS.list_workflow_steps(workflow_id),
        lambda: DBOS.get_workflow_status(workflow_id),
        lambda: asyncio.run(DBOS.cancel_workflow_async(workflow_id)),
        lambda: asyncio.run(DBOS.resume_workflow_async(workflow_id)),
        lambda: asyncio.run(DBOS.fork_workflow_async(workflow_id, 1)),
        lambda: asyncio.run(DBOS.delete_workflow_async(workflow_id)),
    ]
    for call in calls:
        with pytest.raises(kind, match=r"workflow.id"):
            call()


def test_ids_of_children_of_long_ids_are_managed(app: App, stage: Stage) -> None:
    """They are longer than the ids that a program may set."""
    parent_id = "x" * 1024
    child_id = f"{parent_id}-1"

    @DBOS.workflow()
    def parent() -> list[str]:
        return play(2)

    with SetWorkflowID(parent_id):
        result = parent()
    DBOS.cancel_workflow(child_id)
    assert DBOS.resume_workflow(child_id).get_result() == result
    assert DBOS.fork_workflow(child_id, 3).get_result() == result
    assert len(DBOS.list_workflow_steps(child_id)) == 2
    DBOS.delete_workflow(child_id)
    assert DBOS.get_workflow_status(child_id) is None


def test_management_needs_a_launched_application(sqlite_app: App) -> None:
    DBOS.destroy()
    calls: dict[str, Callable[[], Any]] = {
        "cancel_workflow": lambda: DBOS.cancel_workflow("w"),
        "resume_workflow": lambda: DBOS.resume_workflow("w"),
        "fork_workflow": lambda: DBOS.fork_workflow("w", 1),
        "delete_workflow": lambda: DBOS.delete_workflow("w"),
        "list_queued_workflows": DBOS.list_queued_workflows,
    }
    for name, call in calls.items():
        with pytest.raises(error.DBOSException, match=rf"DBOS\.{name}.*DBOS\.launch"):
            call()
