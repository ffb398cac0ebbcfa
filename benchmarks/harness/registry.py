"""The registry: every benchmark, its unit, its direction and its targets.

A new benchmark is one program in `programs/` and one entry in `BENCHMARKS`. A program is run by either library's
interpreter as `python program.py *arguments`, with `BENCH_DATABASE_URL` in its environment, and prints one JSON line
(see `programs/support.py`).
"""

import math
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
class Target:
    """What is to be reached: `ratio` times better than the peer, and, by ours alone, `bound` or better.

    Neither is given for what is only reported.
    """

    ratio: float | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One line of the comparison, run on each database it has a target for.

    A measurement is the median of `samples` processes, each on a fresh database: more than one for programs too short
    to be measured by one. `max_rounds` is for programs that take long and hardly vary.
    """

    name: str
    title: str
    program: str
    unit: str
    direction: Direction
    targets: Mapping[Database, Target]
    arguments: tuple[str, ...] = field(default=())
    samples: int = 1
    max_rounds: int | None = None
    timeout_s: float = 600.0

    def ratio(self, ours: float, peer: float) -> float:
        """How many times better ours is; 1.0 is a draw."""
        better, worse = (peer, ours) if self.direction is Direction.LOWER else (ours, peer)
        return better / worse if worse else math.inf

    def is_met(self, target: Target, *, ours: float, ratio: float) -> bool:
        if target.ratio is not None and ratio < target.ratio:
            return False
        if target.bound is None:
            return True
        return ours <= target.bound if self.direction is Direction.LOWER else ours >= target.bound


_FIVE = Target(5.0)


def _ratios(postgres: float, sqlite: float, *, bound: float | None = None) -> Mapping[Database, Target]:
    return {Database.POSTGRES: Target(postgres, bound), Database.SQLITE: Target(sqlite, bound)}


def _bound(bound: float) -> Mapping[Database, Target]:
    return {database: Target(bound=bound) for database in (Database.POSTGRES, Database.SQLITE)}


def _reported() -> Mapping[Database, Target]:
    return {database: Target() for database in (Database.POSTGRES, Database.SQLITE)}


def _sequential(kind: str, steps: int, count: int) -> Benchmark:
    return Benchmark(
        name=f"sequential_{kind}_{steps}",
        title=f"Sequential {kind} workflows, {steps} step{'s' if steps > 1 else ''} each",
        program=f"sequential_{kind}.py",
        arguments=("--steps", str(steps), "--count", str(count)),
        unit="ms/workflow",
        direction=Direction.LOWER,
        targets=_ratios(5.0, 7.0),
    )


def _transactions(
    name: str, title: str, count: int, each: int, *options: str, postgres: Target = _FIVE, sqlite: Target = _FIVE
) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        program="transactions.py",
        arguments=("--count", str(count), "--transactions", str(each), *options),
        unit="transactions/s",
        direction=Direction.HIGHER,
        targets={Database.POSTGRES: postgres, Database.SQLITE: sqlite},
    )


def _latency(name: str, title: str, bound_ms: float, *, cross: bool) -> Benchmark:
    return Benchmark(
        name=f"{name}_cross" if cross else name,
        title=f"{title}, {'from another process' if cross else 'one process'}",
        program=f"{name}.py",
        arguments=("--from", "process" if cross else "thread"),
        unit="ms",
        direction=Direction.LOWER,
        targets=_bound(bound_ms),
        max_rounds=3,
    )


def _enqueue(name: str, by: str, title: str) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"1000 workflows enqueued one by one, {title}",
        program="enqueue.py",
        arguments=("--count", "1000", "--by", by),
        unit="workflows/s",
        direction=Direction.HIGHER,
        targets=_ratios(1.5, 10.0),
    )


def _children(name: str, until: str, title: str, targets: Mapping[Database, Target]) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"A workflow enqueues 1000 children, {title}",
        program="enqueue_children.py",
        arguments=("--count", "1000", "--until", until),
        unit="workflows/s",
        direction=Direction.HIGHER,
        targets=targets,
    )


def _queue_latency(name: str, enqueuer: str, title: str, targets: Mapping[Database, Target]) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"Enqueue on an idle queue until the result is there, {title}",
        program="queue_latency.py",
        arguments=("--from", enqueuer),
        unit="ms",
        direction=Direction.LOWER,
        targets=targets,
        max_rounds=3,
    )


def _drain(name: str, title: str, measured: str, count: int, *options: str, unit: str, target: Target) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"2 workers drain {title}",
        program="queue_drain.py",
        arguments=("--count", str(count), "--measure", measured, *options),
        unit=unit,
        direction=Direction.HIGHER,
        targets={Database.POSTGRES: target, Database.SQLITE: target},
        max_rounds=3,
    )


def _page(name: str, which: str, offset: int, ratio: float) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"`list_workflows`, {which} 100 of 20 000",
        program="list_page.py",
        arguments=("--total", "20000", "--offset", str(offset)),
        unit="ms/call",
        direction=Direction.LOWER,
        targets=_ratios(ratio, ratio),
    )


def _schedules(name: str, title: str, measured: str, count: int, unit: str, bound: float) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        program="schedule_latency.py",
        arguments=("--measure", measured, "--count", str(count)),
        unit=unit,
        direction=Direction.LOWER,
        targets=_bound(bound),
        max_rounds=3,
    )


def _sleepers(name: str, title: str, measured: str, kind: str, count: int, unit: str, bound: float) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        program="sleepers.py",
        arguments=("--measure", measured, "--kind", kind, "--count", str(count)),
        unit=unit,
        direction=Direction.LOWER,
        targets=_bound(bound),
        max_rounds=1,
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
        targets=_ratios(10.0, 18.0),
    ),
    Benchmark(
        name="concurrent_async",
        title="1000 concurrent async workflows, 5 steps each",
        program="concurrent_async.py",
        arguments=("--count", "1000", "--steps", "5"),
        unit="workflows/s",
        direction=Direction.HIGHER,
        targets=_ratios(40.0, 50.0),
    ),
    _transactions("transactions_1", "Sequential sync workflows, 1 transaction each", 300, 1),
    _transactions("transactions_10", "Sequential sync workflows, 10 transactions each", 60, 10),
    _transactions(
        "transactions_at_once",
        "500 concurrent sync workflows, 1 transaction each",
        500,
        1,
        "--at-once",
        postgres=Target(),
    ),
    Benchmark(
        name="recovery",
        title="Recovery of 500 workflows after SIGKILL",
        program="recovery.py",
        arguments=("--count", "500"),
        unit="s",
        direction=Direction.LOWER,
        targets=_ratios(15.0, 20.0),
    ),
    Benchmark(
        name="import",
        title="`import dbos`",
        program="import_time.py",
        arguments=("--repeats", "9"),
        unit="ms",
        direction=Direction.LOWER,
        targets={Database.NONE: Target(3.0)},
    ),
    Benchmark(
        name="launch",
        title="Import and launch on a new database",
        program="launch.py",
        unit="ms",
        direction=Direction.LOWER,
        targets=_ratios(1.5, 1.5),
        samples=5,
    ),
    Benchmark(
        name="ping_pong",
        title="Two workflows sending a message to and fro",
        program="ping_pong.py",
        unit="ms/round",
        direction=Direction.LOWER,
        targets=_ratios(8.0, 8.0, bound=3.0),
        max_rounds=3,
    ),
    _latency("send_recv", "`send` until `recv` has returned", 3.0, cross=False),
    _latency("send_recv", "`send` until `recv` has returned", 3.0, cross=True),
    _latency("event_latency", "`set_event` until `get_event` has returned", 3.0, cross=False),
    _latency("event_latency", "`set_event` until `get_event` has returned", 3.0, cross=True),
    Benchmark(
        name="stream_write",
        title="1000 values written to a stream",
        program="stream_write.py",
        arguments=("--count", "1000"),
        unit="values/s",
        direction=Direction.HIGHER,
        targets=_ratios(10.0, 10.0),
    ),
    _latency("stream_lag", "`write_stream` until the reader has the value", 5.0, cross=False),
    _latency("stream_lag", "`write_stream` until the reader has the value", 5.0, cross=True),
    _page("list_first", "first", 0, 4.0),
    _page("list_middle", "middle", 10_000, 10.0),
    _sleepers("sleepers_async", "10 000 sleeping async workflows", "memory", "async", 10_000, "kB/workflow", 4.0),
    _sleepers("sleepers_sync", "2000 sleeping sync workflows", "memory", "sync", 2000, "kB/workflow", 30.0),
    _sleepers("idle_cpu", "Idle with 5000 sleeping async workflows", "cpu", "async", 5000, "% of a CPU", 1.0),
    _sleepers("shutdown_async", "`destroy` with 1000 waiting async workflows", "shutdown", "async", 1000, "ms", 1000.0),
    _sleepers("shutdown_sync", "`destroy` with 200 waiting sync workflows", "shutdown", "sync", 200, "ms", 1000.0),
    _enqueue("enqueue", "queue", "in one process"),
    _enqueue("enqueue_client", "client", "by a client"),
    _children("enqueue_children", "returned", "until the last call has returned", _bound(20_000.0)),
    _children("enqueue_children_durable", "durable", "until all are durable", _reported()),
    Benchmark(
        name="queue_end_to_end",
        title="1000 workflows that do nothing, enqueued until all results are there",
        program="queue_end_to_end.py",
        arguments=("--count", "1000"),
        unit="workflows/s",
        direction=Direction.HIGHER,
        targets=_ratios(4.0, 12.0),
    ),
    _queue_latency("queue_latency", "thread", "in one process", _bound(3.0)),
    _queue_latency(
        "queue_latency_cross",
        "process",
        "by a client in another process",
        {Database.POSTGRES: Target(bound=5.0), Database.SQLITE: Target()},
    ),
    _drain("queue_drain", "8000 workflows", "rate", 8000, unit="workflows/s", target=Target(5.0)),
    _drain(
        "queue_drain_share",
        "8000 workflows: smallest share",
        "share",
        8000,
        unit="of one half",
        target=Target(bound=0.7),
    ),
    _drain(
        "queue_drain_limited",
        "2000 workflows, 50 at a time each",
        "rate",
        2000,
        "--worker-concurrency",
        "50",
        unit="workflows/s",
        target=Target(20.0),
    ),
    _schedules("schedule_latency", "From a schedule's fire time until its workflow runs", "latency", 20, "ms", 20.0),
    _schedules("schedules_idle_cpu", "Idle with 1000 schedules", "cpu", 1000, "% of a CPU", 1.0),
)
