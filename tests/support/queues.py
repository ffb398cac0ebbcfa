"""Queues in tests: applications that find work by wake-ups alone, and jobs that tell when they start and end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dbos import DBOS, Queue, SetWorkflowID, WorkflowHandle, WorkflowStatus
from dbos.storage.gate import Gate
from tests.support.apps import PATIENCE_S
from tests.support.clock import ManualClock
from tests.support.waking import UnpolledApp, application

SELDOM_S = 600.0
"""A polling interval that no test lives to see."""


class QueueApp(UnpolledApp):
    """An application that does not poll. What is set here holds from its next launch on.

    Attributes:
        has_time: Whether the time passes that tells when to look without a hint.
        drops_hints: Whether it is deaf to other processes. Without time it is, so that nothing wakes it but what it
            tells itself.
        renew_interval_s: How often the lease is renewed, and what is left undone is reported.
        gate: What all its transactions pass.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.has_time = True
        self.drops_hints = False
        self.renew_interval_s: float | None = None
        self.gate: Gate | None = None

    def launch(self, *, listening: Iterable[Queue] | None = None, **changes: Any) -> None:
        """Configure and launch, listening to these queues only if there are any given."""
        DBOS(config=self.config(**changes))
        configured = application()
        configured.gate = self.gate
        if self.renew_interval_s is not None:
            configured.renew_interval_s = self.renew_interval_s
        if not self.has_time:
            configured.clock = ManualClock(int(time.time() * 1000))
        configured.drops_hints = self.drops_hints or not self.has_time
        if listening is not None:
            DBOS.listen_queues(listening)
        DBOS.launch()


def unpolled(name: str, **rules: Any) -> Queue:
    """Declare a queue that is polled too seldom for any test."""
    return Queue(name, polling_interval_sec=SELDOM_S, **rules)


@dataclass(frozen=True, slots=True)
class Moment:
    """A job started or ended; ``at`` is by the monotonic clock."""

    job: str
    is_start: bool
    at: float


class Jobs:
    """What became of the jobs of a test: when they started and ended. They may be held until they are let go."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._moments: list[Moment] = []
        self._is_holding = False
        self._let_go: set[str] = set()

    # -- for the test

    def hold(self) -> None:
        """Jobs do not end from now on until they are let go."""
        with self._changed:
            self._is_holding = True

    def let_go(self, *jobs: str) -> None:
        """Let these jobs end; without any, all, also those to come."""
        with self._changed:
            self._let_go.update(jobs)
            self._is_holding = self._is_holding and bool(jobs)
            self._changed.notify_all()

    @property
    def started(self) -> list[str]:
        """The jobs in the order of their starts; one that was run again is there again."""
        with self._changed:
            return [moment.job for moment in self._moments if moment.is_start]

    @property
    def running(self) -> list[str]:
        """The jobs that have started and not ended, in the order of their starts."""
        with self._changed:
            return self._running()

    def peak(self, begins: str = "") -> int:
        """How many jobs, of those whose name begins so, ran at the same time at most."""
        peak = count = 0
        with self._changed:
            for moment in self._moments:
                if moment.job.startswith(begins):
                    count += 1 if moment.is_start else -1
                    peak = max(peak, count)
        return peak

    def wait_started(self, count: int) -> list[str]:
        """Wait until so many jobs have started; all that have, in order."""
        self._wait(lambda: sum(moment.is_start for moment in self._moments) >= count, f"{count} jobs have started")
        return self.started

    def wait_running(self, *jobs: str) -> None:
        """Wait until these jobs run."""
        self._wait(lambda: set(jobs) <= set(self._running()), f"{jobs} run")

    def wait_ended(self, count: int) -> None:
        """Wait until so many jobs have ended."""
        self._wait(lambda: sum(not moment.is_start for moment in self._moments) >= count, f"{count} jobs have ended")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE_S), f"not in time: {what}; {self._moments}"

    def _running(self) -> list[str]:
        running: list[str] = []
        for moment in self._moments:
            if moment.is_start:
                running.append(moment.job)
            else:
                running.remove(moment.job)
        return running

    # -- for the jobs

    def _note(self, name: str, *, is_start: bool) -> None:
        with self._changed:
            self._moments.append(Moment(name, is_start, time.monotonic()))
            self._changed.notify_all()

    def _may_end(self, name: str) -> bool:
        return not self._is_holding or name in self._let_go

    def do(self, name: str) -> str:
        """Run the job here."""
        self._note(name, is_start=True)
        try:
            self._wait(lambda: self._may_end(name), f"{name} is let go")
        finally:
            self._note(name, is_start=False)
        return f"{name} done"

    async def do_async(self, name: str) -> str:
        """Run the job on this loop."""
        self._note(name, is_start=True)
        try:
            while not self._may_end(name):
                await asyncio.sleep(0.002)
        finally:
            self._note(name, is_start=False)
        return f"{name} done"


_current = Jobs()


@contextmanager
def new_jobs() -> Generator[Jobs]:
    """The jobs of one test; whatever is still held in the end is let go."""
    global _current
    _current = jobs = Jobs()
    yield jobs
    jobs.let_go()


@DBOS.workflow(name="queues.job")
def job(name: str) -> str:
    """A workflow without steps; it tells of itself by `Jobs`, and returns "<name> done"."""
    return _current.do(name)


@DBOS.workflow(name="queues.job_async")
async def job_async(name: str) -> str:
    """As `job`."""
    return await _current.do_async(name)


@DBOS.step(name="queues.task")
def task(name: str) -> str:
    """As `job`, as a step."""
    return _current.do(name)


@DBOS.step(name="queues.task_async")
async def task_async(name: str) -> str:
    """As `job`, as a step."""
    return await _current.do_async(name)


def enqueue_job(queue: Queue, name: str) -> WorkflowHandle[str]:
    """Enqueue `job` with its name as the workflow's id."""
    with SetWorkflowID(name):
        return queue.enqueue(job, name)


def recorded(workflow_id: str) -> WorkflowStatus:
    """The workflow, which must be there."""
    status = DBOS.get_workflow_status(workflow_id)
    assert status is not None, f"there is no workflow {workflow_id!r}"
    return status


def all_ids(**conditions: Any) -> list[str]:
    """The ids of all workflows that meet the conditions, in alphabetical order."""
    return sorted(status.workflow_id for status in DBOS.list_workflows(**conditions))
