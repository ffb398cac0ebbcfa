"""The world of a chaos test: executors that are killed, stopped and cut off, and the workflows that they run."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from dbos import DBOSClient
from tests.chaos.worker import LIMITS, UNLIMITED
from tests.support import ledger
from tests.support.postgres import PostgresAdmin, PostgresServer
from tests.support.processes import Child, Spawner
from tests.verify.programs import Program, expected_steps, is_leaf, random_coroutine, random_program
from tests.verify.rows import query

WORKER = Path(__file__).with_name("worker.py")
WORKERS = 3
LEASE_TIMEOUT_S = 1.0
OUTSTANDING = 12
"""How many workflows run or wait at the same time, without their children."""


@dataclass
class Work:
    """A workflow that was asked for."""

    workflow_id: str
    program: Program
    is_coroutine: bool
    queue: str | None
    is_acknowledged: bool = False
    may_be_cancelled: bool = False

    def acknowledge(self) -> None:
        self.is_acknowledged = True


@dataclass
class World:
    """Three executors on one database, and somebody who keeps them busy and makes trouble.

    `server` is the PostgreSQL server of its own, `None` on SQLite.
    """

    random: Random
    url: str
    spawn: Spawner
    entries: Path
    server: PostgresServer | None = None
    work: dict[str, Work] = field(default_factory=dict[str, Work])
    troubles: Counter[str] = field(default_factory=Counter[str])
    disturbed: Counter[int] = field(default_factory=Counter[int])
    """How often an executor was killed, stopped, or asked to end, by process id."""

    def __post_init__(self) -> None:
        self._workers: list[Child] = []
        self._stopped: dict[Child, float] = {}
        self._client: DBOSClient | None = None
        self._asked: dict[str, float] = {}
        self._threads = ThreadPoolExecutor(4)

    # -- executors

    def launch(self) -> None:
        """Start the executors."""
        self._workers = [self._launch_one() for _ in range(WORKERS)]
        for worker in self._workers:
            worker.wait_for_line("launched", timeout=60)
        self._client = DBOSClient(system_database_url=self.url)

    def _launch_one(self) -> Child:
        return self.spawn(WORKER, self.url, self.entries, str(LEASE_TIMEOUT_S))

    def settle(self) -> None:
        """No more trouble: everything runs."""
        for worker in list(self._stopped):
            self._continue(worker)
        self._threads.shutdown()
        self._threads = ThreadPoolExecutor(4)
        for number, worker in enumerate(self._workers):
            if worker.returncode is not None:
                self._workers[number] = self._launch_one()

    def end(self) -> None:
        """End all executors in good order."""
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self._workers:
            assert worker.wait(60) == -signal.SIGTERM, worker.stderr
        assert self._client is not None
        self._client.destroy()

    # -- troubles

    def make_trouble(self, name: str | None = None) -> None:
        """One thing that goes wrong, by default any."""
        troubles: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "stop briefly": self._stop_briefly,
            "terminate": self._terminate,
            "cancel": self._cancel,
        }
        if self.server is not None:
            troubles |= {"cut connections": self._cut_connections, "restart": self._restart}
        name = name or self.random.choice([*troubles, "kill", "stop"])
        if name in troubles:
            self.troubles[name] += 1
            troubles[name]()

    def tend(self) -> None:
        """Relaunch who died, continue who was stopped for long enough."""
        for worker, until in list(self._stopped.items()):
            if time.monotonic() > until:
                self._continue(worker)
        for number, worker in enumerate(self._workers):
            if worker.returncode is not None and self.random.random() < 0.5:
                self._workers[number] = self._launch_one()

    def _running(self) -> Child | None:
        running = [worker for worker in self._workers if worker.returncode is None and worker not in self._stopped]
        return self.random.choice(running) if running else None

    def _kill(self) -> None:
        worker = self._running()
        if worker is not None:
            self.disturbed[worker.pid] += 1
            worker.kill()

    def _terminate(self) -> None:
        worker = self._running()
        if worker is not None:
            self.disturbed[worker.pid] += 1
            worker.send_signal(signal.SIGTERM)

    def _stop(self) -> None:
        """For so long that it is taken for dead."""
        self._stop_for(LEASE_TIMEOUT_S * 3)

    def _stop_briefly(self) -> None:
        self._stop_for(LEASE_TIMEOUT_S * self.random.random())

    def _stop_for(self, seconds: float) -> None:
        worker = self._running()
        # One is left to take over.
        if worker is not None and len(self._stopped) < WORKERS - 1:
            self.disturbed[worker.pid] += 1
            worker.send_signal(signal.SIGSTOP)
            self._stopped[worker] = time.monotonic() + seconds

    def _continue(self, worker: Child) -> None:
        del self._stopped[worker]
        worker.send_signal(signal.SIGCONT)

    def _cut_connections(self) -> None:
        assert self.server is not None
        PostgresAdmin(self.server.url).terminate_connections(self.url)

    def _restart(self) -> None:
        assert self.server is not None
        self.server.restart()

    def _cancel(self) -> None:
        leaves = [work for work in self.work.values() if is_leaf(work.program) and work.is_acknowledged]
        if leaves:
            work = self.random.choice(leaves[-OUTSTANDING:])
            work.may_be_cancelled = True
            self._aside(lambda client: client.cancel_workflow(work.workflow_id))

    def _aside(self, call: Callable[[DBOSClient], object], then: Callable[[], None] = lambda: None) -> None:
        """Let the client do something beside, as it may have to wait for the end of a trouble."""
        client = self._client
        assert client is not None

        def work() -> None:
            # If it was not patient enough, it is asked again.
            with contextlib.suppress(Exception):
                call(client)
                then()

        self._threads.submit(work)

    # -- work

    def keep_busy(self) -> None:
        """Ask for more workflows, if few are left; again for those of which nobody said that they were started."""
        for work in self.work.values():
            if not work.is_acknowledged:
                self._ask_for(work)
        for _ in range(OUTSTANDING - len(self.unfinished())):
            is_coroutine = self.random.random() < 0.25
            queue = self.random.choice([None, *LIMITS]) if not is_coroutine else None
            program = random_coroutine(self.random) if is_coroutine else random_program(self.random, [UNLIMITED])
            work = Work(f"w{len(self.work)}", program, is_coroutine, queue)
            self.work[work.workflow_id] = work
            self._ask_for(work)

    def ask_again(self) -> bool:
        """Ask for what nobody has acknowledged; whether there is nothing of it left."""
        for work in self.work.values():
            self._ask_for(work)
        return all(work.is_acknowledged for work in self.work.values())

    def _ask_for(self, work: Work) -> None:
        if any(f"started {work.workflow_id}\n" in worker.stdout for worker in self._workers):
            work.is_acknowledged = True
        now = time.monotonic()
        if work.is_acknowledged or now - self._asked.get(work.workflow_id, -10) < 3:
            return
        self._asked[work.workflow_id] = now
        if work.queue is not None:
            options: Any = {
                "workflow_name": "programs.run",
                "queue_name": work.queue,
                "workflow_id": work.workflow_id,
                "app_version": "1",
            }
            self._aside(lambda client: client.enqueue(options, work.program), work.acknowledge)
        elif (worker := self._running()) is not None:
            function = "run_async" if work.is_coroutine else "run"
            try:
                worker.write_line(json.dumps([work.workflow_id, function, work.program]))
            except BrokenPipeError:
                self._asked.pop(work.workflow_id)

    def unfinished(self) -> list[str]:
        """The workflows that have not ended, children too."""
        rows = query(
            self.url, "SELECT workflow_uuid FROM {schema}workflow_status WHERE status IN ('PENDING', 'ENQUEUED')"
        )
        return [row[0] for row in rows]

    def check_limits(self) -> None:
        """At this instant no queue runs more than it may."""
        statement = "SELECT count(*) FROM {schema}workflow_status WHERE status = 'PENDING' AND queue_name = 'few'"
        (count,) = query(self.url, statement)[0]
        assert count <= LIMITS["few"]["concurrency"], f"{count} workflows run on a queue of 2"

    # -- what came of it

    def check_executions(self) -> None:
        """A step ran again only where an executor that had run it was disturbed, or was buried for its slowness."""
        entries = ledger.read(self.entries)
        reasons = self.disturbed + Counter(entry["pid"] for entry in entries if entry.get("guard") == "buried")
        pids: dict[tuple[str, int], list[int]] = {}
        for entry in entries:
            if entry["kind"] == "step":
                pids.setdefault((entry["workflow"], entry["step"]), []).append(entry["pid"])
        for step, its_pids in pids.items():
            allowed = sum(reasons[pid] for pid in set(its_pids))
            assert len(its_pids) <= 1 + allowed, f"step {step} ran in {its_pids}, disturbed were {dict(reasons)}"

    def story(self) -> list[dict[str, Any]]:
        """The ledger, with what `check_finished` has to know, and what a client sees in the end."""
        assert self._client is not None
        expected: dict[str, list[str]] = {}
        for work in self.work.values():
            expected |= expected_steps(work.workflow_id, work.program)
        statuses = {work.workflow_id: ["SUCCESS", "CANCELLED"] for work in self.work.values() if work.may_be_cancelled}
        told = {"root": "w0", "expected": expected, "commits": 0, "statuses": statuses}
        entries = [{"kind": "program", **told}, *ledger.read(self.entries)]
        for workflow_id in self.work:
            handle: Any = self._client.retrieve_workflow(workflow_id)
            try:
                seen = {"value": handle.get_result()}
            except Exception as error:
                seen = {"error": type(error).__name__}
            entries.append({"kind": "seen", "workflow": workflow_id, **seen})
            if workflow_id == "w0":
                entries.append({"kind": "end", **seen})
        return entries
