"""What can be waited for, and how the database is asked whether it is there: for any number of waits at once.

A *query* names one thing that somebody waits for. Its *hints* are the short texts that writers publish when it may have
arrived; those among its *interests* they publish only if they were asked for. See ``dbos.storage.hints``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dbos.model.status import LIVE
from dbos.model.values import Batch, BatchAnswer, Event, Message, RecordedOutcome, StreamEntry
from dbos.storage.database import Database

# For a join with the document that holds what is wanted, PostgreSQL would rather read whole tables, as it takes the
# document for long. A subquery for each row leaves it no choice; SQLite has no such subqueries and no such illusions.
_FIND_MESSAGES = (
    """
SELECT wanted.id, wanted.key, message_uuid, message, serialization
FROM ROWS_OF(:wanted, id text, key text) JOIN notifications ON message_uuid = (
    SELECT message_uuid FROM notifications
    WHERE destination_uuid = wanted.id AND topic = wanted.key ORDER BY seq LIMIT 1)""",
    """
SELECT wanted.id, wanted.key, message_uuid, message, serialization
FROM ROWS_OF(:wanted, id text, key text) CROSS JOIN LATERAL (
    SELECT message_uuid, message, serialization FROM {schema}notifications
    WHERE destination_uuid = wanted.id AND topic = wanted.key ORDER BY seq LIMIT 1) AS oldest""",
)

_FIND_EVENTS = (
    """
SELECT wanted.id, wanted.key, value, serialization
FROM ROWS_OF(:wanted, id text, key text)
JOIN workflow_events AS event ON event.workflow_uuid = wanted.id AND event.key = wanted.key""",
    """
SELECT wanted.id, wanted.key, value, serialization
FROM ROWS_OF(:wanted, id text, key text) CROSS JOIN LATERAL (
    SELECT value, serialization FROM {schema}workflow_events AS event
    WHERE event.workflow_uuid = wanted.id AND event.key = wanted.key LIMIT 1) AS its""",
)

_READ_EVENTS = """
SELECT key, value, serialization FROM {schema}workflow_events WHERE workflow_uuid = :id ORDER BY key"""

_FIND_OUTCOMES = """
SELECT workflow_uuid, status, output, error, outcome_serialization
FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"""

_READ_STATUSES = "SELECT workflow_uuid, status FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"

_READ_ENTRIES = (
    """
SELECT wanted.number, value, serialization
FROM ROWS_OF(:wanted, number integer, id text, key text, first integer, last integer)
JOIN streams AS entry ON entry.workflow_uuid = wanted.id AND entry.key = wanted.key
    AND "offset" BETWEEN wanted.first AND wanted.last
ORDER BY wanted.number, "offset\"""",
    """
SELECT wanted.number, value, serialization
FROM ROWS_OF(:wanted, number integer, id text, key text, first integer, last integer) CROSS JOIN LATERAL (
    SELECT value, serialization, "offset" FROM {schema}streams AS entry
    WHERE entry.workflow_uuid = wanted.id AND entry.key = wanted.key
    AND "offset" BETWEEN wanted.first AND wanted.last
    ORDER BY "offset" LIMIT wanted.last - wanted.first + 1) AS its
ORDER BY wanted.number, "offset\"""",
)

MAX_ENTRIES = 1000
"""How many entries of a stream one look returns at most."""


@functools.lru_cache(maxsize=10_000)
def hint(kind: str, workflow_id: str) -> str:
    """The hint that something of this kind happened to the workflow: short, and hardly ever the same for another."""
    return blake2b(f"{kind}:{workflow_id}".encode(), digest_size=6).hexdigest()


def queue_hint(name: str) -> str:
    """The hint that something happened on a queue which may let workflows start."""
    return hint("queue", name)


@dataclass(frozen=True, slots=True)
class OutcomeQuery:
    """The end of a workflow.

    ``must_exist``: a workflow that is not there counts as arrived, with ``None``; otherwise it is waited for.
    """

    workflow_id: str
    must_exist: bool = False

    @property
    def hints(self) -> tuple[str, ...]:
        return (hint("outcome", self.workflow_id),)

    @property
    def interests(self) -> tuple[str, ...]:
        return self.hints


@dataclass(frozen=True, slots=True)
class MessageQuery:
    """A message to a workflow."""

    workflow_id: str
    topic: str

    @property
    def hints(self) -> tuple[str, ...]:
        return (hint("message", self.workflow_id),)

    @property
    def interests(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class EventQuery:
    """An event of a workflow."""

    workflow_id: str
    key: str

    @property
    def hints(self) -> tuple[str, ...]:
        return (hint("event", self.workflow_id),)

    @property
    def interests(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """At most ``count`` entries of a stream from an offset on, or the end of its workflow."""

    workflow_id: str
    key: str
    offset: int
    count: int = MAX_ENTRIES

    @property
    def hints(self) -> tuple[str, ...]:
        return (hint("stream", self.workflow_id), hint("outcome", self.workflow_id))

    @property
    def interests(self) -> tuple[str, ...]:
        return (hint("outcome", self.workflow_id),)


Query = OutcomeQuery | MessageQuery | EventQuery | StreamQuery


@dataclass(frozen=True, slots=True)
class Value:
    """A serialized value that arrived; of a message with its id."""

    text: str
    serialization: str | None
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class StreamPart:
    """Entries of a stream; ``exists`` and ``is_live`` tell of its workflow."""

    entries: Sequence[Value]
    exists: bool
    is_live: bool


def find(database: Database, queries: Iterable[Query]) -> dict[Query, Any]:
    """What has arrived of what is waited for."""
    by_type: dict[type[Query], list[Any]] = {}
    for query in queries:
        by_type.setdefault(type(query), []).append(query)
    found: dict[Query, Any] = {}
    for kind, its_queries in by_type.items():
        found.update(_FINDERS[kind](database, its_queries))
    return found


def read_events(database: Database, workflow_id: str) -> dict[str, Value]:
    """The newest values of all events of a workflow."""
    rows = database.run("read_events", lambda t: t.rows(_READ_EVENTS, {"id": workflow_id}), "read")
    return {row[0]: Value(row[1], row[2]) for row in rows}


def receivers(batch: Batch) -> set[str]:
    """The workflows to which a batch sent messages."""
    ids = {message.destination_id for message in batch.messages}
    for run in batch.runs:
        ids.update(c.effect.destination_id for c in run.checkpoints if isinstance(c.effect, Message))
    return ids


def delivered(batch: Batch, answer: BatchAnswer) -> dict[Query, Any]:
    """What a batch brought of all that may be waited for, as far as nobody need look for it any more: new values of
    events, and messages that are the oldest on their topic."""
    found: dict[Query, Any] = {}
    messages: dict[Query, int] = {}
    for run, its_answer in zip(batch.runs, answer.runs, strict=True):
        if its_answer.token != run.token:
            continue
        for checkpoint in run.checkpoints:
            effect = checkpoint.effect
            if isinstance(effect, Event) and checkpoint.function_id not in its_answer.foreign:
                found[EventQuery(run.workflow_id, effect.key)] = Value(effect.text, effect.serialization)
            elif isinstance(effect, Message):
                query = MessageQuery(effect.destination_id, effect.topic)
                messages[query] = messages.get(query, 0) + 1
                if checkpoint.function_id in its_answer.first:
                    found[query] = Value(effect.text, effect.serialization, effect.message_id)
    # Which of several is the oldest, only the database knows.
    return {query: value for query, value in found.items() if messages.get(query, 1) == 1}


def enqueued(batch: Batch) -> set[str]:
    """The queues on which a batch put workflows."""
    starts = (*batch.starts, *(child.start for run in batch.runs for child in run.children))
    return {start.place.queue for start in starts if start.place is not None}


def published(batch: Batch) -> set[str]:
    """The hints of what a batch published: events, and entries of streams."""
    hints: set[str] = set()
    for run in batch.runs:
        for effect in (*(c.effect for c in run.checkpoints), *(own.effect for own in run.step_effects)):
            if isinstance(effect, Event):
                hints.add(hint("event", run.workflow_id))
            elif isinstance(effect, StreamEntry):
                hints.add(hint("stream", run.workflow_id))
    return hints


def _find_outcomes(database: Database, queries: Sequence[OutcomeQuery]) -> dict[Query, RecordedOutcome | None]:
    ids = list({query.workflow_id for query in queries})
    rows = database.run("find_outcomes", lambda t: t.rows(_FIND_OUTCOMES, {"ids": ids}), "read")
    outcomes = {row[0]: RecordedOutcome(*row) for row in rows}
    found: dict[Query, RecordedOutcome | None] = {}
    for query in queries:
        outcome = outcomes.get(query.workflow_id)
        if outcome is None:
            if query.must_exist:
                found[query] = None
        elif outcome.status not in LIVE:
            found[query] = outcome
    return found


def _find_messages(database: Database, queries: Sequence[MessageQuery]) -> dict[Query, Value]:
    wanted = json.dumps([{"id": query.workflow_id, "key": query.topic} for query in queries])
    statement = _FIND_MESSAGES[database.locks_rows]
    rows = database.run("find_messages", lambda t: t.rows(statement, {"wanted": wanted}), "read")
    return {MessageQuery(row[0], row[1]): Value(row[3], row[4], row[2]) for row in rows}


def _find_events(database: Database, queries: Sequence[EventQuery]) -> dict[Query, Value]:
    wanted = json.dumps([{"id": query.workflow_id, "key": query.key} for query in queries])
    rows = database.run("find_events", lambda t: t.rows(_FIND_EVENTS[database.locks_rows], {"wanted": wanted}), "read")
    return {EventQuery(row[0], row[1]): Value(row[2], row[3]) for row in rows}


def _find_entries(database: Database, queries: Sequence[StreamQuery]) -> dict[Query, StreamPart]:
    # The statuses first: when a workflow has ended, what it wrote is visible to the second statement.
    ids = list({query.workflow_id for query in queries})
    rows = database.run("find_streams", lambda t: t.rows(_READ_STATUSES, {"ids": ids}), "read")
    statuses: dict[str, str] = {row[0]: row[1] for row in rows}
    wanted = json.dumps(
        [
            {
                "number": number,
                "id": query.workflow_id,
                "key": query.key,
                "first": query.offset,
                "last": query.offset + query.count - 1,
            }
            for number, query in enumerate(queries)
        ]
    )
    parameters = {"wanted": wanted}
    entries: dict[int, list[Value]] = {}
    for number, text, serialization in database.run(
        "find_entries", lambda t: t.rows(_READ_ENTRIES[database.locks_rows], parameters), "read"
    ):
        entries.setdefault(number, []).append(Value(text, serialization))
    found: dict[Query, StreamPart] = {}
    for number, query in enumerate(queries):
        status = statuses.get(query.workflow_id)
        if number in entries or status not in LIVE:
            found[query] = StreamPart(entries.get(number, ()), status is not None, status in LIVE)
    return found


_FINDERS: Mapping[type[Query], Callable[[Database, Any], Mapping[Any, Any]]] = {
    OutcomeQuery: _find_outcomes,
    MessageQuery: _find_messages,
    EventQuery: _find_events,
    StreamQuery: _find_entries,
}
