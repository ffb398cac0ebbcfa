"""Index Python's standard library in a durable workflow that is killed twice, and check that nothing was lost.

    python demo.py [--kills N] [--files N] [--database-url URL]

Needs `dbos` and `rich`. README.md tells how to read the output.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from durable_index import LANES
from lives import Life, Run, live, start_program
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table
from stdlib_files import find_files


@dataclass(frozen=True)
class Check:
    """Something that must hold."""

    claim: str
    holds: bool
    finding: str

    def __str__(self) -> str:
        return f"{'[green]ok[/]    ' if self.holds else '[red]FAILED[/]'} {self.claim}: [dim]{self.finding}[/]"


def main() -> int:
    """Run the demo; returns the exit code: 0 if every check holds."""
    options = parse()
    console, clock = Console(highlight=False), time.monotonic()
    files = len(find_files()[: options.files])
    console.print(
        f"Index {files} files of Python {platform.python_version()}'s standard library, one durable step each"
    )
    with tempfile.TemporaryDirectory(prefix="stdlib-index-") as directory:
        database_url = options.database_url or f"sqlite:///{directory}/demo.sqlite"
        run = Run(f"stdlib-index-{uuid.uuid4().hex[:8]}", database_url, files)
        plain_loop = start_program("stdlib_files.py", str(files))
        try:
            lives = live_through(run, options.kills, console)
            expected = plain_loop.communicate()[0].strip()
        finally:
            plain_loop.kill()
    checks = check(run, options.kills, lives, expected)
    console.print("", table_of(lives), "", sep="\n")
    console.print(*map(str, checks), "", f"Took {time.monotonic() - clock:.1f} s", sep="\n", soft_wrap=True)
    return 0 if all(check.holds for check in checks) else 1


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Index the standard library durably, through two crashes.")
    parser.add_argument("--kills", type=int, default=2, metavar="N", help="how often to kill the worker (default: 2)")
    parser.add_argument("--files", type=int, metavar="N", help="index only the first N files")
    parser.add_argument("--database-url", metavar="URL", help="Postgres or SQLite (default: a temporary SQLite file)")
    return parser.parse_args()


def live_through(run: Run, kills: int, console: Console) -> list[Life]:
    """Give the worker one life after the other; all but the last are cut off, after equal parts of the work."""
    lives: list[Life] = []
    finished: set[str] = set()
    with Progress("steps", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console) as progress:
        bar = progress.add_task("", total=run.steps)
        for kill_at in [*(run.steps * part // (kills + 1) for part in range(1, kills + 1)), None]:
            lives.append(live(run, finished, kill_at, lambda done: progress.update(bar, completed=done)))
            if lives[-1].killed:
                progress.print(f"SIGKILL after {len(finished)} steps, {len(lives[-1].recorded)} of them recorded")
    return lives


def check(run: Run, kills: int, lives: Sequence[Life], expected: str) -> list[Check]:
    """Compare what ran with what was recorded, and what came out with the plain loop's result."""
    executions = Counter(step for life in lives for step in life.started)
    recorded = lives[-1].recorded
    killed = sum(life.killed for life in lives)
    reran = [step for before, after in pairwise(lives) for step in after.started if step in before.recorded]
    repeats = executions - Counter(executions.keys())
    cut_off = Counter(step for life in lives for step in life.in_flight)
    at_once = max(len(life.in_flight) for life in lives)
    result = lives[-1].result
    return [
        Check("killed as planned", killed == kills, f"{killed} times"),
        Check("every step is recorded", len(recorded) == run.steps, f"{len(recorded)} of {run.steps}"),
        Check("every recorded step really ran", executions.keys() == recorded, f"{len(executions)} different ones"),
        Check("no recorded step ran again", not reran, f"{len(reran)} did"),
        Check("only what was in flight ran twice", repeats <= cut_off, f"{repeats.total()} did"),
        Check("in flight: one step a lane", at_once <= LANES, f"{at_once} at most, {LANES} lanes"),
        Check(
            "same result as the plain loop",
            result == expected,
            result if result == expected else f"{result}, not {expected}",
        ),
    ]


def table_of(lives: Sequence[Life]) -> Table:
    """One column for each life and one for their sum."""
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


if __name__ == "__main__":
    sys.exit(main())
