"""The checks: whether what ran is what was recorded, and what came out is right.

Nothing of the library is asked: the processes told what they ran, and the tables what they hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dbos.edges.demo.durable_index import LANES
from dbos.edges.demo.lives import Life, Run


@dataclass(frozen=True, slots=True)
class Check:
    """Something that must hold."""

    claim: str
    holds: bool
    finding: str


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
