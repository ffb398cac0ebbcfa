"""Index Python's standard library in a durable workflow that is killed twice, and prove that nothing was lost.

    python demo.py [--no-kill] [--database-url URL]

Needs `dbos` and `rich`. README.md tells how to read the output.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from findings import check_all, table_of_checks, table_of_lives
from lives import DemoFailure, Life, Run, Supervisor, outcome_of
from plain_run import plain_run
from progress_board import ProgressBoard
from rich.console import Console
from stdlib_files import Package, Summary, find_packages

PLAIN = "plain loop"
DURABLE = "durable workflow"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code: 0 if every check holds."""
    options = _parse(arguments)
    console = Console()
    workspace = Path(tempfile.mkdtemp(prefix="stdlib-index-"))
    database_url = options.database_url or f"sqlite:///{workspace / 'demo.sqlite'}"
    run = Run(f"stdlib-index-{uuid.uuid4().hex[:8]}", database_url, workspace)
    try:
        _demonstrate(run, options.kill, console)
    except DemoFailure as failure:
        console.print(f"The demo failed: {failure}", style="red", markup=False, highlight=False)
    except KeyboardInterrupt:
        console.print("Interrupted.")
    else:
        shutil.rmtree(workspace)
        return 0
    console.print(f"Database, ledger and the worker's output are kept in {workspace}", soft_wrap=True, highlight=False)
    return 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Index the standard library durably, through two crashes.")
    parser.add_argument("--database-url", help="Postgres or SQLite (default: a temporary SQLite file)")
    parser.add_argument("--no-kill", dest="kill", action="store_false", help="let the worker live")
    return parser.parse_args(arguments)


def _demonstrate(run: Run, kill: bool, console: Console) -> None:
    """Do the work both ways and report; raises `DemoFailure` if a check does not hold."""
    clock = time.monotonic()
    packages = find_packages()
    files = sum(len(package.files) for package in packages)
    console.print(
        f"Standard library of Python {platform.python_version()}: {files} files in {len(packages)} packages",
        highlight=False,
    )
    lives, plain = _race(run, packages, kill, console)
    durable = outcome_of(run)
    checks = check_all(lives, _steps(packages), durable, plain)
    console.print("", table_of_lives(lives), "", table_of_checks(checks), "")
    console.print(
        f"{durable.lines:,} lines, {durable.tokens:,} tokens; {durable.unreadable} files do not tokenise; "
        f"took {time.monotonic() - clock:.1f} s",
        highlight=False,
    )
    if failed := sum(not check.holds for check in checks):
        raise DemoFailure(f"{failed} of {len(checks)} checks do not hold")


def _race(run: Run, packages: list[Package], kill: bool, console: Console) -> tuple[list[Life], Summary]:
    """Run the durable workflow and, at the same time in another process, the plain loop."""
    steps = _steps(packages)
    kill_points = [steps // 3, steps * 2 // 3] if kill else []
    totals = {PLAIN: len(packages), DURABLE: steps}
    with plain_run(packages) as plain, ProgressBoard(console, totals) as board:

        def progress(finished: int) -> None:
            board.show(PLAIN, plain.done)
            board.show(DURABLE, finished)

        lives = Supervisor(run, progress, board.note).live_until_done(kill_points)
        plain_summary = plain.result()
        progress(steps)
    return lives, plain_summary


def _steps(packages: list[Package]) -> int:
    """One step for each package, and one for the inventory."""
    return len(packages) + 1


if __name__ == "__main__":
    sys.exit(main())
