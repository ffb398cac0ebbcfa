"""The part of ``DBOS`` that lists and steers workflows."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from dbos.api import listing, management
from dbos.api.handles import WorkflowHandle, WorkflowHandleAsync
from dbos.api.instance import refuse_on_loop
from dbos.api.management import cancel_core, fork_core, resume_core
from dbos.api.reads import list_steps_core
from dbos.api.status import StepInfo
from dbos.api.twins import awaited, blocking
from dbos.runtime.drivers import drive, drive_async


class ManagementMethods:
    """Listing workflows and their steps; cancel, resume, fork, delete."""

    list_workflows = staticmethod(blocking(listing.list_workflows))
    list_workflows_async = staticmethod(awaited(listing.list_workflows))
    list_queued_workflows = staticmethod(blocking(listing.list_queued_workflows))
    list_queued_workflows_async = staticmethod(awaited(listing.list_queued_workflows))

    @classmethod
    def list_workflow_steps(cls, workflow_id: str) -> list[StepInfo]:
        """The recorded steps of a workflow, in the order in which it started them; none if there is no such one."""
        refuse_on_loop("DBOS.list_workflow_steps")
        return drive(list_steps_core(workflow_id))

    @classmethod
    def list_workflow_steps_async(cls, workflow_id: str) -> Coroutine[Any, Any, list[StepInfo]]:
        """As ``list_workflow_steps``."""
        return drive_async(list_steps_core(workflow_id))

    @classmethod
    def cancel_workflow(cls, workflow_id: str) -> None:
        """Cancel a workflow: it stops before its next step, and if it waits, at once.

        The step that it is in is still recorded. Its children go on. A workflow that has ended, or does not exist, is
        left alone.

        Args:
            workflow_id: Its id.
        """
        refuse_on_loop("DBOS.cancel_workflow")
        drive(cancel_core(workflow_id))

    @classmethod
    def cancel_workflow_async(cls, workflow_id: str) -> Coroutine[Any, Any, None]:
        """As ``cancel_workflow``."""
        return drive_async(cancel_core(workflow_id))

    @classmethod
    def resume_workflow(cls, workflow_id: str) -> WorkflowHandle[Any]:
        """Have a cancelled workflow, or one that was recovered too often, run on after its last recorded step.

        It has no deadline any more. An enqueued workflow starts at once, past its queue. A workflow that runs or has
        ended is left as it is; the handle gives its outcome.

        Args:
            workflow_id: Its id.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
        """
        refuse_on_loop("DBOS.resume_workflow")
        drive(resume_core(workflow_id))
        return WorkflowHandle(workflow_id)

    @classmethod
    def resume_workflow_async(cls, workflow_id: str) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``resume_workflow``."""
        return _handle_after(drive_async(resume_core(workflow_id)))

    @classmethod
    def fork_workflow(
        cls, workflow_id: str, start_step: int, *, application_version: str | None = None
    ) -> WorkflowHandle[Any]:
        """Start a copy of a workflow that begins with the given step: the steps before it are not run again.

        The copy has the original's arguments, and the events and streams as of that step. Its id is random, unless
        ``SetWorkflowID`` sets it.

        Args:
            workflow_id: The original.
            start_step: The first step to run, as ``list_workflow_steps`` numbers them; what is below 1 means 1.
            application_version: The version of the application that is to run it; ``None`` for any.

        Raises:
            DBOSNonExistentWorkflowError: There is no such workflow.
            DBOSWorkflowConflictIDError: The id that was set belongs to another workflow.
        """
        refuse_on_loop("DBOS.fork_workflow")
        return WorkflowHandle(drive(fork_core(workflow_id, start_step, application_version)))

    @classmethod
    def fork_workflow_async(
        cls, workflow_id: str, start_step: int, *, application_version: str | None = None
    ) -> Coroutine[Any, Any, WorkflowHandleAsync[Any]]:
        """As ``fork_workflow``."""
        return _handle_after(drive_async(fork_core(workflow_id, start_step, application_version)))

    delete_workflow = staticmethod(blocking(management.delete_workflow))
    delete_workflow_async = staticmethod(awaited(management.delete_workflow))
    delete_workflows = staticmethod(blocking(management.delete_workflows))
    delete_workflows_async = staticmethod(awaited(management.delete_workflows))


async def _handle_after(workflow_id: Coroutine[Any, Any, str]) -> WorkflowHandleAsync[Any]:
    return WorkflowHandleAsync(await workflow_id)
