"""A worker of the tests of queues: a process that runs what is enqueued, and writes into the ledger what it ran.

Run as a program it does what the test tells it, see `tests.support.remote`. Workflows stand at a gate until the test
opens it, so that a test can say how many must be running at some moment.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from dbos import DBOS, Queue, SetEnqueueOptions, SetWorkflowID
from dbos.error import DBOSQueueDeduplicatedError
from dbos.runtime.registry import QUEUES
from tests.support import ledger
from tests.support.apps import PATIENCE_S
from tests.support.looks import LooksGate
from tests.support.remote import serve
from tests.verify.gate import CountingGate, Plan

FAR_S = 600.0
"""Polls that never come: what happens in time was not found by looking."""

NEVER_S = 600.0
"""The patience with the leases of others: only who is known to be gone is taken for dead."""

_is_open = threading.Event()
_gate = LooksGate()
_queues: dict[str, Queue] = {}
_ledger = ""


# -- what is enqueued


@DBOS.workflow(name="queue_worker.work")
def work(group: str, steps: int = 1) -> str:
    """Begin, stand at the gate, take so many steps, end."""
    execution = _begin(group)
    assert _is_open.wait(PATIENCE_S), "nobody opened the gate"
    for _ in range(steps):
        step()
    return _end(group, execution)


@DBOS.workflow(name="queue_worker.work_async")
async def work_async(group: str, steps: int = 1) -> str:
    """As `work`, as a coroutine."""
    execution = _begin(group)
    while not _is_open.is_set():
        await asyncio.sleep(0.002)
    for _ in range(steps):
        await step_async()
    return _end(group, execution)


@DBOS.workflow(name="queue_worker.work_in_step")
def work_in_step(group: str) -> str:
    """Its work is a step: a run that lost its claim does not begin with it."""
    return whole_step(group)


@DBOS.workflow(name="queue_worker.nothing")
def nothing() -> None:
    """Leave no trace but its row."""


@DBOS.workflow(name="queue_worker.only_here")
def only_here(group: str) -> str:
    """As `work`, but it waits for nobody."""
    return _end(group, _begin(group))


@DBOS.workflow(name="queue_worker.produce")
def produce(queue: str, count: int) -> None:
    """Enqueue so many workflows at once."""
    for _ in range(count):
        _queues[queue].enqueue(nothing)


@DBOS.workflow(name="queue_worker.enqueue_one")
def enqueue_one(queue: str) -> str:
    """Enqueue a workflow from a workflow, and wait for it."""
    return _queues[queue].enqueue(only_here, "").get_result()


@DBOS.workflow(name="queue_worker.write")
def write() -> int:
    """Take one step after the other until the gate is opened; how many it took."""
    count = 0
    while not _is_open.is_set():
        step()
        count += 1
    return count


@DBOS.step(name="queue_worker.step")
def step() -> None:
    """A commit in between."""


@DBOS.step(name="queue_worker.step_async")
async def step_async() -> None:
    """A commit in between."""


@DBOS.step(name="queue_worker.whole_step")
def whole_step(group: str) -> str:
    """All of the work."""
    return _end(group, _begin(group))


def _begin(group: str) -> str:
    at, execution = time.monotonic(), uuid.uuid4().hex
    _note("begin", at, group, execution)
    return execution


def _end(group: str, execution: str) -> str:
    _note("end", time.monotonic(), group, execution)
    return execution


def _note(kind: str, at: float, group: str, execution: str) -> None:
    ledger.record(
        _ledger, kind=kind, workflow=DBOS.workflow_id, pid=os.getpid(), at=at, group=group, execution=execution
    )


# -- what the test tells


def launch(
    url: str,
    ledger_path: str,
    queues: Mapping[str, Mapping[str, Any]],
    *,
    listens: bool = True,
    poll_s: float = FAR_S,
    stops_after: str | None = None,
    config: Mapping[str, Any] | None = None,
    **seams: Any,
) -> None:
    """Launch an application with these queues, which stops itself after the first commit of a kind.

    `seams` are those of `Application`.
    """
    global _ledger, _gate
    _ledger, _gate = ledger_path, LooksGate()
    if stops_after is not None:
        _gate.then = CountingGate(Plan("stop", "after_commit", 1, (stops_after,)), ledger_path)
    _is_open.clear()
    _queues.clear()
    QUEUES.clear()
    QUEUES.listen(None)
    _queues.update({name: Queue(name, polling_interval_sec=poll_s, **rules) for name, rules in queues.items()})
    DBOS(
        config={
            "name": "worker",
            "system_database_url": url,
            "application_version": "1",
            "executor_id": str(os.getpid()),
            "notification_listener_polling_interval_sec": poll_s,
            **(config or {}),  # type: ignore[typeddict-item]
        }
    )
    if not listens:
        DBOS.listen_queues([])
    application: Any = DBOS._application
    settings = {"renew_interval_s": 0.05, "lease_ttl_s": NEVER_S, "gate": _gate, **seams}
    for name, value in settings.items():
        setattr(application, name, value)
    DBOS.launch()


def destroy() -> None:
    """End the application, if there is one."""
    _is_open.set()
    DBOS.destroy()


def open_gate() -> None:
    """Let all workflows that stand at the gate of this process go on, and those that come later."""
    _is_open.set()


def close_gate() -> None:
    """Let workflows stand at the gate from now on."""
    _is_open.clear()


def enqueue(queue: str, function: str, workflow_id: str, *args: Any, **options: Any) -> None:
    """Enqueue a workflow from this application."""
    with SetWorkflowID(workflow_id), SetEnqueueOptions(**options):
        _queues[queue].enqueue(globals()[function], *args)


def start(function: str, *args: Any) -> None:
    """Start a workflow in this process."""
    DBOS.start_workflow(globals()[function], *args)


def compete(queue: str, deduplication_id: str, attempts: int) -> list[str]:
    """Enqueue again and again under one deduplication id; the ids of the workflows with which it won."""
    won: list[str] = []
    for number in range(attempts):
        workflow_id = f"{os.getpid()}-{number}-{uuid.uuid4().hex}"
        try:
            enqueue(queue, "work", workflow_id, deduplication_id, deduplication_id=deduplication_id)
        except DBOSQueueDeduplicatedError:
            continue
        won.append(workflow_id)
    return won


def commits(operation: str) -> int:
    """How many transactions of this kind were committed since the launch."""
    return _gate.count(operation)


def run_count() -> int:
    """How many workflows run here."""
    application: Any = DBOS._application
    return application.executor.run_count


OFFERS = (launch, destroy, open_gate, close_gate, enqueue, start, compete, commits, run_count)

if __name__ == "__main__":
    serve({function.__name__: function for function in OFFERS})
