"""Events: what workflows publish under a key, and everybody may read or wait for."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from dbos import DBOS, error
from dbos.storage.gate import Moment
from tests.support.apps import PATIENCE_S, App, Roadblock, eventually, in_threads, interrupt_at, steps_of
from tests.support.messaging import (
    AGES,
    HOUR,
    Talk,
    Topic,
    both_ways,
    publish_as,
    query,
    recorded_waits,
    relaunch_with,
    shift_deadline,
    start,
    wait_for_step,
)
from tests.support.processes import Spawner


@DBOS.workflow(name="events.wait_for")
def wait_for(workflow_id: str, key: str) -> Any:
    """Gets an event, which may come late."""
    return DBOS.get_event(workflow_id, key, HOUR)


# ------------------------------------------------------------------------------------------------------------- set, got


@both_ways
def test_last_value_wins_whether_a_workflow_or_its_step_set_it(app: App, talk: Talk) -> None:
    """Each value is to be seen as soon as it is set, and stays when the workflow has ended."""
    roadblocks = {name: Roadblock() for name in ("workflow", "step", "end")}
    attempts: list[int] = []

    @talk.workflow
    async def publisher() -> None:
        async def step() -> None:
            attempts.append(1)
            await talk.set_event("k", f"attempt {len(attempts)}")
            await talk.set_event("of the step", None)
            if len(attempts) == 1:
                raise ValueError
            await talk.pause(roadblocks["step"])

        await talk.set_event("k", "first")
        await talk.set_event(key="k", value="second")
        await talk.set_event("other", {"a": [1]})
        await talk.pause(roadblocks["workflow"])
        await talk.step(step, "publishing", attempts=2)
        await talk.set_event("k", "last")
        await talk.pause(roadblocks["end"])

    def see(name: str) -> tuple[Any, Any]:
        roadblocks[name].wait_until_reached()
        seen = talk.run(talk.get_event("w", "k")), talk.run(talk.get_all_events("w"))
        roadblocks[name].open()
        return seen

    start("w", publisher)
    first = {"k": "second", "other": {"a": [1]}}
    assert see("workflow") == ("second", first)
    assert see("step") == ("attempt 2", {**first, "k": "attempt 2", "of the step": None})
    last = {**first, "k": "last", "of the step": None}
    assert see("end") == ("last", last)
    DBOS.get_result("w")
    assert talk.run(talk.get_all_events(workflow_id="w")) == last
    assert talk.run(talk.get_event("w", "of the step", AGES)) is None
    assert steps_of("w") == [
        *((id, "DBOS.setEvent") for id in (1, 2, 3)),
        (4, "pause"),
        (5, "publishing"),
        (6, "DBOS.setEvent"),
        (7, "pause"),
    ]
    history = query(app, "SELECT function_id, key FROM {schema}workflow_events_history ORDER BY function_id, key")
    assert history == [(1, "k"), (2, "k"), (3, "other"), (5, "k"), (5, "of the step"), (6, "k")]
    assert query(app, "SELECT key FROM {schema}workflow_events ORDER BY key") == [("k",), ("of the step",), ("other",)]


@both_ways
def test_get_event_looks_once_with_no_time_and_times_out_with_none(app: App, talk: Talk) -> None:
    """Whether the workflow is there or not; a key is one workflow's own."""
    publish_as("w", there="value", none=None)
    publish_as("x", other="value")
    for workflow_id in ("w", "nobody"):
        for timeout in (0, 0.0, 0.05):
            began = time.monotonic()
            assert talk.run(talk.get_event(workflow_id, "other", timeout_seconds=timeout)) is None
            assert time.monotonic() - began >= timeout
    assert talk.run(talk.get_event("w", "there", 0)) == "value"
    assert talk.run(talk.get_event("w", "none", AGES)) is None
    assert talk.run(talk.get_event(workflow_id="x", key="other", timeout_seconds=HOUR)) == "value"
    assert talk.run(talk.get_all_events("nobody")) == {}
    with pytest.raises(error.DBOSNonExistentWorkflowError):
        DBOS.retrieve_workflow("nobody")


@both_ways
def test_events_of_a_workflow_that_failed_stay(app: App, talk: Talk) -> None:
    @talk.workflow
    async def publisher() -> None:
        await talk.set_event("k", "before")
        raise ValueError

    start("w", publisher)
    with pytest.raises(ValueError):  # noqa: PT011
        DBOS.get_result("w")
    assert talk.run(talk.get_all_events("w")) == {"k": "before"}


@both_ways
def test_get_event_in_a_workflow_is_recorded_with_its_wait(app: App, talk: Talk) -> None:
    """A key not there yet reserves two steps, one for the wait; a workflow that does not exist yet is no error."""

    @talk.workflow
    async def reader() -> list[Any]:
        waited = await talk.get_event("w", "k", HOUR)
        there = await talk.get_event("w", "k")
        timed_out = await talk.get_event("w", "other", 0.3)
        none = await talk.get_event("w", "none", HOUR)
        return [waited, there, timed_out, none, await talk.get_all_events("w"), await talk.get_all_events("nobody")]

    start("r", reader)
    wait_for_step("r", 2, "DBOS.sleep")
    assert steps_of("r") == [(2, "DBOS.sleep")]
    publish_as("w", none=None, k="value")
    events = {"none": None, "k": "value"}
    assert DBOS.get_result("r") == ["value", "value", None, None, events, {}]
    steps = [step for step in DBOS.list_workflow_steps("r") if step["function_name"] != "DBOS.sleep"]
    assert [(step["function_name"], step["output"]) for step in steps] == [
        ("DBOS.getEvent", "value"),
        ("DBOS.getEvent", "value"),
        ("DBOS.getEvent", None),
        ("DBOS.getEvent", None),
        ("DBOS.get_events", events),
        ("DBOS.get_events", {}),
    ]
    assert [step["error"] for step in steps] == [None] * 6
    assert steps[0]["function_id"] == 1
    names = steps_of("r")
    timed_out = steps[2]["function_id"]
    assert (timed_out + 1, "DBOS.sleep") in names
    assert [name for _, name in names].count("DBOS.sleep") == 2


@both_ways
def test_get_event_in_a_step_reads_directly(app: App, talk: Talk) -> None:
    @talk.workflow
    async def reader() -> list[Any]:
        async def step() -> list[Any]:
            own_id = DBOS.workflow_id
            await talk.set_event("k", 1)
            seen = [await talk.get_event(own_id, "k"), await talk.get_event(own_id, "other", 0.01)]
            return [*seen, await talk.get_all_events(own_id)]

        return await talk.step(step, "reading")

    start("r", reader)
    assert DBOS.get_result("r") == [1, None, {"k": 1}]
    assert steps_of("r") == [(1, "reading")]


@both_ways
def test_workflow_sees_its_own_events_and_those_of_its_children(app: App, talk: Talk) -> None:
    """At once, though nothing of it may be durable yet."""

    @talk.workflow
    async def child() -> None:
        await talk.set_event("k", "of the child")

    @talk.workflow
    async def parent() -> list[Any]:
        own_id = DBOS.workflow_id
        await talk.set_event("k", 1)
        seen = [await talk.get_event(own_id, "k", 0)]
        await talk.set_event("k", 2)
        seen.append(await talk.get_all_events(own_id))
        child_id = await talk.start_child(child)
        return [*seen, await talk.get_event(child_id, "k"), await talk.get_all_events(child_id)]

    start("w", parent)
    assert DBOS.get_result("w") == [1, {"k": 2}, "of the child", {"k": "of the child"}]


def test_gathered_events_are_all_set(app: App) -> None:
    @DBOS.workflow()
    async def publisher() -> None:
        await asyncio.gather(*(DBOS.set_event_async(f"k{n}", n) for n in range(30)))
        await asyncio.gather(*(DBOS.set_event_async("k0", n) for n in range(30)))

    start("w", publisher)
    DBOS.get_result("w")
    assert DBOS.get_all_events("w") == {**{f"k{n}": n for n in range(30)}, "k0": 29}
    assert steps_of("w") == [(id, "DBOS.setEvent") for id in range(1, 61)]


def test_methods_of_the_object_are_the_same(app: App) -> None:
    dbos = DBOS(config=app.config())

    @dbos.workflow()
    def publisher() -> None:
        dbos.set_event("k", dbos.workflow_id)

    start("w", publisher)
    assert dbos.get_event("w", "k") == "w"
    assert dbos.get_all_events("w") == {"k": "w"}
    assert asyncio.run(dbos.get_event_async("w", "k")) == "w"


# --------------------------------------------------------------------------------------------------------------- replay


@both_ways
def test_event_that_a_workflow_got_stays_though_it_changes_later(app: App, talk: Talk) -> None:
    """Its value, its time-out, and all events together; after the replayed part it sees what is there now."""
    reached, read_on = Roadblock(), Roadblock()

    @talk.workflow
    async def publisher() -> None:
        await talk.set_event("k", "old")
        await talk.pause(read_on)
        await talk.set_event("k", "new")
        await talk.set_event("late", "new")

    @talk.workflow
    async def reader() -> list[Any]:
        async def read() -> list[Any]:
            return [await talk.get_event("w", "k"), await talk.get_event("w", "late", 0.02)]

        first = [*await read(), await talk.get_event("w", "late", 0), await talk.get_all_events("w")]
        await talk.pause(reached)
        return [first, [*await read(), await talk.get_all_events("w")]]

    start("w", publisher)
    start("r", reader)
    reached.wait_until_reached()
    read_on.open()
    DBOS.get_result("w")
    interrupt_at(reached, app)
    assert DBOS.get_result("r") == [
        ["old", None, None, {"k": "old"}],
        ["new", "new", {"k": "new", "late": "new"}],
    ]


class EventsSeen:
    """A gate that looks at every begin and end of a transaction which values of the event are stored."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.seen: list[list[tuple[Any, ...]]] = []

    def __call__(self, operation: str, moment: Moment) -> None:
        self.seen.append(query(self._app, "SELECT value FROM {schema}workflow_events WHERE key = 'k'"))


@both_ways
def test_replay_does_not_set_an_event_again(app: App, talk: Talk) -> None:
    """Nobody sees an earlier value again while the workflow is replayed."""
    first, second = Roadblock(), Roadblock()

    @talk.workflow
    async def publisher() -> None:
        for n in range(3):
            await talk.set_event("k", n)
        await talk.pause(first)
        await talk.pause(second)

    start("w", publisher)
    first.wait_until_reached()
    stored = query(app, "SELECT value FROM {schema}workflow_events")
    DBOS.destroy()
    first.open()
    gate = EventsSeen(app)
    relaunch_with(app, gate=gate)
    second.wait_until_reached()
    assert talk.run(talk.get_event("w", "k", 0)) == 2
    second.open()
    DBOS.get_result("w")
    assert len(gate.seen) > 3
    assert all(seen == stored for seen in gate.seen)
    assert len(query(app, "SELECT * FROM {schema}workflow_events_history")) == 3


# -------------------------------------------------------------------------------------------------------------- waiting


def test_hundreds_wait_for_one_event_and_all_get_it(app: App) -> None:
    """Workflows in threads and on the loop, threads and coroutines outside; the coroutines hold no threads."""
    roadblock = Roadblock()

    @DBOS.workflow()
    def publisher() -> None:
        roadblock.stop()
        DBOS.set_event("other", "not this")
        DBOS.set_event("k", "value")

    @DBOS.workflow()
    async def reader() -> Any:
        return await DBOS.get_event_async("w", "k", HOUR)

    async def outside() -> list[Any]:
        return await asyncio.gather(*(DBOS.get_event_async("w", "k", HOUR) for _ in range(100)))

    def release() -> None:
        eventually(lambda: recorded_waits(app) == 120, "all workflows wait")
        threads.append(threading.active_count())
        roadblock.open()

    threads: list[int] = []
    start("w", publisher)
    for n in range(100):
        start(f"loop-{n}", reader)
    before = threading.active_count()
    for n in range(20):
        start(f"thread-{n}", wait_for, "w", "k")
    waiters: list[Callable[[], Any]] = [partial(DBOS.get_event, "w", "k", HOUR) for _ in range(10)]
    answers = in_threads([*waiters, lambda: asyncio.run(outside()), release])
    assert answers == [*["value"] * 10, ["value"] * 100, None]
    for name in [f"loop-{n}" for n in range(100)] + [f"thread-{n}" for n in range(20)]:
        assert DBOS.get_result(name) == "value"
    assert threads[0] - before < 70, "20 workflows and 12 threads of this test, and a few"


@both_ways
def test_waiters_are_woken_in_this_process_without_a_poll(app: App, talk: Talk) -> None:
    """In workflows and outside, also for a workflow that does not exist when the wait begins; by steps, too."""

    @talk.workflow
    async def reader() -> list[Any]:
        return [await talk.get_event("w", key, HOUR) for key in ("k", "of the step", Topic.PAYMENT)]

    @talk.workflow
    async def publisher() -> None:
        await talk.set_event("k", 1)
        await talk.pause(roadblocks[0])
        await talk.step(partial(talk.set_event, "of the step", 2))
        await talk.pause(roadblocks[1])
        await talk.set_event(Topic.PAYMENT, 3)

    def outside() -> list[Any]:
        return [talk.run(talk.get_event("w", key, HOUR)) for key in ("k", "of the step", "payment")]

    def release() -> None:
        wait_for_step("r", 2, "DBOS.sleep")
        start("w", publisher)
        for function_id, roadblock in zip((4, 6), roadblocks, strict=True):
            wait_for_step("r", function_id, "DBOS.sleep")
            roadblock.open()

    roadblocks = [Roadblock(), Roadblock()]
    relaunch_with(app, polls=False)
    start("r", reader)
    assert in_threads([outside, outside, release]) == [[1, 2, 3], [1, 2, 3], None]
    assert DBOS.get_result("r") == [1, 2, 3]


def test_who_dawdles_keeps_no_event_back(app: App) -> None:
    """What a workflow sets is to be seen soon, though it does not come to its next step."""
    go_on = threading.Event()

    @DBOS.workflow()
    def in_thread() -> None:
        DBOS.set_event("k", 1)
        go_on.wait(PATIENCE_S)

    @DBOS.workflow()
    async def on_loop() -> None:
        await DBOS.set_event_async("k", 1)
        while not go_on.is_set():
            await asyncio.sleep(0.002)

    for name, workflow in (("thread", in_thread), ("loop", on_loop)):
        start(name, workflow)
        assert DBOS.get_event(name, "k", HOUR) == 1
        assert DBOS.get_all_events(name) == {"k": 1}
        assert steps_of(name) == [(1, "DBOS.setEvent")]
    go_on.set()


async def test_wait_outside_of_workflows_can_be_given_up(app: App) -> None:
    """And begun again."""
    for _ in range(2):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(DBOS.get_event_async("w", "k", HOUR), 0.02)
    waiters = [asyncio.create_task(DBOS.get_event_async("w", "k", HOUR)) for _ in range(3)]
    await asyncio.sleep(0)
    waiters[0].cancel()
    await asyncio.to_thread(publish_as, "w", k="value")
    assert await asyncio.gather(*waiters[1:]) == ["value", "value"]


def test_interrupt_of_the_keyboard_ends_a_wait(sqlite_url: str, spawn: Spawner) -> None:
    child = spawn(
        """
        import sys
        from dbos import DBOS
        DBOS(config={"name": "app", "system_database_url": sys.argv[1], "run_admin_server": False})
        DBOS.launch()
        try:
            print("waits", flush=True)
            DBOS.get_event("w", "k", 3600)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        DBOS.destroy()
        """,
        sqlite_url,
    )
    child.wait_for_line("waits")
    child.send_signal(signal.SIGINT)
    assert "interrupted" in child.succeed()


@both_ways
def test_waiting_get_event_ends_at_shutdown_within_a_second_and_goes_on_after_relaunch(app: App, talk: Talk) -> None:
    """In workflows; who waits outside of them is told. The recorded deadline stays."""

    @talk.workflow
    async def reader() -> Any:
        return await talk.get_event("w", "k", HOUR)

    def outside() -> str:
        try:
            talk.run(talk.get_event("w", "k", HOUR))
        except error.DBOSException as refusal:
            return str(refusal)
        return "no error"

    def shut_down() -> str:
        eventually(lambda: recorded_waits(app) == len(names), "all of them wait")
        waits.extend(DBOS.list_workflow_steps(name) for name in names)
        began = time.monotonic()
        DBOS.destroy()
        return "at once" if time.monotonic() - began < 1 else "late"

    names, waits = [f"r{n}" for n in range(20)], list[Any]()
    for name in names:
        start(name, reader)
    told, shut = in_threads([outside, shut_down])
    assert "shut down" in told or "launch" in told
    assert shut == "at once"
    app.launch(application_version="another, which does not run them")
    publish_as("w", k="meanwhile")
    app.relaunch()
    assert [DBOS.get_result(name) for name in names] == ["meanwhile"] * 20
    assert [DBOS.list_workflow_steps(name)[1:] for name in names] == waits


@both_ways
def test_get_event_that_is_recovered_after_its_deadline_has_timed_out(app: App, talk: Talk) -> None:
    """The wait of an hour is told by SQL that its hour is over: no new hour begins at the relaunch."""

    @talk.workflow
    async def reader() -> Any:
        return await talk.get_event("w", "never", HOUR), await talk.get_event("w", "k", HOUR)

    start("r", reader)
    wait_for_step("r", 2, "DBOS.sleep")
    DBOS.destroy()
    shift_deadline(app, "r", 2, -HOUR)
    app.launch()
    wait_for_step("r", 4, "DBOS.sleep")
    publish_as("w", k="value")
    assert DBOS.get_result("r") == (None, "value")
