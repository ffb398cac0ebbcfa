"""What the ledger of queue workers says: who ran what and when, how much at once, how often in a time.

Times are of the machine's monotonic clock, which all processes share. What is written lies inside of what really
happened, so two executions that overlap in the ledger did overlap.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support import ledger


@dataclass(frozen=True, slots=True)
class Execution:
    """One call of a workflow's function.

    Attributes:
        id: Its own; the workflow returns that of the call that ended it.
        workflow: The workflow's id.
        pid: The process.
        group: What the workflow was given to be counted by.
        began: When it began.
        ended: When it ended; the death of its process if that was before; infinite if it has not.
        is_whole: Whether it came to its end.
    """

    id: str
    workflow: str
    pid: int
    group: str
    began: float
    ended: float
    is_whole: bool


def read_executions(path: str | os.PathLike[str]) -> list[Execution]:
    """All executions, in the order in which they began."""
    entries = ledger.read(path)
    ends = {entry["execution"]: entry["at"] for entry in entries if entry["kind"] == "end"}
    deaths = {entry["pid"]: entry["at"] for entry in entries if entry["kind"] == "killed"}
    executions = [_execution(entry, ends, deaths) for entry in entries if entry["kind"] == "begin"]
    return sorted(executions, key=lambda execution: execution.began)


def _execution(begin: Mapping[str, Any], ends: Mapping[str, float], deaths: Mapping[int, float]) -> Execution:
    ended = ends.get(begin["execution"], math.inf)
    return Execution(
        id=begin["execution"],
        workflow=begin["workflow"],
        pid=begin["pid"],
        group=begin["group"],
        began=begin["at"],
        ended=min(ended, deaths.get(begin["pid"], math.inf)),
        is_whole=ended < math.inf,
    )


def most_at_once(executions: Iterable[Execution]) -> int:
    """How many ran at once at most."""
    changes: list[tuple[float, int]] = []
    for execution in executions:
        changes += [(execution.began, 1), (max(execution.began, execution.ended), -1)]
    most = running = 0
    # What ends and what begins at the same moment do not overlap.
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def most_at_once_by(executions: Iterable[Execution], key: Callable[[Execution], Any]) -> dict[Any, int]:
    """How many ran at once at most, for each value of the key."""
    by_key: defaultdict[Any, list[Execution]] = defaultdict(list)
    for execution in executions:
        by_key[key(execution)].append(execution)
    return {value: most_at_once(its_executions) for value, its_executions in by_key.items()}


def shortest_span(executions: Sequence[Execution], count: int) -> float:
    """The shortest time in which so many executions began."""
    begins = sorted(execution.began for execution in executions)
    return min((last - first for first, last in zip(begins, begins[count - 1 :], strict=False)), default=math.inf)


def check_each_ran_once(executions: Sequence[Execution], outcomes: Mapping[str, Any], killed: Iterable[int]) -> None:
    """Every workflow began once, and again only if it was killed before its end was recorded.

    Args:
        executions: Those in the ledger.
        outcomes: What the workflows returned, by their ids.
        killed: The processes that were killed.
    """
    dead = set(killed)
    counts = Counter(execution.workflow for execution in executions)
    assert counts.keys() == outcomes.keys(), f"not all ran: {outcomes.keys() ^ counts.keys()}"
    broken = Counter(e.workflow for e in executions if not e.is_whole)
    unsure = Counter(e.workflow for e in executions if e.is_whole and e.pid in dead and outcomes[e.workflow] != e.id)
    for workflow, count in counts.items():
        its = [e for e in executions if e.workflow == workflow]
        assert count == 1 + broken[workflow] + unsure[workflow], f"{workflow} returned {outcomes[workflow]}: {its}"
    assert {e.pid for e in executions if not e.is_whole} <= dead, "only what was killed did not come to its end"
    ended = {(e.workflow, e.id) for e in executions if e.is_whole}
    assert set(outcomes.items()) <= ended, "every workflow returned what one of its executions did"
