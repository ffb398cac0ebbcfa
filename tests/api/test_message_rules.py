"""Messages at their edges: sent from outside and by key, to nobody, with wrong and with extreme arguments."""

from __future__ import annotations

import asyncio
import os
import random
import string
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, error
from dbos.storage.batches import forget_expired_keys
from tests.support.apps import App, Roadblock, in_threads, interrupt_at, status_of, steps_of
from tests.support.messaging import (
    AGES,
    HOUR,
    WRONG_NAMES,
    WRONG_TIMEOUTS,
    Calls,
    Talk,
    both_ways,
    collect,
    idle,
    messages_to,
    query,
    refusal_of,
    refusals_of,
    start,
)

# ------------------------------------------------------------------------------------------------- outside of workflows


@both_ways
def test_key_makes_a_send_from_outside_happen_once(app: App, talk: Talk) -> None:
    """For one destination: whatever its topic, after it was received, and after a relaunch. It makes no workflow."""

    def send(key: str, *args: Any) -> None:
        with SetWorkflowID(key):
            talk.run(talk.send(*args))

    start("w", collect, 1)
    start("other", collect, 2)
    send("w", "w", "first")  # the receiver's own id is a key as good as any
    assert DBOS.get_result("w") == ["first"]
    send("w", "w", "again")
    send("w", "w", "with a topic", "t")
    assert messages_to(app, "w") == 0
    for _ in range(2):
        send("w", "other", "same key")
        send("k", "other", "other key")
        send("w", "w", "again")
        app.relaunch()
    assert DBOS.get_result("other") == ["same key", "other key"]
    send("w", "w", "again")
    send("k", "other", "again")
    assert (messages_to(app, "w"), messages_to(app, "other")) == (0, 0)
    assert status_of("k") is None
    assert len(DBOS.list_workflows()) == 2


def test_key_is_remembered_for_ever(app: App) -> None:
    """Other than what only tells the tries of one send from each other, which is forgotten after a while."""
    start("w", collect, 2)
    with SetWorkflowID("key"):
        DBOS.send("w", 1)
    DBOS.send("w", 2)
    assert DBOS.get_result("w") == [1, 2]
    query(app, "UPDATE {schema}message_keys SET expires_at = 1 WHERE expires_at IS NOT NULL")
    application: Any = DBOS._application  # pyright: ignore[reportPrivateUsage]
    forget_expired_keys(application.executor.database)
    assert query(app, "SELECT idempotency_key FROM {schema}message_keys") == [("key",)]
    with SetWorkflowID("key"):
        DBOS.send("w", 1)
    assert messages_to(app, "w") == 0


@both_ways
def test_key_holds_for_several_threads_at_once(app: App, talk: Talk) -> None:
    def send(n: int) -> None:
        with SetWorkflowID("key"):
            talk.run(talk.send("w", n, "t"))

    start("w", idle)
    in_threads([partial(send, n) for n in range(10)])
    assert messages_to(app, "w") == 1


@both_ways
def test_second_send_in_the_block_of_a_key_is_another_message(app: App, talk: Talk) -> None:
    """As with workflows, the id is for the first; the second would be lost if it had the same key."""

    def send() -> None:
        with SetWorkflowID("key"):
            talk.run(talk.send("w", "first"))
            talk.run(talk.send("w", "second"))

    start("w", collect, 2)
    send()
    assert DBOS.get_result("w") == ["first", "second"]
    with SetWorkflowID("key"):
        talk.run(talk.send("w", "first"))
    assert messages_to(app, "w") == 0


async def test_key_belongs_to_the_coroutine_made_inside_the_block(app: App) -> None:
    def prepare(key: str) -> Any:
        with SetWorkflowID(key):
            return DBOS.send_async("w", key)

    with SetWorkflowID("w"):
        handle = await DBOS.start_workflow_async(collect, 3)
    prepared = [prepare(key) for key in ("a", "b", "a", "b")]
    await prepared[1]
    await asyncio.gather(prepared[0], *prepared[2:])
    await DBOS.send_async("w", "end")
    assert sorted(await handle.get_result()) == ["a", "b", "end"]


@both_ways
def test_send_from_outside_is_one_write_and_no_workflow(app: App, talk: Talk) -> None:
    """Each time it is called: without a key nothing tells two equal messages from each other."""
    start("w", collect, 2)
    talk.run(talk.send("w", "same"))
    talk.run(talk.send("w", "same"))
    assert DBOS.get_result("w") == ["same", "same"]
    assert [workflow.workflow_id for workflow in DBOS.list_workflows()] == ["w"]


@both_ways
def test_send_from_a_step_happens_at_once_and_is_not_recorded(app: App, talk: Talk) -> None:
    """Each attempt of the step sends."""
    roadblock, attempts = Roadblock(), list[int]()

    @talk.workflow
    async def sender() -> None:
        async def send() -> None:
            attempts.append(1)
            await talk.send("w", len(attempts))
            if len(attempts) == 1:
                raise ValueError
            await talk.send("w", "done")

        await talk.step(send, "sending", attempts=2)
        await talk.pause(roadblock)

    start("w", collect, 3)
    start("s", sender)
    roadblock.wait_until_reached()
    assert DBOS.get_result("w") == [1, 2, "done"]
    interrupt_at(roadblock, app)
    DBOS.get_result("s")
    assert messages_to(app, "w") == 0
    assert steps_of("s") == [(1, "sending"), (2, "pause")]


# ---------------------------------------------------------------------------------------------------------- unknown ids


@both_ways
def test_send_to_an_unknown_workflow_from_outside_is_refused_and_stores_nothing(app: App, talk: Talk) -> None:
    """It does not use the key up: the same send works when the workflow exists."""
    for _ in range(2):
        with SetWorkflowID("key"), pytest.raises(error.DBOSNonExistentWorkflowError, match="'w'") as info:
            talk.run(talk.send("w", "message"))
        assert info.value.dbos_error_code == 5
    with pytest.raises(error.DBOSNonExistentWorkflowError, match="'w'"):
        talk.run(talk.send("w", "message", "t"))
    assert messages_to(app, "w") == 0
    start("w", collect, 1)
    with SetWorkflowID("key"):
        talk.run(talk.send("w", "message"))
    assert DBOS.get_result("w") == ["message"]


@both_ways
def test_send_to_an_unknown_workflow_from_a_workflow_is_its_steps_error_for_ever(app: App, talk: Talk) -> None:
    """The workflow may catch it. Replay raises it again, though the workflow exists then."""
    roadblock = Roadblock()

    @talk.workflow
    async def sender() -> list[str]:
        caught = list[str]()
        for topic in (None, "t"):
            try:
                await talk.send("w", "message", topic)
            except error.DBOSNonExistentWorkflowError as refusal:
                caught.append(str(refusal))
        await talk.pause(roadblock)
        await talk.send("w", "at last")
        return caught

    @talk.workflow
    async def careless() -> None:
        await talk.send("nobody", "message")

    @talk.workflow
    async def careless_step() -> None:
        await talk.step(partial(talk.send, "nobody", "message"), "sending")

    start("s", sender)
    roadblock.wait_until_reached()
    start("w", collect, 1)
    interrupt_at(roadblock, app)
    caught = DBOS.get_result("s")
    assert len(caught) == 2
    assert all("'w'" in one for one in caught)
    assert DBOS.get_result("w") == ["at last"]
    refused = DBOS.list_workflow_steps("s")[0]
    assert (refused["function_name"], refused["output"]) == ("DBOS.send", None)
    assert isinstance(refused["error"], error.DBOSNonExistentWorkflowError)
    for name, workflow in (("c", careless), ("d", careless_step)):
        start(name, workflow)
        with pytest.raises(error.DBOSNonExistentWorkflowError, match="'nobody'"):
            DBOS.get_result(name)
        assert status_of(name) == "ERROR"
    assert query(app, "SELECT * FROM {schema}notifications") == []


# ---------------------------------------------------------------------------------------------------- wrong and extreme


def test_calls_before_launch_say_what_is_missing(unlaunched: Path) -> None:
    for call in (partial(DBOS.send, "w", "message"), DBOS.recv):
        with pytest.raises(error.DBOSException, match=r"DBOS\.launch\(\)|workflow"):
            call()
    for call in (partial(DBOS.send_async, "w", "message"), DBOS.recv_async):
        with pytest.raises(error.DBOSException, match=r"DBOS\.launch\(\)|workflow"):
            asyncio.run(call())


@both_ways
def test_recv_is_for_workflows_only(app: App, talk: Talk) -> None:
    @talk.workflow
    async def workflow() -> None:
        await talk.step(talk.recv, "receiving")

    with pytest.raises(error.DBOSException, match=r"DBOS\.recv.* workflow"):
        talk.run(talk.recv("t"))
    start("w", workflow)
    with pytest.raises(error.DBOSException, match=r"DBOS\.recv.* step"):
        DBOS.get_result("w")
    assert steps_of("w") == [(1, "receiving")]


async def test_blocking_calls_on_a_running_loop_are_refused(app: App) -> None:
    """On the caller's loop and in coroutine workflows."""

    @DBOS.workflow()
    async def workflow() -> list[str]:
        return refusals()

    def refusals() -> list[str]:
        return [refusal_of(partial(DBOS.send, "w", "message")), refusal_of(DBOS.recv)]

    with SetWorkflowID("w"):
        texts = await workflow()
    for send, recv in (texts, refusals()):
        assert "DBOS.send_async" in send
        assert "DBOS.recv_async" in recv
    assert messages_to(app, "w") == 0


@both_ways
def test_wrong_arguments_are_refused_and_the_workflow_goes_on(app: App, talk: Talk) -> None:
    """Live and replayed."""
    roadblock = Roadblock()

    def sends() -> Calls:
        return [partial(talk.send, "w", "message", topic) for _, topic in WRONG_NAMES]

    @talk.workflow
    async def workflow() -> list[Any]:
        timeouts = [partial(talk.recv, "t", seconds) for _, seconds in WRONG_TIMEOUTS]
        topics = [partial(talk.recv, topic) for _, topic in WRONG_NAMES]
        seen = [await refusals_of(timeouts, "timeout_seconds"), await refusals_of(topics, "topic")]
        seen.append(await refusals_of(sends(), "topic"))
        await talk.pause(roadblock)
        return [*seen, await talk.recv("ä" * 500, AGES)]

    start("w", workflow)
    roadblock.wait_until_reached()
    topics = [kind for kind, _ in WRONG_NAMES]
    assert talk.run(refusals_of(sends(), "topic")) == topics
    assert query(app, "SELECT * FROM {schema}notifications") == []
    talk.run(talk.send("w", "fine", "ä" * 500))
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == [[kind for kind, _ in WRONG_TIMEOUTS], topics, topics, "fine"]


@both_ways
def test_destination_that_is_no_id_is_refused(app: App, talk: Talk) -> None:
    for wrong in (None, 1, b"w"):
        with pytest.raises(TypeError, match="id"):
            talk.run(talk.send(wrong, "message"))
    for destination in ("", "nul\x00", "surrogate\ud800", "w" * 10_000):
        with pytest.raises((ValueError, error.DBOSNonExistentWorkflowError)):
            talk.run(talk.send(destination, "message"))


@both_ways
def test_longest_topics_that_are_allowed_work_however_random_they_are(app: App, talk: Talk) -> None:
    letters = random.Random(1)
    topics = ["".join(letters.choices(string.ascii_letters, k=1024)) for _ in range(3)]
    workflow_id = "".join(letters.choices(string.ascii_letters, k=1024))
    start(workflow_id, collect, 1, topics[1])
    for topic in topics:
        with SetWorkflowID("".join(letters.choices(string.ascii_letters, k=1024))):
            talk.run(talk.send(workflow_id, topic, topic))
    assert DBOS.get_result(workflow_id) == [topics[1]]


@both_ways
def test_child_with_the_longest_derived_id_is_talked_with(app: App, talk: Talk) -> None:
    """The parent has the longest id that may be set; its child's is longer."""

    @talk.workflow
    async def child() -> Any:
        await talk.set_event("k", "event")
        return await talk.recv("t", HOUR)

    @talk.workflow
    async def parent() -> list[Any]:
        child_id = await talk.start_child(child)
        await talk.send(child_id, "message", "t")
        return [child_id, await talk.call("get_result", child_id), await talk.get_event(child_id, "k")]

    start("p" * 1024, parent)
    child_id, message, event = DBOS.get_result("p" * 1024)
    assert (child_id, message, event) == ("p" * 1024 + "-1", "message", "event")
    talk.run(talk.send(child_id, "from outside", "t"))
    assert talk.run(talk.get_event(child_id, "k")) == "event"
    assert talk.run(talk.get_all_events(child_id)) == {"k": "event"}


@both_ways
def test_message_that_cannot_be_stored_is_refused_and_nothing_is_sent(app: App, talk: Talk) -> None:
    """Clearly, at the call; the workflow may catch it, live and replayed. The key is not used up."""
    roadblock = Roadblock()

    @talk.workflow
    async def sender() -> str:
        try:
            await talk.send("w", threading.Lock())
        except error.DBOSSerializationError as refusal:
            await talk.pause(roadblock)
            await talk.send("w", "sent")
            return str(refusal)
        return "no error"

    start("w", collect, 2)
    for message in (threading.Lock(), lambda: 1):
        with SetWorkflowID("key"), pytest.raises(error.DBOSSerializationError, match="cannot be serialized"):
            talk.run(talk.send("w", message, "t"))
    start("s", sender)
    roadblock.wait_until_reached()
    assert query(app, "SELECT * FROM {schema}notifications") == []
    interrupt_at(roadblock, app)
    assert "cannot be serialized" in DBOS.get_result("s")
    assert "message" in DBOS.get_result("s")
    with SetWorkflowID("key"):
        talk.run(talk.send("w", "sent by key"))
    assert DBOS.get_result("w") == ["sent", "sent by key"]


@both_ways
def test_huge_messages_arrive_whole(app: App, talk: Talk) -> None:
    huge = os.urandom(4_000_000)
    roadblock = Roadblock()

    @talk.workflow
    async def receiver() -> list[bool]:
        message = await talk.recv()
        await talk.send(DBOS.workflow_id, {"huge": message}, "t")
        await talk.pause(roadblock)
        return [message == huge, (await talk.recv("t"))["huge"] == huge]

    start("w", receiver)
    talk.run(talk.send("w", huge))
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == [True, True]
