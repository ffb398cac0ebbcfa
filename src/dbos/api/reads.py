"""Reading workflows and steps; in a workflow, what was read is recorded as a step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from dbos.api.instance import get_executor, recording_run
from dbos.api.status import StepInfo, WorkflowStatus, epoch_ms, step_info, workflow_status
from dbos.model.limits import check_storable
from dbos.model.status import LIVE, WorkflowStatusString
from dbos.runtime.drivers import Command, Core, Ending, Offload, Returned
from dbos.runtime.gateway import Gateway
from dbos.runtime.steps import record_call
from dbos.storage.reads import WorkflowFilter, read_steps, read_workflows

T = TypeVar("T")

GET_STATUS = "DBOS.getStatus"

MAX_PREFIXES = 500
"""How many beginnings of ids a listing takes: each is a condition of the statement, of which SQLite takes 1000."""

_STATUSES = frozenset(status.value for status in WorkflowStatusString)


def status_core(workflow_id: str, caller: str, client: Gateway | None = None) -> Core[Ending[WorkflowStatus | None]]:
    """The workflow's status, ``None`` if there is no such workflow. ``caller`` is named in errors."""
    check_texts("workflow_id", [workflow_id])

    return recorded_call(GET_STATUS, caller, lambda gateway: read_status(gateway, workflow_id), client)


def read_status(gateway: Gateway, workflow_id: str) -> WorkflowStatus | None:
    """The workflow's status, read from the database."""
    rows = read_workflows(gateway.database, WorkflowFilter(workflow_ids=[workflow_id]))
    return workflow_status(rows[0], gateway.codec) if rows else None


def list_workflows_core(
    wanted: WorkflowFilter, name: str, caller: str, client: Gateway | None = None
) -> Core[Ending[list[WorkflowStatus]]]:
    """The workflows that the filter asks for; in a workflow it is recorded under the name."""

    def read(gateway: Gateway) -> list[WorkflowStatus]:
        return [workflow_status(row, gateway.codec) for row in read_workflows(gateway.database, wanted)]

    return recorded_call(name, caller, read, client)


def list_steps_core(workflow_id: str, client: Gateway | None = None) -> Core[Ending[list[StepInfo]]]:
    """The recorded steps of a workflow."""
    check_texts("workflow_id", [workflow_id])

    def read(gateway: Gateway) -> list[StepInfo]:
        return [step_info(row, gateway.codec) for row in read_steps(gateway.database, workflow_id)]

    return recorded_call("DBOS.listWorkflowSteps", "DBOS.list_workflow_steps", read, client)


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
    workflow_id_prefix: str | Sequence[str] | None,
    limit: int | None,
    offset: int | None,
    sort_desc: bool,
    load_input: bool,
    load_output: bool,
    queues_only: bool = False,
) -> WorkflowFilter:
    """Check and translate the arguments of ``list_workflows``.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A status or a time that does not exist, a negative limit or offset, a text that cannot be stored,
            more prefixes than ``MAX_PREFIXES``.
    """
    statuses = several("status", status)
    for one in statuses or ():
        if one not in _STATUSES:
            raise ValueError(f"There is no status {one!r}. The statuses are {', '.join(sorted(_STATUSES))}.")
    _check_count("limit", limit)
    _check_count("offset", offset)
    if queues_only and statuses is None:
        statuses = sorted(LIVE)
    prefixes = several("workflow_id_prefix", workflow_id_prefix)
    if prefixes is not None and len(prefixes) > MAX_PREFIXES:
        raise ValueError(f"workflow_id_prefix has {len(prefixes)} prefixes, of at most {MAX_PREFIXES}. Ask in parts.")
    if isinstance(workflow_ids, str):
        raise TypeError(f"workflow_ids must be a list of str, not a str: [{workflow_ids!r}].")
    return WorkflowFilter(
        workflow_ids=several("workflow_ids", workflow_ids),
        statuses=statuses,
        names=several("name", name),
        application_versions=several("app_version", app_version),
        executor_ids=several("executor_id", executor_id),
        queue_names=several("queue_name", queue_name),
        users=several("user", user),
        forked_from=several("forked_from", forked_from),
        parents=several("parent_workflow_id", parent_workflow_id),
        created_from_ms=epoch_ms(start_time, "start_time"),
        created_to_ms=epoch_ms(end_time, "end_time"),
        id_prefixes=prefixes,
        limit=limit,
        offset=offset,
        sort_desc=sort_desc,
        load_input=load_input,
        load_output=load_output,
        queues_only=queues_only,
    )


def several(argument: str, value: str | Sequence[str] | None) -> list[str] | None:
    """The texts that an argument gives, one or several.

    Raises:
        TypeError, ValueError: It gives something else, or what cannot be stored.
    """
    if value is None:
        return None
    if not isinstance(value, str | list | tuple | set | frozenset):
        raise TypeError(f"{argument} must be a str or a list of str, not {type(value).__name__}.")
    # A status may come as a member of the enumeration, whose plain text is wanted.
    texts = [str.__str__(value)] if isinstance(value, str) else list(value)
    check_texts(argument, texts)
    return [str.__str__(text) for text in texts]


def check_texts(argument: str, texts: Sequence[object]) -> None:
    """Raise ``TypeError`` or ``ValueError`` if not all of these are texts that can be stored."""
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{argument} must be a str, not {type(text).__name__}.")
        check_storable(text, argument)


def _check_count(argument: str, count: object) -> None:
    if count is None:
        return
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"{argument} must be an int, not {type(count).__name__}.")
    if not 0 <= count < 2**63:
        raise ValueError(f"{argument} is {count}, and must not be negative or beyond 2^63.")


def recorded_call(
    name: str, caller: str, call: Callable[[Gateway], T], client: Gateway | None = None
) -> Core[Ending[T]]:
    """Call what asks or changes the database; in a workflow it is recorded as a step, once for all replays.

    Args:
        name: The step's name.
        caller: The public method, for errors.
        call: What is called; it may block.
        client: The client that calls; ``None`` for the application.
    """
    gateway = get_executor(caller) if client is None else client
    if client is not None:
        client.check_open()

    def work() -> T:
        # Nobody who reads shall miss what this process is still holding back.
        gateway.flush()
        return call(gateway)

    context, is_recorded = recording_run()
    if client is None and context.run is not None and is_recorded:
        return record_call(context.run, context.run.next_function_id(), name, work)
    return _unrecorded(gateway, work)


def _unrecorded(gateway: Gateway, work: Callable[[], T]) -> Generator[Command, Any, Ending[T]]:
    value: T = yield Offload(gateway.threads.submit, work)
    return Returned(value)
