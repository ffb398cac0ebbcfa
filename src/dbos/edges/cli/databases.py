"""``dbos migrate`` and ``dbos reset``: making a system database ready, and emptying it."""

from __future__ import annotations

import sys

import click

from dbos.edges.cli.connection import Place, connected, database_options, find_place, initialization_fails
from dbos.edges.cli.output import Exit, fail, note


@click.command()
@database_options
@click.option("-D", "--db-url", metavar="URL", help="The application database, if it is another one.")
@click.option("-r", "--app-role", help="A PostgreSQL role that may read and write the rows afterwards.")
@click.option(
    "--print", "prints", is_flag=True, help="Write the SQL that the system database lacks, and change nothing."
)
def migrate(sys_db_url: str | None, schema: str, db_url: str | None, app_role: str | None, prints: bool) -> None:
    """Make or upgrade the library's tables; again, it changes nothing.

    Applications do that when they are launched. This is for roles that may make tables where the application's may not.
    """
    from dbos.api.provisioning import run_dbos_database_migrations

    place = find_place(sys_db_url, schema, db_url)
    if prints:
        _print_plan(place, app_role)
        return
    with initialization_fails():
        run_dbos_database_migrations(place.url, application_database_url=db_url, schema=place.schema, app_role=app_role)
    note("The tables are up to date.")


def _print_plan(place: Place, app_role: str | None) -> None:
    from dbos.storage.opening import explained, open_unchecked_database
    from dbos.storage.provisioning import plan

    with initialization_fails():
        database = open_unchecked_database(url=place.url, schema=place.schema)
        try:
            with explained(database.engine):
                statements = plan(database, app_role)
        finally:
            database.close()
    if not statements:
        note("The tables are up to date; there is nothing to run.")
        return
    click.echo("\n".join(["BEGIN;", *(f"{statement};" for statement in statements), "COMMIT;"]))


@click.command()
@database_options
@click.option("-D", "--db-url", metavar="URL", help="The application database, if it is another one.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Do it also while executors are alive.")
def reset(sys_db_url: str | None, schema: str, db_url: str | None, yes: bool, force: bool) -> None:
    """Delete all workflows and everything else that the library has stored."""
    from dbos.storage.diagnosis import read_executors
    from dbos.storage.migrations import reset as reset_tables

    with connected(find_place(sys_db_url, schema, db_url), db_url) as gateway:
        database = gateway.database
        alive = [executor for executor in read_executors(database) if executor.is_alive]
        if alive and not force:
            labels = ", ".join(f"{executor.executor_id} (process {executor.pid})" for executor in alive)
            fail(f"Executors are running on {database.location}: {labels}. Stop them first, or use --force.")
        if not yes:
            if not sys.stdin.isatty():
                fail("There is nobody to ask whether all workflows may be deleted. Use --yes.", Exit.USAGE)
            click.confirm(f"Delete all workflows in {database.location}?", abort=True, err=True)
        if gateway.application.is_separate:
            # First what a workflow of the same id would take for its own.
            gateway.application.store.delete_all()
        reset_tables(database)
        note(f"Everything in {database.location} is deleted.")
