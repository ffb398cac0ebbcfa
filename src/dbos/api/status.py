"""What users get to see of workflows and steps."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any, TypedDict, cast

from dbos.model.authentication import parse_roles
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

    Attributes:
        workflow_id: Its id.
        status: ``ENQUEUED``, ``PENDING``, ``SUCCESS``, ``ERROR``, ``CANCELLED`` or ``MAX_RECOVERY_ATTEMPTS_EXCEEDED``.
        name: The function's name as it is recorded.
        class_name: The class of a method.
        config_name: The instance of a method.
        authenticated_user: For whom it runs.
        assumed_role: The role by which its caller was let in.
        authenticated_roles: What its user may act as.
        input: Its arguments; ``None`` where they were not asked for.
        output: What it returned; ``None`` also where it was not asked for.
        error: What it raised; likewise.
        created_at: When it was created.
        updated_at: When its row was last changed.
        queue_name: The queue that it is or was on.
        executor_id: The label of the executor that ran it last.
        app_version: The application version that runs it.
        workflow_timeout_ms: How long it may take from its start.
        workflow_deadline_epoch_ms: Until when it may take.
        deduplication_id: What its queue holds once only; ``None`` when it has ended.
        priority: Its priority on its queue; 0 for none.
        queue_partition_key: Its partition of its queue.
        forked_from: The workflow that it is a fork of.
        recovery_attempts: 1 for its first run, and one more for each recovery after a crash.
        parent_workflow_id: The workflow that started it.
        dequeued_at: When it was taken from its queue.
        app_id: The application's id, if the environment gave one (``DBOS__APPID``).
    """

    workflow_id: str
    status: str
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

    def __setstate__(self, state: Any) -> None:
        """Take the fields of a pickle, also of one that an older library made: it may have others."""
        values = cast("dict[str, Any]", state[1] if isinstance(state, tuple) else state)
        for field in fields(self):
            setattr(self, field.name, values.get(field.name))


class StepInfo(TypedDict):
    """A recorded step. Times are epoch milliseconds.

    Attributes:
        function_id: Its number in the workflow, from 1.
        function_name: Its name; of what the library records for itself it begins with ``DBOS.``.
        output: What it returned.
        error: What it raised.
        child_workflow_id: The workflow that it started or awaited.
        started_at_epoch_ms: When it began, by the clock of its process.
        completed_at_epoch_ms: When it ended, likewise.
    """

    function_id: int
    function_name: str
    output: Any | None
    error: Exception | None
    child_workflow_id: str | None
    started_at_epoch_ms: int | None
    completed_at_epoch_ms: int | None


def workflow_status(row: WorkflowRow, codec: Codec) -> WorkflowStatus:
    """The row, its values decoded."""
    # By position, as listings make hundreds at a time: by name it takes twice as long.
    (id, status, name, class_name, config_name, user, role, roles, inputs, output, error, created, updated, queue) = (
        row[:14]
    )
    (executor, version, timeout, deadline, deduplication, priority, partition, forked, attempts, parent) = row[14:24]
    (dequeued, application, format, outcome_format) = row[24:]
    return WorkflowStatus(
        id,
        status,
        name or "",
        class_name,
        config_name,
        user,
        role,
        None if roles is None else _roles(roles),
        None if inputs is None else codec.show(inputs, format),
        None if output is None else codec.show(output, outcome_format),
        None if error is None else codec.show(error, outcome_format),
        created,
        updated,
        queue,
        executor,
        version,
        timeout,
        deadline,
        deduplication,
        priority,
        partition,
        forked,
        attempts,
        parent,
        dequeued,
        application,
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


def _roles(text: str) -> list[str]:
    """The stored JSON list; what is no such list, and was not written by this library, shows as its text."""
    roles = parse_roles(text)
    return [text] if roles is None else list(roles)


def epoch_ms(time: object, name: str) -> int | None:
    """An RFC 3339 time, or a ``datetime``, as epoch milliseconds; without an offset it is local time.

    Raises:
        TypeError: It is neither.
        ValueError: It is not a time.
    """
    if time is None:
        return None
    if not isinstance(time, str | datetime):
        raise TypeError(f"{name} must be a str such as '2030-01-31T12:00:00Z', not {type(time).__name__}.")
    try:
        # Python 3.10 does not know the Z.
        parsed = time if isinstance(time, datetime) else datetime.fromisoformat(re.sub("[Zz]$", "+00:00", time))
    except ValueError as error:
        raise ValueError(f"{name} is {time!r}, which is no RFC 3339 time such as 2030-01-31T12:00:00Z.") from error
    if parsed.tzinfo is None:
        try:
            parsed = parsed.astimezone()
        except (ValueError, OverflowError, OSError):
            # At the ends of the calendar no zone's rules are known.
            parsed = parsed.replace(tzinfo=timezone.utc)
    return (parsed - _EPOCH) // timedelta(milliseconds=1)


_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
