"""``dbos workflow export`` and ``import``: whole workflows as JSON, a line for each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from dbos.edges.cli.connection import database_options, find_place, opened
from dbos.edges.cli.output import Exit, fail, note, printable, write_json
from dbos.model.status import LIVE

if TYPE_CHECKING:
    from io import TextIOWrapper


@click.command("export")
@click.argument("workflow_ids", nargs=-1, metavar="[WORKFLOW_ID]...")
@database_options
def export_workflows(workflow_ids: tuple[str, ...], sys_db_url: str | None, schema: str) -> None:
    """Write workflows with all that belongs to them, as lines of JSON; without ids, all of them.

    Values are written as they are stored.
    """
    from dbos.storage.reads import WorkflowFilter, read_workflows
    from dbos.storage.transfer import EXPORT_HEADER, read_document

    with opened(find_place(sys_db_url, schema)) as database:
        ids = list(workflow_ids)
        if not ids:
            wanted = WorkflowFilter(load_input=False, load_output=False)
            ids = [row.workflow_id for row in read_workflows(database, wanted)]
        click.echo(json.dumps(EXPORT_HEADER))
        for workflow_id in ids:
            document = read_document(database, workflow_id)
            if document is not None:
                click.echo(json.dumps(document))
            elif workflow_ids:
                fail(f"There is no workflow with the id {workflow_id[:200]!r} in this database.", Exit.NOT_FOUND)


@click.command("import")
@click.argument("file", type=click.File(encoding="utf-8"))
@database_options
@click.option("--live", is_flag=True, help="Also those that have not ended: executors run them on.")
def import_workflows(file: TextIOWrapper, sys_db_url: str | None, schema: str, live: bool) -> None:
    """Insert workflows that `dbos workflow export` has written; FILE may be - for standard input.

    Those whose ids are there already are left as they are. Import only what you trust: applications unpickle values.
    """
    from dbos.storage.transfer import check_document, insert_document

    counts = {"imported": 0, "there_already": 0, "not_ended": 0}
    with opened(find_place(sys_db_url, schema)) as database:
        for number, document in _documents(file):
            try:
                check_document(document)
                if document["workflow_status"].get("status") in LIVE and not live:
                    counts["not_ended"] += 1
                    continue
                is_new = insert_document(database, document)
            except ValueError as error:
                # A database may tell what the file says, which a terminal would obey.
                reason = printable(str(error)).rstrip(".")
                fail(f"Line {number} is no workflow: {reason}. The lines before it are imported.")
            counts["imported" if is_new else "there_already"] += 1
    if counts["not_ended"]:
        note("Workflows that have not ended were left out. With --live, they are imported and run on.")
    write_json(counts)


def _documents(file: TextIOWrapper) -> Any:
    """The lines after the first, which says what they are, each with its number."""
    from dbos.storage.transfer import EXPORT_HEADER

    for number, line in enumerate(file, 1):
        try:
            value: object = json.loads(line)
        except (ValueError, RecursionError) as error:
            fail(f"Line {number} is no JSON: {error}. The lines before it are imported.")
        if number > 1:
            yield number, value
        elif value != EXPORT_HEADER:
            fail("This was not written by `dbos workflow export`, or by one of another version.")
