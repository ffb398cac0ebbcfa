"""Events at their edges: in the wrong place, with wrong and extreme arguments, written by others."""

from __future__ import annotations

import asyncio
import os
import random
import string
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dbos import DBOS, SetWorkflowID, error
from tests.api.test_serialization import JsonSerializer
from tests.support.apps import App, Roadblock, interrupt_at
from tests.support.messaging import (
    HOUR,
    WRONG_NAMES,
    WRONG_TIMEOUTS,
    Talk,
    both_ways,
    pickled,
    publish_as,
    query,
    refusal_of,
    refusals_of,
    start,
    wait_for_step,
)

# ---------------------------------------------------------------------------------------------------- wrong and extreme


def test_calls_of_events_before_launch_say_what_is_missing(unlaunched: Path) -> None:
    text = r"DBOS\.launch\(\)|workflow"
    for call in (partial(DBOS.set_event, "k", 1), partial(DBOS.get_event, "w", "k"), partial(DBOS.get_all_events, "w")):
        with pytest.raises(error.DBOSException, match=text):
            call()
    awaited: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        partial(DBOS.set_event_async, "k", 1),
        partial(DBOS.get_event_async, "w", "k"),
        partial(DBOS.get_all_events_async, "w"),
    ]
    for call_async in awaited:
        with pytest.raises(error.DBOSException, match=text):
            asyncio.run(call_async())


@both_ways
def test_set_event_is_for_workflows_and_their_steps_only(app: App, talk: Talk) -> None:
    with pytest.raises(error.DBOSException, match=r"DBOS\.set_event.* workflow"):
        talk.run(talk.set_event("k", 1))
    assert query(app, "SELECT * FROM {schema}workflow_events") == []


async def test_blocking_calls_of_events_on_a_running_loop_are_refused(app: App) -> None:
    """On the caller's loop and in coroutine workflows."""

    @DBOS.workflow()
    async def workflow() -> list[str]:
        return refusals()

    def refusals() -> list[str]:
        return [
            refusal_of(partial(DBOS.set_event, "k", 1)),
            refusal_of(partial(DBOS.get_event, "w", "k")),
            refusal_of(partial(DBOS.get_all_events, "w")),
        ]

    with SetWorkflowID("w"):
        texts = await workflow()
    names = ["DBOS.set_event_async", "DBOS.get_event_async", "DBOS.get_all_events_async"]
    assert [name in text for name, text in zip(names, texts, strict=True)] == [True] * 3
    texts = refusals()
    assert [name in text for name, text in zip(names[1:], texts[1:], strict=True)] == [True] * 2
    assert await DBOS.get_all_events_async("w") == {}


@both_ways
def test_wrong_keys_and_timeouts_are_refused_and_the_workflow_goes_on(app: App, talk: Talk) -> None:
    """Live and replayed, and outside."""
    roadblock = Roadblock()
    wrong_keys = [*WRONG_NAMES, ("TypeError", None)]

    async def wrong_reads() -> list[list[str]]:
        keys = [partial(talk.get_event, "w", key, 0) for _, key in wrong_keys]
        timeouts = [partial(talk.get_event, "w", "k", seconds) for _, seconds in WRONG_TIMEOUTS]
        return [await refusals_of(keys, "key"), await refusals_of(timeouts, "timeout_seconds")]

    @talk.workflow
    async def workflow() -> list[list[str]]:
        writes = [partial(talk.set_event, key, 1) for _, key in wrong_keys]
        seen = [*await wrong_reads(), await refusals_of(writes, "key")]
        await talk.set_event("ä" * 500, "long")
        await talk.set_event("", "empty")
        await talk.pause(roadblock)
        return seen

    keys, timeouts = [kind for kind, _ in wrong_keys], [kind for kind, _ in WRONG_TIMEOUTS]
    assert talk.run(wrong_reads()) == [keys, timeouts]
    start("w", workflow)
    interrupt_at(roadblock, app)
    assert DBOS.get_result("w") == [keys, timeouts, keys]
    assert talk.run(talk.get_all_events("w")) == {"ä" * 500: "long", "": "empty"}


@both_ways
def test_ids_that_are_none_have_no_events(app: App, talk: Talk) -> None:
    for wrong in (None, 1, b"w"):
        for call in (partial(talk.get_event, wrong, "k", 0), partial(talk.get_all_events, wrong)):
            with pytest.raises(TypeError, match="id"):
                talk.run(call())
    for strange in ("", "nul\x00", "surrogate\ud800", "w" * 10_000):
        for call in (partial(talk.get_event, strange, "k", 0), partial(talk.get_all_events, strange)):
            with suppress(ValueError):
                assert not talk.run(call())


@both_ways
def test_longest_keys_that_are_allowed_work_however_random_they_are(app: App, talk: Talk) -> None:
    letters = random.Random(1)
    keys = ["".join(letters.choices(string.ascii_letters, k=1024)) for _ in range(3)]
    workflow_id = "".join(letters.choices(string.ascii_letters, k=1024))
    publish_as(workflow_id, **{key: key for key in keys})
    assert talk.run(talk.get_event(workflow_id, keys[1])) == keys[1]
    assert talk.run(talk.get_all_events(workflow_id)) == {key: key for key in keys}


@both_ways
def test_value_that_cannot_be_stored_is_refused_and_nothing_is_set(app: App, talk: Talk) -> None:
    """Clearly, at the call; the workflow may catch it, live and replayed. An earlier value stays."""
    roadblock = Roadblock()

    @talk.workflow
    async def publisher() -> list[str]:
        async def step() -> None:
            await talk.set_event("k", lambda: 1)

        texts = list[str]()
        await talk.set_event("k", "fine")
        try:
            await talk.set_event("k", threading.Lock())
        except error.DBOSSerializationError as refusal:
            texts.append(str(refusal))
        try:
            await talk.step(step)
        except error.DBOSSerializationError as refusal:
            texts.append(str(refusal))
        await talk.pause(roadblock)
        return texts

    start("w", publisher)
    roadblock.wait_until_reached()
    assert talk.run(talk.get_all_events("w")) == {"k": "fine"}
    interrupt_at(roadblock, app)
    texts = DBOS.get_result("w")
    assert len(texts) == 2
    assert all("cannot be serialized" in text and "'k'" in text for text in texts)
    assert talk.run(talk.get_all_events("w")) == {"k": "fine"}


@both_ways
def test_huge_values_arrive_whole(app: App, talk: Talk) -> None:
    huge = os.urandom(4_000_000)

    @talk.workflow
    async def workflow() -> bool:
        await talk.set_event("huge", huge)
        return bool(await talk.get_event(DBOS.workflow_id, "huge") == huge)

    start("w", workflow)
    assert DBOS.get_result("w") is True
    assert talk.run(talk.get_all_events("w"))["huge"] == huge


# -------------------------------------------------------------------------------------------------------------- formats


@both_ways
def test_event_is_read_in_the_format_in_which_it_was_stored(app: App, talk: Talk) -> None:
    async def read() -> list[str]:
        seen = [await talk.get_event("w", "k"), await talk.get_event("x", "k"), await talk.get_all_events("w")]
        return [repr(value) for value in seen]

    reader = talk.workflow(read)
    publish_as("w", k=(1, 2))
    app.relaunch(serializer=JsonSerializer())
    publish_as("x", k=(1, 2))
    start("r", reader)
    expected = ["(1, 2)", "[1, 2]", "{'k': (1, 2)}"]
    assert DBOS.get_result("r") == expected
    assert talk.run(read()) == expected
    app.relaunch(serializer=JsonSerializer())
    assert DBOS.get_result("r") == expected


@both_ways
def test_events_that_an_older_library_stored_are_read(app: App, talk: Talk) -> None:
    """Its rows name no format. What cannot be decoded is an error for who asks for it, and not a silent None."""

    def insert(key: str, value: str) -> None:
        statement = "INSERT INTO {schema}workflow_events (workflow_uuid, key, value) VALUES ('w', :key, :value)"
        query(app, statement, key=key, value=value)

    insert("k", pickled({"from": "before"}))
    assert talk.run(talk.get_event("w", "k")) == {"from": "before"}
    assert talk.run(talk.get_all_events("w")) == {"k": {"from": "before"}}
    insert("broken", "garbage")
    with pytest.raises(error.DBOSSerializationError, match="cannot be deserialized"):
        talk.run(talk.get_event("w", "broken"))
    assert talk.run(talk.get_event("w", "k")) == {"from": "before"}


@both_ways
def test_event_that_another_program_writes_by_sql_is_found_by_polling(app: App, talk: Talk) -> None:
    @talk.workflow
    async def reader() -> Any:
        return await talk.get_event("w", "k", HOUR)

    app.relaunch(notification_listener_polling_interval_sec=0.01)
    start("r", reader)
    wait_for_step("r", 2, "DBOS.sleep")
    statement = "INSERT INTO {schema}workflow_events (workflow_uuid, key, value) VALUES ('w', 'k', :value)"
    query(app, statement, value=pickled("value"))
    assert DBOS.get_result("r") == "value"
