"""Listing workflows: the two methods that the application and its clients share."""

from __future__ import annotations

from dbos.api.reads import list_workflows_core, workflow_filter
from dbos.api.status import WorkflowStatus
from dbos.runtime.drivers import Core, Ending
from dbos.runtime.gateway import Gateway


def list_workflows(
    client: Gateway | None,
    *,
    workflow_ids: list[str] | None = None,
    status: str | list[str] | None = None,
    start_time: str | None = None,
    end_time: str | None = None,
    name: str | list[str] | None = None,
    app_version: str | list[str] | None = None,
    forked_from: str | list[str] | None = None,
    parent_workflow_id: str | list[str] | None = None,
    user: str | list[str] | None = None,
    queue_name: str | list[str] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    sort_desc: bool = False,
    workflow_id_prefix: str | list[str] | None = None,
    load_input: bool = True,
    load_output: bool = True,
    executor_id: str | list[str] | None = None,
    queues_only: bool = False,
) -> Core[Ending[list[WorkflowStatus]]]:
    """The workflows that meet all the given conditions, oldest first.

    Args:
        workflow_ids: With these ids.
        status: With this status, or one of these.
        start_time: Created at this RFC 3339 time or later; without an offset it is local time.
        end_time: Created at this time or earlier.
        name: Of this function, or one of these.
        app_version: Of this application version.
        forked_from: Forked from this workflow.
        parent_workflow_id: Started by this workflow.
        user: Started by this authenticated user.
        queue_name: Enqueued on this queue.
        limit: At most so many.
        offset: Leaving out so many first.
        sort_desc: Newest first.
        workflow_id_prefix: Whose ids begin with this, or one of these (at most 500), taken literally.
        load_input: Whether to load the arguments.
        load_output: Whether to load results and exceptions.
        executor_id: Last run by the executor of this label.
        queues_only: Only workflows of queues, and unless a status is given only those that have not ended.

    Raises:
        ValueError: A condition that makes no sense: an unknown status, a malformed time, a negative number.
    """
    arguments = {key: value for key, value in locals().items() if key != "client"}
    return list_workflows_core(workflow_filter(**arguments), "DBOS.listWorkflows", "DBOS.list_workflows", client)


def list_queued_workflows(
    client: Gateway | None,
    *,
    workflow_ids: list[str] | None = None,
    status: str | list[str] | None = None,
    start_time: str | None = None,
    end_time: str | None = None,
    name: str | list[str] | None = None,
    app_version: str | list[str] | None = None,
    forked_from: str | list[str] | None = None,
    parent_workflow_id: str | list[str] | None = None,
    user: str | list[str] | None = None,
    queue_name: str | list[str] | None = None,
    limit: int | None = None,
    offset: int | None = None,
    sort_desc: bool = False,
    workflow_id_prefix: str | list[str] | None = None,
    load_input: bool = True,
    load_output: bool = True,
    executor_id: str | list[str] | None = None,
) -> Core[Ending[list[WorkflowStatus]]]:
    """The workflows of queues that have not ended, or that have the given status; otherwise as ``list_workflows``."""
    arguments = {key: value for key, value in locals().items() if key != "client"}
    wanted = workflow_filter(**arguments, queues_only=True)
    return list_workflows_core(wanted, "DBOS.listQueuedWorkflows", "DBOS.list_queued_workflows", client)
