"""What a workflow did when, for somebody who looks at it: the parts of it that a page shows, and no more.

Steps are numbered from 1 without large gaps, so a page of them is a range of numbers, which the key of their table
finds at once, however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dbos.storage.database import Database
from dbos.storage.stored_values import StoredValue, bounded, stored_value

_READ_DETAILS = f"""
SELECT {bounded("inputs")}, {bounded("output")}, {bounded("error")}, serialization, outcome_serialization, lease_id,
    owner_xid IS NOT NULL, completed_at, delay_until_epoch_ms, {{now}}
FROM {{schema}}workflow_status WHERE workflow_uuid = :id"""

_STEP = f"""
SELECT workflow_uuid, function_id, function_name, child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms,
    {bounded("output")}, {bounded("error")}, serialization
FROM {{schema}}operation_outputs"""

_READ_STEPS = f"""{_STEP} WHERE workflow_uuid = :id AND function_id BETWEEN :first AND :last
ORDER BY function_id LIMIT :limit"""

_READ_FIRST_STEPS = f"""{_STEP} WHERE workflow_uuid ANY_OF(:ids) AND function_id <= :last
ORDER BY workflow_uuid, function_id LIMIT :limit"""

_READ_SPAN = """
SELECT
    (SELECT function_id FROM {schema}operation_outputs WHERE workflow_uuid = :id ORDER BY function_id LIMIT 1),
    (SELECT function_id FROM {schema}operation_outputs WHERE workflow_uuid = :id ORDER BY function_id DESC LIMIT 1)"""

_READ_FAILED = """
SELECT function_id FROM {schema}operation_outputs
WHERE workflow_uuid = :id AND function_id > :after AND error IS NOT NULL ORDER BY function_id DESC LIMIT :limit"""

_READ_LAST_STEPS = """
SELECT workflow_uuid, MAX(function_id) FROM {schema}operation_outputs WHERE workflow_uuid ANY_OF(:ids)
GROUP BY workflow_uuid"""


class WorkflowDetails(NamedTuple):
    """What a workflow's page shows beside what a listing shows. Times are epoch milliseconds."""

    input: StoredValue | None
    output: StoredValue | None
    error: StoredValue | None
    lease_id: str | None
    is_owned: bool
    """Whether a run owns it."""
    completed_at: int | None
    delayed_until: int | None
    now: int
    """The database's clock."""


class TimelineStep(NamedTuple):
    """A checkpoint. Times are epoch milliseconds of its executor's clock."""

    workflow_id: str
    function_id: int
    name: str
    child_workflow_id: str | None
    started_at: int | None
    completed_at: int | None
    output: StoredValue | None
    error: StoredValue | None


def read_details(database: Database, workflow_id: str, *, max_chars: int) -> WorkflowDetails | None:
    """The values of a workflow that have at most so many characters, who owns it, and the time.

    Returns:
        ``None`` if there is no such workflow.
    """
    parameters = {"id": workflow_id, "max_chars": max_chars}
    rows = database.run("read_details", lambda t: t.rows(_READ_DETAILS, parameters), "read")
    if not rows:
        return None
    row = rows[0]
    return WorkflowDetails(
        stored_value(row[0:2], row[6]),
        stored_value(row[2:4], row[7]),
        stored_value(row[4:6], row[7]),
        row[8],
        bool(row[9]),
        row[10],
        row[11],
        int(row[12]),
    )


def read_step_span(database: Database, workflow_id: str) -> tuple[int, int] | None:
    """The numbers of the first and the last recorded step; ``None`` if none is recorded."""
    ((first, last),) = database.run("read_step_span", lambda t: t.rows(_READ_SPAN, {"id": workflow_id}), "read")
    return None if first is None else (int(first), int(last))


def read_timeline(database: Database, workflow_id: str, first: int, last: int, *, max_chars: int) -> list[TimelineStep]:
    """The recorded steps with the numbers from ``first`` to ``last``, in order.

    Values are read that have at most ``max_chars`` characters.
    """
    parameters = {"id": workflow_id, "first": first, "last": last, "max_chars": max_chars, "limit": last - first + 1}
    return _steps(database, "read_timeline", _READ_STEPS, parameters)


def read_failed(database: Database, workflow_id: str, *, after: int, limit: int) -> list[int]:
    """The numbers of the last steps above ``after`` that failed, the last one first."""
    parameters = {"id": workflow_id, "after": after, "limit": limit}
    return [row[0] for row in database.run("read_failed", lambda t: t.rows(_READ_FAILED, parameters), "read")]


def read_first_steps(
    database: Database, workflow_ids: Sequence[str], last: int, *, limit: int, max_chars: int
) -> dict[str, list[TimelineStep]]:
    """Of each of the workflows the steps up to number ``last``, in order; at most ``limit`` of all together."""
    if not workflow_ids:
        return {}
    parameters = {"ids": list(workflow_ids), "last": last, "limit": limit, "max_chars": max_chars}
    steps: dict[str, list[TimelineStep]] = {}
    for step in _steps(database, "read_first_steps", _READ_FIRST_STEPS, parameters):
        steps.setdefault(step.workflow_id, []).append(step)
    return steps


def read_last_numbers(database: Database, workflow_ids: Sequence[str]) -> dict[str, int]:
    """The number of the last recorded step of each of the workflows that have one."""
    if not workflow_ids:
        return {}
    rows = database.run("read_last_numbers", lambda t: t.rows(_READ_LAST_STEPS, {"ids": list(workflow_ids)}), "read")
    return {row[0]: int(row[1]) for row in rows}


def _steps(database: Database, operation: str, statement: str, parameters: Mapping[str, object]) -> list[TimelineStep]:
    rows = database.run(operation, lambda t: t.rows(statement, parameters), "read")
    return [
        TimelineStep._make((*row[:6], stored_value(row[6:8], row[10]), stored_value(row[8:10], row[10])))
        for row in rows
    ]
