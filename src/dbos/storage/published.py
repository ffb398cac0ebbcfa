"""What belongs to a workflow beside its steps, for somebody who looks at it: its events, messages and streams.

All of it is read in pages, along the keys of its tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dbos.storage.database import Database, Transaction
from dbos.storage.stored_values import StoredValue, bounded

_READ_EVENTS = f"""
SELECT key, {bounded("value")}, serialization,
    (SELECT count(*) FROM {{schema}}workflow_events_history AS past
     WHERE past.workflow_uuid = event.workflow_uuid AND past.key = event.key),
    (SELECT MAX(function_id) FROM {{schema}}workflow_events_history AS past
     WHERE past.workflow_uuid = event.workflow_uuid AND past.key = event.key)
FROM {{schema}}workflow_events AS event WHERE workflow_uuid = :id AFTER ORDER BY key LIMIT :limit"""

_READ_PAST = f"""
SELECT function_id, {bounded("value")}, serialization FROM {{schema}}workflow_events_history
WHERE workflow_uuid = :id AND key = :key ORDER BY function_id DESC LIMIT :limit"""

_READ_SET_BY = """
SELECT function_id, key FROM {schema}workflow_events_history
WHERE workflow_uuid = :id AND key ANY_OF(:keys) AND function_id BETWEEN :first AND :last
ORDER BY function_id, key LIMIT :limit"""

_READ_MESSAGES = f"""
SELECT message_uuid, topic, {bounded("message")}, serialization, created_at_epoch_ms
FROM {{schema}}notifications WHERE destination_uuid = :id ORDER BY topic, seq LIMIT :limit"""

_COUNT_MESSAGES = """
SELECT count(*) FROM (SELECT 1 FROM {schema}notifications WHERE destination_uuid = :id LIMIT :limit) AS counted"""

_READ_RECEIVED = f"""
SELECT function_id, {bounded("output")}, serialization, completed_at_epoch_ms FROM {{schema}}operation_outputs
WHERE workflow_uuid = :id AND function_id > :after AND function_name = 'DBOS.recv' AND output IS NOT NULL
ORDER BY function_id DESC LIMIT :limit"""

# From key to key, as there may be a million entries under each.
_READ_STREAMS = """
WITH RECURSIVE found (key, number) AS (
    SELECT MIN(key), 1 FROM {schema}streams WHERE workflow_uuid = :id
    UNION ALL
    SELECT (SELECT MIN(key) FROM {schema}streams WHERE workflow_uuid = :id AND key > found.key), number + 1
    FROM found WHERE found.key IS NOT NULL AND number < :limit
)
SELECT key,
    (SELECT MAX("offset") FROM {schema}streams AS entry WHERE workflow_uuid = :id AND entry.key = found.key)
FROM found WHERE key IS NOT NULL ORDER BY number"""

_READ_LAST_OFFSET = 'SELECT MAX("offset") FROM {schema}streams WHERE workflow_uuid = :id AND key = :key'

_READ_ENTRIES = f"""
SELECT "offset", {bounded("value")}, serialization, function_id FROM {{schema}}streams
WHERE workflow_uuid = :id AND key = :key AND "offset" BETWEEN :first AND :last ORDER BY "offset" LIMIT :limit"""


class PastValue(NamedTuple):
    """A value that an event had."""

    function_id: int
    """The step that set it."""
    value: StoredValue


class EventRow(NamedTuple):
    """An event of a workflow."""

    key: str
    value: StoredValue
    times_set: int
    """How many values of it are recorded, with this one; rows of older libraries have none."""
    set_by: int | None
    """The step that set it last."""
    past: Sequence[PastValue]
    """The newest values, the newest first, if there were several."""


class MessageRow(NamedTuple):
    """A message that its receiver has not taken yet."""

    message_id: str
    topic: str | None
    value: StoredValue
    sent_at: int


class ReceivedRow(NamedTuple):
    """A message that was taken: what is left of it is the step that took it."""

    function_id: int
    value: StoredValue
    received_at: int | None


class StreamRow(NamedTuple):
    """A stream of a workflow."""

    key: str
    last_offset: int


class EntryRow(NamedTuple):
    """An entry of a stream."""

    offset: int
    value: StoredValue
    function_id: int


def read_event_page(
    database: Database, workflow_id: str, *, after: str | None = None, limit: int, past_limit: int, max_chars: int
) -> list[EventRow]:
    """The events of a workflow in the order of their keys.

    Args:
        database: The system database.
        workflow_id: The workflow.
        after: Only events whose keys come after this one.
        limit: At most so many.
        past_limit: At most so many earlier values of each.
        max_chars: How long a value may be to be read.
    """
    statement = _READ_EVENTS.replace("AFTER", "" if after is None else "AND key > :after")
    parameters = {"id": workflow_id, "after": after, "limit": limit, "max_chars": max_chars}

    def work(transaction: Transaction) -> list[EventRow]:
        return [
            EventRow(
                key,
                StoredValue(text, int(chars), format),
                int(times),
                set_by,
                _read_past(transaction, {**parameters, "key": key, "limit": past_limit}) if times > 1 else (),
            )
            for key, text, chars, format, times, set_by in transaction.rows(statement, parameters)
        ]

    return database.run("read_event_page", work, "read")


def _read_past(transaction: Transaction, parameters: dict[str, object]) -> list[PastValue]:
    rows = transaction.rows(_READ_PAST, parameters)
    return [PastValue(row[0], StoredValue(row[1], int(row[2]), row[3])) for row in rows]


def read_set_events(
    database: Database, workflow_id: str, keys: Sequence[str], first: int, last: int, *, limit: int
) -> dict[int, list[str]]:
    """Which of the events the steps from ``first`` to ``last`` set, by the steps' numbers."""
    if not keys:
        return {}
    parameters = {"id": workflow_id, "keys": list(keys), "first": first, "last": last, "limit": limit}
    events: dict[int, list[str]] = {}
    for function_id, key in database.run("read_set_events", lambda t: t.rows(_READ_SET_BY, parameters), "read"):
        events.setdefault(function_id, []).append(key)
    return events


def read_messages(database: Database, workflow_id: str, *, limit: int, max_chars: int) -> list[MessageRow]:
    """The messages that wait for a workflow, by topic, in the order in which it receives them."""
    parameters = {"id": workflow_id, "limit": limit, "max_chars": max_chars}
    rows = database.run("read_messages", lambda t: t.rows(_READ_MESSAGES, parameters), "read")
    return [MessageRow(row[0], row[1], StoredValue(row[2], int(row[3]), row[4]), row[5]) for row in rows]


def count_messages(database: Database, workflow_id: str, limit: int) -> int:
    """How many messages wait for a workflow; ``limit`` if there are more."""
    parameters = {"id": workflow_id, "limit": limit}
    return int(database.run("count_messages", lambda t: t.rows(_COUNT_MESSAGES, parameters), "read")[0][0])


def read_received(
    database: Database, workflow_id: str, *, after: int = 0, limit: int, max_chars: int
) -> list[ReceivedRow]:
    """The messages that steps with numbers above ``after`` received, the newest first."""
    parameters = {"id": workflow_id, "after": after, "limit": limit, "max_chars": max_chars}
    rows = database.run("read_received", lambda t: t.rows(_READ_RECEIVED, parameters), "read")
    return [ReceivedRow(row[0], StoredValue(row[1], int(row[2]), row[3]), row[4]) for row in rows]


def read_streams(database: Database, workflow_id: str, limit: int) -> list[StreamRow]:
    """The first streams of a workflow in the order of their keys."""
    parameters = {"id": workflow_id, "limit": limit}
    rows = database.run("read_streams", lambda t: t.rows(_READ_STREAMS, parameters), "read")
    return [StreamRow(row[0], int(row[1])) for row in rows]


def read_last_offset(database: Database, workflow_id: str, key: str) -> int | None:
    """The offset of a stream's last entry; ``None`` if it has none."""
    parameters = {"id": workflow_id, "key": key}
    last = database.run("read_last_offset", lambda t: t.rows(_READ_LAST_OFFSET, parameters), "read")[0][0]
    return None if last is None else int(last)


def read_entries(
    database: Database, workflow_id: str, key: str, first: int, last: int, *, max_chars: int
) -> list[EntryRow]:
    """The entries of a stream with the offsets from ``first`` to ``last``, in order."""
    parameters = {"id": workflow_id, "key": key, "first": first, "last": last, "limit": last - first + 1}
    rows = database.run("read_entries", lambda t: t.rows(_READ_ENTRIES, {**parameters, "max_chars": max_chars}), "read")
    return [EntryRow(row[0], StoredValue(row[1], int(row[2]), row[3]), row[4]) for row in rows]
