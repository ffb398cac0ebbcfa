"""Messages: sent to workflows, kept until they are received, once each and in order."""

from __future__ import annotations

import asyncio
import threading
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Pool, SingletonThreadPool, StaticPool, create_engine

from dbos import DBOS, SetWorkflowID, error
from dbos.storage.gate import Moment
from tests.api.test_serialization import JsonSerializer
from tests.support.apps import PATIENCE_S, App, Roadblock, eventually, in_threads, interrupt_at, status_of, steps_of
from tests.support.messaging import (
    HOUR,
    Talk,
    Topic,
    both_ways,
    collect,
    idle,
    messages_to,
    pickled,
    query,
    recorded_waits,
    relaunch_with,
    start,
    wait_for_step,
)

# ------------------------------------------------------------------------------------------------------- sent, received


@both_ways
def test_messages_queue_up_for_each_topic_until_they_are_received(app: App, talk: Talk) -> None:
    """In the order in which they were sent; None is a message too, the empty topic is a topic, and nobody waits."""
    roadblock = Roadblock()
    sent = [("b", 1), (None, "x"), ("a", "a"), ("b", None), ("", "empty"), ("b", [3]), (None, "y"), ("c", "left over")]

    @talk.workflow
    async def receiver() -> list[Any]:
        await talk.pause(roadblock)
        received = [await talk.recv("b") for _ in range(3)]
        received += [await talk.recv(), await talk.recv(topic=None)]
        return [*received, await talk.recv(topic="a", timeout_seconds=5), await talk.recv("")]

    async def send() -> None:
        for topic, message in sent:
            await talk.send("w", message, topic)

    start("w", receiver)
    roadblock.wait_until_reached()
    talk.run(send())
    assert messages_to(app, "w") == len(sent), "what was sent is durable"
    roadblock.open()
    assert DBOS.get_result("w") == [1, None, [3], "x", "y", "a", "empty"]
    assert messages_to(app, "w") == 1
    assert steps_of("w") == [(1, "pause"), *((id, "DBOS.recv") for id in range(2, 16, 2))]


@both_ways
def test_recv_waits_and_reserves_two_steps(app: App, talk: Talk) -> None:
    """A second one for its wait, recorded if there was one. None wakes it too; workflows may send to themselves."""

    @talk.workflow
    async def receiver() -> list[Any]:
        own_id = DBOS.workflow_id
        received = [await talk.recv("t")]
        await talk.send(own_id, {"to": "myself"}, "t")
        received += [await talk.recv("t", timeout_seconds=HOUR), await talk.recv("t", timeout_seconds=0.3)]
        return [*received, await talk.recv("t", 0)]

    start("w", receiver)
    wait_for_step("w", 2, "DBOS.sleep")
    assert steps_of("w") == [(2, "DBOS.sleep")]
    talk.run(talk.send(destination_id="w", message=None, topic="t"))
    assert DBOS.get_result("w") == [None, {"to": "myself"}, None, None]
    steps = DBOS.list_workflow_steps("w")
    assert [(step["function_id"], step["function_name"]) for step in steps] == [
        (1, "DBOS.recv"),
        (2, "DBOS.sleep"),
        (3, "DBOS.send"),
        (4, "DBOS.recv"),
        (6, "DBOS.recv"),
        (7, "DBOS.sleep"),
        (8, "DBOS.recv"),
    ]
    outputs = {step["function_id"]: step["output"] for step in steps}
    assert [outputs[id] for id in (1, 3, 4, 6, 8)] == [None, None, {"to": "myself"}, None, None]
    for step in steps:
        began, ended = step["started_at_epoch_ms"], step["completed_at_epoch_ms"]
        assert step["error"] is None
        assert began is not None
        assert ended is not None
        assert began <= ended


@both_ways
def test_parent_talks_with_its_just_started_children(app: App, talk: Talk) -> None:
    """The start of a child need not be durable yet when it is sent to."""

    @talk.workflow
    async def child(parent_id: str) -> str:
        order = await talk.recv("order")
        await talk.send(parent_id, order.upper(), DBOS.workflow_id)
        return "done"

    @talk.workflow
    async def parent() -> list[str]:
        children = list[str]()
        for n in range(5):
            child_id = await talk.start_child(child, cast(str, DBOS.workflow_id))
            await talk.send(child_id, f"order {n}", "order")
            children.append(child_id)
        return [await talk.recv(child_id) for child_id in children]

    start("p", parent)
    assert DBOS.get_result("p") == [f"ORDER {n}" for n in range(5)]


@both_ways
def test_checkout_story_of_paid_and_unpaid_orders(app: App, talk: Talk) -> None:
    """Started by an idempotency key, the workflow publishes a payment id; a webhook tells it how the payment went."""

    @talk.workflow
    async def checkout(order: str, patience_s: float) -> str:
        payment_id = await talk.step(partial(new_payment, order), "new_payment")
        await talk.set_event("payment_id", payment_id)
        payment_status = await talk.recv("payment_status", patience_s)
        return f"{order} shipped" if payment_status == "paid" else f"{order} cancelled"

    async def new_payment(order: str) -> str:
        return f"payment of {order}"

    async def webhook(order: str, payment_status: str) -> None:
        await talk.send(order, payment_status, "payment_status")

    for order, patience_s in (("paid", HOUR), ("refused", HOUR), ("forgotten", 0.05)):
        for _ in range(2):
            start(order, checkout, order, patience_s)
            assert talk.run(talk.get_event(order, "payment_id")) == f"payment of {order}"
    for order in ("paid", "refused"):
        talk.run(webhook(order, order))
    assert [DBOS.get_result(order) for order in ("paid", "refused", "forgotten")] == [
        "paid shipped",
        "refused cancelled",
        "forgotten cancelled",
    ]


@both_ways
def test_workflow_that_ended_can_be_sent_to(app: App, talk: Talk) -> None:
    """Nobody will receive it, but the workflow exists."""

    @talk.workflow
    async def failing() -> None:
        raise ValueError

    @talk.workflow
    async def sender() -> None:
        await talk.send("done", "from a workflow")
        await talk.send("failed", "from a workflow")

    with SetWorkflowID("done"):
        idle()
    start("failed", failing)
    with pytest.raises(ValueError):  # noqa: PT011
        DBOS.get_result("failed")
    talk.run(talk.send("done", "from outside"))
    start("s", sender)
    DBOS.get_result("s")
    assert (messages_to(app, "done"), messages_to(app, "failed")) == (2, 1)
    assert (status_of("done"), status_of("failed")) == ("SUCCESS", "ERROR")


def test_messages_of_many_threads_keep_the_order_of_each_and_none_is_lost(app: App) -> None:
    start("w", collect, 100, "t")

    def send_from(thread: int) -> None:
        for n in range(25):
            DBOS.send("w", (thread, n), "t")

    in_threads([partial(send_from, thread) for thread in range(4)])
    received = DBOS.get_result("w")
    assert len(received) == 100
    for thread in range(4):
        assert [n for its, n in received if its == thread] == list(range(25))


def test_gathered_sends_arrive_in_the_order_in_which_they_were_made(app: App) -> None:
    @DBOS.workflow()
    async def sender() -> None:
        await asyncio.gather(*(DBOS.send_async("w", n) for n in range(50)))

    start("w", collect, 50)
    start("s", sender)
    assert DBOS.get_result("w") == list(range(50))
    assert steps_of("s") == [(id, "DBOS.send") for id in range(1, 51)]


def test_many_receivers_wait_at_once_and_each_gets_its_own(app: App) -> None:
    """In threads and on the loop, woken by several threads."""

    @DBOS.workflow()
    async def on_loop() -> Any:
        return await DBOS.recv_async("t", timeout_seconds=HOUR)

    @DBOS.workflow()
    def in_thread() -> Any:
        return DBOS.recv("t", timeout_seconds=HOUR)

    names = [f"loop-{n}" for n in range(100)] + [f"thread-{n}" for n in range(20)]
    for name in names:
        start(name, on_loop if name.startswith("loop") else in_thread)
    eventually(lambda: recorded_waits(app) == len(names), "all of them wait")
    in_threads([partial(send_each, names[n::4]) for n in range(4)])
    assert [DBOS.get_result(name) for name in names] == [f"for {name}" for name in names]
    ((left,),) = query(app, "SELECT count(*) FROM {schema}notifications")
    assert left == 0


def send_each(names: list[str]) -> None:
    for name in names:
        DBOS.send(name, f"for {name}", "t")


def test_gathered_recvs_get_one_message_each_also_when_replayed(app: App) -> None:
    """Interrupted when some had received: the others wait on, and no message is received twice."""
    roadblock = Roadblock()

    @DBOS.workflow()
    async def receiver() -> list[Any]:
        recvs = [DBOS.recv_async(topic, HOUR) for topic in ("a", "b", "a", None)]
        received = await asyncio.gather(*recvs)
        await DBOS.run_step_async({"name": "pause"}, roadblock.stop_async)
        return [*received, await DBOS.recv_async("a", 0)]

    start("w", receiver)
    for wait_id in (2, 4, 6, 8):
        wait_for_step("w", wait_id, "DBOS.sleep")
    DBOS.send("w", "b1", "b")
    DBOS.send("w", "a1", "a")
    eventually(lambda: [name for _, name in steps_of("w")].count("DBOS.recv") == 2, "two were received")
    app.relaunch()
    DBOS.send("w", "no topic")
    DBOS.send("w", "a2", "a")
    interrupt_at(roadblock, app)
    first, b, second, none, nothing = DBOS.get_result("w")
    assert ({first, second}, b, none, nothing) == ({"a1", "a2"}, "b1", "no topic", None)
    assert [id for id, name in steps_of("w") if name == "DBOS.recv"] == [1, 3, 5, 7, 10]


def test_many_gathered_recvs_of_a_topic_share_its_messages(app: App) -> None:
    """Each message is received once, however the recvs of one workflow get in each other's way."""

    @DBOS.workflow()
    async def receiver() -> list[list[Any]]:
        async def receive(topic: str) -> list[Any]:
            return [await DBOS.recv_async(topic, 10) for _ in range(10)]

        return await asyncio.gather(*(receive(topic) for topic in "abababab"))

    def send(sender: str) -> None:
        for n in range(20):
            DBOS.send("w", f"{sender}-{n}", sender[0])

    start("w", receiver)
    senders = ["a1", "a2", "b1", "b2"]
    in_threads([partial(send, sender) for sender in senders])
    received = [message for messages in DBOS.get_result("w") for message in messages]
    assert sorted(map(str, received)) == sorted(f"{sender}-{n}" for sender in senders for n in range(20))
    assert messages_to(app, "w") == 0


class JournalStops:
    """Once armed, a gate that stops the journal after its next commit, and before the one after that.

    It goes on after the first stop when told to, and after the second when somebody has looked for messages.
    """

    def __init__(self) -> None:
        self.is_armed = False
        self.has_stopped = threading.Event()
        self.go = threading.Event()
        self._go_again = threading.Event()

    def __call__(self, operation: str, moment: Moment) -> None:
        if operation == "find_messages" and moment == "after_commit" and self.go.is_set():
            self._go_again.set()
        if operation != "journal" or not self.is_armed:
            return
        if moment == "after_commit" and not self.has_stopped.is_set():
            self.has_stopped.set()
            assert self.go.wait(PATIENCE_S), "nobody let the journal go on"
        elif moment == "before_commit" and self.has_stopped.is_set():
            assert self._go_again.wait(PATIENCE_S), "nobody looked for messages"


def test_message_taken_while_another_recv_waits_for_a_commit_comes_once(app: App) -> None:
    """Two wait, one takes the first message, and the other waits until that is durable; meanwhile a third comes by."""
    gate = JournalStops()

    @DBOS.workflow()
    async def receiver() -> list[Any]:
        async def early() -> Any:
            message = await DBOS.recv_async("t", HOUR)
            gate.is_armed = True
            return message

        async def late() -> Any:
            while not gate.has_stopped.is_set():
                await asyncio.sleep(0.001)
            coming = asyncio.ensure_future(DBOS.recv_async("t", HOUR))
            await asyncio.sleep(0)
            gate.go.set()
            return await coming

        return list(await asyncio.gather(early(), early(), late()))

    relaunch_with(app, gate=gate)
    start("w", receiver)
    for wait_id in (2, 4):
        wait_for_step("w", wait_id, "DBOS.sleep")
    columns = "destination_uuid, topic, message, created_at_epoch_ms, message_uuid"
    rows = ", ".join(f"('w', 't', '{pickled(n)}', 0, 'message {n}')" for n in range(3))
    query(app, f"INSERT INTO {{schema}}notifications ({columns}) VALUES {rows}")
    assert sorted(DBOS.get_result("w")) == [0, 1, 2]


class SlowLook:
    """A gate for two looks for messages at the same time, one of the receiver, one of the thread that looks for all.

    The receiver begins its first look when the other one has seen the message; the other one returns when told to.
    """

    def __init__(self) -> None:
        self.receiver_looks = threading.Event()
        self.is_sent = threading.Event()
        self.may_return = threading.Event()
        self._has_seen = threading.Event()

    def __call__(self, operation: str, moment: Moment) -> None:
        if operation != "find_messages":
            return
        if threading.current_thread().name != "dbos-waits":
            self.receiver_looks.set()
            assert self._has_seen.wait(PATIENCE_S), "nobody else looks"
        elif moment == "begin":
            assert self.is_sent.wait(PATIENCE_S), "nothing is sent"
        else:
            self._has_seen.set()
            assert self.may_return.wait(PATIENCE_S), "nobody lets the look return"


def test_slow_look_brings_no_message_that_was_taken_meanwhile(app: App) -> None:
    """What it saw was there for an earlier recv, not for the one that waits now."""
    gate = SlowLook()

    @DBOS.workflow()
    def receiver() -> list[Any]:
        return [DBOS.recv("t", HOUR), DBOS.recv("t", HOUR)]

    relaunch_with(app, gate=gate)
    start("w", receiver)
    assert gate.receiver_looks.wait(PATIENCE_S)
    DBOS.send("w", 1, "t")
    gate.is_sent.set()
    wait_for_step("w", 4, "DBOS.sleep")
    gate.may_return.set()
    DBOS.send("w", 2, "t")
    assert DBOS.get_result("w") == [1, 2]
    assert messages_to(app, "w") == 0


def test_recv_that_is_given_up_takes_no_message(app: App) -> None:
    """A coroutine may be cancelled while it waits; the message is for the next recv."""

    @DBOS.workflow()
    async def receiver() -> list[Any]:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(DBOS.recv_async("t", HOUR), 0.05)
        task = asyncio.create_task(DBOS.recv_async("t", HOUR))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await DBOS.send_async("w", "message", "t")
        return [task.cancelled(), await DBOS.recv_async("t", HOUR), await DBOS.recv_async("t", 0)]

    start("w", receiver)
    assert DBOS.get_result("w") == [True, "message", None]


def test_coroutine_workflow_may_make_blocking_calls_in_threads(app: App) -> None:
    """They belong to the workflow as its own calls do."""

    @DBOS.workflow()
    async def receiver() -> list[Any]:
        await asyncio.to_thread(DBOS.send, "w", "message")
        return [await asyncio.to_thread(DBOS.recv), await asyncio.to_thread(DBOS.recv, "t", 0.3)]

    start("w", receiver)
    assert DBOS.get_result("w") == ["message", None]
    assert steps_of("w") == [(1, "DBOS.send"), (2, "DBOS.recv"), (4, "DBOS.recv"), (5, "DBOS.sleep")]


@both_ways
def test_message_that_meets_the_time_out_is_received_then_or_later(app: App, talk: Talk) -> None:
    """Many time-outs among many messages: none is lost, none comes twice."""

    @talk.workflow
    async def receiver() -> list[Any]:
        received: list[Any] = []
        while not received or received[-1] != 49:
            message = await talk.recv("t", 0.001)
            if message is not None:
                received.append(message)
        return received

    async def send() -> None:
        for n in range(50):
            await talk.send("w", n, "t")

    start("w", receiver)
    talk.run(send())
    assert DBOS.get_result("w") == list(range(50))


# ------------------------------------------------------------------------------------------------- formats and wake-ups


def test_message_is_read_in_the_format_in_which_it_was_stored(app: App) -> None:
    roadblock = Roadblock()

    @DBOS.workflow()
    def receiver() -> list[Any]:
        roadblock.stop()
        return [repr(DBOS.recv()), repr(DBOS.recv())]

    start("w", receiver)
    roadblock.wait_until_reached()
    DBOS.send("w", (1, "pickled"))
    DBOS.destroy()
    roadblock.open()
    app.launch(serializer=JsonSerializer())
    with pytest.raises(error.DBOSSerializationError, match="cannot be serialized"):
        DBOS.send("w", b"not for JSON")
    DBOS.send("w", (2, "as a list"))
    assert DBOS.get_result("w") == ["(1, 'pickled')", "[2, 'as a list']"]


def test_messages_that_others_write_by_sql_are_found_by_polling(app: App) -> None:
    """As older clients do, which know nothing of our columns; one that cannot be decoded blocks none behind it."""

    @DBOS.workflow()
    def receiver() -> list[Any]:
        received = [DBOS.recv(None, HOUR)]
        try:
            DBOS.recv("t", HOUR)
        except error.DBOSSerializationError as broken:
            received.append(str(broken))
        return [*received, DBOS.recv("t", HOUR)]

    def insert(number: int, topic: str, message: str) -> None:
        query(
            app,
            "INSERT INTO {schema}notifications (destination_uuid, topic, message, created_at_epoch_ms, message_uuid) "
            "VALUES ('w', :topic, :message, 1700000000000, :uuid)",
            topic=topic,
            message=message,
            uuid=f"from-outside-{number}",
        )

    app.relaunch(notification_listener_polling_interval_sec=0.01)
    start("w", receiver)
    wait_for_step("w", 2, "DBOS.sleep")
    insert(1, "t", "garbage")
    insert(2, "t", pickled({"from": "a client"}))
    assert steps_of("w") == [(2, "DBOS.sleep")]
    insert(3, "__null__topic__", pickled("no topic"))
    first, broken, second = DBOS.get_result("w")
    assert (first, second) == ("no topic", {"from": "a client"})
    assert "cannot be deserialized" in broken


def rally(talk: Talk, pairs: int) -> None:
    """Pairs of workflows pass balls to and fro."""

    @talk.workflow
    async def player(opponent: str, begins: bool) -> int:
        ball = 0
        if begins:
            await talk.send(opponent, ball)
        while ball < 20:
            ball = await talk.recv(timeout_seconds=HOUR) + 1
            await talk.send(opponent, ball)
        return ball

    for begins, name, opponent in ((False, "pong", "ping"), (True, "ping", "pong")):
        for n in range(pairs):
            start(f"{name}-{n}", player, f"{opponent}-{n}", begins)
    for n in range(pairs):
        assert {DBOS.get_result(f"ping-{n}"), DBOS.get_result(f"pong-{n}")} == {20, 21}


@both_ways
def test_ping_pong_needs_no_poll(app: App, talk: Talk) -> None:
    """Each message wakes its receiver in this process, where nothing can be found by polling."""
    relaunch_with(app, polls=False)
    rally(talk, 2)


@both_ways
def test_messages_need_few_connections(postgres_url: str, unlaunched: Path, talk: Talk) -> None:
    """Who waits holds none."""
    App(postgres_url).launch(sys_db_pool_size=2)
    rally(talk, 20)


@both_ways
@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool])
def test_messages_work_in_memory(pool: type[Pool], unlaunched: Path, talk: Talk) -> None:
    """Where all threads share one connection."""
    engine = create_engine("sqlite://", poolclass=pool, connect_args={"check_same_thread": False})
    App("").launch(system_database_url=None, system_database_engine=engine)
    rally(talk, 10)


@both_ways
def test_topics_and_ids_may_be_members_of_a_string_enum(app: App, talk: Talk) -> None:
    """They are the same as the plain strings, also to the wake-up of who waits."""

    class Id(str, Enum):
        RECEIVER = "w"

    @talk.workflow
    async def receiver() -> list[Any]:
        return [await talk.recv(topic, HOUR) for topic in (Topic.PAYMENT, "payment", Topic.PAYMENT)]

    relaunch_with(app, polls=False)
    start("w", receiver)
    for number, (workflow_id, topic) in enumerate(
        [("w", Topic.PAYMENT), (Id.RECEIVER, Topic.PAYMENT), (Id.RECEIVER, "payment")]
    ):
        wait_for_step("w", 2 * number + 2, "DBOS.sleep")
        talk.run(talk.send(workflow_id, number, topic))
    assert DBOS.get_result("w") == [0, 1, 2]


def test_who_dawdles_keeps_no_message_back(app: App) -> None:
    """What a workflow received is gone from the table soon, though it does not come to its next step."""
    go_on = threading.Event()

    @DBOS.workflow()
    def dawdler() -> Any:
        message = DBOS.recv()
        go_on.wait(PATIENCE_S)
        return message

    start("w", dawdler)
    DBOS.send("w", "message")
    eventually(lambda: messages_to(app, "w") == 0, "the message is gone")
    assert DBOS.list_workflow_steps("w")[0]["output"] == "message"
    go_on.set()
    assert DBOS.get_result("w") == "message"
