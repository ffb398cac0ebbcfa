"""Steering workflows: what is done in the database, and who is told of it."""

from __future__ import annotations

from collections.abc import Sequence

from dbos.error import DBOSNonExistentWorkflowError, DBOSWorkflowConflictIDError
from dbos.model.queues import INTERNAL_QUEUE
from dbos.runtime.gateway import Gateway
from dbos.storage.management import IdTaken, NoSuchWorkflow, cancel, delete, fork, resume


def cancel_workflow(gateway: Gateway, workflow_id: str) -> None:
    """Cancel a workflow, if it has not ended: its run stops before its next step, and from any wait."""
    cancel_workflows(gateway, [workflow_id])


def cancel_workflows(gateway: Gateway, workflow_ids: Sequence[str]) -> list[str]:
    """Cancel those of the workflows that have not ended; returns which."""
    cancelled = cancel(gateway.database, workflow_ids)
    gateway.cancelled(cancelled)
    return [workflow.workflow_id for workflow in cancelled]


def resume_workflow(gateway: Gateway, workflow_id: str) -> None:
    """Have a workflow that was cancelled or given up run on, and one that is enqueued start without its queue.

    Raises:
        DBOSNonExistentWorkflowError: There is no such workflow.
    """
    if not resume(gateway.database, workflow_id):
        raise DBOSNonExistentWorkflowError(workflow_id)
    gateway.enqueued([INTERNAL_QUEUE])


def fork_workflow(
    gateway: Gateway,
    workflow_id: str,
    *,
    new_id: str,
    start_step: int,
    application_version: str | None,
    timeout_s: float | None,
) -> str:
    """Start a copy of a workflow from one of its steps on; returns the copy's id.

    Raises:
        DBOSNonExistentWorkflowError: There is no such workflow.
        DBOSWorkflowConflictIDError: Another workflow has the new id.
    """
    answer = fork(
        gateway.database,
        workflow_id=workflow_id,
        new_id=new_id,
        start_step=start_step,
        application_version=application_version,
        timeout_ms=None if timeout_s is None else round(timeout_s * 1000),
        transactions=gateway.application.records([workflow_id]).get(workflow_id, {}).values(),
    )
    if isinstance(answer, NoSuchWorkflow):
        raise DBOSNonExistentWorkflowError(workflow_id)
    if isinstance(answer, IdTaken):
        raise DBOSWorkflowConflictIDError(new_id)
    gateway.enqueued([INTERNAL_QUEUE])
    return new_id


def delete_workflows(gateway: Gateway, workflow_ids: Sequence[str], *, with_descendants: bool) -> list[str]:
    """Delete workflows, those of them that there are, with all that belongs to them; returns which. Their runs stop."""
    deleted = delete(gateway.database, workflow_ids, with_descendants=with_descendants)
    gateway.deleted(deleted)
    # Also those that were deleted before: maybe only by half.
    ids = [workflow.workflow_id for workflow in deleted]
    gateway.application.forget({*workflow_ids, *ids})
    return ids
