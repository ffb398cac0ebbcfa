"""What the command line writes: JSON for programs, tables for people, errors to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from enum import IntEnum
from typing import Any, NoReturn

import click

MAX_CELL_CHARS = 60


class Exit(IntEnum):
    """What the exit code of a command means."""

    DONE = 0
    FAILED = 1
    """It could not be done; of ``dbos doctor``: something is wrong."""
    USAGE = 2
    """The command was not understood."""
    NOT_FOUND = 3
    """There is no such workflow."""
    NO_DATABASE = 4
    """The database cannot be used: not reached, not there, without tables, of another version."""


def fail(message: str, code: Exit = Exit.FAILED) -> NoReturn:
    """End the command with a message on standard error."""
    note(f"Error: {message}")
    raise click.exceptions.Exit(code)


def note(message: str) -> None:
    """Tell people something that is no result."""
    click.echo(message, err=True)


def is_for_people(as_json: bool) -> bool:
    """Whether the result goes to a terminal, and nobody asked for JSON."""
    return not as_json and sys.stdout.isatty()


def write_json(value: Any) -> None:
    """Write the result. (Pure ASCII: no terminal and no encoding can get into its way.)"""
    click.echo(json.dumps(value, indent=2))


def write_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], empty: str, *, is_whole: bool = False
) -> None:
    """Write a table, as wide as the terminal.

    Args:
        title: What it shows.
        columns: Their heads.
        rows: What is in them.
        empty: What is written to standard error if there are no rows.
        is_whole: Whether long values are shown in full.
    """
    if not rows:
        note(empty)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As Text, in which square brackets are square brackets.
        table.add_row(*(Text(cell(value, is_whole=is_whole)) for value in row))
    Console().print(table)


def write_record(record: dict[str, Any]) -> None:
    """Write what there is of one thing, a line each; what it has not is left out."""
    width = max(map(len, record))
    for key, value in record.items():
        if value is not None:
            click.echo(f"{key.ljust(width)}  {shown_whole(key, value)}")


def cell(value: Any, *, is_whole: bool = False) -> str:
    """The value, without what a terminal would obey; cut, unless it is to be shown as a whole."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    text = printable(text)
    return text if is_whole or len(text) <= MAX_CELL_CHARS else f"{text[: MAX_CELL_CHARS - 1]}…"


def shown_whole(key: str, value: Any) -> str:
    """The value in full; moments as people write them."""
    if key.endswith(("_at", "_epoch_ms")) and isinstance(value, int):
        return moment(value)
    return printable(value if isinstance(value, str) else json.dumps(value))


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey; what it cannot show is written in ASCII."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    encoding = sys.stdout.encoding or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def moment(epoch_ms: int | None) -> str:
    """A moment in local time, to the second."""
    if epoch_ms is None:
        return ""
    try:
        return datetime.fromtimestamp(epoch_ms / 1000, timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(epoch_ms)
