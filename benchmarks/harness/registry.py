"""The registry: every benchmark, its unit, its direction and its targets.

A new benchmark is one program in `programs/` and one entry in `BENCHMARKS`. A program is run by either library's
interpreter as `python program.py *arguments`, with `BENCH_DATABASE_URL` in its environment, and prints one JSON line
(see `programs/support.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Database(Enum):
    """Where a benchmark runs; `NONE` is for what needs no database."""

    POSTGRES = "postgres"
    SQLITE = "sqlite"
    NONE = "none"


class Direction(Enum):
    """Which way a measurement gets better."""

    LOWER = "lower is better"
    HIGHER = "higher is better"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One line of the comparison, run on each database it has a target for.

    `targets` are ratios: how many times better ours has to be than the peer. A measurement is the median of `samples`
    processes, each on a fresh database: more than one for programs too short to be measured by one.
    """

    name: str
    title: str
    program: str
    unit: str
    direction: Direction
    targets: Mapping[Database, float]
    arguments: tuple[str, ...] = field(default=())
    samples: int = 1
    timeout_s: float = 600.0

    def ratio(self, ours: float, peer: float) -> float:
        """How many times better ours is; 1.0 is a draw."""
        return peer / ours if self.direction is Direction.LOWER else ours / peer


def _targets(postgres: float, sqlite: float) -> Mapping[Database, float]:
    return {Database.POSTGRES: postgres, Database.SQLITE: sqlite}


def _sequential(kind: str, steps: int, count: int) -> Benchmark:
    return Benchmark(
        name=f"sequential_{kind}_{steps}",
        title=f"Sequential {kind} workflows, {steps} step{'s' if steps > 1 else ''} each",
        program=f"sequential_{kind}.py",
        arguments=("--steps", str(steps), "--count", str(count)),
        unit="ms/workflow",
        direction=Direction.LOWER,
        targets=_targets(5.0, 7.0),
    )


BENCHMARKS: tuple[Benchmark, ...] = (
    _sequential("sync", 1, 600),
    _sequential("sync", 5, 300),
    _sequential("sync", 20, 100),
    _sequential("async", 1, 600),
    _sequential("async", 5, 300),
    _sequential("async", 20, 100),
    Benchmark(
        name="concurrent_sync",
        title="500 concurrent sync workflows, 5 steps each",
        program="concurrent_sync.py",
        arguments=("--count", "500", "--steps", "5"),
        unit="workflows/s",
        direction=Direction.HIGHER,
        targets=_targets(10.0, 18.0),
    ),
    Benchmark(
        name="concurrent_async",
        title="1000 concurrent async workflows, 5 steps each",
        program="concurrent_async.py",
        arguments=("--count", "1000", "--steps", "5"),
        unit="workflows/s",
        direction=Direction.HIGHER,
        targets=_targets(40.0, 50.0),
    ),
    Benchmark(
        name="recovery",
        title="Recovery of 500 workflows after SIGKILL",
        program="recovery.py",
        arguments=("--count", "500"),
        unit="s",
        direction=Direction.LOWER,
        targets=_targets(15.0, 20.0),
    ),
    Benchmark(
        name="import",
        title="`import dbos`",
        program="import_time.py",
        arguments=("--repeats", "9"),
        unit="ms",
        direction=Direction.LOWER,
        targets={Database.NONE: 3.0},
    ),
    Benchmark(
        name="launch",
        title="Import and launch on a new database",
        program="launch.py",
        unit="ms",
        direction=Direction.LOWER,
        targets=_targets(1.5, 1.5),
        samples=5,
    ),
)
