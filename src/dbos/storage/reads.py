"""What users see: workflows, their steps, their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbos.model.values import RecordedOutcome
from dbos.storage.database import Database, Row

_STATUS_COLUMNS = (
    "workflow_uuid, status, name, class_name, config_name, authenticated_user, assumed_role, authenticated_roles, "
    "created_at, updated_at, queue_name, executor_id, application_version, workflow_timeout_ms, "
    "workflow_deadline_epoch_ms, deduplication_id, priority, queue_partition_key, forked_from, recovery_attempts, "
    "parent_workflow_id, started_at_epoch_ms, application_id, serialization, outcome_serialization"
)

_READ_STEPS = """
SELECT function_id, function_name, output, error, child_workflow_id, started_at_epoch_ms, completed_at_epoch_ms,
    serialization
FROM {schema}operation_outputs WHERE workflow_uuid = :id ORDER BY function_id"""

_READ_OUTCOMES = """
SELECT workflow_uuid, status, output, error, outcome_serialization
FROM {schema}workflow_status WHERE workflow_uuid ANY_OF(:ids)"""


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """A workflow as it is recorded, its values still serialized."""

    workflow_id: str
    status: str
    name: str | None
    class_name: str | None
    config_name: str | None
    authenticated_user: str | None
    assumed_role: str | None
    authenticated_roles: str | None
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
    inputs: str | None
    output: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class StepRow:
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
    id_prefix: str | None = None
    limit: int | None = None
    offset: int | None = None
    sort_desc: bool = False
    load_input: bool = True
    load_output: bool = True


def read_workflows(database: Database, wanted: WorkflowFilter) -> list[WorkflowRow]:
    """The workflows that the filter asks for, oldest first unless it says otherwise."""
    columns = _STATUS_COLUMNS
    columns += ", inputs" if wanted.load_input else ", NULL"
    columns += ", output, error" if wanted.load_output else ", NULL, NULL"
    conditions, parameters = _conditions(wanted)
    direction = "DESC" if wanted.sort_desc else "ASC"
    statement = f"SELECT {columns} FROM {{schema}}workflow_status"
    if conditions:
        statement += " WHERE " + " AND ".join(conditions)
    statement += f" ORDER BY created_at {direction}, seq {direction}"
    if wanted.limit is not None or wanted.offset is not None:
        # SQLite has no OFFSET without LIMIT; this is its largest number, and more rows than Postgres can hold.
        statement += " LIMIT :limit OFFSET :offset"
        parameters["limit"] = 2**63 - 1 if wanted.limit is None else wanted.limit
        parameters["offset"] = wanted.offset or 0
    rows = database.run("read_workflows", lambda t: t.rows(statement, parameters), "read")
    return [WorkflowRow(*row) for row in rows]


def read_steps(database: Database, workflow_id: str) -> list[StepRow]:
    """The recorded steps of a workflow in the order in which they started; none if there is no such workflow."""
    rows = database.run("read_steps", lambda t: t.rows(_READ_STEPS, {"id": workflow_id}), "read")
    return [StepRow(*row) for row in rows]


def read_outcomes(database: Database, workflow_ids: Sequence[str]) -> dict[str, RecordedOutcome]:
    """The workflows' statuses and, where they have ended, their outcomes, by id. Unknown ids are left out."""
    rows: list[Row] = database.run(
        "read_outcomes", lambda t: t.rows(_READ_OUTCOMES, {"ids": list(workflow_ids)}), "read"
    )
    return {row[0]: RecordedOutcome(*row) for row in rows}


def _conditions(wanted: WorkflowFilter) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    memberships: tuple[tuple[str, Sequence[str] | None], ...] = (
        ("workflow_uuid", wanted.workflow_ids),
        ("status", wanted.statuses),
        ("name", wanted.names),
        ("application_version", wanted.application_versions),
        ("executor_id", wanted.executor_ids),
        ("queue_name", wanted.queue_names),
        ("authenticated_user", wanted.users),
        ("forked_from", wanted.forked_from),
        ("parent_workflow_id", wanted.parents),
    )
    for column, members in memberships:
        if members is not None:
            conditions.append(f"{column} ANY_OF(:{column})")
            parameters[column] = list(members)
    if wanted.created_from_ms is not None:
        conditions.append("created_at >= :created_from")
        parameters["created_from"] = wanted.created_from_ms
    if wanted.created_to_ms is not None:
        conditions.append("created_at <= :created_to")
        parameters["created_to"] = wanted.created_to_ms
    if wanted.id_prefix is not None:
        # Not LIKE, whose wildcards would have to be escaped.
        conditions.append("substr(workflow_uuid, 1, :prefix_length) = :prefix")
        parameters["prefix"] = wanted.id_prefix
        parameters["prefix_length"] = len(wanted.id_prefix)
    return conditions, parameters
