"""Stored values for people to look at: not read at all where they are longer than anybody wants to see."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

from dbos.storage.database import Database


class StoredValue(NamedTuple):
    """A serialized value."""

    text: str | None
    """``None`` if it is longer than was asked for."""
    chars: int
    """How long it is; on Postgres in bytes, which differ if there is more than ASCII."""
    format: str | None
    """How it is serialized, as its row says; rows of older libraries do not."""


class Source(str, Enum):
    """Where a value of a workflow is stored."""

    INPUT = "input"
    OUTPUT = "output"
    ERROR = "error"
    STEP_OUTPUT = "step-output"
    STEP_ERROR = "step-error"
    EVENT = "event"
    EVENT_OF_STEP = "event-of-step"
    MESSAGE = "message"
    STREAM_ENTRY = "stream-entry"


def bounded(column: str) -> str:
    """The column and its length as SQL; the column is null where it is longer than ``:max_chars``."""
    return f"CASE WHEN SIZE_OF({column}) <= :max_chars THEN {column} END, SIZE_OF({column})"


def stored_value(columns: Sequence[Any], format: str | None) -> StoredValue | None:
    """The value that the two columns of ``bounded`` tell of; ``None`` if there is none."""
    text, chars = columns
    return None if chars is None else StoredValue(text, int(chars), format)


_WORKFLOW = "workflow_status WHERE workflow_uuid = :id"
_STEP = "operation_outputs WHERE workflow_uuid = :id AND function_id = :number"

_READ = {
    Source.INPUT: ("inputs", "serialization", _WORKFLOW),
    Source.OUTPUT: ("output", "outcome_serialization", _WORKFLOW),
    Source.ERROR: ("error", "outcome_serialization", _WORKFLOW),
    Source.STEP_OUTPUT: ("output", "serialization", _STEP),
    Source.STEP_ERROR: ("error", "serialization", _STEP),
    Source.EVENT: ("value", "serialization", "workflow_events WHERE workflow_uuid = :id AND key = :key"),
    Source.EVENT_OF_STEP: (
        "value",
        "serialization",
        "workflow_events_history WHERE workflow_uuid = :id AND key = :key AND function_id = :number",
    ),
    Source.MESSAGE: (
        "message",
        "serialization",
        "notifications WHERE message_uuid = :key AND destination_uuid = :id",
    ),
    Source.STREAM_ENTRY: (
        "value",
        "serialization",
        'streams WHERE workflow_uuid = :id AND key = :key AND "offset" = :number',
    ),
}


def read_value(
    database: Database, source: Source, workflow_id: str, *, key: str = "", number: int = 0, max_chars: int
) -> StoredValue | None:
    """One stored value.

    Args:
        database: The system database.
        source: Where it is stored.
        workflow_id: Whose it is.
        key: Of an event or a stream its key, of a message its id.
        number: Of a step its number, of an event the step that set it, of a stream's entry its offset.
        max_chars: How long it may be to be read.

    Returns:
        ``None`` if there is none.
    """
    column, format, place = _READ[source]
    statement = f"SELECT {bounded(column)}, {format} FROM {{schema}}{place}"
    parameters = {"id": workflow_id, "key": key, "number": number, "max_chars": max_chars}
    rows = database.run("read_value", lambda t: t.rows(statement, parameters), "read")
    return stored_value(rows[0][:2], rows[0][2]) if rows else None
