"""What goes on in the background survives every error of the database, also those that no driver should raise."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dbos import DBOS, Queue, SetWorkflowID, SetWorkflowTimeout
from dbos.error import DBOSAwaitedWorkflowCancelledError
from dbos.storage.errors import TransientStorageError
from dbos.storage.gate import Moment
from tests.support.apps import eventually
from tests.support.executors import leave_behind

BACKGROUND = (
    "renew_lease",
    "read_leases",
    "find_left_behind",
    "find_orphans",
    "claim_orphans",
    "count_claims",
    "read_duties",
    "cancel_overdue",
    "find_waiting",
    "claim_enqueued",
)
"""What the executor asks and does by itself. (Journal and calls of users are tested by the crash points.)"""

TIMES = 2
"""How often each of them fails in each way; then it succeeds."""

ERRORS: dict[str, type[Exception]] = {
    "transient": TransientStorageError,
    "of the pool": PoolTimeoutError,
    "of a program": RuntimeError,
    "of the system": OSError,
}


class FaultyGate:
    """Fails the first transactions of each kind, before and after their commits."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error
        self._lock = threading.Lock()
        self.failed: Counter[tuple[str, Moment]] = Counter()
        self.is_on = False

    def __call__(self, operation: str, moment: Moment) -> None:
        if not self.is_on or operation not in BACKGROUND:
            return
        with self._lock:
            if self.failed[operation, moment] >= TIMES:
                return
            self.failed[operation, moment] += 1
        raise self._error(f"made by the test at {operation} {moment}")


@pytest.fixture(params=ERRORS)
def gate(request: pytest.FixtureRequest) -> FaultyGate:
    return FaultyGate(ERRORS[request.param])


@pytest.fixture
def launched(database_url: str, gate: FaultyGate) -> Iterator[Any]:
    DBOS(
        config={
            "name": "loops",
            "system_database_url": database_url,
            "application_version": "test",
            "lease_timeout_sec": 0.4,
            "notification_listener_polling_interval_sec": 0.05,
        }
    )
    application: Any = DBOS._application
    application.gate = gate
    DBOS.launch()
    yield application.executor
    DBOS.destroy()


def test_background_survives_every_error_and_does_its_work(launched: Any, gate: FaultyGate) -> None:
    """Queues are served, orphans recovered, deadlines kept, the lease renewed: all of it after all of it has failed."""
    queue = Queue("loops.queue", concurrency=1, polling_interval_sec=0.05)

    @DBOS.workflow(name="loops.quick")
    def quick() -> str:
        return "done"

    @DBOS.workflow(name="loops.slow")
    def slow() -> None:
        DBOS.sleep(600)

    @DBOS.workflow(name="loops.orphan")
    def orphan() -> str:
        return "recovered"

    gate.is_on = True
    leave_behind(launched, "orphan", "loops.orphan")
    with SetWorkflowTimeout(0.2), SetWorkflowID("slow"):
        overdue = DBOS.start_workflow(slow)
    handles = [queue.enqueue(quick) for _ in range(3)]
    assert [handle.get_result() for handle in handles] == ["done"] * 3
    assert DBOS.get_result("orphan") == "recovered"
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        overdue.get_result()
    reads = {"read_leases", "find_left_behind", "find_orphans", "count_claims", "read_duties", "find_waiting"}
    for operation in BACKGROUND:
        moments: tuple[Moment, ...] = ("begin", "after_commit") if operation in reads else ("begin", "before_commit")
        for moment in moments:
            eventually(
                lambda it=(operation, moment): gate.failed[it] >= TIMES,  # type: ignore[misc]
                f"{operation} has failed {moment}",
            )
    leave_behind(launched, "another", "loops.orphan")
    assert DBOS.get_result("another") == "recovered"
    assert queue.enqueue(quick).get_result() == "done"
