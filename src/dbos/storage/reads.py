"""What users see: workflows, their steps, their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dbos.model.status import LIVE, WorkflowStatusString
from dbos.storage.database import Database

_COLUMNS = (
    "workflow_uuid, status, name, class_name, config_name, authenticated_user, assumed_role, authenticated_roles, "
    "{values}, created_at, updated_at, queue_name, executor_id, application_version, workflow_timeout_ms, "
    "workflow_deadline_epoch_ms, deduplication_id, priority, queue_partition_key, forked_from, recovery_attempts, "
    "parent_workflow_id, started_at_epoch_ms, application_id, serialization, outcome_serialization"
)

_READ_STEPS = """
SELECT function_id, function_name, output, error, child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms,
    serialization
FROM {schema}operation_outputs WHERE workflow_uuid = :id ORDER BY function_id"""


_READ_NOW = "SELECT {now}"

_READ_PROGRESS = """
SELECT (SELECT count(*) FROM {schema}operation_outputs) + (SELECT count(*) FROM {schema}workflow_status)
    + (SELECT count(*) FROM {schema}workflow_status WHERE completed_at IS NOT NULL)"""


class WorkflowRow(NamedTuple):
    """A workflow as it is recorded, its values still serialized."""

    workflow_id: str
    status: str
    name: str | None
    class_name: str | None
    config_name: str | None
    authenticated_user: str | None
    assumed_role: str | None
    authenticated_roles: str | None
    inputs: str | None
    output: str | None
    error: str | None
    created_at: int
    updated_at: int
    queue_name: str | None
    executor_id: str | None
    application_version: str | None
    timeout_ms: int | None
    deadline_ms: int | None
    deduplication_id: str | None
    priority: int
    queue_partition_key: str | None
    forked_from: str | None
    recovery_attempts: int | None
    parent_workflow_id: str | None
    started_at: int | None
    application_id: str | None
    serialization: str | None
    outcome_serialization: str | None


class StepRow(NamedTuple):
    """A checkpoint as it is recorded, its value still serialized."""

    function_id: int
    name: str
    output: str | None
    error: str | None
    child_workflow_id: str | None
    started_at_ms: int | None
    completed_at_ms: int | None
    serialization: str | None


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Which workflows to list. ``None`` filters nothing; a list asks for any of its members."""

    workflow_ids: Sequence[str] | None = None
    statuses: Sequence[str] | None = None
    names: Sequence[str] | None = None
    application_versions: Sequence[str] | None = None
    executor_ids: Sequence[str] | None = None
    queue_names: Sequence[str] | None = None
    users: Sequence[str] | None = None
    forked_from: Sequence[str] | None = None
    parents: Sequence[str] | None = None
    created_from_ms: int | None = None
    created_to_ms: int | None = None
    id_prefixes: Sequence[str] | None = None
    limit: int | None = None
    offset: int | None = None
    sort_desc: bool = False
    load_input: bool = True
    load_output: bool = True
    queues_only: bool = False


def read_progress(database: Database) -> int:
    """A number that is higher each time something is recorded of a workflow: its start, a checkpoint, its end."""
    return int(database.run("read_progress", lambda transaction: transaction.rows(_READ_PROGRESS), "read")[0][0])


def read_now_ms(database: Database) -> int:
    """The database's clock."""
    return int(database.run("read_now", lambda t: t.rows(_READ_NOW), "read")[0][0])


def read_workflows(database: Database, wanted: WorkflowFilter) -> list[WorkflowRow]:
    """The workflows that the filter asks for, oldest first unless it says otherwise."""
    inputs = "inputs" if wanted.load_input else "NULL"
    columns = _COLUMNS.replace("{values}", inputs + (", output, error" if wanted.load_output else ", NULL, NULL"))
    conditions, parameters = conditions_of(wanted)
    direction = "DESC" if wanted.sort_desc else "ASC"
    statement = f"SELECT {columns} FROM {{schema}}workflow_status"
    if conditions:
        statement += " WHERE " + " AND ".join(conditions)
    order = f" ORDER BY created_at {direction}, seq {direction}"
    # As literals, which the planner can reckon with. SQLite has no OFFSET without LIMIT.
    limit = f" LIMIT {2**63 - 1 if wanted.limit is None else int(wanted.limit)} OFFSET {int(wanted.offset or 0)}"
    if wanted.limit is None and not wanted.offset:
        statement += order
    elif wanted.offset and not conditions:
        # What is skipped is skipped in the index.
        page = f"SELECT created_at, seq FROM {{schema}}workflow_status{order}{limit}"
        statement += f" JOIN ({page}) AS page USING (created_at, seq){order}"
    else:
        statement += order + limit
    rows = database.run("read_workflows", lambda t: t.rows(statement, parameters), "read")
    return [WorkflowRow._make(row) for row in rows]


def read_steps(database: Database, workflow_id: str) -> list[StepRow]:
    """The recorded steps of a workflow in the order in which they started; none if there is no such workflow."""
    rows = database.run("read_steps", lambda t: t.rows(_READ_STEPS, {"id": workflow_id}), "read")
    return [StepRow._make(row) for row in rows]


_FAILED = "status IN ('ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')"
"""The condition of a partial index, to the letter: SQLite compares no meanings."""


_LIVE_BRANCHES = {
    "PENDING": ("status = 'PENDING'",),
    "ENQUEUED": (
        "status = 'ENQUEUED' AND delay_until_epoch_ms IS NULL",
        "status = 'ENQUEUED' AND delay_until_epoch_ms IS NOT NULL",
    ),
}
"""The conditions of partial indexes, too."""


def _has_status(statuses: Sequence[str]) -> str:
    """The condition that a workflow has one of the statuses: those that are few are found by their partial indexes."""
    wanted = {WorkflowStatusString(status).value for status in statuses}
    if not wanted:
        return "FALSE"
    members = "status IN (" + ", ".join(f"'{status}'" for status in sorted(wanted)) + ")"
    if "SUCCESS" in wanted:
        return members
    if not wanted & LIVE:
        return f"{_FAILED} AND {members}"
    branches = [condition for status in sorted(wanted & LIVE) for condition in _LIVE_BRANCHES[status]]
    if wanted - LIVE:
        branches.append(_FAILED)
    ids = " UNION ALL ".join(f"SELECT workflow_uuid FROM {{schema}}workflow_status WHERE {one}" for one in branches)
    return f"workflow_uuid IN ({ids}) AND {members}"


def live_only() -> str:
    """The condition that a workflow has not ended, in which the partial indexes find those."""
    return _has_status(sorted(LIVE))


def conditions_of(wanted: WorkflowFilter) -> tuple[list[str], dict[str, Any]]:
    """The conditions that a workflow meets that the filter asks for, and the parameters in them."""
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    memberships: tuple[tuple[str, Sequence[str] | None], ...] = (
        ("workflow_uuid", wanted.workflow_ids),
        ("name", wanted.names),
        ("application_version", wanted.application_versions),
        ("executor_id", wanted.executor_ids),
        ("queue_name", wanted.queue_names),
        ("authenticated_user", wanted.users),
        ("forked_from", wanted.forked_from),
        ("parent_workflow_id", wanted.parents),
    )
    if wanted.statuses is not None:
        conditions.append(_has_status(wanted.statuses))
    for column, members in memberships:
        if members is not None:
            conditions.append(f"{column} ANY_OF(:{column})")
            parameters[column] = list(members)
    if wanted.queues_only:
        conditions.append("queue_name IS NOT NULL")
    if wanted.created_from_ms is not None:
        conditions.append("created_at >= :created_from")
        parameters["created_from"] = wanted.created_from_ms
    if wanted.created_to_ms is not None:
        conditions.append("created_at <= :created_to")
        parameters["created_to"] = wanted.created_to_ms
    if wanted.id_prefixes is not None:
        # Not LIKE, whose wildcards would have to be escaped.
        matches: list[str] = []
        for number, prefix in enumerate(wanted.id_prefixes):
            letter = f"prefix_{'x' * number}"
            matches.append(f"substr(workflow_uuid, 1, length(CAST(:{letter} AS TEXT))) = :{letter}")
            parameters[letter] = prefix
        conditions.append(f"({' OR '.join(matches) or 'FALSE'})")
    return conditions, parameters
