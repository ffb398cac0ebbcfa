"""Workflows and steps as the command line and the HTTP server give them out: plain data, nothing unpickled."""

from __future__ import annotations

from typing import Any

from dbos.serialization.display import display, display_text
from dbos.storage.reads import StepRow, WorkflowRow

Record = dict[str, Any]


def workflow_record(row: WorkflowRow) -> Record:
    """A workflow under the names that ``WorkflowStatus`` has, its values as plain data."""
    return {
        "workflow_id": row.workflow_id,
        "status": row.status,
        "name": row.name,
        "class_name": row.class_name,
        "config_name": row.config_name,
        "authenticated_user": row.authenticated_user,
        "assumed_role": row.assumed_role,
        "authenticated_roles": display(row.authenticated_roles, "json"),
        "input": display(row.inputs, row.serialization),
        "output": display(row.output, row.outcome_serialization),
        "error": display(row.error, row.outcome_serialization),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "queue_name": row.queue_name,
        "executor_id": row.executor_id,
        "app_version": row.application_version,
        "workflow_timeout_ms": row.timeout_ms,
        "workflow_deadline_epoch_ms": row.deadline_ms,
        "deduplication_id": row.deduplication_id,
        "priority": row.priority,
        "queue_partition_key": row.queue_partition_key,
        "forked_from": row.forked_from,
        "recovery_attempts": row.recovery_attempts,
        "parent_workflow_id": row.parent_workflow_id,
        "dequeued_at": row.started_at,
        "app_id": row.application_id,
    }


def step_record(row: StepRow) -> Record:
    """A step under the names that ``StepInfo`` has, its values as plain data."""
    return {
        "function_id": row.function_id,
        "function_name": row.name,
        "output": display(row.output, row.serialization),
        "error": display(row.error, row.serialization),
        "child_workflow_id": row.child_workflow_id,
        "started_at_epoch_ms": row.started_at_ms,
        "completed_at_epoch_ms": row.completed_at_ms,
    }


def http_workflow(row: WorkflowRow) -> Record:
    """A workflow under the names of the HTTP interface, every value a string or null."""
    values: Record = {
        "WorkflowUUID": row.workflow_id,
        "Status": row.status,
        "WorkflowName": row.name,
        "WorkflowClassName": row.class_name,
        "WorkflowConfigName": row.config_name,
        "AuthenticatedUser": row.authenticated_user,
        "AssumedRole": row.assumed_role,
        "AuthenticatedRoles": row.authenticated_roles,
        "Input": display_text(row.inputs, row.serialization),
        "Output": display_text(row.output, row.outcome_serialization),
        "Error": display_text(row.error, row.outcome_serialization),
        "CreatedAt": row.created_at,
        "UpdatedAt": row.updated_at,
        "QueueName": row.queue_name,
        "ApplicationVersion": row.application_version,
        "ExecutorID": row.executor_id,
        "WorkflowTimeoutMS": row.timeout_ms,
        "WorkflowDeadlineEpochMS": row.deadline_ms,
        "DeduplicationID": row.deduplication_id,
        "Priority": row.priority,
        "QueuePartitionKey": row.queue_partition_key,
        "ForkedFrom": row.forked_from,
        "ParentWorkflowID": row.parent_workflow_id,
        "DequeuedAt": row.started_at,
    }
    return {name: None if value is None else str(value) for name, value in values.items()}


def http_step(row: StepRow) -> Record:
    """A step for the HTTP interface: as ``step_record``, its values as strings."""
    record = step_record(row)
    record["output"] = display_text(row.output, row.serialization)
    record["error"] = display_text(row.error, row.serialization)
    return record
