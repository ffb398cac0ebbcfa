"""The system tables by plain SQL: what users would see, without asking the library."""

from __future__ import annotations

import base64
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import make_url

_WORKFLOW_COLUMNS = (
    "workflow_uuid, status, name, output, error, owner_xid, lease_id, recovery_attempts, parent_workflow_id, "
    "updated_at, completed_at, executor_id, forked_from, queue_name, workflow_timeout_ms, workflow_deadline_epoch_ms"
)
_STEP_COLUMNS = "workflow_uuid, function_id, function_name, output, error, child_workflow_id, owner_xid"
_MESSAGE_COLUMNS = "destination_uuid, topic, message"
_EVENT_COLUMNS = "workflow_uuid, key, value"
_HISTORY_COLUMNS = "workflow_uuid, key, function_id, value"
_STREAM_COLUMNS = 'workflow_uuid, key, "offset", function_id, value'

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """What stands in the tables; each row is a dict of its columns.

    Attributes:
        workflows: By id.
        steps: The checkpoints by workflow id and function id.
        messages: Those that were not received yet, oldest first.
        events: The newest value of each by workflow id and key.
        history: All values of events by workflow id, key and function id.
        streams: Entries by workflow id and key, in the order of their offsets.
    """

    workflows: dict[str, Row]
    steps: dict[tuple[str, int], Row]
    messages: list[Row]
    events: dict[tuple[str, str], Row]
    history: dict[tuple[str, str, int], Row]
    streams: dict[tuple[str, str], list[Row]]


def query(url: str, statement: str, schema: str = "dbos") -> list[tuple[Any, ...]]:
    """Run one statement, in which `{schema}` stands for the prefix of tables; its rows, if it returns any."""
    with _runner(url, schema) as run:
        return run(statement)


def read_rows(url: str, schema: str = "dbos") -> Rows:
    """Everything that workflows have recorded and published."""
    with _runner(url, schema) as run:

        def table(name: str, columns: str, order: str = "") -> list[Row]:
            names = columns.replace('"', "").split(", ")
            rows = run(f"SELECT {columns} FROM {{schema}}{name} {order}")
            return [dict(zip(names, row, strict=True)) for row in rows]

        workflows = table("workflow_status", _WORKFLOW_COLUMNS)
        steps = table("operation_outputs", _STEP_COLUMNS)
        messages = table("notifications", _MESSAGE_COLUMNS, "ORDER BY seq")
        events = table("workflow_events", _EVENT_COLUMNS)
        history = table("workflow_events_history", _HISTORY_COLUMNS)
        entries = table("streams", _STREAM_COLUMNS, 'ORDER BY "offset"')
    streams: dict[tuple[str, str], list[Row]] = {}
    for entry in entries:
        streams.setdefault((entry["workflow_uuid"], entry["key"]), []).append(entry)
    return Rows(
        {row["workflow_uuid"]: row for row in workflows},
        {(row["workflow_uuid"], row["function_id"]): row for row in steps},
        messages,
        {(row["workflow_uuid"], row["key"]): row for row in events},
        {(row["workflow_uuid"], row["key"], row["function_id"]): row for row in history},
        streams,
    )


def decode(text: str | None) -> Any:
    """A stored value, pickled and Base64-encoded as the contract says."""
    return None if text is None else pickle.loads(base64.b64decode(text))


_Run = Callable[[str], list[tuple[Any, ...]]]


@contextmanager
def _runner(url: str, schema: str) -> Iterator[_Run]:
    """Runs statements on one connection."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        assert parsed.database is not None
        with closing(sqlite3.connect(parsed.database, timeout=10)) as file, file:
            yield lambda statement: file.execute(statement.replace("{schema}", "")).fetchall()
        return
    plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
    prefix = sql.SQL('"{}".').format(sql.SQL(schema))
    with psycopg.connect(plain, autocommit=True) as connection:

        def run(statement: str) -> list[tuple[Any, ...]]:
            # The statement is the test's own text.
            cursor = connection.execute(sql.SQL(statement).format(schema=prefix))
            return cursor.fetchall() if cursor.description else []

        yield run
