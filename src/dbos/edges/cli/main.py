"""``dbos``: the command that all others are in."""

from __future__ import annotations

import click

from dbos.edges.cli.console import console
from dbos.edges.cli.databases import migrate, reset
from dbos.edges.cli.demo import demo
from dbos.edges.cli.doctor import doctor
from dbos.edges.cli.local_postgres import postgres
from dbos.edges.cli.mcp import mcp
from dbos.edges.cli.projects import init, start
from dbos.edges.cli.prune import prune
from dbos.edges.cli.transfer import export_workflows, import_workflows
from dbos.edges.cli.workflows import workflow


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """See and steer durable workflows, and keep their database.

    Commands work on the database that --sys-db-url names, else the environment variable DBOS_SYSTEM_DATABASE_URL, else
    dbos-config.yaml; no application has to be running. Results are JSON where standard output is no terminal.

    Exit codes: 0 done; 1 failed; 2 not understood; 3 no such workflow; 4 the database cannot be used.
    """


@main.command()
def version() -> None:
    """Show the version of the library."""
    from importlib.metadata import version as version_of

    click.echo(version_of("dbos"))


for command in (workflow, doctor, console, mcp, prune, migrate, reset, init, start, postgres, demo):
    main.add_command(command)
for command in (export_workflows, import_workflows):
    workflow.add_command(command)
