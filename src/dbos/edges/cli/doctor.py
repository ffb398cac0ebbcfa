"""``dbos doctor``: whether the database can be used, who is alive, and why workflows do not move."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dbos.edges.cli.connection import database_options, find_place, json_option, opened
from dbos.edges.cli.output import Exit, fail, is_for_people, moment, note, printable, write_json, write_table
from dbos.model.durations import in_words
from dbos.model.limits import check_known_id

if TYPE_CHECKING:
    from dbos.runtime.diagnosis import Diagnosis, Finding


@click.command()
@click.argument("workflow_ids", nargs=-1, metavar="[WORKFLOW_ID]...")
@database_options
@click.option(
    "--quiet-for",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Look at workflows that have done nothing for so many seconds.",
)
@click.option(
    "-l", "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many workflows to name at most."
)
@json_option
def doctor(
    workflow_ids: tuple[str, ...], sys_db_url: str | None, schema: str, quiet_for: float, limit: int, as_json: bool
) -> None:
    """Say what is wrong: whether the database can be used, which executors are alive, why workflows do not move.

    With ids, why these do not. The exit code is 1 if something is wrong that will not pass by itself.
    """
    from dbos.runtime.diagnosis import diagnose
    from dbos.storage.migrations import read_version

    for workflow_id in workflow_ids:
        try:
            check_known_id(workflow_id)
        except ValueError as error:
            fail(str(error), Exit.NOT_FOUND)
    with opened(find_place(sys_db_url, schema)) as database:
        diagnosis = diagnose(
            database, quiet_ms=round(quiet_for * 1000), examples=3, limit=limit, ids=list(workflow_ids) or None
        )
        location, version = database.location, read_version(database)
    known = {finding.workflow_id for finding in diagnosis.findings}
    for workflow_id in workflow_ids:
        if workflow_id not in known:
            fail(f"There is no workflow with the id {workflow_id!r} in this database.", Exit.NOT_FOUND)
    if is_for_people(as_json):
        _show(diagnosis, location, version)
    else:
        write_json(_record(diagnosis, location, version))
    wrong = sum(finding.is_wrong for finding in diagnosis.findings)
    if wrong:
        note(f"{wrong} of the workflows named do not move until somebody does something.")
        raise click.exceptions.Exit(Exit.FAILED)


def _record(diagnosis: Diagnosis, location: str, version: int) -> dict[str, Any]:
    executors = [
        {
            "executor_id": one.executor_id,
            "application_version": one.application_version,
            "is_alive": one.is_alive,
            "last_seen_ms_ago": one.silent_ms,
            "started_at": one.started_at,
            "hostname": one.process.hostname,
            "pid": one.process.pid,
            "lease_id": one.lease_id,
            "workflows": one.claims,
            "queues": None if one.serving is None else [rules.name for rules in one.serving.queues],
            "functions": None if one.serving is None else list(one.serving.functions),
        }
        for one in diagnosis.executors
    ]
    return {
        "database": location,
        "schema_version": version,
        "executors": executors,
        "queues": [{**queue._asdict(), "limits": _limits(diagnosis, queue.name)} for queue in diagnosis.queues],
        "versions": [its._asdict() for its in diagnosis.versions],
        "workflows": [{**asdict(finding), "cause": finding.cause.value} for finding in diagnosis.findings],
    }


def _show(diagnosis: Diagnosis, location: str, version: int) -> None:
    click.echo(f"{printable(location)} can be used. Its tables have version {version}.\n")
    executors = [
        (
            one.executor_id,
            one.application_version,
            "alive" if one.is_alive else "dead" if one.state != "LIVE" else f"silent for {in_words(one.silent_ms)}",
            f"process {one.process.pid} on {one.process.hostname}",
            moment(one.started_at),
            str(one.claims),
        )
        for one in diagnosis.executors
    ]
    heads = ("executor", "version", "state", "where", "started", "workflows")
    write_table("Executors", heads, executors, "There are no executors: no application is running.")
    queues = [
        (
            queue.name,
            queue.application_version or "any",
            str(queue.waiting),
            str(queue.delayed),
            str(queue.running),
            None if queue.oldest_ms is None else in_words(queue.oldest_ms),
            _limits(diagnosis, queue.name),
        )
        for queue in diagnosis.queues
    ]
    queue_heads = ("queue", "version", "waiting", "delayed", "running", "oldest waits", "limits")
    write_table("Queues", queue_heads, queues, "The queues are empty.")
    alive = {one.application_version for one in diagnosis.executors if one.is_alive}
    versions = [
        (
            its.application_version or "any",
            str(its.enqueued),
            str(its.pending),
            "yes" if its.application_version in alive or (its.application_version is None and alive) else "no",
        )
        for its in diagnosis.versions
    ]
    versions_heads = ("version", "enqueued", "pending", "executor alive")
    write_table("Versions of what has not ended", versions_heads, versions, "All workflows have ended.")
    workflows = [
        (
            _named(finding),
            finding.name,
            finding.cause.value.upper() if finding.is_wrong else finding.cause.value,
            finding.explanation,
        )
        for finding in diagnosis.findings
        # Those that run may each wait for something else; of others one is as good as all.
        if finding.place == 1 or finding.status != "ENQUEUED"
    ]
    workflow_heads = ("workflow", "name", "cause", "what that means")
    write_table("Workflows that do not move", workflow_heads, workflows, "No workflow stands still.", is_whole=True)


def _limits(diagnosis: Diagnosis, queue_name: str) -> str | None:
    """The limits of a queue in words; ``None`` if nobody who is alive listens to it and tells."""
    rules = diagnosis.rules_of(queue_name)
    return " or ".join(its.limits or "none" for its in rules) if rules else None


def _named(finding: Finding) -> str:
    if finding.alike == 1:
        return finding.workflow_id
    if finding.status == "ENQUEUED":
        return f"{finding.workflow_id} and {finding.alike - 1} like it"
    return f"{finding.workflow_id} (one of {finding.alike})"
