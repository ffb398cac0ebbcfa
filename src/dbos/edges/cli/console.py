"""``dbos console``: the web console of a database."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from types import FrameType

import click

from dbos.api.config import check_token, is_loopback
from dbos.edges.cli.connection import database_options, find_place, initialization_fails
from dbos.edges.cli.output import Exit, fail, note

DEFAULT_PORT = 3100


@click.command()
@database_options
@click.option("-p", "--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True, help="0: any.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Other than loopback ones need a token.")
@click.option("--token", help="The password that browsers ask for; else DBOS__CONSOLE_TOKEN. At least 16 characters.")
@click.option("--allow-writes", is_flag=True, help="Let it cancel, resume, fork, delete, and steer schedules.")
@click.option("--no-browser", is_flag=True, help="Do not open a browser, which it does on a terminal.")
def console(
    sys_db_url: str | None,
    schema: str,
    port: int,
    host: str,
    token: str | None,
    allow_writes: bool,
    no_browser: bool,
) -> None:
    """Serve the web console of a database, until Ctrl-C; no application has to be running.

    It is read-only unless --allow-writes is given.
    """
    from dbos.edges.console.app import Console
    from dbos.edges.console.mounting import Opened
    from dbos.edges.guards import Entrance, Guards
    from dbos.edges.listening import listen
    from dbos.edges.serving import serve

    place = find_place(sys_db_url, schema)
    token = token or os.environ.get("DBOS__CONSOLE_TOKEN")
    if token is None and not is_loopback(host):
        fail(
            f"At {host!r} other machines can connect. Give a --token (or set DBOS__CONSOLE_TOKEN), which browsers then "
            "ask for; or leave --host out.",
            Exit.USAGE,
        )
    if token is not None:
        with initialization_fails(Exit.USAGE):
            check_token(token, "The token")
    opened = Opened(place.url, place.schema)
    with initialization_fails():
        # What is wrong with the database is said here, not on a page.
        opened()
    try:
        listener = listen(host, port)
    except (OSError, UnicodeError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or error
        fail(f"Cannot listen at {host} port {port}: {reason}. Choose another --port, or 0 for any.")
    app = Console(opened, allow_writes=allow_writes).app()
    entrance = Entrance(token, is_local=is_loopback(host), pages="")
    stops = _stops()
    address = _address(host, listener)
    click.echo(address)
    note(f"The console listens, {'and may change things' if allow_writes else 'read-only'}. Ctrl-C ends it.")
    if sys.stdout.isatty() and not no_browser:
        import webbrowser

        # In a thread, as some browsers come back only when they are closed.
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    try:
        serve(Guards(app, entrance), listener, stops)
    finally:
        opened.close()


def _address(host: str, listener: socket.socket) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}/"


def _stops() -> socket.socket:
    """A socket that becomes readable when the process is told to end."""
    stops, stopper = socket.socketpair()

    def stop(number: int, frame: FrameType | None) -> None:
        stopper.send(b"s")

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return stops
