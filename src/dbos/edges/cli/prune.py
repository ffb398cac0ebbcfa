"""``dbos prune``: deleting workflows that have ended."""

from __future__ import annotations

import re
import sys

import click

from dbos.edges.cli.connection import connected, database_options, find_place
from dbos.edges.cli.output import Exit, fail, note, write_json

_AGE = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.command()
@database_options
@click.option("--older-than", metavar="AGE", help="Those created longer ago: 90s, 15m, 36h, 30d, 8w.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="Those that are not among the newest N workflows.")
@click.option("-n", "--name", "names", multiple=True, help="Only workflows of this function; may be repeated.")
@click.option("-D", "--db-url", metavar="URL", help="The application database, if it is another one.")
@click.option("--vacuum", is_flag=True, help="SQLite: give the space back to the system. Nobody can write meanwhile.")
def prune(
    sys_db_url: str | None,
    schema: str,
    older_than: str | None,
    keep: int | None,
    names: tuple[str, ...],
    db_url: str | None,
    vacuum: bool,
) -> None:
    """Delete workflows that have ended, and all that belongs to them.

    Those beyond either bound are deleted. What has not ended is kept, and so are the children of what has not ended.
    Running applications need not be stopped: it is done in small bites.
    """
    from dbos.runtime.retention import collect_garbage
    from dbos.storage.reads import read_now_ms
    from dbos.storage.retention import NameFilter
    from dbos.storage.retention import vacuum as give_back

    if older_than is None and keep is None:
        fail("Say what may go: --older-than, --keep, or both.", Exit.USAGE)
    age_ms = None if older_than is None else _milliseconds(older_than)
    with connected(find_place(sys_db_url, schema, db_url), db_url) as gateway:
        deleted = collect_garbage(
            gateway,
            before_ms=None if age_ms is None else read_now_ms(gateway.database) - age_ms,
            rows_kept=keep,
            names=NameFilter(names, is_only=True) if names else None,
            told=_show_progress,
        )
        if sys.stderr.isatty():
            note("")
        if vacuum:
            give_back(gateway.database)
    if sys.stdout.isatty():
        note(f"{deleted} workflows were deleted.")
    else:
        write_json({"deleted": deleted})


def _milliseconds(age: str) -> int:
    match = _AGE.fullmatch(age.strip().lower())
    if match is None:
        fail(f"{age!r} is no age. Give a number and a unit: 90s, 15m, 36h, 30d or 8w.", Exit.USAGE)
    return round(float(match[1]) * _SECONDS[match[2]] * 1000)


def _show_progress(deleted: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{deleted} workflows deleted", nl=False, err=True)
