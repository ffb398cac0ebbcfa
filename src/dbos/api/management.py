"""Cancel, resume, fork, delete: arguments are checked, and in a workflow the call is recorded as a step."""

from __future__ import annotations

from typing import cast

from dbos.api.instance import new_workflow_id, recording_run
from dbos.api.reads import GET_STATUS, read_status, recorded_call
from dbos.api.scopes import take_next_id
from dbos.error import DBOSNonExistentWorkflowError
from dbos.model.limits import MAX_QUEUE_BYTES, check_key, check_known_id
from dbos.runtime import management
from dbos.runtime.children import child_id
from dbos.runtime.context import CONTEXT
from dbos.runtime.drivers import Core, Ending, Raised, Returned
from dbos.runtime.gateway import Gateway
from dbos.runtime.management import cancel_workflow, fork_workflow, resume_workflow


def cancel_core(workflow_id: str, client: Gateway | None = None) -> Core[Ending[None]]:
    check_known_id(workflow_id)
    return recorded_call(
        "DBOS.cancelWorkflow",
        "DBOS.cancel_workflow",
        lambda gateway: cancel_workflow(gateway, workflow_id),
        client,
    )


def resume_core(workflow_id: str, client: Gateway | None = None) -> Core[Ending[str]]:
    """Resume, and return the workflow's id. In a workflow, making its handle counts as a step too."""
    check_known_id(workflow_id)
    resumed = recorded_call(
        "DBOS.resumeWorkflow",
        "DBOS.resume_workflow",
        lambda gateway: resume_workflow(gateway, workflow_id),
        client,
    )
    return _with_handle(resumed, workflow_id, "DBOS.resume_workflow", client)


def fork_core(
    workflow_id: str, start_step: int, application_version: str | None, client: Gateway | None = None
) -> Core[Ending[str]]:
    """Fork, and return the new workflow's id. In a workflow, making its handle counts as a step too."""
    check_known_id(workflow_id)
    first_step = _check_step(start_step)
    if application_version is not None:
        check_key(application_version, "application_version", MAX_QUEUE_BYTES)
        if not application_version:
            raise ValueError("application_version must not be empty. Leave it out to have any version run the fork.")
    context, is_recorded = recording_run()
    new_id = take_next_id(context)
    if new_id is None and client is None and context.run is not None and is_recorded:
        # Derived, so that a fork that is done again after a crash is the same one.
        new_id = child_id(context.run, context.run.upcoming_function_id)
    new_id = new_id or new_workflow_id()
    timeout = CONTEXT.get().timeout

    def call(gateway: Gateway) -> str:
        return fork_workflow(
            gateway,
            workflow_id,
            new_id=new_id,
            start_step=first_step,
            application_version=application_version,
            timeout_s=None if timeout is None else timeout.seconds,
        )

    forked = recorded_call("DBOS.forkWorkflow", "DBOS.fork_workflow", call, client)
    return _with_handle(forked, new_id, "DBOS.fork_workflow", client)


def delete_workflow(client: Gateway | None, workflow_id: str, *, delete_children: bool = False) -> Core[Ending[None]]:
    """Delete a workflow with its steps, events, streams and messages. One that runs stops; none is left alone.

    Args:
        workflow_id: Its id.
        delete_children: Whether to delete the workflows that it started too, and theirs.
    """
    return _delete_core(client, "delete_workflow", [workflow_id], delete_children)


def delete_workflows(
    client: Gateway | None, workflow_ids: list[str], *, delete_children: bool = False
) -> Core[Ending[None]]:
    """Delete workflows, all of them or none; otherwise as ``delete_workflow``.

    Args:
        workflow_ids: Their ids.
        delete_children: Whether to delete the workflows that they started too, and theirs.
    """
    if isinstance(cast(object, workflow_ids), str):
        raise TypeError("workflow_ids must be a list of str, not str.")
    return _delete_core(client, "delete_workflows", list(workflow_ids), delete_children)


def _delete_core(
    client: Gateway | None, method: str, workflow_ids: list[str], delete_children: bool
) -> Core[Ending[None]]:
    for workflow_id in workflow_ids:
        check_known_id(workflow_id)

    def call(gateway: Gateway) -> None:
        management.delete_workflows(gateway, workflow_ids, with_descendants=delete_children)

    return recorded_call("DBOS.deleteWorkflow", f"DBOS.{method}", call, client)


def _check_step(step: object) -> int:
    """The step as the database can store it; what is below 1 means 1."""
    if not isinstance(step, int) or isinstance(step, bool):
        raise TypeError(f"start_step must be an int, not {type(step).__name__}.")
    return max(1, min(step, 2**31 - 1))


def _with_handle(
    managed: Core[Ending[str]] | Core[Ending[None]], workflow_id: str, caller: str, client: Gateway | None
) -> Core[Ending[str]]:
    """Have the call return the id that it recorded, or the given one.

    Programs of version 2 record the look-up of the workflow for its handle, after the call itself.
    """
    context, is_recorded = recording_run()
    if client is not None or context.run is None or not is_recorded:
        return _both(managed, workflow_id, None)
    return _both(managed, workflow_id, _HandleStatus(workflow_id, caller))


class _HandleStatus:
    """The look-up of the workflow that a handle is made for. It takes its place among the steps when it is made.

    Which workflow it is may turn out later, as a fork is recorded under its id.
    """

    def __init__(self, workflow_id: str, caller: str) -> None:
        self.workflow_id = workflow_id
        self.core = recorded_call(GET_STATUS, caller, lambda gateway: read_status(gateway, self.workflow_id))


def _both(
    managed: Core[Ending[str]] | Core[Ending[None]], workflow_id: str, look_up: _HandleStatus | None
) -> Core[Ending[str]]:
    ending = yield from managed
    if isinstance(ending, Raised):
        return ending
    workflow_id = workflow_id if ending.value is None else ending.value
    if look_up is not None:
        look_up.workflow_id = workflow_id
        found = yield from look_up.core
        if isinstance(found, Returned) and found.value is None:
            return Raised(DBOSNonExistentWorkflowError(workflow_id))
    return Returned(workflow_id)
