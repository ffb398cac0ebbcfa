"""Queues served by several processes: limits that hold at every instant, whoever dies, and wake-ups without polls.

Polls are far away: in all of these tests work is found as somebody tells of it. Leases do not run out: only a process
that is known to be gone is taken for dead.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from dbos import DBOSClient, EnqueueOptions
from tests.support import ledger
from tests.support.apps import eventually, in_threads
from tests.support.background import InBackground
from tests.support.processes import ROOT, Spawner
from tests.support.remote import Remote
from tests.verify.queue_ledger import (
    Execution,
    check_each_ran_once,
    most_at_once,
    most_at_once_by,
    read_executions,
    shortest_span,
)
from tests.verify.rows import decode, query

WORKER = ROOT / "tests/verify/queue_worker.py"


class Worker:
    """A process that runs what is enqueued; see `tests.verify.queue_worker`."""

    def __init__(self, spawn: Spawner) -> None:
        self._remote = Remote(spawn(WORKER))
        self.pid = self._remote.child.pid
        self.is_dead = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """What it offers."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._remote.call(name, "__call__", args, kwargs)

        return call

    def kill(self) -> None:
        """By SIGKILL."""
        self.is_dead = True
        self._remote.child.kill()

    def wait_until_stopped(self) -> None:
        """Wait until it has stopped itself."""
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        """After it was stopped."""
        self._remote.child.send_signal(signal.SIGCONT)


class Crew:
    """The workers of one test, on one database and one ledger, and a client that enqueues."""

    def __init__(self, url: str, directory: Path, hire: Callable[[], Worker]) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.ledger = str(directory / "ledger.jsonl")
        self.hire = hire
        self._numbers = itertools.count()
        self.enqueued: defaultdict[str, list[str]] = defaultdict(list)
        """The ids of workflows, by group, in the order in which they were enqueued."""
        self._client: DBOSClient | None = None
        self.workers: list[Worker] = []
        self.killed: list[int] = []

    def launch(self, count: int = 0, **settings: Any) -> list[Worker]:
        """So many workers more, by default as many as it takes: four on Postgres, three on SQLite."""
        new = [self.hire() for _ in range(count or (3 if self.is_sqlite else 4))]
        self.workers += new
        in_threads([lambda worker=worker: worker.launch(self.url, self.ledger, **settings) for worker in new])  # type: ignore[misc]
        return new

    @property
    def client(self) -> DBOSClient:
        """One for all; there must have been a launch."""
        if self._client is None:
            self._client = DBOSClient(system_database_url=self.url)
        return self._client

    def enqueue(self, queue: str, group: str = "", *args: Any, function: str = "work", **options: Any) -> str:
        """Enqueue a workflow; its id."""
        workflow_id = f"{group}-{next(self._numbers)}"
        wanted: EnqueueOptions = {
            "queue_name": queue,
            "workflow_name": f"queue_worker.{function}",
            "workflow_id": workflow_id,
            **options,  # type: ignore[typeddict-item]
        }
        self.client.enqueue(wanted, group, *args)
        self.enqueued[group].append(workflow_id)
        return workflow_id

    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if not worker.is_dead]

    def open_gates(self) -> None:
        in_threads([worker.open_gate for worker in self.living()])

    def kill(self, worker: Worker) -> None:
        """Kill it; what it ran ended at this moment at the earliest."""
        ledger.record(self.ledger, kind="killed", pid=worker.pid, at=time.monotonic())
        self.killed.append(worker.pid)
        worker.kill()

    def kill_busiest(self) -> int:
        """Kill the worker that runs most; how many it ran."""
        counts = Counter(execution.pid for execution in self.running())
        busiest = max(self.living(), key=lambda worker: counts[worker.pid])
        self.kill(busiest)
        return counts[busiest.pid]

    # -- what happened

    def executions(self) -> list[Execution]:
        return read_executions(self.ledger)

    def running(self) -> list[Execution]:
        """What runs now."""
        return [e for e in self.executions() if not e.is_whole and e.pid not in self.killed]

    def wait_until_running(self, count: int) -> None:
        """Wait until so many run at once."""
        eventually(lambda: len(self.running()) >= count, f"{count} run at once")

    def wait_until_ended(self, count: int) -> None:
        """Wait until so many executions have come to their ends."""
        eventually(lambda: sum(e.is_whole for e in self.executions()) >= count, f"{count} have ended")

    def statuses(self) -> Counter[str]:
        """How many workflows have which status."""
        return Counter(dict(query(self.url, "SELECT status, count(*) FROM {schema}workflow_status GROUP BY status")))

    def wait_until_done(self, count: int) -> None:
        """Wait until all workflows have succeeded, which are so many; each has run once, but for those killed."""
        eventually(lambda: len({e.workflow for e in self.executions() if e.is_whole}) == count, "all have ended")
        eventually(lambda: self.statuses() == {"SUCCESS": count}, "all have succeeded")
        rows = query(self.url, "SELECT workflow_uuid, output FROM {schema}workflow_status")
        check_each_ran_once(self.executions(), {id: decode(output) for id, output in rows}, self.killed)

    def close(self) -> None:
        if self._client is not None:
            self._client.destroy()
        for worker in self.living():
            worker.go_on()
        in_threads([worker.destroy for worker in self.living()])


@pytest.fixture(scope="module")
def hired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Spawner, list[Worker]]]:
    """The workers of all tests: each is used again as long as it lives."""
    spawner = Spawner(tmp_path_factory.mktemp("workers"))
    yield spawner, []
    spawner.close()


@pytest.fixture
def crew(database_url: str, tmp_path: Path, hired: tuple[Spawner, list[Worker]]) -> Iterator[Crew]:
    """No workers yet, on a fresh database of each kind."""
    spawner, idle = hired
    while len(idle) < 4:
        idle.append(Worker(spawner))
    crew = Crew(database_url, tmp_path, idle.pop)
    yield crew
    crew.close()
    idle += crew.living()


# -- limits, while workers are killed


def test_global_concurrency_holds(crew: Crew) -> None:
    crew.launch(queues={"q": {"concurrency": 10}})
    functions = itertools.cycle(["work", "work_async"])
    for _ in range(100):
        crew.enqueue("q", function=next(functions))
    crew.wait_until_running(10)
    crew.kill_busiest()
    crew.wait_until_running(10)
    crew.open_gates()
    crew.wait_until_ended(40)
    crew.kill_busiest()
    crew.wait_until_done(100)
    assert most_at_once(crew.executions()) == 10


def test_worker_concurrency_holds(crew: Crew) -> None:
    count = len(crew.launch(queues={"q": {"worker_concurrency": 5}}))
    functions = itertools.cycle(["work", "work_async"])
    for _ in range(100):
        crew.enqueue("q", function=next(functions))
    crew.wait_until_running(5 * count)
    assert crew.kill_busiest() == 5
    crew.open_gates()
    crew.wait_until_ended(40)
    crew.kill_busiest()
    crew.wait_until_done(100)
    most = most_at_once_by(crew.executions(), lambda execution: execution.pid)
    assert most == dict.fromkeys((worker.pid for worker in crew.workers), 5)


def test_both_concurrencies_hold_together(crew: Crew) -> None:
    """Of two processes one alone may not use all of the queue, and both together not more than all."""
    crew.launch(2, queues={"q": {"concurrency": 5, "worker_concurrency": 3}})
    for _ in range(40):
        crew.enqueue("q")
    crew.wait_until_running(5)
    crew.kill_busiest()
    crew.wait_until_running(3)
    crew.open_gates()
    crew.wait_until_done(40)
    assert most_at_once(crew.executions()) == 5
    assert max(most_at_once_by(crew.executions(), lambda execution: execution.pid).values()) == 3


def test_each_partition_has_its_own_limit(crew: Crew) -> None:
    crew.launch(queues={"q": {"concurrency": 1, "partition_queue": True}})
    partitions = [f"p{number}" for number in range(8)]
    for partition in partitions * 8:
        crew.enqueue("q", partition, queue_partition_key=partition)
    crew.wait_until_running(8)
    crew.kill_busiest()
    crew.wait_until_running(8)
    crew.open_gates()
    crew.wait_until_ended(30)
    crew.kill_busiest()
    crew.wait_until_done(64)
    assert most_at_once_by(crew.executions(), lambda execution: execution.group) == dict.fromkeys(partitions, 1)
    for partition in partitions:
        assert_in_order([e for e in crew.executions() if e.group == partition], crew.enqueued[partition])


def test_rate_limit_holds_in_every_period(crew: Crew) -> None:
    """Also while the limits of concurrency let more start."""
    rules = {"limiter": {"limit": 10, "period": 0.5}}
    for worker in crew.launch(queues={"q": rules}):
        worker.open_gate()
    for _ in range(60):
        crew.enqueue("q")
    crew.wait_until_ended(15)
    crew.kill_busiest()
    crew.wait_until_ended(35)
    crew.kill_busiest()
    crew.wait_until_done(60)
    assert shortest_span(crew.executions(), 11) >= 0.5


def test_priorities_are_kept(crew: Crew) -> None:
    """The one that was killed comes first again; one that comes later goes before those that are less urgent."""
    others = [3, 1, 2, 1, None, 2**31 - 1, 3, 1, None, None] * 4
    rules = {"concurrency": 1, "priority_enabled": True}
    crew.launch(1, queues={"q": rules})
    expected = [(0, crew.enqueue("q"))]
    crew.wait_until_running(1)
    waiting = [(priority or 0, crew.enqueue("q", priority=priority)) for priority in others]
    crew.launch(2, queues={"q": rules})
    crew.kill_busiest()
    crew.wait_until_running(1)
    waiting.append((1, crew.enqueue("q", priority=1)))
    crew.open_gates()
    crew.wait_until_ended(15)
    crew.kill_busiest()
    crew.wait_until_done(42)
    expected += sorted(waiting, key=lambda its: its[0])
    assert_in_order(crew.executions(), [workflow for _, workflow in expected])
    assert most_at_once(crew.executions()) == 1


def test_deduplication_id_is_held_by_one_at_a_time(crew: Crew) -> None:
    crew.launch(queues={"q": {}})

    def compete(attempts: int) -> list[str]:
        competitors = crew.living() * 2
        won = in_threads([lambda worker=worker: worker.compete("q", "only", attempts) for worker in competitors])  # type: ignore[misc]
        return [workflow for its in won for workflow in its]

    (winner,) = compete(3)
    crew.wait_until_running(1)
    crew.kill_busiest()
    assert compete(3) == []
    crew.wait_until_running(1)
    assert compete(3) == []
    assert [e.workflow for e in crew.executions()] == [winner] * 2
    crew.open_gates()
    crew.wait_until_done(1)
    winners = compete(30)
    assert len(winners) > 1
    crew.wait_until_done(1 + len(winners))
    assert {e.workflow for e in crew.executions()} == {winner, *winners}
    assert most_at_once(crew.executions()) == 1


# -- workers that are stopped between a claim and the start, and come back


def stop_after_a_claim(crew: Crew, rules: dict[str, Any], function: str, count: int, **seams: Any) -> Worker:
    """A worker that is stopped right after it has claimed the first ones of so many."""
    (maker,) = crew.launch(1, queues={})
    for _ in range(count):
        crew.enqueue("q", function=function)
    maker.destroy()
    stopped = crew.hire()
    crew.workers.append(stopped)
    InBackground(stopped.launch, crew.url, crew.ledger, {"q": rules}, stops_after="claim_enqueued", **seams)
    stopped.wait_until_stopped()
    return stopped


def look_for_a_while(crew: Crew, worker: Worker, seconds: float) -> None:
    """Wait until so much time has passed, and the worker has tried to claim several times after that."""
    began = time.monotonic()
    eventually(lambda: time.monotonic() > began + seconds, "time passes")
    tried = worker.commits("claim_enqueued") + 3
    eventually(lambda: worker.commits("claim_enqueued") >= tried, "it tries to claim")


def test_claims_of_a_stopped_worker_count_as_running(crew: Crew) -> None:
    stopped = stop_after_a_claim(crew, {"concurrency": 2}, "only_here", 6)
    (other,) = crew.launch(1, queues={"q": {"concurrency": 2}}, poll_s=0.01)
    look_for_a_while(crew, other, 0.0)
    assert crew.executions() == []
    assert crew.statuses() == {"PENDING": 2, "ENQUEUED": 4}
    stopped.go_on()
    crew.wait_until_done(6)
    assert most_at_once(crew.executions()) <= 2


def test_starts_of_a_stopped_worker_count_from_when_they_happen(crew: Crew) -> None:
    """However long after their claim, a period begins with them."""
    rules = {"limiter": {"limit": 3, "period": 0.3}}
    stopped = stop_after_a_claim(crew, rules, "only_here", 9)
    (other,) = crew.launch(1, queues={"q": rules}, poll_s=0.01)
    look_for_a_while(crew, other, 0.4)
    assert crew.executions() == []
    assert crew.statuses() == {"PENDING": 3, "ENQUEUED": 6}
    stopped.go_on()
    crew.wait_until_done(9)
    assert shortest_span(crew.executions(), 4) >= 0.3


@pytest.mark.parametrize("rules", [{"concurrency": 2}, {"limiter": {"limit": 2, "period": 0.3}}])
def test_worker_that_comes_back_from_the_dead_runs_no_step(crew: Crew, rules: dict[str, Any]) -> None:
    """What it had claimed is run by another one."""
    stopped = stop_after_a_claim(crew, rules, "work_in_step", 6, lease_ttl_s=0.3)
    (other,) = crew.launch(1, queues={"q": rules}, lease_ttl_s=0.3)
    crew.wait_until_done(6)
    stopped.go_on()
    crew.kill(other)
    crew.enqueue("q", "last", function="work_in_step")
    crew.wait_until_done(7)
    eventually(lambda: stopped.run_count() == 0, "nothing runs any more")
    assert [e.pid for e in crew.executions()] == [other.pid] * 6 + [stopped.pid]


# -- fairness


def test_workers_share_a_backlog(crew: Crew) -> None:
    """Several, one after the other: chance decides who begins."""
    (producer,) = crew.launch(1, queues={"q": {}}, listens=False)
    workers = crew.launch(2, queues={"q": {}})
    for number in range(1, 5):
        producer.start("produce", "q", 800)
        eventually(lambda number=number: crew.statuses() == {"SUCCESS": 801 * number}, "all have succeeded")  # type: ignore[misc]
    assert smallest_share(crew, workers, 3200) >= 800


FOREIGN_WRITER = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
file.execute("CREATE TABLE theirs (number INTEGER)")
print("writing", flush=True)
while True:
    file.execute("INSERT INTO theirs VALUES (1)")
"""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("neighbour", ["application", "program"])
def test_neighbour_that_writes_all_the_time_starves_nobody(crew: Crew, spawn: Spawner, neighbour: str) -> None:
    """On SQLite, where one can write at a time: neither the workers, nor who enqueues, nor the neighbour itself."""
    queues = {"q": {"worker_concurrency": 2}}
    versions = ["one", "other"]
    for version in versions:
        (worker,) = crew.launch(1, queues=queues, config={"application_version": version})
        worker.open_gate()
    if neighbour == "application":
        (writer,) = crew.launch(1, queues={}, config={"application_version": "neighbour"})
        writer.start("write")
        writer.start("write")
    else:
        spawn(FOREIGN_WRITER, str(make_url(crew.url).database)).wait_for_line("writing")
    for _ in range(6):
        for version in versions:
            crew.enqueue("q", version, 2, app_version=version)
    crew.wait_until_ended(12)
    if neighbour == "application":
        before = writer.commits("journal")
        eventually(lambda: writer.commits("journal") > before + 10, "the neighbour goes on")


def smallest_share(crew: Crew, workers: list[Worker], count: int) -> int:
    """How many of so many workflows that worker ran which ran the fewest."""
    statement = "SELECT executor_id, count(*) FROM {schema}workflow_status WHERE queue_name = 'q' GROUP BY executor_id"
    shares: dict[str, int] = dict(query(crew.url, statement))
    assert sum(shares.values()) == count
    return min(shares.get(str(worker.pid), 0) for worker in workers)


# -- wake-ups, while polls never come


WAYS = ["client", "application", "workflow"]


@pytest.mark.parametrize("way", WAYS)
def test_enqueueing_in_one_process_starts_work_in_another_at_once(crew: Crew, way: str) -> None:
    """One after the other, so that each but the first finds everybody waiting."""
    (enqueuer,) = crew.launch(1, queues={"q": {}}, listens=False)
    (worker,) = crew.launch(1, queues={"q": {}})
    for number in range(1, 5):
        if way == "client":
            crew.enqueue("q", function="only_here")
        elif way == "application":
            enqueuer.enqueue("q", "only_here", f"w-{number}", "")
        else:
            enqueuer.start("enqueue_one", "q")
        crew.wait_until_ended(number)
    assert {execution.pid for execution in crew.executions()} == {worker.pid}


def test_freed_slot_wakes_another_process(crew: Crew) -> None:
    """The work that waits for it is of a version that only the other one runs."""
    rules = {"concurrency": 1}
    (one,) = crew.launch(1, queues={"q": rules}, config={"application_version": "one"})
    (other,) = crew.launch(1, queues={"q": rules}, config={"application_version": "other"})
    for number in range(1, 4):
        crew.enqueue("q", app_version="one")
        crew.wait_until_running(1)
        crew.enqueue("q", app_version="other", function="only_here")
        one.open_gate()
        crew.wait_until_ended(2 * number)
        one.close_gate()
    assert [e.pid for e in crew.executions()] == [one.pid, other.pid] * 3


def test_work_is_found_by_looking_where_nobody_tells(crew: Crew) -> None:
    """All hints are dropped, and on Postgres there are no notifications: polls find new work and freed slots."""
    seams = {"poll_s": 0.02, "drops_hints": True}
    if not crew.is_sqlite:
        seams = {"poll_s": 0.02, "config": {"use_listen_notify": False}}
    (enqueuer,) = crew.launch(1, queues={"q": {"concurrency": 2}}, listens=False, **seams)
    workers = crew.launch(2, queues={"q": {"concurrency": 2}}, **seams)
    for worker in workers:
        worker.open_gate()
    for number in range(10):
        crew.enqueue("q")
        enqueuer.enqueue("q", "work", f"w-{number}", "")
    crew.wait_until_done(20)
    assert most_at_once(crew.executions()) <= 2


def assert_in_order(executions: list[Execution], expected: list[str]) -> None:
    """They began in this order; who was killed began again, at once."""
    assert [workflow for workflow, _ in itertools.groupby(e.workflow for e in executions)] == expected
