"""Messages under replay: what was sent or received stays so, and an interrupted wait goes on."""

from __future__ import annotations

import threading
import time
from typing import Any

from dbos import DBOS
from dbos.storage.gate import Moment
from tests.support.apps import App, Roadblock, eventually, interrupt_at, steps_of
from tests.support.messaging import (
    HOUR,
    Talk,
    both_ways,
    collect,
    messages_to,
    query,
    recorded_waits,
    relaunch_with,
    shift_deadline,
    start,
    wait_for_step,
)


@both_ways
def test_time_out_is_recorded_and_stays_when_a_message_came_later(app: App, talk: Talk) -> None:
    roadblock = Roadblock()

    @talk.workflow
    async def receiver() -> list[Any]:
        waited = await talk.recv("t", 0.02)
        looked = await talk.recv("t", 0)
        await talk.pause(roadblock)
        return [waited, looked, await talk.recv("t")]

    start("w", receiver)
    roadblock.wait_until_reached()
    talk.run(talk.send("w", "late", "t"))
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == [None, None, "late"]


@both_ways
def test_received_message_is_replayed_from_the_record(app: App, talk: Talk) -> None:
    """And the next one stays for the next recv."""
    roadblock = Roadblock()

    @talk.workflow
    async def receiver() -> list[Any]:
        first = [await talk.recv("t"), await talk.recv("t")]
        await talk.pause(roadblock)
        return [*first, await talk.recv("t"), await talk.recv("t", 0)]

    async def send() -> None:
        for message in (None, {"n": 2}, 3):
            await talk.send("w", message, "t")

    start("w", receiver)
    talk.run(send())
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == [None, {"n": 2}, 3, None]


@both_ways
def test_exceptions_are_messages_as_any_other(app: App, talk: Talk) -> None:
    """They are received, and not raised, live and replayed."""
    roadblock = Roadblock()

    @talk.workflow
    async def receiver() -> list[Any]:
        await talk.set_event("k", KeyError("event"))
        received = [await talk.recv(), await talk.get_event("w", "k")]
        await talk.pause(roadblock)
        return [(type(value).__name__, value.args) for value in received]

    start("w", receiver)
    talk.run(talk.send("w", ValueError("message", 1)))
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == [("ValueError", ("message", 1)), ("KeyError", ("event",))]


@both_ways
def test_workflow_sends_each_message_exactly_once(app: App, talk: Talk) -> None:
    """Also when it is replayed, and when its messages have been received in the meantime."""
    roadblock = Roadblock()

    @talk.workflow
    async def sender() -> None:
        for n in range(3):
            await talk.send("w", n)
        await talk.pause(roadblock)
        await talk.send("w", "last")

    start("w", collect, 5)
    start("s", sender)
    roadblock.wait_until_reached()
    eventually(lambda: messages_to(app, "w") == 0, "the first messages are received")
    interrupt_at(roadblock, app)
    DBOS.get_result("s")
    DBOS.send("w", "end")
    assert DBOS.get_result("w") == [0, 1, 2, "last", "end"]
    assert messages_to(app, "w") == 0
    assert [name for _, name in steps_of("s")] == ["DBOS.send"] * 3 + ["pause", "DBOS.send"]


@both_ways
def test_waiting_recv_ends_at_shutdown_within_a_second_and_goes_on_after_relaunch(app: App, talk: Talk) -> None:
    """With the deadline that was recorded first; a message that came while nobody ran is there."""

    @talk.workflow
    async def receiver() -> Any:
        return await talk.recv("t", HOUR)

    names = [f"w{n}" for n in range(20)]
    for name in names:
        start(name, receiver)
    eventually(lambda: recorded_waits(app) == len(names), "all of them wait")
    waits = [DBOS.list_workflow_steps(name) for name in names]
    began = time.monotonic()
    DBOS.destroy()
    assert time.monotonic() - began < 1
    app.launch(application_version="another, which does not run them")
    talk.run(talk.send("w0", "meanwhile", "t"))
    app.relaunch()
    for name in names[1:]:
        talk.run(talk.send(name, f"for {name}", "t"))
    assert [DBOS.get_result(name) for name in names] == ["meanwhile", *(f"for {name}" for name in names[1:])]
    for name, wait in zip(names, waits, strict=True):
        assert DBOS.list_workflow_steps(name)[1:] == wait, "the wait is recorded once"


@both_ways
def test_recv_waits_to_its_recorded_deadline_and_never_less(app: App, talk: Talk) -> None:
    @talk.workflow
    async def receiver(timeout: float) -> Any:
        return await talk.recv("t", timeout)

    began_ms = time.time() * 1000
    start("w", receiver, 0.3)
    wait_for_step("w", 2, "DBOS.sleep")
    app.relaunch()
    assert DBOS.get_result("w") is None
    recv, wait = DBOS.list_workflow_steps("w")
    assert recv["completed_at_epoch_ms"] is not None
    assert isinstance(wait["output"], float), "the deadline, in seconds"
    assert wait["output"] * 1000 >= began_ms + 300
    assert recv["completed_at_epoch_ms"] >= wait["output"] * 1000 - 1


@both_ways
def test_recv_that_is_recovered_after_its_deadline_has_timed_out(app: App, talk: Talk) -> None:
    """The wait of an hour is told by SQL that its hour is over: no new hour begins at the relaunch."""

    @talk.workflow
    async def receiver() -> Any:
        return await talk.recv("empty", HOUR), await talk.recv("full", HOUR)

    start("w", receiver)
    wait_for_step("w", 2, "DBOS.sleep")
    DBOS.destroy()
    shift_deadline(app, "w", 2, -HOUR)
    app.launch()
    wait_for_step("w", 4, "DBOS.sleep")
    talk.run(talk.send("w", "second", "full"))
    assert DBOS.get_result("w") == (None, "second")


class Balance:
    """A gate that looks at every begin and end of a transaction how many messages are left and how many received."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.is_open = threading.Event()
        self.seen: list[tuple[int, int]] = []

    def __call__(self, operation: str, moment: Moment) -> None:
        if self.is_open.is_set():
            ((left, received),) = query(
                self._app,
                "SELECT (SELECT count(*) FROM {schema}notifications WHERE destination_uuid = 'w'), "
                "(SELECT count(*) FROM {schema}operation_outputs WHERE function_name = 'DBOS.recv')",
            )
            self.seen.append((left, received))


@both_ways
def test_message_is_gone_exactly_when_its_recv_is_recorded(app: App, talk: Talk) -> None:
    """Whoever looks at the tables by SQL, at any time, finds each message in one place."""
    roadblock, balance = Roadblock(), Balance(app)

    @talk.workflow
    async def receiver() -> list[Any]:
        await talk.pause(roadblock)
        return [await talk.recv("t") for _ in range(6)]

    relaunch_with(app, gate=balance)
    start("w", receiver)
    for n in range(6):
        talk.run(talk.send("w", n, "t"))
    balance.is_open.set()
    roadblock.open()
    assert DBOS.get_result("w") == list(range(6))
    balance.is_open.clear()
    assert {left + received for left, received in balance.seen} == {6}
    assert {received for _, received in balance.seen} >= {0, 6}
