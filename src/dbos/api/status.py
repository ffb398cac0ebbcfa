"""What users get to see of workflows and steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from dbos.serialization.codec import Codec
from dbos.storage.reads import StepRow, WorkflowRow


class WorkflowInputs(TypedDict):
    """The arguments of a workflow."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(slots=True)
class WorkflowStatus:
    """A workflow as it is recorded. Times are epoch milliseconds.

    ``input``, ``output`` and ``error`` show the stored text where it cannot be decoded.
    """

    workflow_id: str
    status: str
    """ENQUEUED, PENDING, SUCCESS, ERROR, CANCELLED or MAX_RECOVERY_ATTEMPTS_EXCEEDED."""
    name: str
    class_name: str | None
    config_name: str | None
    authenticated_user: str | None
    assumed_role: str | None
    authenticated_roles: list[str] | None
    input: WorkflowInputs | None
    output: Any | None
    error: Exception | None
    created_at: int | None
    updated_at: int | None
    queue_name: str | None
    executor_id: str | None
    app_version: str | None
    workflow_timeout_ms: int | None
    workflow_deadline_epoch_ms: int | None
    deduplication_id: str | None
    priority: int | None
    queue_partition_key: str | None
    forked_from: str | None
    recovery_attempts: int | None
    parent_workflow_id: str | None
    dequeued_at: int | None
    app_id: str | None


class StepInfo(TypedDict):
    """A recorded step. Times are epoch milliseconds."""

    function_id: int
    """Its number in the workflow, from 1."""
    function_name: str
    output: Any | None
    error: Exception | None
    child_workflow_id: str | None
    """The workflow that it started or awaited."""
    started_at_epoch_ms: int | None
    completed_at_epoch_ms: int | None


def workflow_status(row: WorkflowRow, codec: Codec) -> WorkflowStatus:
    """The row, its values decoded."""
    return WorkflowStatus(
        workflow_id=row.workflow_id,
        status=row.status,
        name=row.name or "",
        class_name=row.class_name,
        config_name=row.config_name,
        authenticated_user=row.authenticated_user,
        assumed_role=row.assumed_role,
        authenticated_roles=None if row.authenticated_roles is None else json.loads(row.authenticated_roles),
        input=codec.show(row.inputs, row.serialization),
        output=codec.show(row.output, row.outcome_serialization),
        error=codec.show(row.error, row.outcome_serialization),
        created_at=row.created_at,
        updated_at=row.updated_at,
        queue_name=row.queue_name,
        executor_id=row.executor_id,
        app_version=row.application_version,
        workflow_timeout_ms=row.timeout_ms,
        workflow_deadline_epoch_ms=row.deadline_ms,
        deduplication_id=row.deduplication_id,
        priority=row.priority,
        queue_partition_key=row.queue_partition_key,
        forked_from=row.forked_from,
        recovery_attempts=row.recovery_attempts,
        parent_workflow_id=row.parent_workflow_id,
        dequeued_at=row.started_at,
        app_id=row.application_id,
    )


def step_info(row: StepRow, codec: Codec) -> StepInfo:
    """The row, its value decoded."""
    return StepInfo(
        function_id=row.function_id,
        function_name=row.name,
        output=codec.show(row.output, row.serialization),
        error=codec.show(row.error, row.serialization),
        child_workflow_id=row.child_workflow_id,
        started_at_epoch_ms=row.started_at_ms,
        completed_at_epoch_ms=row.completed_at_ms,
    )


def epoch_ms(time: str | None, name: str) -> int | None:
    """An RFC 3339 time as epoch milliseconds; without an offset it is local time.

    Raises:
        ValueError: It is not a time.
    """
    if time is None:
        return None
    try:
        # Python 3.10 does not know the Z.
        parsed = datetime.fromisoformat(time.replace("Z", "+00:00").replace("z", "+00:00"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{name} is {time!r}, which is no RFC 3339 time such as 2030-01-31T12:00:00Z.") from error
    return int(parsed.timestamp() * 1000)
