"""The part of ``DBOS`` that lists and manages workflows."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from dbos.api.instance import refuse_on_loop
from dbos.api.reads import list_steps_core, list_workflows_core, workflow_filter
from dbos.api.status import StepInfo, WorkflowStatus
from dbos.runtime.drivers import drive, drive_async


class ManagementMethods:
    """Listing workflows and their steps."""

    @classmethod
    def list_workflows(
        cls,
        *,
        workflow_ids: list[str] | None = None,
        status: str | list[str] | None = None,
        start_time: str | None = None,
        end_time: str | None = None,
        name: str | list[str] | None = None,
        app_version: str | list[str] | None = None,
        forked_from: str | list[str] | None = None,
        user: str | list[str] | None = None,
        queue_name: str | list[str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        sort_desc: bool = False,
        workflow_id_prefix: str | None = None,
        load_input: bool = True,
        load_output: bool = True,
        executor_id: str | list[str] | None = None,
        parent_workflow_id: str | list[str] | None = None,
    ) -> list[WorkflowStatus]:
        """The workflows that meet all the given conditions, oldest first.

        Args:
            workflow_ids: With these ids.
            status: With this status, or one of these.
            start_time: Created at this RFC 3339 time or later; without an offset it is local time.
            end_time: Created at this time or earlier.
            name: Of this function, or one of these.
            app_version: Started by this application version.
            forked_from: Forked from this workflow.
            user: Started by this authenticated user.
            queue_name: Enqueued on this queue.
            limit: At most so many.
            offset: Leaving out so many first.
            sort_desc: Newest first.
            workflow_id_prefix: Whose ids begin with this, taken literally.
            load_input: Whether to load the arguments.
            load_output: Whether to load results and exceptions.
            executor_id: Last run by the executor of this label.
            parent_workflow_id: Started by this workflow.

        Raises:
            ValueError: A condition that makes no sense: an unknown status, a malformed time, a negative number.
        """
        refuse_on_loop("DBOS.list_workflows")
        arguments = {key: value for key, value in locals().items() if key != "cls"}
        return drive(list_workflows_core(workflow_filter(**arguments)))

    @classmethod
    def list_workflows_async(
        cls,
        *,
        workflow_ids: list[str] | None = None,
        status: str | list[str] | None = None,
        start_time: str | None = None,
        end_time: str | None = None,
        name: str | list[str] | None = None,
        app_version: str | list[str] | None = None,
        forked_from: str | list[str] | None = None,
        user: str | list[str] | None = None,
        queue_name: str | list[str] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        sort_desc: bool = False,
        workflow_id_prefix: str | None = None,
        load_input: bool = True,
        load_output: bool = True,
        executor_id: str | list[str] | None = None,
        parent_workflow_id: str | list[str] | None = None,
    ) -> Coroutine[Any, Any, list[WorkflowStatus]]:
        """As ``list_workflows``."""
        arguments = {key: value for key, value in locals().items() if key != "cls"}
        return drive_async(list_workflows_core(workflow_filter(**arguments)))

    @classmethod
    def list_workflow_steps(cls, workflow_id: str) -> list[StepInfo]:
        """The recorded steps of a workflow, in the order in which it started them; none if there is no such one."""
        refuse_on_loop("DBOS.list_workflow_steps")
        return drive(list_steps_core(workflow_id))

    @classmethod
    def list_workflow_steps_async(cls, workflow_id: str) -> Coroutine[Any, Any, list[StepInfo]]:
        """As ``list_workflow_steps``."""
        return drive_async(list_steps_core(workflow_id))
