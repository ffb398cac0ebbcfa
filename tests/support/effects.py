"""Short words for the effects of checkpoints, and for what they leave in the database."""

from __future__ import annotations

import itertools
from typing import Any

from dbos.model.limits import NO_TOPIC
from dbos.model.values import Checkpoint, Effect, Event, Message, Receipt, StepEffect, StreamEntry
from dbos.storage.database import Database
from tests.support.storage import checkpoint, sql

_numbers = itertools.count(1)


def message(destination_id: str, text: str = "hello", **others: Any) -> Message:
    """A message; its id is new unless it is given."""
    fields: dict[str, Any] = {"message_id": f"message-{next(_numbers)}", "topic": NO_TOPIC, "serialization": "pickle"}
    return Message(destination_id=destination_id, text=text, **fields | others)


def event(key: str = "key", text: str = "value") -> Event:
    """A new value of an event."""
    return Event(key, text, "pickle")


def entry(text: str = "entry", key: str = "stream") -> StreamEntry:
    """The next entry of a stream."""
    return StreamEntry(key, text, "pickle")


def doing(function_id: int, effect: Effect) -> Checkpoint:
    """The checkpoint of a library call that has this effect."""
    return checkpoint(function_id, None, effect=effect)


def sending(function_id: int, destination_id: str, text: str = "hello", **others: Any) -> Checkpoint:
    """The checkpoint of a send."""
    return doing(function_id, message(destination_id, text, **others))


def receiving(function_id: int, message_id: str) -> Checkpoint:
    """The checkpoint of a recv."""
    return doing(function_id, Receipt(message_id))


def setting(function_id: int, text: str = "value", key: str = "key") -> Checkpoint:
    """The checkpoint of a set_event."""
    return doing(function_id, event(key, text))


def writing(function_id: int, text: str = "entry", key: str = "stream") -> Checkpoint:
    """The checkpoint of a write_stream."""
    return doing(function_id, entry(text, key))


def in_step(function_id: int, effect: Event | StreamEntry) -> StepEffect:
    """What the code of a step publishes."""
    return StepEffect(function_id, effect)


def inbox(database: Database, workflow_id: str, topic: str | None = None) -> list[str]:
    """The texts of the messages that wait for a workflow, on one topic or all, oldest first."""
    statement = "SELECT message, topic FROM {schema}notifications WHERE destination_uuid = :id ORDER BY seq"
    return [text for text, its_topic in sql(database, statement, id=workflow_id) if topic in (None, its_topic)]


def message_ids(database: Database) -> set[str]:
    """The ids of all messages that wait."""
    return {row[0] for row in sql(database, "SELECT message_uuid FROM {schema}notifications")}


def events(database: Database, workflow_id: str) -> dict[str, str]:
    """The values of a workflow's events."""
    statement = "SELECT key, value FROM {schema}workflow_events WHERE workflow_uuid = :id"
    return {row[0]: row[1] for row in sql(database, statement, id=workflow_id)}


def event_history(database: Database, workflow_id: str) -> list[tuple[int, str, str]]:
    """Function id, key and value of every step that set an event."""
    statement = "SELECT function_id, key, value FROM {schema}workflow_events_history WHERE workflow_uuid = :id"
    return sorted((row[0], row[1], row[2]) for row in sql(database, statement, id=workflow_id))


def stream(database: Database, workflow_id: str, key: str = "stream") -> list[str]:
    """The entries of a stream, whose offsets must be 0, 1, 2, ...."""
    return [text for text, _ in stream_with_steps(database, workflow_id, key)]


def stream_with_steps(database: Database, workflow_id: str, key: str = "stream") -> list[tuple[str, int]]:
    """The entries of a stream, each with the function id of its step."""
    statement = (
        'SELECT "offset", value, function_id FROM {schema}streams WHERE workflow_uuid = :id AND key = :key '
        'ORDER BY "offset"'
    )
    rows = sql(database, statement, id=workflow_id, key=key)
    assert [row[0] for row in rows] == list(range(len(rows))), "the offsets have gaps"
    return [(row[1], row[2]) for row in rows]


def leftovers(database: Database, workflow_id: str) -> dict[str, int]:
    """How many rows belong to a workflow, by table; tables without any are left out."""
    columns = {
        "workflow_status": "workflow_uuid",
        "operation_outputs": "workflow_uuid",
        "notifications": "destination_uuid",
        "message_keys": "destination_uuid",
        "workflow_events": "workflow_uuid",
        "workflow_events_history": "workflow_uuid",
        "streams": "workflow_uuid",
    }
    counts = {
        table: sql(database, f"SELECT count(*) FROM {{schema}}{table} WHERE {column} = :id", id=workflow_id)[0][0]
        for table, column in columns.items()
    }
    return {table: count for table, count in counts.items() if count}
