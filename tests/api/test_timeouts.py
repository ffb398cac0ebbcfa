"""SetWorkflowTimeout: from start to completion, durable, handed on to children, never early."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import pytest

from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout, WorkflowHandle, WorkflowStatus, error
from tests.support.apps import PATIENCE_S, App, Roadblock, eventually, in_threads, interrupt_at, status_of, steps_of
from tests.support.processes import Spawner
from tests.support.waking import Body, UnpolledApp, wait_until_idle

HOUR_S = 3600.0
SOON_S = 0.5
"""Long enough for everything to have begun, on a busy machine too."""
BAD_TIMEOUTS: list[tuple[Any, type[Exception]]] = [
    (0, ValueError),
    (-1, ValueError),
    (-0.5, ValueError),
    (float("nan"), ValueError),
    (float("inf"), ValueError),
    (101 * 366 * 24 * HOUR_S, ValueError),
    (10**400, ValueError),
    ("10", TypeError),
    ([10], TypeError),
]


@pytest.fixture
def app(database_url: str) -> Iterator[App]:
    """An application that does not poll: each deadline is kept by a timer."""
    application = UnpolledApp(database_url)
    application.launch()
    yield application
    DBOS.destroy()


def recorded(workflow_id: str) -> WorkflowStatus:
    status = DBOS.get_workflow_status(workflow_id)
    assert status is not None
    return status


def limits_of(workflow_id: str) -> tuple[int | None, int | None]:
    """The recorded timeout and deadline."""
    status = recorded(workflow_id)
    return status.workflow_timeout_ms, status.workflow_deadline_epoch_ms


def assert_timed_out(workflow_id: str) -> None:
    """It was cancelled, and not before its deadline."""
    status = recorded(workflow_id)
    assert (status.status, status.output) == ("CANCELLED", None)
    assert status.workflow_deadline_epoch_ms is not None
    assert status.updated_at is not None
    assert status.updated_at >= status.workflow_deadline_epoch_ms


@DBOS.workflow()
def quick() -> str:
    return "done"


@DBOS.workflow()
async def quick_async() -> str:
    return "done"


@DBOS.workflow()
def sleeping() -> None:
    DBOS.sleep(HOUR_S)


@DBOS.workflow()
async def sleeping_async() -> None:
    await DBOS.sleep_async(HOUR_S)


# ------------------------------------------------------------------------------------------------------------- expiry


def test_workflow_that_does_not_complete_in_time_is_cancelled(app: App) -> None:
    """Called directly and started in the background, sync and async: the callers are told, never too early."""

    async def call() -> None:
        await sleeping_async()

    async def start() -> None:
        handle = await DBOS.start_workflow_async(sleeping_async)
        await handle.get_result()

    calls: dict[str, Callable[[], Any]] = {
        "called": sleeping,
        "called_async": lambda: asyncio.run(call()),
        "started": lambda: DBOS.start_workflow(sleeping).get_result(),
        "started_async": lambda: asyncio.run(start()),
        "started_on_its_loop": lambda: DBOS.start_workflow(cast(Any, sleeping_async)).get_result(),
    }

    def check(workflow_id: str) -> None:
        began = time.monotonic()
        with (
            pytest.raises(error.DBOSAwaitedWorkflowCancelledError, match=f"'{workflow_id}'"),
            SetWorkflowID(workflow_id),
            SetWorkflowTimeout(SOON_S),
        ):
            calls[workflow_id]()
        assert time.monotonic() - began >= SOON_S

    in_threads([partial(check, workflow_id) for workflow_id in calls])
    for workflow_id in calls:
        assert_timed_out(workflow_id)


def test_status_shows_timeout_and_deadline(app: App) -> None:
    """The deadline is the start plus the timeout, within a few seconds; both stay when the workflow is in time."""
    for workflow_id, seconds in (("int", 100), ("float", 1.5), ("century", 100 * 365 * 24 * HOUR_S)):
        with SetWorkflowID(workflow_id), SetWorkflowTimeout(seconds):
            assert quick() == "done"
        status = recorded(workflow_id)
        assert status.status == "SUCCESS"
        assert status.workflow_timeout_ms == seconds * 1000
        assert status.workflow_deadline_epoch_ms is not None
        assert status.created_at is not None
        started = status.workflow_deadline_epoch_ms - round(seconds * 1000)
        assert abs(started - status.created_at) < 5000
    with SetWorkflowID("none"):
        quick()
    assert limits_of("none") == (None, None)


def test_completed_workflow_is_not_touched_by_its_deadline(app: App) -> None:
    """Nor is one that failed."""

    @DBOS.workflow()
    def failing() -> None:
        raise ValueError("early")

    with SetWorkflowTimeout(SOON_S):
        with SetWorkflowID("done"):
            assert quick() == "done"
        with SetWorkflowID("failed"), pytest.raises(ValueError, match="early"):
            failing()
        # A later deadline that has passed shows that theirs have.
        with SetWorkflowID("later"), pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            sleeping()
    assert [status_of(workflow_id) for workflow_id in ("done", "failed")] == ["SUCCESS", "ERROR"]
    assert DBOS.get_result("done") == "done"


def test_shortest_timeouts_end_in_time_or_cancelled(app: App) -> None:
    """Also those below a millisecond."""
    for seconds in (0.0001, 0.001, 0.002, 5e-324):
        with SetWorkflowTimeout(seconds), pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            sleeping()
        with SetWorkflowTimeout(seconds):
            handle = DBOS.start_workflow(quick)
        try:
            assert handle.get_result() == "done"
        except error.DBOSAwaitedWorkflowCancelledError:
            assert handle.get_status().status == "CANCELLED"


def test_timed_out_workflow_is_stopped_before_its_next_step(app: App) -> None:
    """Who awaits it is told at once; the step in flight is still recorded; `except Exception` does not help."""
    roadblocks = {"w": Roadblock(), "c": Roadblock()}
    bodies, late = {"w": Body(), "c": Body()}, list[str]()

    @DBOS.step(name="first")
    def first() -> str:
        roadblocks["w"].stop()
        return "paid"

    @DBOS.step(name="first")
    async def first_async() -> str:
        await roadblocks["c"].stop_async()
        return "paid"

    @DBOS.step(name="next")
    def next_step() -> None:
        late.append("step")

    @DBOS.step(name="next")
    async def next_step_async() -> None:
        late.append("step")

    @DBOS.workflow()
    def workflow() -> None:
        with bodies["w"].watched():
            first()
            try:
                next_step()
            except Exception:
                late.append("caught")

    @DBOS.workflow()
    async def coroutine() -> None:
        with bodies["c"].watched():
            await first_async()
            try:
                await next_step_async()
            except Exception:
                late.append("caught")

    for workflow_id, function in (("w", workflow), ("c", coroutine)):
        with SetWorkflowID(workflow_id), SetWorkflowTimeout(SOON_S):
            DBOS.start_workflow(cast(Any, function))
    for workflow_id in ("w", "c"):
        roadblocks[workflow_id].wait_until_reached()
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(workflow_id)
        roadblocks[workflow_id].open()
        assert isinstance(bodies[workflow_id].wait(), error.DBOSWorkflowCancelledError)
    wait_until_idle()
    for workflow_id in ("w", "c"):
        assert_timed_out(workflow_id)
        steps = DBOS.list_workflow_steps(workflow_id)
        assert [(step["function_name"], step["output"]) for step in steps] == [("first", "paid")]
    assert late == []


def test_step_is_not_tried_again_after_the_deadline(app: App) -> None:
    """It pauses before its second attempt when the workflow times out: the pause ends, and the step is not recorded."""
    bodies, attempts = {"w": Body(), "c": Body()}, list[str]()

    @DBOS.step(retries_allowed=True, interval_seconds=HOUR_S)
    def failing() -> None:
        attempts.append("w")
        raise ValueError

    @DBOS.step(retries_allowed=True, interval_seconds=HOUR_S)
    async def failing_async() -> None:
        attempts.append("c")
        raise ValueError

    @DBOS.workflow()
    def workflow() -> None:
        with bodies["w"].watched():
            failing()

    @DBOS.workflow()
    async def coroutine() -> None:
        with bodies["c"].watched():
            await failing_async()

    for workflow_id, function in (("w", workflow), ("c", coroutine)):
        with SetWorkflowID(workflow_id), SetWorkflowTimeout(SOON_S):
            DBOS.start_workflow(cast(Any, function))
    for workflow_id, body in bodies.items():
        assert isinstance(body.wait(), error.DBOSWorkflowCancelledError)
        assert_timed_out(workflow_id)
        assert steps_of(workflow_id) == []
    assert sorted(attempts) == ["c", "w"]


def test_cancelled_stays_when_the_body_finishes_later(app: App) -> None:
    """It calls no step any more, so that nothing stops it; its late result or error is dropped."""
    roadblock, bodies = Roadblock(), {"returns": Body(), "raises": Body(), "coroutine": Body()}

    @DBOS.workflow()
    def workflow(name: str) -> str:
        with bodies[name].watched():
            roadblock.stop()
            if name == "raises":
                raise ValueError("late")
            return "late"

    @DBOS.workflow()
    async def coroutine(name: str) -> str:
        with bodies[name].watched():
            await roadblock.stop_async()
            return "late"

    for name in bodies:
        with SetWorkflowID(name), SetWorkflowTimeout(SOON_S):
            DBOS.start_workflow(cast(Any, coroutine if name == "coroutine" else workflow), name)
    for name in bodies:
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(name)
    roadblock.open()
    for body in bodies.values():
        assert not isinstance(body.wait(), error.DBOSWorkflowCancelledError), "it came to its own end"
    wait_until_idle()
    for name in bodies:
        assert_timed_out(name)
        assert recorded(name).error is None
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(name)


def test_timeout_ends_every_wait_at_once(app: App) -> None:
    """Sleep, a message, an event, another workflow's result; each in a thread and in a coroutine."""
    roadblock = Roadblock()

    @DBOS.workflow()
    def endless() -> None:
        roadblock.stop()

    with SetWorkflowID("endless"):
        DBOS.start_workflow(endless)

    waits: dict[str, Callable[[], Any]] = {
        "sleep": lambda: DBOS.sleep(HOUR_S),
        "recv": lambda: DBOS.recv("topic", HOUR_S),
        "get_event": lambda: DBOS.get_event("endless", "never", HOUR_S),
        "get_result": lambda: DBOS.get_result("endless"),
        "handle": lambda: DBOS.retrieve_workflow("endless").get_result(),
        "sleep_async": lambda: DBOS.sleep_async(HOUR_S),
        "recv_async": lambda: DBOS.recv_async("topic", HOUR_S),
        "get_event_async": lambda: DBOS.get_event_async("endless", "never", HOUR_S),
        "get_result_async": lambda: DBOS.get_result_async("endless"),
    }
    bodies = {name: Body() for name in waits}

    @DBOS.workflow()
    def waiting(name: str) -> None:
        with bodies[name].watched():
            waits[name]()

    @DBOS.workflow()
    async def waiting_async(name: str) -> None:
        with bodies[name].watched():
            await waits[name]()

    began: dict[str, float] = {}
    for name in waits:
        began[name] = time.monotonic()
        with SetWorkflowID(name), SetWorkflowTimeout(SOON_S):
            DBOS.start_workflow(cast(Any, waiting_async if name.endswith("async") else waiting), name)
    for name, body in bodies.items():
        raised, ended = body.wait_timed()
        assert isinstance(raised, error.DBOSWorkflowCancelledError), name
        assert ended - began[name] >= SOON_S
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(name)
        assert_timed_out(name)
    assert status_of("endless") == "PENDING"
    roadblock.open()


async def test_hundreds_of_deadlines_at_once_hold_no_threads(app: App) -> None:
    with SetWorkflowTimeout(0.001), pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        await sleeping_async()
    threads = threading.active_count()
    with SetWorkflowTimeout(1):
        calls = [asyncio.create_task(cast(Any, sleeping_async())) for _ in range(300)]
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENCE_S)
    assert {type(result) for result in results} == {error.DBOSAwaitedWorkflowCancelledError}
    assert len(await DBOS.list_workflows_async(status="CANCELLED")) == 301
    assert threading.active_count() < threads + 20


# ------------------------------------------------------------------------------------------------------------- scopes


def test_timeout_holds_for_every_workflow_started_in_its_block(app: App) -> None:
    """Blocks nest; the inner one counts, also where it unsets; each ends with its block, however that is left."""
    started: list[WorkflowHandle[str]] = []

    def start() -> None:
        started.append(DBOS.start_workflow(quick))

    def start_and_fail() -> None:
        with SetWorkflowTimeout(50):
            start()
            raise ZeroDivisionError

    again = SetWorkflowTimeout(30)
    start()
    with SetWorkflowTimeout(100):
        start()
        start()
        with again:
            start()
            with again:
                start()
            start()
        with SetWorkflowTimeout(None):
            start()
        with pytest.raises(ZeroDivisionError):
            start_and_fail()
        start()
    start()
    timeouts = [handle.get_status().workflow_timeout_ms for handle in started]
    assert timeouts == [None, 100_000, 100_000, 30_000, 30_000, 30_000, None, 50_000, 100_000, None]


async def test_timeout_belongs_to_the_coroutine_made_in_its_block(app: App) -> None:
    """Whenever it is awaited, and not to what other tasks start meanwhile."""
    with SetWorkflowID("in"), SetWorkflowTimeout(100):
        coroutine = quick_async()
    with SetWorkflowID("out"):
        other = quick_async()
    with SetWorkflowTimeout(50):
        await coroutine
        await other
        with SetWorkflowID("started"):
            await (await DBOS.start_workflow_async(quick_async)).get_result()
    timeouts = [await DBOS.get_workflow_status_async(workflow_id) for workflow_id in ("in", "out", "started")]
    assert [status and status.workflow_timeout_ms for status in timeouts] == [100_000, None, 50_000]


def test_recorded_timeout_holds_when_the_same_id_is_started_again(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    def workflow() -> str:
        roadblock.stop()
        return "done"

    with SetWorkflowID("w"), SetWorkflowTimeout(HOUR_S):
        DBOS.start_workflow(workflow)
    before = limits_of("w")
    for seconds in (0.001, None):
        with SetWorkflowID("w"), SetWorkflowTimeout(seconds):
            handle = DBOS.start_workflow(workflow)
    assert limits_of("w") == before
    roadblock.open()
    assert handle.get_result() == "done"


@pytest.mark.parametrize(("seconds", "kind"), BAD_TIMEOUTS)
def test_nonsense_timeouts_are_refused(seconds: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"(?i)timeout"):
        SetWorkflowTimeout(seconds)


# ----------------------------------------------------------------------------------------------------------- children


def test_children_have_the_deadline_of_their_parent_unless_they_set_their_own(app: App) -> None:
    """Inherited over generations, started or called; overridden by a shorter or longer one; unset."""
    roadblock, bodies = Roadblock(), {name: Body() for name in ("parent", "started", "grandchild", "called")}

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def free() -> str:
        wait()
        return "done"

    @DBOS.workflow()
    def grandchild() -> None:
        with bodies["grandchild"].watched():
            DBOS.recv("never", HOUR_S)

    @DBOS.workflow()
    def child() -> None:
        with bodies["started"].watched():
            with SetWorkflowID("grandchild"):
                handle = DBOS.start_workflow(grandchild)
            handle.get_result()

    @DBOS.workflow()
    def called() -> None:
        with bodies["called"].watched():
            DBOS.sleep(HOUR_S)

    @DBOS.workflow()
    def parent() -> None:
        with SetWorkflowID("started"):
            DBOS.start_workflow(child)
        with SetWorkflowID("shorter"), SetWorkflowTimeout(0.1):
            DBOS.start_workflow(sleeping)
        with SetWorkflowID("longer"), SetWorkflowTimeout(HOUR_S):
            DBOS.start_workflow(free)
        with SetWorkflowID("detached"), SetWorkflowTimeout(None):
            DBOS.start_workflow(free)
        with bodies["parent"].watched(), SetWorkflowID("called"):
            called()

    with SetWorkflowID("parent"), SetWorkflowTimeout(1), pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        parent()
    for name, body in bodies.items():
        assert isinstance(body.wait(), error.DBOSWorkflowCancelledError), name
    roadblock.wait_until_reached()
    roadblock.open()
    for survivor in ("longer", "detached"):
        assert DBOS.get_result(survivor) == "done"
    wait_until_idle()
    for workflow_id in (*bodies, "shorter"):
        assert_timed_out(workflow_id)
    timeout_ms, deadline_ms = limits_of("parent")
    assert timeout_ms == 1000
    assert deadline_ms is not None
    for heir in ("started", "grandchild", "called"):
        assert limits_of(heir) == (None, deadline_ms)
    timeout_ms, own_deadline_ms = limits_of("shorter")
    assert timeout_ms == 100
    assert own_deadline_ms is not None
    assert own_deadline_ms < deadline_ms
    timeout_ms, own_deadline_ms = limits_of("longer")
    assert timeout_ms == HOUR_S * 1000
    assert own_deadline_ms is not None
    assert own_deadline_ms > deadline_ms
    assert limits_of("detached") == (None, None)


async def test_gathered_coroutine_children_have_the_deadline_of_their_parent(app: App) -> None:
    go_on = asyncio.Event()

    @DBOS.workflow()
    async def free() -> str:
        await go_on.wait()
        return "done"

    @DBOS.workflow()
    async def parent() -> None:
        with SetWorkflowID("detached"), SetWorkflowTimeout(None):
            detached = free()
        with SetWorkflowID("longer"), SetWorkflowTimeout(HOUR_S):
            longer = free()
        await asyncio.gather(sleeping_async(), sleeping_async(), detached, longer)

    with SetWorkflowID("p"), SetWorkflowTimeout(0.5), pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        await asyncio.wait_for(parent(), PATIENCE_S)
    go_on.set()
    assert [await DBOS.get_result_async(workflow_id) for workflow_id in ("detached", "longer")] == ["done"] * 2
    family = await DBOS.list_workflows_async(parent_workflow_id="p", workflow_id_prefix="p-")
    assert len(family) == 2
    for status in family:
        await asyncio.to_thread(assert_timed_out, status.workflow_id)
        assert (await asyncio.to_thread(limits_of, status.workflow_id)) == (
            None,
            (await asyncio.to_thread(limits_of, "p"))[1],
        )
    await asyncio.to_thread(assert_timed_out, "p")


def test_parent_that_waits_for_a_child_of_the_same_deadline_is_cancelled_too(app: App) -> None:
    """Not ended by the child's error, whichever of the two is cancelled first, over many of them."""

    @DBOS.workflow()
    def parent() -> None:
        sleeping()

    @DBOS.workflow()
    async def parent_async() -> None:
        await sleeping_async()

    with SetWorkflowTimeout(0.5):
        for number in range(20):
            with SetWorkflowID(f"p{number}"):
                DBOS.start_workflow(cast(Any, parent_async if number % 2 else parent))
    for number in range(20):
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError, match=f"'p{number}'"):
            DBOS.get_result(f"p{number}")
    wait_until_idle()
    assert [workflow.status for workflow in DBOS.list_workflows()] == ["CANCELLED"] * 40


def test_parent_without_a_deadline_learns_that_its_child_timed_out(app: App) -> None:
    """It may go on, and replays the same; if it does not catch that, it ends in ERROR."""
    roadblock, children = Roadblock(), list[str]()

    @DBOS.workflow()
    def child() -> None:
        children.append("run")
        DBOS.sleep(HOUR_S)

    @DBOS.step()
    def wait() -> None:
        roadblock.stop()

    @DBOS.workflow()
    def catching() -> str:
        try:
            with SetWorkflowTimeout(SOON_S):
                child()
        except error.DBOSAwaitedWorkflowCancelledError as caught:
            wait()
            return caught.message
        return "no error"

    @DBOS.workflow()
    def failing() -> None:
        with SetWorkflowTimeout(SOON_S):
            child()

    with SetWorkflowID("c"):
        DBOS.start_workflow(catching)
    interrupt_at(roadblock, app)
    assert "'c-1'" in DBOS.get_result("c")
    assert children == ["run"]
    with SetWorkflowID("f"), pytest.raises(error.DBOSAwaitedWorkflowCancelledError, match="'f-1'"):
        failing()
    assert status_of("f") == "ERROR"
    assert limits_of("f") == (None, None)
    for workflow_id in ("c-1", "f-1"):
        assert_timed_out(workflow_id)


# ----------------------------------------------------------------------------------------------------------- restarts


def test_deadline_outlives_restarts(app: App) -> None:
    """A recovered workflow has the deadline of its start, not a new one, and so have its children."""
    bodies = [Body(), Body()]

    @DBOS.workflow()
    def child() -> None:
        with bodies[1].watched():
            DBOS.recv("never", HOUR_S)

    @DBOS.workflow()
    def parent() -> None:
        with bodies[0].watched():
            child()

    with SetWorkflowID("w"), SetWorkflowTimeout(1.5):
        DBOS.start_workflow(parent)
    eventually(lambda: steps_of("w-1"), "the child waits")
    before = limits_of("w"), limits_of("w-1")
    DBOS.destroy()
    for body in bodies:
        body.wait()
    app.launch()
    assert (limits_of("w"), limits_of("w-1")) == before
    for body in bodies:
        assert isinstance(body.wait(), error.DBOSWorkflowCancelledError)
    wait_until_idle()
    for workflow_id in ("w", "w-1"):
        assert_timed_out(workflow_id)
    assert (limits_of("w"), limits_of("w-1")) == before


def test_deadline_that_passes_while_nothing_runs_cancels_at_the_next_launch(app: App) -> None:
    """The workflow and its children; of all of them no further step runs. One with more time goes on."""
    roadblock, steps = Roadblock(), list[str | None]()

    @DBOS.step()
    def wait() -> None:
        steps.append(DBOS.workflow_id)
        roadblock.stop()

    @DBOS.step()
    async def wait_async() -> None:
        steps.append(DBOS.workflow_id)
        await roadblock.stop_async()

    @DBOS.workflow()
    async def child() -> str:
        await wait_async()
        await wait_async()
        return "done"

    @DBOS.workflow()
    def parent() -> str:
        DBOS.start_workflow(cast(Any, child))
        wait()
        wait()
        return "done"

    with SetWorkflowID("down"), SetWorkflowTimeout(1):
        DBOS.start_workflow(parent)
    with SetWorkflowID("patient"), SetWorkflowTimeout(HOUR_S):
        DBOS.start_workflow(parent)
    everybody = {"down", "down-1", "patient", "patient-1"}
    eventually(lambda: set(steps) == everybody, "all are in their first step")
    deadline_ms = limits_of("down")[1] or 0
    DBOS.destroy()
    roadblock.open()
    # Time passes while nothing runs: the subject of this test.
    eventually(lambda: time.time() * 1000 > deadline_ms, "the deadline has passed")
    steps.clear()
    app.launch()
    for workflow_id in ("down", "down-1"):
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(workflow_id)
    for workflow_id in ("patient", "patient-1"):
        assert DBOS.get_result(workflow_id) == "done"
    wait_until_idle()
    for workflow_id in ("down", "down-1"):
        assert_timed_out(workflow_id)
    assert sorted(map(str, steps)) == ["patient"] * 2 + ["patient-1"] * 2


ELSEWHERE = """
    import sys
    from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout

    @DBOS.workflow(name="child_elsewhere")
    def child():
        print("begun", flush=True)
        DBOS.sleep(3600)

    @DBOS.workflow(name="parent_elsewhere")
    def parent():
        child()

    DBOS(config={"name": "app", "system_database_url": sys.argv[1], "application_version": sys.argv[2],
                 "run_admin_server": False})
    DBOS.launch()
    with SetWorkflowID("w"), SetWorkflowTimeout(float(sys.argv[3])):
        DBOS.start_workflow(parent)
    sys.stdin.readline()
    DBOS.destroy()
"""


def test_timeout_in_another_process_is_learned_here(app: App, spawn: Spawner) -> None:
    child = spawn(ELSEWHERE, app.url, "elsewhere", "1")
    child.wait_for_line("begun")
    app.relaunch(notification_listener_polling_interval_sec=0.05)
    for workflow_id in ("w", "w-1"):
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(workflow_id)
        assert_timed_out(workflow_id)
    child.write_line()
    child.succeed()


def test_deadlines_of_a_killed_process_are_kept_by_any_other(app: App, spawn: Spawner) -> None:
    """Also by one of another version, which does not take the workflow up."""
    child = spawn(ELSEWHERE, app.url, "elsewhere", "1.5")
    child.wait_for_line("begun")
    child.kill()
    app.relaunch()
    for workflow_id in ("w", "w-1"):
        with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
            DBOS.get_result(workflow_id)
        assert_timed_out(workflow_id)


# ------------------------------------------------------------------------------------------------------ resume and fork


def test_workflow_that_is_resumed_after_its_timeout_runs_without_a_deadline(app: App) -> None:
    """From its last completed step, for longer than the timeout was."""
    roadblock, resumed, steps = Roadblock(), threading.Event(), list[int]()

    @DBOS.step()
    def step(n: int) -> int:
        steps.append(n)
        if n == 2:
            roadblock.stop()
        return n

    @DBOS.workflow()
    def workflow() -> list[int]:
        result = [step(1), step(2)]
        if resumed.is_set():
            DBOS.sleep(1.2 * SOON_S)
        return [*result, step(3)]

    with SetWorkflowID("w"), SetWorkflowTimeout(SOON_S):
        first = DBOS.start_workflow(workflow)
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        first.get_result()
    assert limits_of("w")[1] is not None
    roadblock.open()
    wait_until_idle()
    resumed.set()
    handle: WorkflowHandle[list[int]] = DBOS.resume_workflow("w")
    assert handle.get_result() == [1, 2, 3]
    assert first.get_result() == [1, 2, 3]
    assert limits_of("w")[1] is None
    assert status_of("w") == "SUCCESS"
    assert steps == [1, 2, 3]


def test_fork_has_the_timeout_that_is_set_around_it(app: App) -> None:
    """Not that of its source."""

    @DBOS.workflow()
    def workflow() -> str:
        if DBOS.workflow_id == "timed":
            DBOS.sleep(HOUR_S)
        return "done"

    with SetWorkflowID("source"), SetWorkflowTimeout(HOUR_S):
        workflow()
    with SetWorkflowID("untimed"):
        assert DBOS.fork_workflow("source", 1).get_result() == "done"
    with SetWorkflowID("timed"), SetWorkflowTimeout(SOON_S):
        handle = DBOS.fork_workflow("source", 1)
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    assert limits_of("untimed") == (None, None)
    assert limits_of("timed")[0] == SOON_S * 1000
    wait_until_idle()
    assert_timed_out("timed")
