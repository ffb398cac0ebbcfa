"""``dbos demo``: a workflow that is killed on its way, in front of your eyes."""

from __future__ import annotations

import platform
import tempfile
import time
import uuid
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import click

from dbos.edges.cli.connection import initialization_fails
from dbos.edges.cli.output import Exit, fail

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from dbos.edges.demo.checks import Check
    from dbos.edges.demo.lives import Life, Run


@click.command()
@click.option("--kills", type=click.IntRange(0), default=2, show_default=True, help="How often the process is killed.")
@click.option("--files", type=click.IntRange(1), help="Index only so many files.")
@click.option("-s", "--sys-db-url", metavar="URL", help="Where it is recorded, and stays. Else in a temporary file.")
def demo(kills: int, files: int | None, sys_db_url: str | None) -> None:
    """Run a workflow, kill its process again and again, and check that nothing was lost.

    It indexes Python's standard library, one durable step for each file. What ran is compared with what was recorded.
    The exit code is 1 if a recorded step ran again, one is missing, or the result is wrong.
    """
    from rich.console import Console

    from dbos.edges.demo.checks import check
    from dbos.edges.demo.lives import Run, WorkerFailed, start_program
    from dbos.edges.demo.stdlib_files import find_files
    from dbos.storage.opening import parse_url

    if sys_db_url is not None:
        with initialization_fails():
            parse_url(sys_db_url)
    console, clock = Console(highlight=False), time.monotonic()
    count = len(find_files()[:files])
    console.print(
        f"Index {count} files of Python {platform.python_version()}'s standard library, one durable step each"
    )
    with tempfile.TemporaryDirectory(prefix="stdlib-index-") as directory:
        run = Run(f"stdlib-index-{uuid.uuid4().hex[:8]}", sys_db_url or f"sqlite:///{directory}/demo.sqlite", count)
        plain_loop = start_program("stdlib_files.py", str(count))
        try:
            lives = _live_through(run, kills, console)
            expected = plain_loop.communicate()[0].strip()
        except WorkerFailed as failure:
            fail(f"{failure} What it wrote above says why.")
        finally:
            plain_loop.kill()
    checks = check(run, kills, lives, expected)
    console.print("", _table_of(lives), "", sep="\n")
    console.print(*map(_line, checks), "", f"Took {time.monotonic() - clock:.1f} s", sep="\n", soft_wrap=True)
    if not all(check.holds for check in checks):
        raise click.exceptions.Exit(Exit.FAILED)


def _live_through(run: Run, kills: int, console: Console) -> list[Life]:
    """Give the worker one life after the other; all but the last are cut off, after equal parts of the work."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    from dbos.edges.demo.lives import live

    lives: list[Life] = []
    finished: set[str] = set()
    with Progress("steps", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=run.steps)
        for kill_at in [*(run.steps * part // (kills + 1) for part in range(1, kills + 1)), None]:
            lives.append(live(run, finished, kill_at, lambda done: progress.update(bar, completed=done)))
            if lives[-1].killed:
                progress.print(f"SIGKILL after {len(finished)} steps, {len(lives[-1].recorded)} of them recorded")
    return lives


def _table_of(lives: Sequence[Life]) -> Table:
    """One column for each life and one for their sum."""
    from rich.table import Table

    recorded = [len(after) - len(before) for before, after in pairwise([set(), *(life.recorded for life in lives)])]
    table = Table("", title=f"One workflow, {len(lives)} processes")
    for number, _ in enumerate(lives, start=1):
        table.add_column(f"life {number}", justify="right")
    table.add_column("in all", justify="right")
    for name, numbers in {
        "steps run": [len(life.started) for life in lives],
        "steps recorded": recorded,
        "in flight at the end, run again": [len(life.in_flight) for life in lives],
    }.items():
        table.add_row(name, *map(str, numbers), str(sum(numbers)))
    table.add_row("ended by", *("SIGKILL" if life.killed else "itself" for life in lives))
    table.add_row("seconds", *(f"{life.seconds:.1f}" for life in lives), f"{sum(life.seconds for life in lives):.1f}")
    table.add_row("  before the first step", *(f"{life.first_step_after:.1f}" for life in lives))
    return table


def _line(check: Check) -> str:
    return f"{'[green]ok[/]    ' if check.holds else '[red]FAILED[/]'} {check.claim}: [dim]{check.finding}[/]"
