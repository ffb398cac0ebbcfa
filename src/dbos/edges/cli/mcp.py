"""``dbos mcp``: the database for coding agents."""

from __future__ import annotations

import contextlib
import sys

import click

from dbos.edges.cli.connection import connected, database_options, find_place, opened
from dbos.edges.cli.output import fail, note


@click.command()
@database_options
@click.option(
    "--allow-writes", is_flag=True, help="Let agents cancel, resume and fork workflows, and steer schedules too."
)
def mcp(sys_db_url: str | None, schema: str, allow_writes: bool) -> None:
    """Serve the database to coding agents: tools of the Model Context Protocol, on standard input and output.

    An agent's program starts this. It can read what is recorded, and change nothing unless --allow-writes is given.
    """
    try:
        from dbos.edges.mcp.server import make_server
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        fail("`dbos mcp` needs the package mcp, which is not installed. Install the library with its extra: '.[mcp]'")

    place = find_place(sys_db_url, schema)
    with contextlib.ExitStack() as stack:
        if allow_writes:
            gateway = stack.enter_context(connected(place))
            server = make_server(gateway.database, gateway)
        else:
            server = make_server(stack.enter_context(opened(place)))
        if sys.stdin.isatty():
            note("This speaks the Model Context Protocol, and is to be started by an agent's program. Ctrl-C ends it.")
        server.run("stdio")
