"""Reading workflows and steps; in a workflow, what was read is recorded as a step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from dbos.api.instance import get_executor, recording_run
from dbos.api.status import StepInfo, WorkflowStatus, epoch_ms, step_info, workflow_status
from dbos.model.status import WorkflowStatusString
from dbos.runtime.drivers import Command, Core, Ending, Offload, Returned
from dbos.runtime.executor import Executor
from dbos.runtime.steps import record_call
from dbos.storage.reads import WorkflowFilter, read_steps, read_workflows

T = TypeVar("T")

_STATUSES = frozenset(status.value for status in WorkflowStatusString)


def status_core(workflow_id: str) -> Core[Ending[WorkflowStatus | None]]:
    """The workflow's status, ``None`` if there is no such workflow."""

    def read(executor: Executor) -> WorkflowStatus | None:
        rows = read_workflows(executor.database, WorkflowFilter(workflow_ids=[workflow_id]))
        return workflow_status(rows[0], executor.codec) if rows else None

    return _recorded("DBOS.getStatus", "DBOS.get_workflow_status", read)


def list_workflows_core(wanted: WorkflowFilter) -> Core[Ending[list[WorkflowStatus]]]:
    """The workflows that the filter asks for."""

    def read(executor: Executor) -> list[WorkflowStatus]:
        return [workflow_status(row, executor.codec) for row in read_workflows(executor.database, wanted)]

    return _recorded("DBOS.listWorkflows", "DBOS.list_workflows", read)


def list_steps_core(workflow_id: str) -> Core[Ending[list[StepInfo]]]:
    """The recorded steps of a workflow."""

    def read(executor: Executor) -> list[StepInfo]:
        return [step_info(row, executor.codec) for row in read_steps(executor.database, workflow_id)]

    return _recorded("DBOS.listWorkflowSteps", "DBOS.list_workflow_steps", read)


def workflow_filter(
    *,
    workflow_ids: Sequence[str] | None,
    status: str | Sequence[str] | None,
    start_time: str | None,
    end_time: str | None,
    name: str | Sequence[str] | None,
    app_version: str | Sequence[str] | None,
    executor_id: str | Sequence[str] | None,
    queue_name: str | Sequence[str] | None,
    user: str | Sequence[str] | None,
    forked_from: str | Sequence[str] | None,
    parent_workflow_id: str | Sequence[str] | None,
    workflow_id_prefix: str | None,
    limit: int | None,
    offset: int | None,
    sort_desc: bool,
    load_input: bool,
    load_output: bool,
) -> WorkflowFilter:
    """Check and translate the arguments of ``list_workflows``.

    Raises:
        ValueError: A status or a time that does not exist, a negative limit or offset.
    """
    statuses = _several(status)
    for one in statuses or ():
        if one not in _STATUSES:
            raise ValueError(f"There is no status {one!r}. The statuses are {', '.join(sorted(_STATUSES))}.")
    for count, what in ((limit, "limit"), (offset, "offset")):
        if count is not None and count < 0:
            raise ValueError(f"{what} is {count}, and must not be negative.")
    return WorkflowFilter(
        workflow_ids=None if workflow_ids is None else list(workflow_ids),
        statuses=statuses,
        names=_several(name),
        application_versions=_several(app_version),
        executor_ids=_several(executor_id),
        queue_names=_several(queue_name),
        users=_several(user),
        forked_from=_several(forked_from),
        parents=_several(parent_workflow_id),
        created_from_ms=epoch_ms(start_time, "start_time"),
        created_to_ms=epoch_ms(end_time, "end_time"),
        id_prefix=workflow_id_prefix,
        limit=limit,
        offset=offset,
        sort_desc=sort_desc,
        load_input=load_input,
        load_output=load_output,
    )


def _several(value: str | Sequence[str] | None) -> list[str] | None:
    if value is None:
        return None
    return [str.__str__(value)] if isinstance(value, str) else list(value)


def _recorded(name: str, caller: str, read: Callable[[Executor], T]) -> Core[Ending[T]]:
    executor = get_executor(caller)

    def work() -> T:
        # Nobody who reads shall miss what this process is still holding back.
        executor.journal.flush()
        return read(executor)

    context, is_recorded = recording_run()
    if context.run is not None and is_recorded:
        return record_call(context.run, context.run.next_function_id(), name, work)
    return _unrecorded(executor, work)


def _unrecorded(executor: Executor, work: Callable[[], T]) -> Generator[Command, Any, Ending[T]]:
    value: T = yield Offload(executor.threads.submit, work)
    return Returned(value)
