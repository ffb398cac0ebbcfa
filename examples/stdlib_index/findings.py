"""What the lives add up to: the checks that decide whether the demo succeeded, and the table that it ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from durable_index import SHARDS_AT_ONCE
from lives import Life
from rich.table import Table
from stdlib_files import Summary


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold."""

    holds: bool
    claim: str
    finding: str


def check_all(lives: Sequence[Life], steps: int, durable: Summary, plain: Summary) -> list[Check]:
    """Compare what ran with what was recorded, and the outcome with that of the plain run."""
    executions = Counter(step for life in lives for step in life.started)
    recorded = lives[-1].recorded
    reran = _run_though_recorded(lives)
    repeats = executions - Counter(executions.keys())
    in_flight = Counter(step for life in lives for step in life.in_flight)
    most = max(len(life.in_flight) for life in lives)
    return [
        Check(len(recorded) == steps, "every step is recorded", f"{len(recorded)} of {steps}"),
        Check(executions.keys() == recorded, "every recorded step really ran", f"{len(executions)} in the ledger"),
        Check(not reran, "no recorded step ran again", f"{len(reran)} did"),
        Check(
            not repeats - in_flight,
            "only what was in flight ran twice",
            f"{repeats.total()} did, {in_flight.total()} in flight",
        ),
        Check(most <= SHARDS_AT_ONCE, "in flight: one step a workflow", f"{most} at most, {SHARDS_AT_ONCE} workflows"),
        Check(durable == plain, "digest equal to the plain loop's", _compare_digests(durable, plain)),
    ]


def table_of_lives(lives: Sequence[Life]) -> Table:
    """One column for each life and one for their sum."""
    table = Table(title="One workflow, many processes" if len(lives) > 1 else "One workflow, one process")
    table.add_column("")
    for life in lives:
        table.add_column(f"life {life.number}", justify="right")
    table.add_column("in all", justify="right")
    table.add_row("ended by", *("SIGKILL" if life.killed else "itself" for life in lives), "")
    table.add_row("seconds", *(f"{life.seconds:.1f}" for life in lives), f"{sum(life.seconds for life in lives):.1f}")
    table.add_row("  of these before its first step", *(f"{life.idle_s:.1f}" for life in lives), "")
    table.add_row("steps run", *_with_sum([len(life.started) for life in lives]))
    table.add_row("steps recorded", *_with_sum(_newly_recorded(lives)), style="bold")
    table.add_row("in flight at the end, run again", *_with_sum([len(life.in_flight) for life in lives]))
    return table


def table_of_checks(checks: Sequence[Check]) -> Table:
    """One line for each check."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    for check in checks:
        mark = "[green]ok[/]" if check.holds else "[bold red]FAILED[/]"
        table.add_row(mark, check.claim, f"[dim]{check.finding}[/]")
    return table


def _run_though_recorded(lives: Sequence[Life]) -> set[str]:
    """Steps that a life ran although the database already held them when it began: there must be none."""
    return {step for before, after in pairwise(lives) for step in after.started if step in before.recorded}


def _newly_recorded(lives: Sequence[Life]) -> list[int]:
    """How many steps each life added to those that the database held before it."""
    return [after - before for before, after in pairwise([0, *(len(life.recorded) for life in lives)])]


def _compare_digests(durable: Summary, plain: Summary) -> str:
    """The common digest, or both."""
    if durable.digest == plain.digest:
        return f"{durable.digest[:12]}…"
    return f"{durable.digest[:12]}…, not {plain.digest[:12]}…"


def _with_sum(numbers: Sequence[int]) -> list[str]:
    """Numbers as the cells of a row, the last one their sum."""
    return [str(number) for number in [*numbers, sum(numbers)]]
