"""``dbos workflow``: listing and steering workflows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from dbos.api.reads import workflow_filter
from dbos.edges.cli.connection import connected, database_options, find_place, json_option, opened
from dbos.edges.cli.output import (
    Exit,
    fail,
    is_for_people,
    moment,
    note,
    write_json,
    write_record,
    write_table,
)
from dbos.edges.records import Record, step_record, workflow_record
from dbos.error import DBOSNonExistentWorkflowError, DBOSWorkflowConflictIDError
from dbos.model.durations import in_words
from dbos.model.limits import check_key, check_known_id, check_workflow_id
from dbos.model.status import WorkflowStatusString

F = TypeVar("F", bound=Callable[..., Any])

_STATUSES = click.Choice([status.value for status in WorkflowStatusString], case_sensitive=False)


@click.group()
def workflow() -> None:
    """See and steer workflows."""


def _filters(command: F) -> F:
    for option in (
        click.option("-d", "--sort-desc", is_flag=True, help="Newest first, instead of oldest first."),
        click.option("-o", "--offset", type=int, help="Leave out so many first."),
        click.option("-n", "--name", help="Only workflows of this function."),
        click.option("-S", "--status", multiple=True, type=_STATUSES, help="Only with this status; may be repeated."),
        click.option("-v", "--application-version", help="Only of this application version."),
        click.option("-e", "--end-time", help="Only those created at this RFC 3339 time or before."),
        click.option("-t", "--start-time", help="Only those created at this RFC 3339 time or later."),
        click.option("-u", "--user", help="Only those started by this user."),
        click.option("-l", "--limit", type=int, default=10, show_default=True, help="How many to show at most."),
    ):
        command = option(command)
    return command


@workflow.command("list")
@database_options
@_filters
@click.option("-q", "--queues-only", is_flag=True, help="Only those of queues that have not ended.")
@click.option("--queue-name", help="Only those of this queue.")
@json_option
def list_workflows(sys_db_url: str | None, schema: str, as_json: bool, **filters: Any) -> None:
    """List workflows, the oldest first."""
    _list(sys_db_url, schema, as_json, filters)


@workflow.group("queue")
def queue() -> None:
    """See what is on queues."""


@queue.command("list")
@database_options
@_filters
@click.option("-q", "--queue-name", help="Only those of this queue.")
@json_option
def list_queued(sys_db_url: str | None, schema: str, as_json: bool, **filters: Any) -> None:
    """List the workflows of queues, by default those that wait or run."""
    _list(sys_db_url, schema, as_json, {**filters, "queues_only": True})


def _list(sys_db_url: str | None, schema: str, as_json: bool, filters: dict[str, Any]) -> None:
    from dbos.storage.reads import read_workflows

    for_people = is_for_people(as_json)
    unset = ("workflow_ids", "executor_id", "forked_from", "parent_workflow_id", "workflow_id_prefix")
    try:
        wanted = workflow_filter(
            **dict.fromkeys(unset),  # type: ignore[arg-type]
            **{key: value for key, value in filters.items() if key not in ("application_version", "status")},
            app_version=filters["application_version"],
            status=list(filters["status"]) or None,
            load_input=not for_people,
            load_output=not for_people,
        )
    except (TypeError, ValueError) as error:
        fail(str(error), Exit.USAGE)
    with opened(find_place(sys_db_url, schema)) as database:
        records = [workflow_record(row) for row in read_workflows(database, wanted)]
    if not for_people:
        write_json(records)
        return
    write_table(
        "",
        ("id", "status", "name", "queue", "version", "created", "took"),
        [_line(record) for record in records],
        "There are no such workflows.",
    )
    if len(records) == filters["limit"]:
        note("There may be more: -l shows more, -d the newest first.")


def _line(record: Record) -> tuple[Any, ...]:
    has_ended = record["status"] not in ("PENDING", "ENQUEUED")
    took = in_words(record["updated_at"] - record["created_at"]) if has_ended else None
    version = record["app_version"]
    return (
        record["workflow_id"],
        record["status"],
        record["name"],
        record["queue_name"],
        None if version is None else version[:12],
        moment(record["created_at"]),
        took,
    )


@workflow.command()
@click.argument("workflow_id")
@database_options
@json_option
def get(workflow_id: str, sys_db_url: str | None, schema: str, as_json: bool) -> None:
    """Show a workflow."""
    with opened(find_place(sys_db_url, schema)) as database:
        record = _find(database, workflow_id)
    _write(record, as_json)


@workflow.command()
@click.argument("workflow_id")
@database_options
@json_option
def steps(workflow_id: str, sys_db_url: str | None, schema: str, as_json: bool) -> None:
    """List the recorded steps of a workflow."""
    from dbos.storage.reads import read_steps

    with opened(find_place(sys_db_url, schema)) as database:
        _find(database, workflow_id)
        records = [step_record(row) for row in read_steps(database, workflow_id)]
    if not is_for_people(as_json):
        write_json(records)
        return
    rows: list[tuple[Any, ...]] = []
    for record in records:
        began, ended = record["started_at_epoch_ms"], record["completed_at_epoch_ms"]
        took = None if began is None or ended is None else in_words(ended - began)
        outcome = record["output"] if record["error"] is None else record["error"]
        number, name = str(record["function_id"]), record["function_name"]
        rows.append((number, name, outcome, record["child_workflow_id"], moment(began), took))
    write_table("", ("step", "name", "output or error", "child", "started", "took"), rows, "No step is recorded yet.")


@workflow.command()
@click.argument("workflow_id")
@database_options
@json_option
def cancel(workflow_id: str, sys_db_url: str | None, schema: str, as_json: bool) -> None:
    """Cancel a workflow: it stops before its next step."""
    from dbos.runtime.management import cancel_workflow

    with connected(find_place(sys_db_url, schema)) as gateway:
        _find(gateway.database, workflow_id)
        cancel_workflow(gateway, workflow_id)
        record = _find(gateway.database, workflow_id)
    if record["status"] != "CANCELLED":
        note(f"It had ended already, and is left as it was: {record['status']}.")
    _write(record, as_json)


@workflow.command()
@click.argument("workflow_id")
@database_options
@json_option
def resume(workflow_id: str, sys_db_url: str | None, schema: str, as_json: bool) -> None:
    """Have a workflow that was cancelled or given up run on, or one that is enqueued start past its queue.

    A running application of its version does that.
    """
    from dbos.runtime.management import resume_workflow

    with connected(find_place(sys_db_url, schema)) as gateway:
        _find(gateway.database, workflow_id)
        resume_workflow(gateway, workflow_id)
        record = _find(gateway.database, workflow_id)
    if record["status"] in ("SUCCESS", "ERROR"):
        note(f"It has ended, and is left as it was: {record['status']}.")
    _write(record, as_json)


@workflow.command()
@click.argument("workflow_id")
@database_options
@click.option("-S", "--step", type=int, default=1, show_default=True, help="The first step to run again.")
@click.option("-f", "--forked-workflow-id", help="The id of the copy; by default a random one.")
@click.option("-v", "--application-version", help="The version that is to run it; by default any.")
@json_option
def fork(
    workflow_id: str,
    sys_db_url: str | None,
    schema: str,
    as_json: bool,
    step: int,
    forked_workflow_id: str | None,
    application_version: str | None,
) -> None:
    """Start a copy of a workflow from one of its steps on.

    A running application does that.
    """
    from dbos.api.instance import new_workflow_id
    from dbos.runtime.management import fork_workflow

    try:
        new_id = new_workflow_id() if forked_workflow_id is None else check_workflow_id(forked_workflow_id)
        if application_version is not None:
            check_key(application_version, "The application version")
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    with connected(find_place(sys_db_url, schema)) as gateway:
        _find(gateway.database, workflow_id)
        try:
            fork_workflow(
                gateway,
                workflow_id,
                new_id=new_id,
                start_step=max(1, min(step, 2**31 - 1)),
                application_version=application_version,
                timeout_s=None,
            )
        except DBOSNonExistentWorkflowError:
            _fail_unknown(workflow_id)
        except DBOSWorkflowConflictIDError as error:
            fail(str(error.message))
        record = _find(gateway.database, new_id)
    _write(record, as_json)


def _find(database: Any, workflow_id: str) -> Record:
    from dbos.storage.reads import WorkflowFilter, read_workflows

    try:
        check_known_id(workflow_id)
    except ValueError:
        _fail_unknown(workflow_id)
    rows = read_workflows(database, WorkflowFilter(workflow_ids=[workflow_id]))
    if not rows:
        _fail_unknown(workflow_id)
    return workflow_record(rows[0])


def _fail_unknown(workflow_id: str) -> NoReturn:
    fail(f"There is no workflow with the id {workflow_id[:200]!r} in this database.", Exit.NOT_FOUND)


def _write(record: Record, as_json: bool) -> None:
    if is_for_people(as_json):
        write_record(record)
    else:
        write_json(record)
