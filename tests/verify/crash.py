"""Runs a program for every k until a run no longer reaches k, and checks what it left behind."""

from __future__ import annotations

import itertools
import os
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support import ledger
from tests.support.processes import Child, Spawner
from tests.verify.effects import check_effects
from tests.verify.gate import Action, Moment, Plan
from tests.verify.invariants import check_finished, check_kept, check_records
from tests.verify.life import HELD, Life
from tests.verify.rows import read_rows

WORKERS = 2
NURSERY = Path(__file__).with_name("nursery.py")
MOST_K = 60
MOST_FAILURES = 6


class Nurseries:
    """A few processes that run lives; see `tests.verify.nursery`."""

    def __init__(self, spawn: Spawner) -> None:
        self._spawn = spawn
        self._idle: queue.SimpleQueue[tuple[Child, Iterator[int]]] = queue.SimpleQueue()
        for _ in range(WORKERS):
            self._idle.put(self._start())

    def run(self, life: Life, output: Path) -> int:
        """Run one life to its end; its exit code, negative for a signal."""
        child, numbers = self._idle.get()
        try:
            child.write_line(f"{output}\t{life.to_json()}")
            return int(child.wait_for_line(r"^ended (-?\d+)$", timeout=60, count=next(numbers))[1])
        except BaseException:
            child.close()
            child, numbers = self._start()
            raise
        finally:
            self._idle.put((child, numbers))

    def _start(self) -> tuple[Child, Iterator[int]]:
        return self._spawn(NURSERY), itertools.count(1)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One program on one database, and what goes wrong in its first lives."""

    program: Path
    url: str
    action: Action
    moment: Moment
    hold_back_s: float = HELD
    also_kill_second_life: bool = False
    """Whether the second life is killed too, before its first commit."""
    operation: str = "journal"
    """Whose transactions are counted."""
    variant: str = ""
    """See `Life`."""
    application_url: str = ""
    """See `Life`."""


def run_all_k(nurseries: Nurseries, scenario: Scenario, directory: Path, replay: str) -> None:
    """Run the scenario for every k; how many were reached. CRASH_K in the environment runs one k alone.

    Raises:
        AssertionError: An invariant does not hold (the error names every k that failed, and holds the ledger and the
            output of the first), or the action was reached less often than the program commits: nothing is proved.
    """
    only = os.environ.get("CRASH_K")
    if only is not None:
        assert run_k(nurseries, scenario, int(only), directory), f"k = {only} was not reached"
        return
    reached, failures = 0, dict[int, BaseException]()
    numbers = itertools.count(1)
    with ThreadPoolExecutor(WORKERS) as pool:
        while True:
            group = list(itertools.islice(numbers, WORKERS))
            runs = [pool.submit(run_k, nurseries, scenario, k, directory) for k in group]
            were_reached = []
            for k, run in zip(group, runs, strict=True):
                try:
                    were_reached.append(run.result())
                except AssertionError as failure:
                    failures[k] = failure
                    were_reached.append(True)
            reached += sum(were_reached)
            if not all(were_reached) or group[-1] > MOST_K or len(failures) > MOST_FAILURES:
                break
    if failures:
        first = min(failures)
        raise AssertionError(
            f"{scenario.action} at {scenario.operation} {scenario.moment} failed for "
            f"k = {', '.join(map(str, sorted(failures)))}. "
            f"Replay one with:\n    CRASH=all CRASH_K={first} .venv/bin/pytest '{replay}'\n\n{failures[first]}"
        )
    program = _of_kind("program", _ledger(directory, 1))[0]
    least = program["commits"][scenario.operation]
    assert reached >= least, f"reached {reached} times only, so nothing was proved: {program}"
    hit = {entry["guard"] for k in range(1, next(numbers)) for entry in _of_kind("guard", _ledger(directory, k))}
    assert hit.issuperset(program.get("guards", [])), f"only these guards were hit, so nothing was proved: {hit}"


def run_k(nurseries: Nurseries, scenario: Scenario, k: int, directory: Path) -> bool:
    """Run the scenario for one k, and check it; whether k was reached."""
    plan = Plan(scenario.action, scenario.moment, k, (scenario.operation,))
    url = scenario.url.replace("{k}", str(k))
    entries, output = _ledger(directory, k), directory / f"output-{k}.txt"
    life = Life(
        str(scenario.program),
        url,
        str(entries),
        schema=f"k{k}",
        plan=plan,
        hold_back_s=scenario.hold_back_s,
        variant=scenario.variant,
        application_url=scenario.application_url.replace("{k}", str(k)),
    )
    with _told(entries, output):
        code = nurseries.run(life, output)
        reached = bool(_of_kind("reached", entries))
        if scenario.action == "final":
            assert code == 0, f"the first life ended with {code}"
            rows = read_rows(url, life.schema)
            pending = [id for id, row in rows.workflows.items() if row["status"] == "PENDING"]
            assert not pending, f"left pending: {pending}"
            check_records(ledger.read(entries), rows)
            check_effects(life)
            return reached
        crashes = 0
        if reached and scenario.action == "kill":
            assert code == -9, f"the first life ended with {code} and not by its kill"
            check_records(ledger.read(entries), read_rows(url, life.schema))
            check_effects(life)
            crashes, code = _live_on(nurseries, scenario, life, output)
        assert code == 0, f"the last life ended with {code}"
        check_finished(ledger.read(entries), read_rows(url, life.schema), crashes)
        check_effects(life)
    return reached


def _live_on(nurseries: Nurseries, scenario: Scenario, life: Life, output: Path) -> tuple[int, int]:
    """Run the second life, which may be killed as well, and then a third; number of crashes and last exit code."""
    plans = [Plan("kill", "before_commit", 1)] if scenario.also_kill_second_life else []
    number, code = 1, -9
    for plan in (*plans, None):
        number += 1
        before = read_rows(life.url, life.schema)
        code = nurseries.run(replace(life, number=number, plan=plan), output)
        check_kept(before, read_rows(life.url, life.schema), ledger.read(life.ledger), number)
        if code != -9:
            break
    return number - 1, code


def _of_kind(kind: str, entries: Path) -> list[dict[str, Any]]:
    return [entry for entry in ledger.read(entries) if entry["kind"] == kind]


def _ledger(directory: Path, k: int) -> Path:
    return directory / f"ledger-{k}.jsonl"


@contextmanager
def _told(entries: Path, output: Path) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        lines = "\n".join(map(str, ledger.read(entries)))
        text = output.read_text() if output.exists() else ""
        raise AssertionError(f"{error}\n--- ledger\n{lines}\n--- output\n{text}") from error


Runner = Callable[[Scenario], None]
"""Runs a scenario for every k, in the directory of the test."""
