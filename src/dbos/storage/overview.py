"""What an overview of all workflows shows: pages of them, the newest first, and how many there are.

Whatever there is, a look must stay cheap, as it is taken every few seconds: a page begins where another one ended, by
the place of a row in the index of creation times; and counts stop at a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dbos.model.status import LIVE, WorkflowStatusString
from dbos.storage.database import Database, Transaction
from dbos.storage.reads import WorkflowFilter, conditions_of
from dbos.storage.schema import QUEUE_AND_VERSION, WAITS

_COLUMNS = (
    "workflow_uuid, status, name, class_name, config_name, queue_name, application_version, executor_id, "
    "authenticated_user, parent_workflow_id, forked_from, recovery_attempts, created_at, updated_at, "
    "started_at_epoch_ms, completed_at, delay_until_epoch_ms, seq"
)

_COUNT = "SELECT count(*) FROM (SELECT 1 FROM {schema}workflow_status WHERE CONDITION LIMIT :bound) AS counted"

_COUNTED = {
    "running": "status = 'PENDING' ORDER BY lease_id",
    "waiting": f"{WAITS} ORDER BY {QUEUE_AND_VERSION}, priority, seq",
    "delayed": "status = 'ENQUEUED' AND delay_until_epoch_ms IS NOT NULL ORDER BY delay_until_epoch_ms",
}
"""The conditions of partial indexes, to the letter, and their orders: whatever the database believes to know about how
many there are, it reads no more than what is counted."""

# The moment is no expression: what follows from the clock, PostgreSQL takes for a third of all.
_COUNT_NEWEST = """
SELECT status, count(*) FROM (
    SELECT status FROM {schema}workflow_status WHERE created_at >= :since
    ORDER BY created_at DESC, seq DESC LIMIT :bound) AS newest
GROUP BY status"""


_PLENTY = 1_000
"""From how many workflows on that have not ended they are looked for among all, the newest first, and not collected."""


class Place(NamedTuple):
    """Where a workflow stands in the order of creation."""

    created_at: int
    seq: int


class ListedRow(NamedTuple):
    """A workflow in a list, without its values."""

    workflow_id: str
    status: str
    name: str | None
    class_name: str | None
    config_name: str | None
    queue_name: str | None
    application_version: str | None
    executor_id: str | None
    user: str | None
    parent_workflow_id: str | None
    forked_from: str | None
    recovery_attempts: int | None
    created_at: int
    updated_at: int
    started_at: int | None
    completed_at: int | None
    delayed_until: int | None
    seq: int

    @property
    def place(self) -> Place:
        return Place(self.created_at, self.seq)


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, the newest first.

    Attributes:
        rows: What is on it.
        older: Where the next page begins; ``None`` if this is the last one.
        newer: Where the page before begins; ``None`` if that is the first one, or this is.
        newer_count: How many there are that are newer, at most as many as are on a page.
        now_ms: When it was read, by the database's clock.
    """

    rows: Sequence[ListedRow]
    older: Place | None
    newer: Place | None
    newer_count: int
    now_ms: int


class Counts(NamedTuple):
    """How many workflows there are; never more than the bound that was given.

    Attributes:
        running: That are running, or wait to be recovered.
        waiting: That wait on queues.
        delayed: That are enqueued for later.
        newest: Those created lately, by status.
    """

    running: int
    waiting: int
    delayed: int
    newest: dict[str, int]


def read_page(
    database: Database, wanted: WorkflowFilter, *, size: int, text: str | None = None, start: Place | None = None
) -> Page:
    """A page of the workflows that the filter asks for (without its limit, its offset and its order).

    Args:
        database: The system database.
        wanted: Which workflows.
        size: How many at most.
        text: Only those whose ids or names begin with it.
        start: Where it begins; ``None``: with the newest one.
    """

    def read(transaction: Transaction) -> Page:
        now_ms = int(transaction.rows("SELECT {now}")[0][0])
        conditions, parameters = _conditions(transaction, wanted)
        if text is not None:
            conditions.append(f"({_begins('workflow_uuid')} OR {_begins('name')})")
            parameters["text"] = text

        def select(columns: str, order: str, count: int, *more: str) -> str:
            where = " AND ".join((*conditions, *more)) or "TRUE"
            return (
                f"SELECT {columns} FROM {{schema}}workflow_status WHERE {where} "
                f"ORDER BY created_at {order}, seq {order} LIMIT {int(count)}"
            )

        if start is None:
            rows, newer = transaction.rows(select(_COLUMNS, "DESC", size + 1), parameters), []
        else:
            at: dict[str, Any] = {**parameters, "at_time": start.created_at, "at_seq": start.seq}
            from_it = "(created_at, seq) <= (:at_time, :at_seq)"
            above_it = "(created_at, seq) > (:at_time, :at_seq)"
            rows = transaction.rows(select(_COLUMNS, "DESC", size + 1, from_it), at)
            newer = transaction.rows(select("created_at, seq", "ASC", size + 1, above_it), at)
        listed = [ListedRow._make(row) for row in rows]
        return Page(
            rows=listed[:size],
            older=listed[size].place if len(listed) > size else None,
            newer=Place._make(newer[size - 1]) if len(newer) > size else None,
            newer_count=min(len(newer), size),
            now_ms=now_ms,
        )

    return database.run("read_page", read, "read")


def _conditions(transaction: Transaction, wanted: WorkflowFilter) -> tuple[list[str], dict[str, Any]]:
    """The conditions of the filter: those that have not ended are found by their indexes only if they are few."""
    statuses = {WorkflowStatusString(status).value for status in wanted.statuses or ()}
    if not statuses & LIVE or "SUCCESS" in statuses:
        return conditions_of(wanted)
    counted = ["running"] * ("PENDING" in statuses) + ["waiting", "delayed"] * ("ENQUEUED" in statuses)
    if sum(_count(transaction, name, _PLENTY) for name in counted) < _PLENTY:
        return conditions_of(wanted)
    conditions, parameters = conditions_of(replace(wanted, statuses=None))
    members = ", ".join(f"'{status}'" for status in sorted(statuses))
    return [*conditions, f"status IN ({members})"], parameters


def _count(transaction: Transaction, name: str, bound: int) -> int:
    return int(transaction.rows(_COUNT.replace("CONDITION", _COUNTED[name]), {"bound": bound})[0][0])


def count_workflows(database: Database, *, bound: int, since_ms: int) -> Counts:
    """How many workflows there are.

    Args:
        database: The system database.
        bound: Where counting stops.
        since_ms: How far back ``newest`` looks, in milliseconds.
    """

    def read(transaction: Transaction) -> Counts:
        counted = {name: _count(transaction, name, bound) for name in _COUNTED}
        since = int(transaction.rows("SELECT {now}")[0][0]) - since_ms
        newest = transaction.rows(_COUNT_NEWEST, {"bound": bound, "since": since})
        return Counts(**counted, newest={WorkflowStatusString(row[0]).value: int(row[1]) for row in newest})

    return database.run("count_workflows", read, "read")


def _begins(column: str) -> str:
    # Not LIKE, whose wildcards would have to be escaped.
    return f"substr({column}, 1, length(CAST(:text AS TEXT))) = :text"
